//! A plan as a small picture: how likely each place is, and where the waves end.

use std::collections::HashMap;

use anyhow::Context as _;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::screen::{Screen, Style};
use super::story::text;
use crate::area::great_circle_km;
use crate::model::{Cell, Position};

/// Characters from west to east; a character is about twice as high as wide.
const COLUMNS: i32 = 43;
/// Characters from north to south.
const ROWS: i32 = 21;
/// Shades, each for places a quarter as likely as the one before.
const SHADES: [char; 5] = ['█', '▓', '▒', '░', '·'];

/// The plan's cells, as its GeoJSON has them.
pub struct Picture {
    lkp: Position,
    cells: HashMap<Cell, Likely>,
    /// From the centre to each edge.
    reach_km: f64,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct Likely {
    cell: Cell,
    p: f64,
    wave: u64,
}

impl Picture {
    /// Reads the plan of a case.
    ///
    /// # Errors
    /// If it is not the map of a plan.
    pub fn of(map: &Value) -> anyhow::Result<Self> {
        let features = map["features"].as_array().context("no features")?;
        let (mut lkp, mut cells) = (None, HashMap::new());
        for feature in features {
            let properties = &feature["properties"];
            match properties["kind"].as_str() {
                Some("last_known_position") => {
                    let at = &feature["geometry"]["coordinates"];
                    let (lon, lat) = (at[0].as_f64(), at[1].as_f64());
                    lkp = lat.zip(lon);
                }
                Some("cell") => {
                    let one = Likely::deserialize(properties)?;
                    cells.insert(one.cell, one);
                }
                _ => {}
            }
        }
        let (lat, lon) = lkp.context("no last known position")?;
        let lkp = Position::new(lat, lon)?;
        let farthest = cells.keys().map(|cell| {
            let centre = h3o::LatLng::from(cell.index());
            let centre = Position::new(centre.lat(), centre.lng());
            centre.map_or(0.0, |centre| great_circle_km(lkp, centre))
        });
        let reach_km = farthest.fold(0.5, f64::max) + 0.5;
        Ok(Self {
            lkp,
            cells,
            reach_km,
        })
    }

    /// Draws it line by line, north up.
    #[must_use]
    pub fn draw(&self, screen: &Screen) -> Vec<String> {
        let best = self.cells.values().map(|one| one.p).fold(0.0, f64::max);
        (0..ROWS)
            .map(|row| {
                let spots = (0..COLUMNS).map(|column| {
                    if (column, row) == (COLUMNS / 2, ROWS / 2) {
                        return screen.paint(Style::Label, "X");
                    }
                    let Some(here) = self.at(column, row) else {
                        return " ".to_owned();
                    };
                    let spot = if self.ends_here(here.wave, column, row) {
                        char::from_digit(u32::try_from(here.wave).unwrap_or(0), 10).unwrap_or('?')
                    } else {
                        shade(here.p / best)
                    };
                    screen.paint(Style::Wave(here.wave), &spot.to_string())
                });
                spots.collect()
            })
            .collect()
    }

    /// What its signs mean, line by line; `plan` is the plan as JSON.
    ///
    /// # Errors
    /// If it is not a plan.
    pub fn legend(&self, plan: &Value, screen: &Screen) -> anyhow::Result<Vec<String>> {
        let mut legend = vec![
            String::new(),
            format!("{}  LKP", screen.paint(Style::Label, "X")),
            "█▓▒░· likelier to less likely".to_owned(),
            format!("a character is {:.1} km wide", self.km_per_column()),
            String::new(),
        ];
        let waves = plan["waves"].as_array().context("the plan has no waves")?;
        let due =
            |wave: &Value| -> anyhow::Result<Timestamp> { Ok(text(&wave["due_at"])?.parse()?) };
        let first = due(waves.first().context("the plan has no waves")?)?;
        for wave in waves {
            let number = wave["number"].as_u64().unwrap_or_default();
            let minutes = due(wave)?.duration_since(first).as_mins();
            let when = match minutes {
                0 => "now".to_owned(),
                minutes if minutes % 60 == 0 => format!("in {} h, if needed", minutes / 60),
                minutes => format!("in {minutes} min, if needed"),
            };
            let mass = wave["mass"].as_f64().unwrap_or(f64::NAN) * 100.0;
            let digit = screen.paint(Style::Wave(number), &number.to_string());
            legend.push(format!("{digit}  edge of wave {number}"));
            legend.push(format!("   {mass:.0} % of the probability"));
            legend.push(format!("   {when}"));
            legend.push(String::new());
        }
        legend.push("Only wave 1 goes out here:".to_owned());
        legend.push("the demo ends before the others.".to_owned());
        Ok(legend)
    }

    /// How many km one character is wide.
    fn km_per_column(&self) -> f64 {
        2.0 * self.reach_km / f64::from(COLUMNS)
    }

    /// The cell under a character, if it belongs to a wave.
    fn at(&self, column: i32, row: i32) -> Option<Likely> {
        let step = self.km_per_column();
        let east_km = f64::from(column - COLUMNS / 2) * step;
        let north_km = f64::from(ROWS / 2 - row) * step * 2.0;
        let position = super::city::beside(self.lkp, east_km, north_km).ok()?;
        let resolution = self.cells.keys().next()?.index().resolution();
        self.cells.get(&Cell::at(position, resolution)).copied()
    }

    /// Whether a wave ends at a character: beside it lies a later wave, or none.
    fn ends_here(&self, wave: u64, column: i32, row: i32) -> bool {
        [(-1, 0), (1, 0), (0, -1), (0, 1)].iter().any(|(x, y)| {
            self.at(column + x, row + y)
                .is_none_or(|beside| beside.wave > wave)
        })
    }
}

fn shade(share_of_best: f64) -> char {
    let mut least = 0.25;
    for shade in SHADES {
        if share_of_best >= least {
            return shade;
        }
        least /= 4.0;
    }
    SHADES[SHADES.len() - 1]
}
