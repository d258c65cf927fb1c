//! Who is measured with: people in cities, or as a file of cells says.

use std::path::Path;

use anyhow::{Context as _, ensure};
use h3o::{LatLng, Resolution};
use jiff::Timestamp;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::model::{Cell, Position, SUBSCRIBER_RESOLUTION};

/// Cities without a file: the second has half as many people as the first, the third a third.
const CITIES: u32 = 40;
/// How far apart they are, in degrees north and east, in rows of eight.
const GRID_DEG: (f64, f64) = (1.0, 1.6);
/// The first of them.
const FIRST: (f64, f64) = (50.0, 2.0);
/// Density falls to 1/e within so many km in the first city, and by the root of its people in others.
const SCALE_KM: f64 = 13.5;
/// Of latitude, on the average.
const KM_A_DEGREE: f64 = 111.195;
/// Whoever a file puts into a cell stands in the middle of one of its descendants of this resolution
/// (about 40 m²).
const STANDING: Resolution = Resolution::Thirteen;

/// One subscriber.
#[derive(Debug, Clone, Copy)]
pub struct Subscriber {
    /// From 0.
    pub number: u32,
    /// Exactly where; Homeward is only told the cell.
    pub at: Position,
}

impl Subscriber {
    /// The app's name for the device.
    pub fn token(self) -> String {
        token(self.number)
    }

    /// The line that the app sends.
    pub fn line(self, at: Timestamp) -> String {
        let cell = Cell::at(self.at, SUBSCRIBER_RESOLUTION);
        format!(
            "{{\"token\":\"{}\",\"cell\":\"{cell}\",\"at\":\"{at}\"}}\n",
            self.token()
        )
    }
}

/// The app's name for a device. The digits are mixed, since real tokens are in no order.
pub fn token(number: u32) -> String {
    // An odd factor turns round the numbers of 32 bits without any two falling together.
    format!("bench-{:08x}{number:08x}", number.wrapping_mul(0x9e37_79b1))
}

/// How people are spread.
pub enum Population {
    Cities,
    /// Cells, with the people in them and in all before them.
    Cells(Vec<(Cell, f64)>),
}

impl Population {
    /// From a file of `h3,population` rows, or made up.
    pub fn read(file: Option<&Path>) -> anyhow::Result<Self> {
        let Some(file) = file else {
            return Ok(Self::Cities);
        };
        let text =
            std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        let mut cells = Vec::new();
        let mut sum = 0.0;
        for (number, row) in (1..).zip(text.lines()) {
            if row.is_empty() || row.starts_with("h3,") {
                continue;
            }
            let wrong = || {
                format!(
                    "{}, line {number}: h3,population is expected",
                    file.display()
                )
            };
            let (cell, people) = row.split_once(',').with_context(wrong)?;
            let cell: Cell = cell.trim().parse().with_context(wrong)?;
            let people: f64 = people.trim().parse().with_context(wrong)?;
            ensure!(
                people >= 0.0 && cell.index().resolution() <= STANDING,
                wrong()
            );
            sum += people;
            cells.push((cell, sum));
        }
        ensure!(sum > 0.0, "{} has no people", file.display());
        Ok(Self::Cells(cells))
    }

    /// A subscriber by number: the same one every time, anywhere.
    pub fn subscriber(&self, number: u32) -> Subscriber {
        let mut chance = StdRng::seed_from_u64(number.into());
        Subscriber {
            number,
            at: self.place(&mut chance),
        }
    }

    /// Where somebody of this population may be.
    fn place(&self, chance: &mut StdRng) -> Position {
        match self {
            Self::Cities => in_a_city(chance),
            Self::Cells(cells) => {
                let all = cells.last().map_or(0.0, |(_, sum)| *sum);
                let picked = chance.random::<f64>() * all;
                let place = cells.partition_point(|(_, sum)| *sum <= picked);
                inside(cells[place.min(cells.len() - 1)].0, chance)
            }
        }
    }

    /// Busy places to search round: the middles of the biggest cities, a walk off.
    pub fn points(&self, count: u32) -> Vec<Position> {
        let mut chance = StdRng::seed_from_u64(2);
        let middle = |city: u32, chance: &mut StdRng| match self {
            Self::Cities => city_at(city),
            Self::Cells(_) => self.place(chance),
        };
        (0..count)
            .map(|city| {
                let from = middle(city, &mut chance);
                off(from, &mut chance, 1.0)
            })
            .collect()
    }
}

fn city_at(city: u32) -> Position {
    let (row, column) = (f64::from(city / 8), f64::from(city % 8));
    let (lat, lon) = (FIRST.0 + row * GRID_DEG.0, FIRST.1 + column * GRID_DEG.1);
    place(lat, lon)
}

/// Density falls off exponentially from a city's middle.
fn in_a_city(chance: &mut StdRng) -> Position {
    let all: f64 = (1..=CITIES).map(|rank| 1.0 / f64::from(rank)).sum();
    let mut picked = chance.random::<f64>() * all;
    let mut city = 0;
    while city + 1 < CITIES && picked > 1.0 / f64::from(city + 1) {
        picked -= 1.0 / f64::from(city + 1);
        city += 1;
    }
    let scale = SCALE_KM / f64::from(city + 1).sqrt();
    let km = -scale * ((1.0 - chance.random::<f64>()) * (1.0 - chance.random::<f64>())).ln();
    off(city_at(city), chance, km)
}

/// The middle of one of a cell's smallest parts.
fn inside(cell: Cell, chance: &mut StdRng) -> Position {
    let parts = cell.index().children_count(STANDING);
    let part = cell
        .index()
        .child_at(chance.random_range(0..parts), STANDING);
    let middle = LatLng::from(part.unwrap_or(cell.index()));
    place(middle.lat(), middle.lng())
}

/// So many km off in any direction; on a plane, which is near enough here.
pub fn off(from: Position, chance: &mut StdRng, km: f64) -> Position {
    let (sin, cos) = libm::sincos(std::f64::consts::TAU * chance.random::<f64>());
    let lat = from.lat() + km * cos / KM_A_DEGREE;
    let lon = from.lon() + km * sin / (KM_A_DEGREE * libm::cos(from.lat().to_radians()));
    place(lat, lon)
}

fn place(lat: f64, lon: f64) -> Position {
    let east = (lon + 540.0).rem_euclid(360.0) - 180.0;
    Position::new(lat.clamp(-90.0, 90.0), east)
        .unwrap_or_else(|_| unreachable!("both were brought into range"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_of_a_file_are_where_it_says() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(
            file.path(),
            "h3,population\n881976bb67fffff,3\n881976bb63fffff,1\n",
        )
        .unwrap();
        let people = Population::read(Some(file.path())).unwrap();
        let cells: Vec<_> = (0..4_000)
            .filter_map(|number| {
                let standing = Cell::at(people.subscriber(number).at, STANDING).index();
                standing
                    .parent(Resolution::Eight)
                    .map(|cell| cell.to_string())
            })
            .collect();
        let first = cells
            .iter()
            .filter(|cell| *cell == "881976bb67fffff")
            .count();
        let second = cells
            .iter()
            .filter(|cell| *cell == "881976bb63fffff")
            .count();
        assert_eq!(first + second, 4_000);
        assert!((2_800..3_200).contains(&first), "{first}");
        std::fs::write(file.path(), "nonsense\n").unwrap();
        assert!(Population::read(Some(file.path())).is_err());
    }

    #[test]
    fn no_two_subscribers_share_a_token() {
        let tokens: std::collections::HashSet<_> = (0..10_000).map(token).collect();
        assert_eq!(tokens.len(), 10_000);
    }
}
