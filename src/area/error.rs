//! What can be wrong with a distance table, with the settings or with what a plan is asked for.

use crate::model::{Category, Environment, UnknownName};

/// A distance table that cannot be used, with the row it fails at.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("distance table, line {line} ({row}): {problem}")]
pub struct TableError {
    /// Counted from 1, the header included.
    pub line: usize,
    /// The row's category and environment as they stand there.
    pub row: String,
    /// What is wrong with it.
    pub problem: TableProblem,
}

/// What is wrong with a row of the distance table.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TableProblem {
    /// The first line names other columns.
    #[error("the columns must be {expected}")]
    Header {
        /// The columns in their order.
        expected: String,
    },
    /// Too many or too few fields.
    #[error("has {found} fields instead of {expected}")]
    Fields {
        /// How many there should be.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// A category or environment nobody knows.
    #[error("{0} (or, as environment, 'any')")]
    Name(#[from] UnknownName),
    /// An unknown adult takes the figures of another category.
    #[error("an unknown adult is planned for by age, with the figures of another category")]
    StandIn,
    /// A distance that is none.
    #[error("{column} must be a number of km above 0 and below 20015, not '{given}'")]
    Distance {
        /// The column it stands in.
        column: &'static str,
        /// What stands there.
        given: String,
    },
    /// The distances do not rise.
    #[error("each distance must be longer than the one before it")]
    NotRising,
    /// No source is named.
    #[error("names no source")]
    NoSource,
    /// A second row for the same category and environment.
    #[error("stands there a second time")]
    Twice,
    /// A category with neither a `default` nor an `any` row.
    #[error("has no row for the environments 'default' or 'any'")]
    NoFallback,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum AreaError {
    /// The table has no row at all for the category.
    #[error("the distance table has no row for {category} in {environment}")]
    NoRow {
        /// The category.
        category: Category,
        /// The environment asked for.
        environment: Environment,
    },
    /// Something the plan is made from is out of its bounds.
    #[error("{field} must be {accepted}, not {given}")]
    Input {
        /// The field, as it is spelt in stored inputs.
        field: String,
        /// What was given.
        given: f64,
        /// What is accepted.
        accepted: &'static str,
    },
    /// A setting of the model is out of its bounds.
    #[error("area setting {name} must be {accepted}, not {given}")]
    Setting {
        /// The setting, as it is spelt in the configuration.
        name: String,
        /// What was given.
        given: f64,
        /// What is accepted.
        accepted: &'static str,
    },
}
