//! The people of a test: who they are, where they are, and who of them may be told.

use std::collections::BTreeSet;

use h3o::{CellIndex, LatLng, Resolution};
use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

/// Where everybody is missing: a street in a town.
pub const CENTRE: (f64, f64) = (57.1497, -2.0943);

/// What somebody allows, or what is known of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Allows {
    Everything,
    Nothing,
    NothingToday,
    /// Nobody knows where they are by now.
    Stale,
}

/// Somebody with one app or two.
#[derive(Debug)]
pub struct Someone {
    /// Their number in this test, which is part of their tokens.
    pub number: usize,
    cell: CellIndex,
    allows: Allows,
    apps: Vec<usize>,
}

/// Everybody whom the apps know.
pub struct People(Vec<Someone>);

impl People {
    /// People in the cells round the centre, as far as `rings` cells away, by chance.
    pub fn around(count: usize, rings: u32, apps: usize) -> Self {
        let mut chance = StdRng::seed_from_u64(7);
        let centre = LatLng::new(CENTRE.0, CENTRE.1)
            .unwrap()
            .to_cell(Resolution::Nine);
        let cells: Vec<CellIndex> = centre.grid_disk(rings);
        let someone = |number| Someone {
            number,
            cell: cells[chance.random_range(0..cells.len())],
            allows: match number % 100 {
                0..4 => Allows::Nothing,
                4..7 => Allows::NothingToday,
                7..10 => Allows::Stale,
                _ => Allows::Everything,
            },
            // Every tenth has all the apps; they allow each of them the same.
            apps: match number % 10 {
                9 => (0..apps).collect(),
                _ => vec![number % apps],
            },
        };
        Self((0..count).map(someone).collect())
    }

    /// What an app uploads: a line for each of its subscribers.
    pub fn upload(&self, app: usize, now: Timestamp) -> String {
        let of_app = self.0.iter().filter(|someone| someone.apps.contains(&app));
        let lines: Vec<String> = of_app.map(|one| line(one, app, now).to_string()).collect();
        lines.join(
            "
",
        )
    }

    /// Those in an area (compacted cells, as the API gives them).
    pub fn within<'a>(&'a self, area: &'a [CellIndex]) -> impl Iterator<Item = &'a Someone> {
        self.0.iter().filter(|someone| {
            let covers = |of: &CellIndex| someone.cell.parent(of.resolution()) == Some(*of);
            area.iter().any(covers)
        })
    }

    /// The numbers of those in an area who may be told.
    pub fn eligible(&self, area: &[CellIndex]) -> BTreeSet<usize> {
        let may = |someone: &&Someone| someone.allows == Allows::Everything;
        self.within(area)
            .filter(may)
            .map(|someone| someone.number)
            .collect()
    }

    /// How many in an area may not be told, under the reasons of the API.
    pub fn refused(&self, area: &[CellIndex]) -> Value {
        let count = |allows| self.within(area).filter(|one| one.allows == allows).count();
        let reasons = [
            ("opted_out", count(Allows::Nothing)),
            ("muted", count(Allows::NothingToday)),
            ("stale_position", count(Allows::Stale)),
        ];
        let reasons = reasons.into_iter().filter(|(_, people)| *people > 0);
        reasons
            .map(|(reason, people)| (reason.to_owned(), json!(people)))
            .collect()
    }
}

fn line(someone: &Someone, app: usize, now: Timestamp) -> Value {
    let hours = |hours| SignedDuration::from_hours(hours);
    // The last of somebody's apps saw them last, and it is that one which tells them.
    let since = SignedDuration::from_secs(60 - i64::try_from(app).unwrap());
    let at = match someone.allows {
        Allows::Stale => now - hours(30) - since,
        _ => now - since,
    };
    let mut line =
        json!({ "token": token(app, someone.number), "cell": someone.cell.to_string(), "at": at });
    match someone.allows {
        Allows::Nothing => line["opt_out"] = json!(true),
        Allows::NothingToday => line["muted_until"] = json!(now + hours(24)),
        Allows::Everything | Allows::Stale => {}
    }
    if someone.apps.len() > 1 {
        line["person_keys"] = json!([format!("{:032x}", someone.number)]);
    }
    line
}

fn token(app: usize, number: usize) -> String {
    format!("{}-{number}", (b'a' + u8::try_from(app).unwrap()) as char)
}

/// Whose token it is.
pub fn number_of(token: &str) -> usize {
    token.split_once('-').unwrap().1.parse().unwrap()
}

/// Which app's token it is.
pub fn app_of(token: &str) -> usize {
    usize::from(token.as_bytes()[0] - b'a')
}
