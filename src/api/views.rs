//! What can be looked at of a case: dispatch, timeline, alert.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use jiff::{SignedDuration, Timestamp};
use prost::Message as _;
use serde::Deserialize;
use serde_json::{Value, json};

use super::House;
use super::extract::{InPath, InQuery};
use super::problem::Problem;
use crate::alert::compose::{Revision, compose};
use crate::alert::proto::v1;
use crate::area;
use crate::audience::eligibility::volunteers_only;
use crate::cases::visible;
use crate::dispatch::waits_until;
use crate::model::{AlertId, AlertRecord, AppId, Caller, CaseId, Cell, Kind, Reason, WaveState};
use crate::store::plans::{self, Wave};
use crate::store::{
    Session, StoreError, alerts, backlog, holders, reach, receipts, rounds, sightings, timeline,
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TimelineQuery {
    cursor: Option<i64>,
    limit: Option<i64>,
}

/// `GET /v1/cases/{id}/dispatch`: waves, rounds, batches, who was told and why not.
pub(super) async fn dispatch(
    State(house): State<House>,
    caller: Caller,
    InPath(id): InPath<CaseId>,
) -> Result<Response, Problem> {
    let mut session = house.dispatch.store.read().await?;
    let case = visible(&mut session, &caller, id).await?;
    let only = volunteers_only(case.profile.category, case.audience);
    let names: BTreeMap<AppId, String> = holders::apps(&mut session)
        .await?
        .into_iter()
        .map(|app| (app.id, app.name))
        .collect();
    let mut views = Vec::new();
    for alert in alerts::of_case(&mut session, id).await? {
        views.push(alert_dispatch(&mut session, &house, &alert, only, &names).await?);
    }
    Ok(Json(json!({ "alerts": views })).into_response())
}

async fn alert_dispatch(
    session: &mut Session,
    house: &House,
    record: &AlertRecord,
    volunteers_only: bool,
    names: &BTreeMap<AppId, String>,
) -> Result<Value, StoreError> {
    let alert = record.id;
    let name = |app: &AppId| names.get(app).cloned().unwrap_or_default();
    // In this order: a round shown as done is counted whole.
    let listing = rounds::listing(session, alert).await?;
    let counts = rounds::counts(session, alert).await?;
    let round_views: Vec<Value> = listing
        .iter()
        .map(|round| {
            let of_round = counts.iter().filter(|count| count.0 == round.number);
            let of_round: Vec<Count> = of_round.map(|count| (count.1, count.2, count.3)).collect();
            let mut view = counts_view(&of_round, name);
            view["round"] = json!(round.number);
            view["kind"] = json!(round.kind);
            view["wave"] = json!(round.wave);
            view["released_at"] = json!(round.released_at);
            view["done_at"] = json!(round.done_at);
            view["shards"] = json!(round.shards);
            view["shards_done"] = json!(round.shards_done);
            view
        })
        .collect();
    let tally: Vec<Value> = backlog::tally(session, alert)
        .await?
        .iter()
        .map(|tally| {
            json!({
                "round": tally.round, "app": name(&tally.app), "kind": tally.kind,
                "state": tally.state, "batches": tally.batches, "people": tally.people,
            })
        })
        .collect();
    let waits = unchecked(session, house, record).await?;
    let mut waves = Vec::new();
    for wave in plans::waves(session, alert).await? {
        let cost = match wave.state {
            WaveState::Released | WaveState::Withdrawn => None,
            WaveState::Waiting | WaveState::Approval | WaveState::Held => {
                Some(cost(session, record.case, &wave, volunteers_only, name).await?)
            }
        };
        waves.push(json!({
            "number": wave.number, "mass": wave.mass, "state": wave.state,
            "due_at": wave.due_at, "released_at": wave.released_at,
            "cost": cost, "approval": wave.approval,
            "needs_approval": wave.state == WaveState::Approval,
            "waits_for_sightings": waits.for_wave(&wave),
        }));
    }
    let receipts: BTreeMap<_, _> = receipts::sums(session, alert).await?.into_iter().collect();
    Ok(json!({
        "alert": alert, "waves": waves, "rounds": round_views, "batches": tally,
        "recipients": alerts::issued(session, alert).await?,
        "receipts": receipts,
    }))
}

/// Whom a wave that has not gone out would reach, of those whom the case's restriction lets hear of it, for the
/// probability that it adds.
async fn cost(
    session: &mut Session,
    case: CaseId,
    wave: &Wave,
    volunteers_only: bool,
    name: impl Fn(&AppId) -> String,
) -> Result<Value, StoreError> {
    let cells: Vec<Cell> = wave.cells.iter().map(|(cell, _)| *cell).collect();
    let by_app: BTreeMap<String, i64> =
        reach::by_app(session, &area::ranges(&cells), volunteers_only)
            .await?
            .iter()
            .map(|(app, people)| (name(app), *people))
            .collect();
    Ok(json!({
        "subscribers": by_app.values().sum::<i64>(), "by_app": by_app, "volunteers_only": volunteers_only,
        "after_cap": format!("POST /v1/cases/{case}/replan?dry_run=true"),
    }))
}

/// The sightings that waves wait for.
struct Unchecked {
    sightings: i64,
    last_at: Option<Timestamp>,
    wait: SignedDuration,
    now: Timestamp,
}

async fn unchecked(
    session: &mut Session,
    house: &House,
    alert: &AlertRecord,
) -> Result<Unchecked, StoreError> {
    let now = session.now().await?;
    let wait = house.dispatch.config.waves.sighting_wait();
    let (sightings, last_at) = sightings::unchecked(session, alert.case, now - wait).await?;
    Ok(Unchecked {
        sightings,
        // The first wave waits for nothing.
        last_at: last_at.filter(|_| alert.rounds > 0),
        wait,
        now,
    })
}

impl Unchecked {
    /// How many sightings a wave that is due waits for, and until when at most.
    fn for_wave(&self, wave: &Wave) -> Option<Value> {
        if wave.state != WaveState::Waiting || wave.due_at > self.now {
            return None;
        }
        let until = waits_until(wave.due_at, self.last_at, self.wait, self.now)?;
        Some(json!({ "sightings": self.sightings, "until": until }))
    }
}

/// App, told or why not, people.
pub(super) type Count = (AppId, Reason, i64);

/// People by reason, in all and app by app.
pub(super) fn counts_view(counts: &[Count], name: impl Fn(&AppId) -> String) -> Value {
    let mut apps: BTreeMap<String, Vec<Count>> = BTreeMap::new();
    for count in counts {
        apps.entry(name(&count.0)).or_default().push(*count);
    }
    let apps: BTreeMap<String, Value> = apps
        .into_iter()
        .map(|(app, counts)| {
            (
                app,
                json!({ "told": told(&counts), "not_told": not_told(&counts) }),
            )
        })
        .collect();
    json!({
        "in_area": counts.iter().map(|count| count.2).sum::<i64>(),
        "told": told(counts), "not_told": not_told(counts), "by_app": apps,
    })
}

fn told(counts: &[Count]) -> i64 {
    let told = counts.iter().filter(|count| count.1 == Reason::Told);
    told.map(|count| count.2).sum()
}

fn not_told(counts: &[Count]) -> BTreeMap<&'static str, i64> {
    let mut reasons = BTreeMap::new();
    for (_, reason, people) in counts.iter().filter(|count| count.1 != Reason::Told) {
        *reasons.entry(reason.name()).or_default() += people;
    }
    reasons
}

/// `GET /v1/cases/{id}/timeline`
pub(super) async fn timeline(
    State(house): State<House>,
    caller: Caller,
    InPath(id): InPath<CaseId>,
    InQuery(query): InQuery<TimelineQuery>,
) -> Result<Response, Problem> {
    let mut session = house.dispatch.store.read().await?;
    visible(&mut session, &caller, id).await?;
    let limit = query.limit.unwrap_or(200).clamp(1, 1_000);
    let events = timeline::page(&mut session, id, query.cursor.unwrap_or(0), limit).await?;
    let full = i64::try_from(events.len()).unwrap_or(i64::MAX) == limit;
    let next = events.last().filter(|_| full).map(|event| event.id);
    Ok(Json(json!({ "items": events, "next": next })).into_response())
}

/// `GET /v1/cases/{id}/alert`: what people read, or would read.
pub(super) async fn alert(
    State(house): State<House>,
    caller: Caller,
    InPath(id): InPath<CaseId>,
) -> Result<Response, Problem> {
    let mut session = house.dispatch.store.read().await?;
    let case = visible(&mut session, &caller, id).await?;
    let now = session.now().await?;
    let stored = match alerts::newest(&mut session, id).await? {
        Some(newest) => alerts::content(&mut session, newest.id, newest.revision).await?,
        None => None,
    };
    let preview = stored.is_none();
    let alert = match stored {
        Some(content) => v1::Alert::decode(content.as_slice()).map_err(|error| {
            tracing::error!(case.id = %id, error = %error, "a stored alert cannot be read");
            Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the stored alert cannot be read",
            )
        })?,
        None => compose(&Revision {
            alert: AlertId(id.0),
            number: 1,
            kind: Kind::Issue,
            urgency: case
                .report
                .as_ref()
                .map_or(case.urgency, |r| r.requested_urgency),
            exercise: case.exercise,
            report: case.report.as_ref(),
            time_zone: &case.time_zone,
            issued_at: now,
            expires_at: now + house.dispatch.config.dispatch.issue_life(),
        }),
    };
    let texts: Vec<Value> = alert
        .texts
        .iter()
        .map(|text| json!({ "language": text.language, "title": text.title, "body": text.body }))
        .collect();
    Ok(Json(json!({
        "preview": preview,
        "alert": (!preview).then_some(&alert.alert_id),
        "revision": alert.revision,
        "kind": alert.kind().as_str_name(),
        "urgency": alert.urgency().as_str_name(),
        "intrusion": alert.intrusion().as_str_name(),
        "exercise": alert.exercise,
        "texts": texts,
    }))
    .into_response())
}
