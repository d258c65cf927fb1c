//! The plan of a case: what is known of it goes into the area model, and the waves that are still to
//! come come out, in the transaction of whoever learnt something.
//!
//! `facts` reads what is known, `inputs` says what of it the model is told, `origin` from when the
//! delays of the waves count, `schedule` which waves follow; all but the first are pure.

mod facts;
mod inputs;
mod origin;
mod schedule;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use serde_json::json;

use self::facts::Facts;
pub use self::facts::{Alerted, alerted};
use self::origin::Origin;
use self::schedule::{Schedule, held_from};
use crate::area::{self, AreaError, DistanceTable, Plan, PlanChange, Settings};
use crate::config::Config;
use crate::model::{Actor, AlertId, AlertRecord, Case, Cell, PlanCause, WaveState};
use crate::store::plans::{self, NewWave, Wave, Why};
use crate::store::{Session, StoreError, Tx, alerts, sightings, timeline};

/// What plans are made with.
#[derive(Debug, Clone)]
pub struct Planner {
    /// The distance table, the operator's own rows included.
    pub table: Arc<DistanceTable>,
    /// The assumptions of the area model.
    pub settings: Arc<Settings>,
    /// How much later than now the area is planned for.
    pub lead: Duration,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum NoPlan {
    /// There is nothing left to plan from.
    #[error("the case's personal data have been erased")]
    Erased,
    /// The area model refuses.
    #[error(transparent)]
    Area(#[from] AreaError),
    /// The database did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A plan that nobody has kept yet.
#[derive(Debug)]
pub struct Draft {
    /// The plan.
    pub plan: Plan,
    /// What it changes against the plan before, if there was one.
    pub change: Option<PlanChange>,
    /// The waves that are still to come, in order.
    pub waves: Vec<NewWave>,
    /// The waves released so far, which stay.
    pub released: Vec<Wave>,
    /// The probability, by this plan, of the cells released so far.
    pub released_mass: f64,
    /// The last number a wave has so far, also of those that these replace: they are numbered after it.
    pub last_number: i64,
    origin: Origin,
}

impl Planner {
    /// As the configuration says.
    ///
    /// # Errors
    /// Own rows that cannot be read, or a row that is wrong.
    pub fn of(config: &Config) -> anyhow::Result<Self> {
        Ok(Self {
            table: Arc::new(read_table(config.area.own_rows.as_deref())?),
            settings: Arc::new(config.area.settings.clone()),
            lead: config.dispatch.lead(),
        })
    }

    /// Works out the plan of a case as things stand, and which waves of its open alert would follow from
    /// it. Changes nothing.
    ///
    /// # Errors
    /// [`NoPlan`] if there can be none.
    pub async fn draft(
        &self,
        session: &mut Session,
        case: &Case,
        alert: Option<&AlertRecord>,
        because: PlanCause,
        now: Timestamp,
    ) -> Result<Draft, NoPlan> {
        let report = case.report.as_ref().ok_or(NoPlan::Erased)?;
        let waves = match alert {
            Some(alert) => plans::waves(session, alert.id).await?,
            None => Vec::new(),
        };
        let (released, open): (Vec<Wave>, Vec<Wave>) = waves
            .into_iter()
            .partition(|wave| wave.state == WaveState::Released);
        let facts = Facts::read(session, case.id, alert, &released).await?;
        let inputs = inputs::inputs(case, report, &facts, self.lead, now);
        let plan = area::plan(&self.table, &self.settings, &inputs)?;
        let before = match alert {
            Some(_) => plans::latest::<Plan>(session, case.id).await?,
            None => None,
        };
        // While a case is paused its clock stands still.
        let clock = case.paused_at.unwrap_or(now);
        let kept = alert.filter(|_| because != PlanCause::LkpCorrected);
        let origin = Origin::of(
            &facts.sightings,
            &inputs::believed(&facts, &plan),
            kept.map_or(clock, |alert| alert.waves_from),
            alert.map_or(clock, |alert| alert.opened_at),
            clock,
        );
        let next_due = open.iter().map(|wave| wave.due_at).min();
        let goes_on = !is_news(because);
        let takes_back = matches!(
            because,
            PlanCause::SightingRejected | PlanCause::SightingWithdrawn
        );
        let cells: Vec<Cell> = released
            .iter()
            .flat_map(|wave| wave.cells.iter().map(|(cell, _)| *cell))
            .collect();
        let asked_about = open
            .iter()
            .filter(|wave| wave.state == WaveState::Approval)
            .flat_map(|wave| wave.cells.iter().map(|(cell, _)| *cell))
            .collect();
        let schedule = Schedule {
            released: &cells,
            asked_about,
            from: origin.from,
            now: clock,
            next_due: next_due.unwrap_or(clock),
            goes_on,
            due_through: open
                .iter()
                .filter(|wave| goes_on && wave.due_at <= clock)
                .map(|wave| wave.plan_wave)
                .max(),
            held_from: held_from(&open, goes_on || takes_back),
        };
        let (waves, released_mass) = schedule.next(&plan);
        let numbers = released.iter().chain(&open).map(|wave| wave.number);
        Ok(Draft {
            change: before.map(|before| area::change(&before.plan, &plan)),
            last_number: numbers.max().unwrap_or(0),
            waves,
            released,
            released_mass,
            origin,
            plan,
        })
    }

    /// Makes the first plan of an alert that was just opened, with its waves.
    ///
    /// # Errors
    /// [`NoPlan`] if there can be none.
    pub async fn plan_first(
        &self,
        tx: &mut Tx,
        case: &Case,
        alert: AlertId,
        now: Timestamp,
    ) -> Result<(), NoPlan> {
        let why = Why::from(PlanCause::Verified);
        let draft = self.draft(tx, case, None, why.cause, now).await?;
        let version = keep(tx, case, alert, &why, &draft, now).await?;
        let detail = json!({
            "alert": alert, "plan": version, "radii_km": draft.plan.radii,
            "waves": draft.waves.len(), "resolution": draft.plan.resolution,
        });
        timeline::note(tx, case.id, now, &Actor::Homeward, "planned", &detail).await?;
        Ok(())
    }

    /// Makes a new plan if the case, which must be locked, has an open alert; gives its version.
    ///
    /// # Errors
    /// [`NoPlan`] if there can be none; nothing was changed then.
    pub async fn replan_open(
        &self,
        tx: &mut Tx,
        case: &Case,
        why: Why,
        now: Timestamp,
    ) -> Result<Option<i64>, NoPlan> {
        let Some(newest) = alerts::newest(tx, case.id).await? else {
            return Ok(None);
        };
        match alerts::lock(tx, newest.id).await? {
            Some(alert) if alert.closed_at.is_none() => {
                self.replan(tx, case, &alert, why, now).await.map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Makes a new plan for an open alert: the waves not yet released are replaced, the others stay. The
    /// alert must be locked.
    ///
    /// # Errors
    /// [`NoPlan`] if there can be none; nothing was changed then.
    pub async fn replan(
        &self,
        tx: &mut Tx,
        case: &Case,
        alert: &AlertRecord,
        why: Why,
        now: Timestamp,
    ) -> Result<i64, NoPlan> {
        let draft = self.draft(tx, case, Some(alert), why.cause, now).await?;
        plans::drop_waves(tx, alert.id).await?;
        let version = keep(tx, case, alert.id, &why, &draft, now).await?;
        if draft.origin.lkp_from != alert.waves_from {
            alerts::waves_from(tx, alert.id, draft.origin.lkp_from).await?;
        }
        let waves: Vec<_> = draft
            .waves
            .iter()
            .map(|wave| {
                json!({
                    "plan_wave": wave.plan_wave, "probability": wave.mass, "due_at": wave.due_at,
                    "cells": wave.cells.len(), "held": wave.held,
                })
            })
            .collect();
        let detail = json!({
            "plan": version, "why": why, "change": draft.change, "waves": waves,
            "delays_count_from": draft.origin.from,
            "released_waves": draft.released.len(), "released_probability": draft.released_mass,
        });
        timeline::note(tx, case.id, now, &Actor::Homeward, "replanned", &detail).await?;
        Ok(version)
    }
}

/// The shipped distance table, with own rows if there are any.
///
/// # Errors
/// A file that cannot be read; a row that is wrong.
pub fn read_table(own: Option<&Path>) -> anyhow::Result<DistanceTable> {
    let shipped = DistanceTable::shipped()?;
    let Some(file) = own else { return Ok(shipped) };
    let named = || format!("own rows {}", file.display());
    let text = std::fs::read_to_string(file).with_context(named)?;
    shipped.with_rows(&text).with_context(named)
}

/// Stores a plan and its waves; gives the plan's version. They are numbered after all before them, also those
/// that they replace: whoever approves one by its number approves what they saw.
async fn keep(
    tx: &mut Tx,
    case: &Case,
    alert: AlertId,
    why: &Why,
    draft: &Draft,
    now: Timestamp,
) -> Result<i64, StoreError> {
    let (plan, version) =
        plans::add(tx, case.id, now, why, draft.change.as_ref(), &draft.plan).await?;
    for (number, wave) in (draft.last_number + 1..).zip(&draft.waves) {
        plans::add_wave(tx, alert, plan, number, wave).await?;
    }
    for (sighting, since) in &draft.origin.changed {
        sightings::believe(tx, *sighting, *since).await?;
    }
    Ok(version)
}

/// Whether it is news of where the person is: then what would have gone out by now, had it been known,
/// is due at once. Otherwise nothing goes out before the next wave would have.
const fn is_news(cause: PlanCause) -> bool {
    match cause {
        PlanCause::Verified
        | PlanCause::SightingAccepted
        | PlanCause::SightingRejected
        | PlanCause::SightingWithdrawn
        | PlanCause::CredibilityChanged
        | PlanCause::LkpCorrected
        | PlanCause::CaseChanged => true,
        PlanCause::AreaSearched
        | PlanCause::SearchWithdrawn
        | PlanCause::WaveDue
        | PlanCause::Requested => false,
    }
}
