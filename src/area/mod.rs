//! Where a missing person is likely to be, from published statistics: pure, no I/O and no clock.
//!
//! [`plan`] goes through the files in this order: the figures for the profile (`figures`, from
//! `distances` and `settings`), how far people get in the end (`law`) and by now (`travel`), the
//! places they may have started from (`sightings`) and what is spread round them (`mixture`, as the
//! table of a `radial` distribution), the probability of each cell (`cells`, of a `disc` on the
//! `sphere`), what searches leave of it (`searched`, `map`), and which cells are released when
//! (`waves`, or a `policy`). `cover` turns cells into what the store looks up, `koopman` a budget
//! into recipients, `polygon` a drawn area into cells; `geojson` and `svg` turn a plan into maps,
//! `explain` and `text` into words, `change` lays two side by side; `calibration` holds
//! the model against closed cases.

mod calibration;
mod cells;
mod change;
mod closed;
mod cover;
mod csv;
mod disc;
mod distances;
mod error;
mod explain;
mod figures;
mod geojson;
mod inputs;
mod koopman;
mod law;
mod map;
mod mixture;
mod normal;
mod plan;
mod policy;
mod polygon;
mod radial;
mod searched;
mod seconds;
mod settings;
mod sightings;
mod sphere;
mod svg;
mod text;
mod travel;
mod waves;

pub use calibration::{Calibration, Coverage, FittedRow, Rossmo, Transform, calibrate};
pub use cells::CellProbability;
pub use change::{PlanChange, change};
pub use closed::{ClosedCase, WrongRow, closed_cases};
pub use cover::{compact, ranges};
pub use distances::{Chosen, DistanceTable};
pub use error::{AreaError, TableError, TableProblem};
pub use explain::{Reason, as_json, explain};
pub use figures::Basis;
pub use geojson::feature_collection;
pub use inputs::{LookedFor, PlanInputs, Search, SeenAt};
pub use koopman::{Allocation, Crowd, allocate};
pub use law::StaticLaw;
pub use plan::{HowFar, Plan, Radii, plan};
pub use polygon::{DrawnArea, PolygonProblem, cells_of_drawn};
pub use searched::SearchEffect;
pub use settings::{Motion, Movement, Settings};
pub use sightings::SightingEffect;
pub use sphere::great_circle_km;
pub use svg::svg;
pub use text::text;
pub use travel::TimeLaw;
pub use waves::PlannedWave;
