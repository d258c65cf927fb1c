//! Cases: taken in, checked, verified, changed and closed.
//!
//! The rules are pure (`intake`, `lifecycle`, `verification`, `duplicates`, `amendment`); the steps
//! an agency or operator takes (`filing`, `steps`, `changes`, `waves`) apply them inside the transaction of
//! their caller.

pub mod amendment;
pub mod changes;
pub mod duplicates;
pub mod filing;
pub mod intake;
pub mod lifecycle;
mod opening;
pub mod steps;
pub mod verification;
pub mod waves;

use std::sync::Arc;

use crate::area::AreaError;
use crate::config::Config;
use crate::model::{Caller, Case, CaseId, Holder};
use crate::planning::{NoPlan, Planner};
use crate::store::{Session, StoreError, Tx, cases};

pub use intake::FieldProblem;
pub use lifecycle::IllegalStep;

/// What the steps of a case need besides the transaction.
#[derive(Debug, Clone)]
pub struct Desk {
    /// The settings.
    pub config: Arc<Config>,
    /// What plans are made with.
    pub planner: Arc<Planner>,
}

/// Why something was not done. Nothing was changed then.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// There is no such thing, or the caller may not know of it.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// Fields that cannot be taken.
    #[error("{} of the fields cannot be taken", .0.len())]
    Invalid(Vec<FieldProblem>),
    /// A step that the life cycle does not allow now.
    #[error(transparent)]
    Illegal(#[from] IllegalStep),
    /// Not with this caller's key, or not by this operator.
    #[error("{0}")]
    Forbidden(String),
    /// Not as things stand; the text says what would be.
    #[error("{0}")]
    Conflict(String),
    /// The case was changed since the caller read it.
    #[error("the case was changed meanwhile: it is at version {0}")]
    Stale(i64),
    /// No area can be planned.
    #[error("the area cannot be planned: {0}")]
    Area(#[from] AreaError),
    /// The database did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<NoPlan> for Refusal {
    fn from(error: NoPlan) -> Self {
        match error {
            NoPlan::Erased => Self::Conflict(format!("the area cannot be planned: {error}")),
            NoPlan::Area(error) => Self::Area(error),
            NoPlan::Store(error) => Self::Store(error),
        }
    }
}

/// The case, if this caller may see it.
///
/// # Errors
/// [`Refusal::NotFound`] for another agency's case, [`Refusal::Forbidden`] for apps.
pub async fn visible(session: &mut Session, caller: &Caller, id: CaseId) -> Result<Case, Refusal> {
    let case = cases::get(session, id).await?;
    allowed(case, caller)
}

/// The case, locked, if this caller may change it and `expected` is its version.
async fn locked(
    tx: &mut Tx,
    caller: &Caller,
    id: CaseId,
    expected: Option<i64>,
) -> Result<Case, Refusal> {
    let case = allowed(cases::lock(tx, id).await?, caller)?;
    match expected {
        Some(version) if version != case.version => Err(Refusal::Stale(case.version)),
        _ => Ok(case),
    }
}

fn allowed(case: Option<Case>, caller: &Caller) -> Result<Case, Refusal> {
    let case = case.ok_or(Refusal::NotFound("case"))?;
    match &caller.holder {
        Holder::Operator(..) => Ok(case),
        Holder::Agency(agency, _) if *agency == case.agency => Ok(case),
        Holder::Agency(..) => Err(Refusal::NotFound("case")),
        Holder::App(..) | Holder::Admin => Err(Refusal::Forbidden(
            "cases are for their agency and for operators".into(),
        )),
    }
}

/// The operator behind a caller.
fn operator(caller: &Caller) -> Result<crate::model::OperatorId, Refusal> {
    match &caller.holder {
        Holder::Operator(id, _) => Ok(*id),
        _ => Err(Refusal::Forbidden("this takes an operator's key".into())),
    }
}
