//! The people whom apps register.

use h3o::{CellIndex, LatLng, Resolution};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// One subscriber as an app writes them.
#[derive(Debug, Clone)]
pub struct Person {
    pub token: String,
    pub cell: CellIndex,
    pub at: Timestamp,
    more: Map<String, Value>,
}

impl Person {
    /// Somebody in a cell, seen there now.
    pub fn new(token: impl Into<String>, cell: CellIndex, at: Timestamp) -> Self {
        Self {
            token: token.into(),
            cell,
            at,
            more: Map::new(),
        }
    }

    /// Seen at another time.
    #[must_use]
    pub fn seen(self, at: Timestamp) -> Self {
        Self { at, ..self }
    }

    /// With something else said about them.
    #[must_use]
    pub fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.more.insert(field.to_owned(), value.into());
        self
    }

    /// Known to other apps by the same key.
    #[must_use]
    pub fn known_as(self, person: u8) -> Self {
        self.with("person_keys", json!([key(person)]))
    }

    /// Known to other apps by two keys, while the secret behind them is changed.
    #[must_use]
    pub fn known_as_both(self, person: u8, other: u8) -> Self {
        self.with("person_keys", json!([key(person), key(other)]))
    }

    /// So many people in a cell, with tokens of a common beginning.
    pub fn many(prefix: &str, count: usize, cell: CellIndex, at: Timestamp) -> Vec<Self> {
        (0..count)
            .map(|n| Self::new(format!("{prefix}-{n:05}"), cell, at))
            .collect()
    }

    /// The line an app sends.
    pub fn line(&self) -> Value {
        let mut line = json!({
            "token": self.token, "cell": self.cell.to_string(), "at": self.at,
        });
        line.as_object_mut().unwrap().extend(self.more.clone());
        line
    }
}

fn key(person: u8) -> String {
    format!("{person:02x}").repeat(32)
}

/// The subscriber cell at a place.
pub fn cell_at(lat: f64, lon: f64) -> CellIndex {
    LatLng::new(lat, lon).unwrap().to_cell(Resolution::Nine)
}

/// The cells up to `k` steps round a cell.
pub fn disk(centre: CellIndex, k: u32) -> Vec<CellIndex> {
    let mut cells = centre.grid_disk::<Vec<_>>(k);
    cells.sort();
    cells
}
