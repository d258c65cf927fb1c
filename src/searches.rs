//! Areas that were searched on the ground: reported, kept, taken back. Each makes a new plan.

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::json;

use crate::area::{self, DrawnArea};
use crate::cases::{FieldProblem, Refusal, visible};
use crate::model::{Caller, Case, CaseId, CaseState, Cell, PlanCause, SearchedArea};
use crate::planning::Planner;
use crate::store::plans::Why;
use crate::store::{Tx, cases, searches, timeline};

/// The most cells one report may name; a polygon says it shorter.
const CELLS_MAX: usize = 10_000;
/// The coarsest and the finest cells that may be named, as H3 resolutions.
const RESOLUTIONS: std::ops::RangeInclusive<u8> = 5..=12;
/// The most detection anybody may claim: no search is sure.
const DETECTION_MAX: f64 = 0.99;
/// How far the reporter's clock may run ahead of ours.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(1);

/// A searched area as it is reported: its cells, or the area drawn.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchFiling {
    /// When it was searched.
    pub searched_at: Timestamp,
    /// The probability of detection: that the person would have been found if there.
    pub detection: f64,
    /// The H3 cells that were searched.
    pub cells: Option<Vec<Cell>>,
    /// The area that was searched, as a GeoJSON Polygon or `MultiPolygon`.
    pub area: Option<DrawnArea>,
}

/// Keeps a search of the caller's case, and makes a new plan if its alert is open.
///
/// # Errors
/// [`Refusal::Invalid`] names the fields that cannot be taken, [`Refusal::Conflict`] if the case is over.
pub async fn report(
    tx: &mut Tx,
    planner: &Planner,
    caller: &Caller,
    id: CaseId,
    filing: SearchFiling,
    now: Timestamp,
) -> Result<SearchedArea, Refusal> {
    let case = open_case(tx, caller, id).await?;
    let cells = check(&filing, case.last_seen_at, now).map_err(Refusal::Invalid)?;
    let search = SearchedArea {
        case: id,
        number: searches::next_number(tx, id).await?,
        reported_by: caller.holder.actor().to_string(),
        reported_at: now,
        searched_at: filing.searched_at,
        detection: filing.detection,
        cells,
        withdrawn: false,
    };
    searches::add(tx, &search).await?;
    let detail = json!({
        "search": search.number, "detection": search.detection, "searched_at": search.searched_at,
    });
    let actor = caller.holder.actor();
    timeline::note(tx, id, now, &actor, "area_searched", &detail).await?;
    replan(
        tx,
        planner,
        &case,
        PlanCause::AreaSearched,
        search.number,
        now,
    )
    .await?;
    Ok(search)
}

/// Takes a search back, and makes a new plan if the alert is open.
///
/// # Errors
/// [`Refusal::NotFound`] if there is none of this number that counts.
pub async fn withdraw(
    tx: &mut Tx,
    planner: &Planner,
    caller: &Caller,
    id: CaseId,
    number: i64,
    now: Timestamp,
) -> Result<(), Refusal> {
    let case = open_case(tx, caller, id).await?;
    if !searches::withdraw(tx, id, number).await? {
        return Err(Refusal::NotFound("search that counts"));
    }
    let actor = caller.holder.actor();
    let detail = json!({ "search": number });
    timeline::note(tx, id, now, &actor, "search_withdrawn", &detail).await?;
    replan(tx, planner, &case, PlanCause::SearchWithdrawn, number, now).await
}

async fn replan(
    tx: &mut Tx,
    planner: &Planner,
    case: &Case,
    because: PlanCause,
    number: i64,
    now: Timestamp,
) -> Result<(), Refusal> {
    let why = Why {
        search: Some(number),
        ..Why::from(because)
    };
    planner.replan_open(tx, case, why, now).await?;
    Ok(())
}

/// The case, locked, if the caller may see it and it is not over.
async fn open_case(tx: &mut Tx, caller: &Caller, id: CaseId) -> Result<Case, Refusal> {
    visible(tx, caller, id).await?;
    let case = cases::lock(tx, id)
        .await?
        .ok_or(Refusal::NotFound("case"))?;
    match case.state {
        CaseState::Submitted | CaseState::Active | CaseState::Paused => Ok(case),
        state => Err(Refusal::Conflict(format!(
            "the case is {state}: nobody is searched for"
        ))),
    }
}

/// The cells that were searched, compacted.
fn check(
    filing: &SearchFiling,
    last_seen_at: Timestamp,
    now: Timestamp,
) -> Result<Vec<Cell>, Vec<FieldProblem>> {
    let mut problems = Vec::new();
    let mut refuse = |field: &str, problem: String, accepted: &str| {
        problems.push(FieldProblem::new(field, problem, accepted));
    };
    if filing.searched_at < last_seen_at || filing.searched_at > now + CLOCK_SKEW {
        refuse(
            "searched_at",
            "lies before the person was last seen, or in the future".into(),
            "a time between the two",
        );
    }
    if !(0.0..=DETECTION_MAX).contains(&filing.detection) {
        refuse(
            "detection",
            format!("is {}", filing.detection),
            "the probability that the person would have been found if there, 0 to 0.99",
        );
    }
    let cells = match (&filing.cells, &filing.area) {
        (Some(cells), None) => {
            let resolution = |cell: &Cell| u8::from(cell.index().resolution());
            if cells.is_empty() || cells.len() > CELLS_MAX {
                refuse(
                    "cells",
                    format!("are {}", cells.len()),
                    "1 to 10000, or an area",
                );
            }
            if !cells
                .iter()
                .all(|cell| RESOLUTIONS.contains(&resolution(cell)))
            {
                refuse(
                    "cells",
                    "are too coarse or too fine".into(),
                    "cells of resolution 5 to 12",
                );
            }
            cells.clone()
        }
        (None, Some(drawn)) => area::cells_of_drawn(drawn).unwrap_or_else(|problem| {
            refuse(
                "area",
                "is none that can be searched".into(),
                &problem.to_string(),
            );
            Vec::new()
        }),
        _ => {
            refuse(
                "(body)",
                "must say where".into(),
                "one of cells and area, and not both",
            );
            Vec::new()
        }
    };
    if problems.is_empty() {
        Ok(area::compact(&cells))
    } else {
        Err(problems)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn checked(more: &Value) -> Result<Vec<Cell>, Vec<String>> {
        let now: Timestamp = "2026-03-03T16:00:00Z".parse().unwrap();
        let mut filing = json!({"searched_at": now, "detection": 0.7});
        filing
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let filing = serde_json::from_value(filing).unwrap();
        check(&filing, now - SignedDuration::from_hours(2), now)
            .map_err(|problems| problems.into_iter().map(|one| one.field).collect())
    }

    #[test]
    fn one_of_cells_and_area_is_taken() {
        let square = json!({"type": "Polygon", "coordinates":
            [[[-2.1, 57.1], [-2.0, 57.1], [-2.0, 57.2], [-2.1, 57.2], [-2.1, 57.1]]]});
        let cells = json!(["881976bb67fffff"]);
        assert_eq!(checked(&json!({"cells": cells})).unwrap().len(), 1);
        assert!(checked(&json!({"area": square})).unwrap().len() > 50);
        for (more, field) in [
            (json!({}), "(body)"),
            (json!({"cells": cells, "area": square}), "(body)"),
            (json!({"cells": []}), "cells"),
            (json!({"cells": ["801ffffffffffff"]}), "cells"),
            (json!({"cells": cells, "detection": 1.0}), "detection"),
            (
                json!({"cells": cells, "searched_at": "2026-03-03T13:00:00Z"}),
                "searched_at",
            ),
            (
                json!({"cells": cells, "searched_at": "2026-03-03T17:00:00Z"}),
                "searched_at",
            ),
            (
                json!({"area": {"type": "Polygon", "coordinates": []}}),
                "area",
            ),
        ] {
            assert_eq!(checked(&more), Err(vec![field.to_owned()]), "{more}");
        }
    }
}
