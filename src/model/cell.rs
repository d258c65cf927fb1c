//! H3 cells as the house uses them: hex at every border, a contiguous run of numbers in the store.

use h3o::{CellIndex, LatLng, Resolution};
use serde::{Deserialize, Serialize};

use super::Position;

/// The one resolution that subscribers are registered at (cells of about 0.1 km²).
pub const SUBSCRIBER_RESOLUTION: Resolution = Resolution::Nine;

/// An H3 cell. Written as a hex string wherever it leaves the process, because JavaScript rounds
/// numbers above 2^53.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cell(CellIndex);

/// Text or a number that is no H3 cell, or a cell of another resolution than asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCell {
    /// Not the hexadecimal form of an H3 cell.
    #[error("an H3 cell is 15 hexadecimal digits such as 891976bb667ffff")]
    NotACell,
    /// A valid cell, but too coarse or too fine.
    #[error("the cell must be of resolution {expected}, this one is of resolution {found}")]
    WrongResolution {
        /// What is accepted.
        expected: u8,
        /// What was given.
        found: u8,
    },
}

impl Cell {
    /// The cell that holds a position.
    #[must_use]
    pub fn at(position: Position, resolution: Resolution) -> Self {
        // A Position is finite and on Earth, which is all that LatLng asks for.
        let point = LatLng::new(position.lat(), position.lon()).unwrap_or_default();
        Self(point.to_cell(resolution))
    }

    /// Checks that this is a cell of the resolution subscribers are kept at.
    ///
    /// # Errors
    /// [`InvalidCell::WrongResolution`] with both resolutions.
    pub fn for_subscriber(self) -> Result<Self, InvalidCell> {
        if self.0.resolution() == SUBSCRIBER_RESOLUTION {
            return Ok(self);
        }
        Err(InvalidCell::WrongResolution {
            expected: SUBSCRIBER_RESOLUTION.into(),
            found: self.0.resolution().into(),
        })
    }

    /// The library's form of this cell.
    #[must_use]
    pub const fn index(self) -> CellIndex {
        self.0
    }

    /// The cell as the store keeps it; bit 63 of a cell is 0, so it is never negative.
    #[must_use]
    pub fn to_i64(self) -> i64 {
        u64::from(self.0).cast_signed()
    }

    /// Reads a cell back from the store.
    ///
    /// # Errors
    /// [`InvalidCell::NotACell`] if the number is no valid cell.
    pub fn from_i64(number: i64) -> Result<Self, InvalidCell> {
        CellIndex::try_from(number.cast_unsigned())
            .map(Self)
            .map_err(|_| InvalidCell::NotACell)
    }
}

impl From<CellIndex> for Cell {
    fn from(index: CellIndex) -> Self {
        Self(index)
    }
}

impl TryFrom<String> for Cell {
    type Error = InvalidCell;

    fn try_from(hex: String) -> Result<Self, Self::Error> {
        hex.parse()
    }
}

impl From<Cell> for String {
    fn from(cell: Cell) -> Self {
        cell.to_string()
    }
}

impl std::str::FromStr for Cell {
    type Err = InvalidCell;

    fn from_str(hex: &str) -> Result<Self, Self::Err> {
        hex.parse().map(Self).map_err(|_| InvalidCell::NotACell)
    }
}

impl std::fmt::Display for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl std::fmt::Debug for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cell({})", self.0)
    }
}

/// A run of subscriber cells, both ends included, as numbers the store can compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CellRange {
    /// The lowest cell number of the run.
    pub lo: i64,
    /// The highest cell number of the run.
    pub hi: i64,
}
