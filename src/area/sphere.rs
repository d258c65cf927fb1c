//! Distances and directions on the sphere that the model measures on.

use crate::model::{InvalidPosition, Position};

/// Mean radius of the Earth (IUGG).
const EARTH_KM: f64 = 6_371.008_8;

/// The great-circle distance in km, by the haversine formula.
#[must_use]
pub fn great_circle_km(a: Position, b: Position) -> f64 {
    let (lat_a, lat_b) = (a.lat().to_radians(), b.lat().to_radians());
    let north = libm::sin((lat_b - lat_a) / 2.0);
    let east = libm::sin((b.lon() - a.lon()).to_radians() / 2.0);
    let h = north * north + libm::cos(lat_a) * libm::cos(lat_b) * east * east;
    2.0 * EARTH_KM * libm::asin(libm::sqrt(h.clamp(0.0, 1.0)))
}

/// A place as seen from the Earth's centre, of length 1: x to 0° east, y to 90° east, z to the north.
pub(super) type Vector = [f64; 3];

/// The tangent plane at a place: turns km east and north into places that lie at that great-circle
/// distance, in that direction. Works at the poles and across the antimeridian.
#[derive(Debug, Clone, Copy)]
pub(super) struct Horizon {
    up: Vector,
    east: Vector,
    north: Vector,
}

impl Horizon {
    /// The plane at `place`. At a pole, the place's longitude says which way is north.
    pub fn at(place: Position) -> Self {
        let (sin_lat, cos_lat) = libm::sincos(place.lat().to_radians());
        let (sin_lon, cos_lon) = libm::sincos(place.lon().to_radians());
        Self {
            up: Self::vector(place.lat(), place.lon()),
            east: [-sin_lon, cos_lon, 0.0],
            north: [-sin_lat * cos_lon, -sin_lat * sin_lon, cos_lat],
        }
    }

    /// The place so many km off, as the crow flies over the sphere.
    pub fn direction(&self, east_km: f64, north_km: f64) -> Vector {
        let km = libm::sqrt(east_km * east_km + north_km * north_km);
        let (sin, cos) = libm::sincos(km / EARTH_KM);
        let scale = if km > 0.0 { sin / km } else { 0.0 };
        let (east, north) = (east_km * scale, north_km * scale);
        std::array::from_fn(|i| cos * self.up[i] + east * self.east[i] + north * self.north[i])
    }

    /// [`Self::direction`] as a position.
    ///
    /// # Errors
    /// [`InvalidPosition`] for distances that are not finite.
    pub fn point(&self, east_km: f64, north_km: f64) -> Result<Position, InvalidPosition> {
        Self::position(self.direction(east_km, north_km))
    }

    /// How many km east and north a place lies: undoes [`Self::direction`].
    pub fn offset(&self, place: Vector) -> [f64; 2] {
        let (east, north) = (dot(place, self.east), dot(place, self.north));
        let sin = libm::sqrt(east * east + north * north);
        let km = EARTH_KM * libm::atan2(sin, dot(place, self.up));
        let scale = if sin > 0.0 { km / sin } else { 0.0 };
        [east * scale, north * scale]
    }

    /// The vector of a latitude and longitude in degrees.
    pub fn vector(lat: f64, lon: f64) -> Vector {
        let (sin_lat, cos_lat) = libm::sincos(lat.to_radians());
        let (sin_lon, cos_lon) = libm::sincos(lon.to_radians());
        [cos_lat * cos_lon, cos_lat * sin_lon, sin_lat]
    }

    /// The position of a vector.
    ///
    /// # Errors
    /// [`InvalidPosition`] where it is not finite.
    pub fn position([x, y, z]: Vector) -> Result<Position, InvalidPosition> {
        let lat = libm::atan2(z, libm::sqrt(x * x + y * y));
        Position::new(lat.to_degrees(), libm::atan2(y, x).to_degrees())
    }
}

/// A position as a vector.
pub(super) fn vector(place: Position) -> Vector {
    Horizon::vector(place.lat(), place.lon())
}

/// The scalar product.
pub(super) fn dot(a: Vector, b: Vector) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

/// The great-circle distance in km between two places, by the chord between them.
pub(super) fn distance_km(a: Vector, b: Vector) -> f64 {
    let chord: Vector = std::array::from_fn(|i| a[i] - b[i]);
    2.0 * EARTH_KM * libm::asin((0.5 * libm::sqrt(dot(chord, chord))).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place(lat: f64, lon: f64) -> Position {
        Position::new(lat, lon).unwrap()
    }

    #[test]
    fn known_distances() {
        let degree = EARTH_KM.to_radians();
        assert!((great_circle_km(place(0.0, 0.0), place(0.0, 1.0)) - degree).abs() < 1e-9);
        assert!((great_circle_km(place(0.0, 179.5), place(0.0, -179.5)) - degree).abs() < 1e-9);
        let half = great_circle_km(place(90.0, 13.0), place(-90.0, -75.0));
        assert!((half - 180.0 * degree).abs() < 1e-6);
        // London to Paris.
        let km = great_circle_km(place(51.507_4, -0.127_8), place(48.856_6, 2.352_2));
        assert!((km - 343.56).abs() < 0.05, "{km}");
    }

    #[test]
    fn directions() {
        let horizon = Horizon::at(place(0.0, 179.99));
        let east = horizon.point(10.0, 0.0).unwrap();
        assert!(east.lon() < -179.9 && east.lat().abs() < 1e-12);
        let north = horizon.point(0.0, 10.0).unwrap();
        assert!((north.lat() - (10.0 / EARTH_KM).to_degrees()).abs() < 1e-12);
        let pole = Horizon::at(place(90.0, 0.0));
        assert!((pole.point(0.0, 0.0).unwrap().lat() - 90.0).abs() < 1e-12);
        assert!(horizon.point(f64::INFINITY, 0.0).is_err());
    }

    proptest! {
        #[test]
        fn a_point_lies_at_its_distance(
            lat in -90.0..=90.0_f64, lon in -180.0..=180.0_f64,
            east in -90.0..90.0_f64, north in -90.0..90.0_f64,
        ) {
            let start = place(lat, lon);
            let end = Horizon::at(start).point(east, north).unwrap();
            prop_assert!((great_circle_km(start, end) - east.hypot(north)).abs() < 1e-6);
            let vector = Horizon::vector(end.lat(), end.lon());
            let from = Horizon::vector(lat, lon);
            prop_assert!((distance_km(from, vector) - east.hypot(north)).abs() < 1e-6);
            let back = Horizon::at(start).offset(vector);
            prop_assert!((back[0] - east).abs() < 1e-6 && (back[1] - north).abs() < 1e-6);
        }
    }
}
