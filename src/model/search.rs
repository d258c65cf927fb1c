//! An area that was searched on the ground.

use jiff::Timestamp;

use super::{CaseId, Cell};

/// An area that was searched on the ground, without finding the person.
#[derive(Debug, Clone)]
pub struct SearchedArea {
    /// The case.
    pub case: CaseId,
    /// Counts the searches of a case from 1.
    pub number: i64,
    /// Who reported it.
    pub reported_by: String,
    /// When it came in.
    pub reported_at: Timestamp,
    /// When it was searched.
    pub searched_at: Timestamp,
    /// The probability of detection: that the person would have been found if there, 0 to 0.99.
    pub detection: f64,
    /// The cells that were searched, compacted; empty once erased.
    pub cells: Vec<Cell>,
    /// Whether it was taken back.
    pub withdrawn: bool,
}
