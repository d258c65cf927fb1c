//! A plan as a picture that needs nothing else: no map server, no fonts, no colours that some people
//! or printers cannot tell apart. Waves go from dark to light, signs differ by shape.

use std::fmt::Write as _;

use h3o::LatLng;

use super::plan::Plan;
use super::sphere::{self, Horizon};
use super::waves::PlannedWave;
use crate::model::Position;

/// Width and height of the map, in pixels.
const SIZE: f64 = 840.0;
/// Between the map and the picture's edge, and the height of a line of the legend.
const MARGIN: f64 = 20.0;
const LINE: f64 = 22.0;
const LEGEND: f64 = 330.0;

/// One hue from dark to light, which stays in order without colour (`ColorBrewer`, Blues).
const WAVES: [&str; 4] = ["#08306b", "#2f7fbc", "#9dc6e0", "#dbe9f5"];

/// Vermilion, which stands out from blue for every kind of colour vision (Okabe and Ito).
const SIGHTING: &str = "#d55e00";

/// Sightings that shape less of the map than this get no circles.
const FAINT: f64 = 0.05;

/// A circle's label covers a sign that is no farther from its place than this, across and down.
const LABEL: [f64; 2] = [70.0, 25.0];

/// From km round the last known position to pixels.
struct Canvas {
    horizon: Horizon,
    px_per_km: f64,
    /// From the centre to each edge of the map.
    reach_km: f64,
}

/// Draws a plan: its waves, radii, last known position, sightings and known places, with a scale bar
/// and a legend. North is up, distances and directions from the last known position are true.
#[must_use]
pub fn svg(plan: &Plan) -> String {
    let canvas = Canvas::of(plan);
    let (width, height) = (SIZE + LEGEND + 3.0 * MARGIN, SIZE + 2.0 * MARGIN);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"14\">\n<title>Where the person is likely to be</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <clipPath id=\"map\"><rect x=\"{MARGIN}\" y=\"{MARGIN}\" width=\"{SIZE}\" height=\"{SIZE}\"/></clipPath>\n\
         <g clip-path=\"url(#map)\">\n"
    );
    for wave in plan.waves.iter().rev() {
        out += &canvas.cells(wave);
    }
    out += &canvas.circles(plan);
    out += &canvas.signs(plan);
    out += "</g>\n";
    let _ = writeln!(
        out,
        "<rect x=\"{MARGIN}\" y=\"{MARGIN}\" width=\"{SIZE}\" height=\"{SIZE}\" fill=\"none\" stroke=\"#000\"/>"
    );
    out += &canvas.scale_bar();
    out += &legend(plan);
    out += "</svg>\n";
    out
}

impl Canvas {
    fn of(plan: &Plan) -> Self {
        let horizon = Horizon::at(plan.inputs.lkp);
        let corners = plan.cells().flat_map(|one| {
            one.cell
                .index()
                .boundary()
                .iter()
                .copied()
                .collect::<Vec<_>>()
        });
        let farthest = corners
            .flat_map(|at| horizon.offset(Horizon::vector(at.lat(), at.lng())))
            .fold(plan.radii.r50, |most, km| most.max(libm::fabs(km)));
        let reach_km = farthest.max(0.1) * 1.04;
        Self {
            horizon,
            px_per_km: SIZE / 2.0 / reach_km,
            reach_km,
        }
    }

    /// Pixels from the top left corner.
    fn at(&self, [east, north]: [f64; 2]) -> [f64; 2] {
        let middle = MARGIN + SIZE / 2.0;
        [
            middle + east * self.px_per_km,
            middle - north * self.px_per_km,
        ]
    }

    fn corner(&self, at: &LatLng) -> [f64; 2] {
        self.at(self.horizon.offset(Horizon::vector(at.lat(), at.lng())))
    }

    fn place(&self, place: Position) -> [f64; 2] {
        self.at(self.horizon.offset(sphere::vector(place)))
    }

    fn cells(&self, wave: &PlannedWave) -> String {
        let colour = colour(wave.number);
        let mut path = format!(
            "<path class=\"wave\" fill=\"{colour}\" stroke=\"#fff\" stroke-width=\"0.4\" d=\""
        );
        for one in &wave.cells {
            for (i, at) in one.cell.index().boundary().iter().enumerate() {
                let [x, y] = self.corner(at);
                let _ = write!(path, "{}{x:.1} {y:.1}", if i == 0 { "M" } else { "L" });
            }
            path.push('Z');
        }
        path + "\"/>\n"
    }

    fn circles(&self, plan: &Plan) -> String {
        let radii = plan.radii;
        let places = plan.inputs.known_places.iter().map(|one| one.position);
        let sightings = plan.inputs.sightings.iter().map(|one| one.position);
        let signs: Vec<[f64; 2]> = places.chain(sightings).map(|at| self.place(at)).collect();
        let (mut out, mut labels) = (String::new(), String::new());
        for (name, km, dash, degrees) in [
            ("50 %", radii.r50, "", 50.0_f64),
            ("75 %", radii.r75, "9 5", 20.0),
            ("95 %", radii.r95, "2 5", -20.0),
        ] {
            let centre = self.at([0.0, 0.0]);
            out += &self.circle(centre, km, "#000", dash);
            let [x, y] = self.beside(&signs, km, degrees);
            labels += &label(x, y - 3.0, "middle", &format!("{name}: {}", length(km)));
        }
        for effect in plan
            .sightings
            .iter()
            .filter(|effect| effect.remaining >= FAINT)
        {
            let centre = self.place(plan.inputs.sightings[effect.index].position);
            out += &self.circle(centre, effect.radii.r50, SIGHTING, "");
            out += &self.circle(centre, effect.radii.r95, SIGHTING, "2 5");
        }
        out + &labels
    }

    /// The place for a circle's label: at this bearing, or the next at which it covers none of these signs.
    fn beside(&self, signs: &[[f64; 2]], km: f64, degrees: f64) -> [f64; 2] {
        let at = |turn: u32| {
            let bearing = degrees + 20.0 * f64::from(turn);
            let (sin, cos) = libm::sincos(bearing.to_radians());
            self.at([km * sin, km * cos])
        };
        let covers = |label: &[f64; 2], sign: &[f64; 2]| {
            (0..2).all(|i| libm::fabs(label[i] - sign[i]) < LABEL[i])
        };
        let free = |label: &[f64; 2]| !signs.iter().any(|sign| covers(label, sign));
        (0..18).map(at).find(free).unwrap_or_else(|| at(0))
    }

    fn circle(&self, [x, y]: [f64; 2], km: f64, colour: &str, dash: &str) -> String {
        let r = km * self.px_per_km;
        let ring = |colour: &str, width: f64, dash: &str| {
            format!(
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{r:.1}\" fill=\"none\" stroke=\"{colour}\" \
                 stroke-width=\"{width}\" stroke-dasharray=\"{dash}\"/>\n"
            )
        };
        // A white edge keeps the line visible on dark cells.
        ring("#fff", 3.0, "") + &ring(colour, 1.8, dash)
    }

    fn signs(&self, plan: &Plan) -> String {
        let mut out = String::new();
        for place in &plan.inputs.known_places {
            out += &square(self.place(place.position));
        }
        for effect in &plan.sightings {
            let at = self.place(plan.inputs.sightings[effect.index].position);
            out += &diamond(at);
            out += &label(
                at[0] + 11.0,
                at[1] + 5.0,
                "start",
                &(effect.index + 1).to_string(),
            );
        }
        out + &cross(self.at([0.0, 0.0]))
    }

    /// A round length of about a quarter of the map's width.
    fn scale_bar(&self) -> String {
        let wanted = self.reach_km / 2.0;
        let power = libm::pow(10.0, libm::floor(libm::log10(wanted)));
        let km = [5.0, 2.0, 1.0]
            .into_iter()
            .map(|part| part * power)
            .find(|km| *km <= wanted)
            .unwrap_or(power);
        let (x, y, width) = (MARGIN + 15.0, MARGIN + SIZE - 15.0, km * self.px_per_km);
        format!(
            "<path d=\"M{x} {y}v-8h{width:.1}v8\" fill=\"none\" stroke=\"#fff\" stroke-width=\"5\"/>\n\
             <path d=\"M{x} {y}v-8h{width:.1}v8\" fill=\"none\" stroke=\"#000\" stroke-width=\"2\"/>\n"
        ) + &label(x + 5.0, y - 13.0, "start", &length(km))
    }
}

fn colour(wave: u16) -> &'static str {
    WAVES[usize::from(wave.saturating_sub(1)).min(WAVES.len() - 1)]
}

fn cross([x, y]: [f64; 2]) -> String {
    let line = |colour: &str, width: f64| {
        format!(
            "<path d=\"M{:.1} {y:.1}h22M{x:.1} {:.1}v22\" stroke=\"{colour}\" stroke-width=\"{width}\"/>\n",
            x - 11.0,
            y - 11.0
        )
    };
    line("#fff", 7.0) + &line("#000", 3.0)
}

fn diamond([x, y]: [f64; 2]) -> String {
    format!(
        "<path class=\"sighting\" d=\"M{x:.1} {:.1}l8 8l-8 8l-8 -8Z\" fill=\"{SIGHTING}\" stroke=\"#fff\" stroke-width=\"1.5\"/>\n",
        y - 8.0
    )
}

fn square([x, y]: [f64; 2]) -> String {
    format!(
        "<rect class=\"place\" x=\"{:.1}\" y=\"{:.1}\" width=\"12\" height=\"12\" fill=\"#fff\" stroke=\"#000\" stroke-width=\"2\"/>\n",
        x - 6.0,
        y - 6.0
    )
}

/// Text with a white edge, so that it can be read on any cell. It must not need escaping.
fn label(x: f64, y: f64, anchor: &str, text: &str) -> String {
    format!(
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" stroke=\"#fff\" stroke-width=\"4\" \
         paint-order=\"stroke\" font-weight=\"bold\">{text}</text>\n"
    )
}

fn legend(plan: &Plan) -> String {
    let x = SIZE + 2.0 * MARGIN;
    let mut y = MARGIN + LINE;
    let mut out = String::new();
    let mut line = |sign: &dyn Fn([f64; 2]) -> String, text: &str| {
        out += &sign([x + 12.0, y - 5.0]);
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{y:.1}\">{text}</text>",
            x + 34.0
        );
        y += LINE;
    };
    let nothing = |_: [f64; 2]| String::new();
    line(
        &nothing,
        &format!(
            "{}, {}",
            plan.inputs.profile.category, plan.inputs.profile.environment
        ),
    );
    line(
        &nothing,
        &format!("{:.1} h after last seen", plan.inputs.hours()),
    );
    line(&nothing, "");
    for wave in &plan.waves {
        let km2: f64 = wave
            .cells
            .iter()
            .map(|one| one.cell.index().area_km2())
            .sum();
        let colour = colour(wave.number);
        let box_of = |[x, y]: [f64; 2]| {
            format!(
                "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"22\" height=\"15\" fill=\"{colour}\" stroke=\"#000\"/>\n",
                x - 11.0,
                y - 8.0
            )
        };
        line(
            &box_of,
            &format!(
                "wave {}: {:.1} % in {} km²",
                wave.number,
                wave.mass * 100.0,
                if km2 < 99.5 {
                    format!("{km2:.1}")
                } else {
                    format!("{km2:.0}")
                }
            ),
        );
    }
    line(&nothing, &format!("elsewhere: {:.1} %", plan.rest * 100.0));
    line(&nothing, "");
    line(&cross, "last known position");
    for (name, dash) in [("50 % are within", ""), ("75 %", "9 5"), ("95 %", "2 5")] {
        let dashes = |[x, y]: [f64; 2]| {
            format!(
                "<path d=\"M{:.1} {y:.1}h26\" stroke=\"#000\" stroke-width=\"1.8\" stroke-dasharray=\"{dash}\"/>\n",
                x - 13.0
            )
        };
        line(&dashes, name);
    }
    for effect in &plan.sightings {
        let seen = &plan.inputs.sightings[effect.index];
        let hours = super::inputs::hours(seen.after);
        let weight = effect.weight * 100.0;
        line(
            &diamond,
            &format!(
                "sighting {} after {hours:.1} h, true: {weight:.0} %",
                effect.index + 1
            ),
        );
    }
    if !plan.sightings.is_empty() {
        line(&nothing, "its circles: 50 % and 95 % of who was there");
    }
    if !plan.inputs.known_places.is_empty() {
        line(&square, "known place");
    }
    out
}

fn length(km: f64) -> String {
    if km < 1.0 {
        format!("{:.0} m", km * 1_000.0)
    } else if km < 10.0 && libm::fabs(km - libm::round(km)) > 0.05 {
        format!("{km:.1} km")
    } else {
        format!("{km:.0} km")
    }
}

#[cfg(test)]
#[path = "svg_tests.rs"]
mod tests;
