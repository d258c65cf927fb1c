//! A plan as a map: RFC 7946 GeoJSON, cut at the antimeridian.

use h3o::LatLng;
use serde_json::{Value, json};

use super::plan::Plan;
use super::sphere::Horizon;
use crate::model::{Cell, InvalidPosition, Position};

/// Corners of a drawn circle.
const CIRCLE_CORNERS: u32 = 90;

/// Longitude and latitude in degrees, the order of GeoJSON. Longitudes may run past 180 until a
/// ring is cut.
type Corner = [f64; 2];

/// A `FeatureCollection`: the last known position with the radii in km, a circle for each radius,
/// every sighting with its probability of being true and its own radii, every known place, and every
/// cell of the waves with its probability and wave number.
///
/// # Errors
/// [`InvalidPosition`] for radii that are not finite.
pub fn feature_collection(plan: &Plan) -> Result<Value, InvalidPosition> {
    let lkp = plan.inputs.lkp;
    let radii = plan.radii;
    let mut features = vec![json!({
        "type": "Feature",
        "geometry": { "type": "Point", "coordinates": [lkp.lon(), lkp.lat()] },
        "properties": {
            "kind": "last_known_position",
            "radii_km": radii,
            "resolution": plan.resolution,
            "rest": plan.rest,
        },
    })];
    for (name, km) in [
        ("r25", radii.r25),
        ("r50", radii.r50),
        ("r75", radii.r75),
        ("r95", radii.r95),
    ] {
        features.push(json!({
            "type": "Feature",
            "geometry": geometry(&circle(lkp, km)?),
            "properties": { "kind": "radius", "name": name, "km": km },
        }));
    }
    features.extend(plan.sightings.iter().map(|effect| {
        let at = plan.inputs.sightings[effect.index].position;
        json!({
            "type": "Feature",
            "geometry": { "type": "Point", "coordinates": [at.lon(), at.lat()] },
            "properties": {
                "kind": "sighting",
                "number": effect.index + 1,
                "weight": effect.weight,
                "remaining": effect.remaining,
                "radii_km": effect.radii,
            },
        })
    }));
    features.extend(plan.inputs.known_places.iter().map(|place| {
        json!({
            "type": "Feature",
            "geometry": { "type": "Point", "coordinates": [place.position.lon(), place.position.lat()] },
            "properties": { "kind": "known_place", "place": place.kind },
        })
    }));
    for wave in &plan.waves {
        features.extend(wave.cells.iter().map(|one| {
            json!({
                "type": "Feature",
                "geometry": geometry(&outline(one.cell)),
                "properties": { "kind": "cell", "cell": one.cell, "p": one.p, "wave": wave.number },
            })
        }));
    }
    Ok(json!({ "type": "FeatureCollection", "features": features }))
}

/// The corners of a circle, anticlockwise.
fn circle(centre: Position, km: f64) -> Result<Vec<Corner>, InvalidPosition> {
    let horizon = Horizon::at(centre);
    (0..CIRCLE_CORNERS)
        .map(|i| {
            let turn = std::f64::consts::TAU * f64::from(i) / f64::from(CIRCLE_CORNERS);
            let (north, east) = libm::sincos(turn);
            horizon
                .point(km * east, km * north)
                .map(|corner| [corner.lon(), corner.lat()])
        })
        .collect()
}

/// The corners of a cell, anticlockwise.
fn outline(cell: Cell) -> Vec<Corner> {
    let corner = |at: &LatLng| [at.lng(), at.lat()];
    cell.index().boundary().iter().map(corner).collect()
}

/// A ring as a `Polygon`, or as a `MultiPolygon` cut where it crosses the antimeridian.
fn geometry(ring: &[Corner]) -> Value {
    let ring = unrolled(ring);
    let mut pieces: Vec<Vec<Corner>> = [-360.0, 0.0, 360.0]
        .into_iter()
        .filter_map(|shift| {
            let shifted: Vec<Corner> = ring.iter().map(|[lon, lat]| [lon + shift, *lat]).collect();
            let west = clipped(&shifted, |lon| lon >= -180.0, -180.0);
            let both = clipped(&west, |lon| lon <= 180.0, 180.0);
            encloses_area(&both).then(|| closed(both))
        })
        .collect();
    match pieces.pop() {
        Some(only) if pieces.is_empty() => json!({ "type": "Polygon", "coordinates": [only] }),
        Some(last) => {
            let polygons: Vec<_> = pieces
                .into_iter()
                .chain([last])
                .map(|piece| [piece])
                .collect();
            json!({ "type": "MultiPolygon", "coordinates": polygons })
        }
        // A circle of no radius: a ring that encloses nothing, as it stands.
        None => json!({ "type": "Polygon", "coordinates": [closed(ring)] }),
    }
}

/// The ring with longitudes that run on past 180 instead of jumping. A ring round a pole does not
/// come back to where it began: it is led along the pole.
fn unrolled(ring: &[Corner]) -> Vec<Corner> {
    let Some(&first) = ring.first() else {
        return Vec::new();
    };
    let mut corners: Vec<Corner> = Vec::with_capacity(ring.len() + 3);
    let mut before = first[0];
    for &[lon, lat] in ring.iter().chain([&first]) {
        let lon = before + libm::remainder(lon - before, 360.0);
        corners.push([lon, lat]);
        before = lon;
    }
    let turned = before - first[0];
    if libm::fabs(turned) < 180.0 {
        corners.pop();
        return corners;
    }
    // Anticlockwise, a ring round the north pole runs east and one round the south pole west.
    let pole = libm::copysign(90.0, turned);
    corners.extend([[before, pole], [first[0], pole]]);
    corners
}

/// The part of a ring on one side of a meridian (Sutherland and Hodgman).
fn clipped(ring: &[Corner], inside: impl Fn(f64) -> bool, meridian: f64) -> Vec<Corner> {
    let mut kept = Vec::with_capacity(ring.len() + 2);
    let Some(mut before) = ring.last().copied() else {
        return kept;
    };
    for &corner in ring {
        if inside(before[0]) != inside(corner[0]) {
            let part = (meridian - before[0]) / (corner[0] - before[0]);
            kept.push([meridian, before[1] + part * (corner[1] - before[1])]);
        }
        if inside(corner[0]) {
            kept.push(corner);
        }
        before = corner;
    }
    kept
}

/// Whether a ring is more than a line along the meridian it was cut at.
fn encloses_area(ring: &[Corner]) -> bool {
    ring.iter()
        .any(|corner| libm::fabs(corner[0] - ring[0][0]) > 0.0)
}

/// The ring with its first corner repeated at the end, to the seventh decimal, which is 1 cm.
fn closed(mut ring: Vec<Corner>) -> Vec<Corner> {
    ring.extend(ring.first().copied());
    ring.into_iter()
        .map(|corner| corner.map(|degrees| libm::round(degrees * 1e7) / 1e7))
        .collect()
}

#[cfg(test)]
#[path = "geojson_tests.rs"]
mod tests;
