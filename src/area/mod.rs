//! Where a missing person is likely to be, from published statistics: pure, no I/O and no clock.
//!
//! [`plan`] goes through the files in this order: the figures for the profile (`distances`), how
//! far people get in the end (`law`) and by now (`travel`, with `settings`), which cells that makes
//! likely (`cells`, on the `sphere`), which of them are released when (`waves`). `cover` turns cells
//! into what the store looks up, `geojson` into what a map shows.

mod cells;
mod cover;
mod csv;
mod distances;
mod error;
mod geojson;
mod law;
mod locate;
mod normal;
mod plan;
mod seconds;
mod settings;
mod sphere;
mod travel;
mod waves;

pub use cells::CellProbability;
pub use cover::{compact, ranges};
pub use distances::{Chosen, DistanceTable};
pub use error::{AreaError, TableError, TableProblem};
pub use geojson::feature_collection;
pub use law::StaticLaw;
pub use plan::{Plan, PlanInputs, Radii, plan};
pub use settings::{Motion, Movement, Settings};
pub use sphere::great_circle_km;
pub use travel::TimeLaw;
pub use waves::PlannedWave;
