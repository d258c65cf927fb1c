//! `/v1/cases`: filing, reading and the steps of a case's life.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::extract::{InPath, InQuery};
use super::post::{Post, Sent, set_etag};
use super::problem::Problem;
use super::{House, auth};
use crate::audience::eligibility::volunteers_only;
use crate::cases::changes::{AudienceRequest, Changed};
use crate::cases::lifecycle::{Step, possible};
use crate::cases::steps::{CloseRequest, PlainStep, Reason, VerifyRequest};
use crate::cases::{changes, filing, steps, visible, waves};
use crate::model::{Amendment, Audience, Caller, Case, CaseId, CaseState, Holder};
use crate::store::{Session, StoreError, alerts, cases, holders};

/// Cases on a page unless asked otherwise, and at most.
pub(super) const PAGE: i64 = 50;
pub(super) const PAGE_MAX: i64 = 500;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    state: Option<CaseState>,
    cursor: Option<CaseId>,
    limit: Option<i64>,
}

/// `POST /v1/cases`
pub(super) async fn file(
    State(house): State<House>,
    caller: Caller,
    sent: Sent,
) -> Result<Response, Problem> {
    let agency = auth::agency(&caller)?;
    let filing = sent.json()?;
    let mut post = Post::begin_with_key(&house, &caller, &sent).await?;
    let agency = holders::agency(&mut post.tx, agency)
        .await?
        .ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "there is no such agency"))?;
    let case = filing::file(&mut post.tx, &house.desk, &agency, filing, post.now).await?;
    let view = view(&mut post.tx, &caller, &case).await?;
    let response = post
        .answer(StatusCode::CREATED, &view, Some(case.version))
        .await?;
    house.dispatch.wake.due();
    tracing::info!(case.id = %case.id, case.state = %case.state, "case filed");
    Ok(response)
}

/// `GET /v1/cases`
pub(super) async fn list(
    State(house): State<House>,
    caller: Caller,
    InQuery(query): InQuery<ListQuery>,
) -> Result<Response, Problem> {
    let agency = match &caller.holder {
        Holder::Agency(id, _) => Some(*id),
        Holder::Operator(..) => None,
        Holder::App(..) | Holder::Admin => {
            return Err(Problem::forbidden(
                "cases are for their agency and for operators",
            ));
        }
    };
    let limit = query.limit.unwrap_or(PAGE).clamp(1, PAGE_MAX);
    let mut session = house.dispatch.store.read().await?;
    let found = cases::page(&mut session, agency, query.state, query.cursor, limit).await?;
    let mut items = Vec::with_capacity(found.len());
    for case in &found {
        items.push(view(&mut session, &caller, case).await?);
    }
    let full = i64::try_from(found.len()).unwrap_or(i64::MAX) == limit;
    let next = found.last().filter(|_| full).map(|case| case.id);
    Ok(Json(json!({ "items": items, "next": next })).into_response())
}

/// `GET /v1/cases/{id}`
pub(super) async fn show(
    State(house): State<House>,
    caller: Caller,
    InPath(id): InPath<CaseId>,
) -> Result<Response, Problem> {
    let mut session = house.dispatch.store.read().await?;
    let case = visible(&mut session, &caller, id).await?;
    let mut response = Json(view(&mut session, &caller, &case).await?).into_response();
    set_etag(&mut response, case.version);
    Ok(response)
}

/// `PATCH /v1/cases/{id}`
pub(super) async fn amend(
    State(house): State<House>,
    caller: Caller,
    InPath(id): InPath<CaseId>,
    sent: Sent,
) -> Result<Response, Problem> {
    let amendment: Amendment = sent.json()?;
    let expected = sent.expected_version()?;
    let mut post = Post::begin(&house, &caller, &sent).await?;
    let (tx, now) = (&mut post.tx, post.now);
    let changed = changes::amend(tx, &house.desk, &caller, id, expected, &amendment, now).await?;
    finish_change(&house, post, &caller, &changed).await
}

/// `POST /v1/cases/{id}/proposal/accept`
pub(super) async fn accept_proposal(
    State(house): State<House>,
    caller: Caller,
    InPath(id): InPath<CaseId>,
    sent: Sent,
) -> Result<Response, Problem> {
    decide_proposal(&house, &caller, id, &sent, true).await
}

/// `POST /v1/cases/{id}/proposal/decline`
pub(super) async fn decline_proposal(
    State(house): State<House>,
    caller: Caller,
    InPath(id): InPath<CaseId>,
    sent: Sent,
) -> Result<Response, Problem> {
    decide_proposal(&house, &caller, id, &sent, false).await
}

async fn decide_proposal(
    house: &House,
    caller: &Caller,
    id: CaseId,
    sent: &Sent,
    accepted: bool,
) -> Result<Response, Problem> {
    let expected = sent.expected_version()?;
    let mut post = Post::begin(house, caller, sent).await?;
    let (tx, now) = (&mut post.tx, post.now);
    let desk = &house.desk;
    let changed = changes::decide_proposal(tx, desk, caller, id, expected, accepted, now).await?;
    finish_change(house, post, caller, &changed).await
}

/// `POST /v1/cases/{id}/verify`
pub(super) async fn verify(
    State(house): State<House>,
    caller: Caller,
    InPath(id): InPath<CaseId>,
    sent: Sent,
) -> Result<Response, Problem> {
    auth::operator(&caller)?;
    let request: VerifyRequest = sent.json()?;
    let expected = sent.expected_version()?;
    let mut post = Post::begin(&house, &caller, &sent).await?;
    let (tx, now) = (&mut post.tx, post.now);
    let case = steps::verify(tx, &house.desk, &caller, id, expected, &request, now).await?;
    finish(&house, post, &caller, &case).await
}

/// `POST /v1/cases/{id}/reject`, `/pause`, `/resume` and `/reopen`
pub(super) async fn take_step(
    step: PlainStep,
    house: House,
    caller: Caller,
    id: CaseId,
    sent: Sent,
) -> Result<Response, Problem> {
    let reason: Reason = sent.json_or_default()?;
    let expected = sent.expected_version()?;
    let mut post = Post::begin(&house, &caller, &sent).await?;
    let (tx, now) = (&mut post.tx, post.now);
    let case = steps::take(tx, &house.desk, &caller, id, expected, step, &reason, now).await?;
    finish(&house, post, &caller, &case).await
}

/// `POST /v1/cases/{id}/close`
pub(super) async fn close(
    State(house): State<House>,
    caller: Caller,
    InPath(id): InPath<CaseId>,
    sent: Sent,
) -> Result<Response, Problem> {
    let request: CloseRequest = sent.json()?;
    let expected = sent.expected_version()?;
    let mut post = Post::begin(&house, &caller, &sent).await?;
    let (tx, now) = (&mut post.tx, post.now);
    let (case, recall) =
        steps::close(tx, &house.desk, &caller, id, expected, &request, now).await?;
    let mut view = view(&mut post.tx, &caller, &case).await?;
    view["recall"] = json!(recall);
    let response = post
        .answer(StatusCode::OK, &view, Some(case.version))
        .await?;
    house.dispatch.wake.batches();
    tracing::info!(case.id = %id, "case closed");
    Ok(response)
}

/// `POST /v1/cases/{id}/audience`
pub(super) async fn set_audience(
    State(house): State<House>,
    caller: Caller,
    InPath(id): InPath<CaseId>,
    sent: Sent,
) -> Result<Response, Problem> {
    auth::operator(&caller)?;
    let request: AudienceRequest = sent.json()?;
    let expected = sent.expected_version()?;
    let mut post = Post::begin(&house, &caller, &sent).await?;
    let (tx, now) = (&mut post.tx, post.now);
    let case = changes::set_audience(tx, &house.desk, &caller, id, expected, &request, now).await?;
    finish(&house, post, &caller, &case).await
}

/// `POST /v1/cases/{id}/waves/{n}/approve`
pub(super) async fn approve_wave(
    State(house): State<House>,
    caller: Caller,
    InPath((id, number)): InPath<(CaseId, i64)>,
    sent: Sent,
) -> Result<Response, Problem> {
    let mut post = Post::begin(&house, &caller, &sent).await?;
    waves::approve(&mut post.tx, &caller, id, number, post.now).await?;
    let body = json!({ "wave": number, "approved": true });
    let response = post.answer(StatusCode::OK, &body, None).await?;
    house.dispatch.wake.due();
    Ok(response)
}

/// `POST /v1/cases/{id}/waves/{n}/hold`
pub(super) async fn hold_wave(
    State(house): State<House>,
    caller: Caller,
    InPath((id, number)): InPath<(CaseId, i64)>,
    sent: Sent,
) -> Result<Response, Problem> {
    let mut post = Post::begin(&house, &caller, &sent).await?;
    waves::hold(&mut post.tx, &caller, id, number, post.now).await?;
    post.answer(
        StatusCode::OK,
        &json!({ "wave": number, "held": true }),
        None,
    )
    .await
}

/// Answers with the case as it stands now, and wakes whoever may have work.
async fn finish(
    house: &House,
    mut post: Post,
    caller: &Caller,
    case: &Case,
) -> Result<Response, Problem> {
    let view = view(&mut post.tx, caller, case).await?;
    finish_with(house, post, case, &view).await
}

/// The same, with what becomes of the update.
async fn finish_change(
    house: &House,
    mut post: Post,
    caller: &Caller,
    changed: &Changed,
) -> Result<Response, Problem> {
    let mut view = view(&mut post.tx, caller, &changed.case).await?;
    view["update"] = json!(changed.update);
    finish_with(house, post, &changed.case, &view).await
}

async fn finish_with(
    house: &House,
    post: Post,
    case: &Case,
    view: &Value,
) -> Result<Response, Problem> {
    let response = post
        .answer(StatusCode::OK, view, Some(case.version))
        .await?;
    house.dispatch.wake.due();
    house.dispatch.wake.batches();
    tracing::info!(case.id = %case.id, case.state = %case.state, "case changed");
    Ok(response)
}

/// A case as its agency and operators see it.
async fn view(session: &mut Session, caller: &Caller, case: &Case) -> Result<Value, StoreError> {
    let duplicates: Vec<Value> = cases::duplicates(session, case.id)
        .await?
        .into_iter()
        .map(|other| {
            // Another agency's case is only hinted at.
            let own = !matches!(&caller.holder, Holder::Agency(id, _) if *id != other.agency);
            json!({
                "case": own.then_some(other.other), "state": other.state, "score": other.score,
                "reasons": other.reasons,
            })
        })
        .collect();
    let alert = alerts::newest(session, case.id).await?.map(|alert| {
        json!({
            "id": alert.id, "revision": alert.revision, "opened_at": alert.opened_at,
            "closed_at": alert.closed_at, "expires_at": alert.expires_at,
        })
    });
    let self_verified = case.verification.as_ref().is_some_and(|v| v.self_verified);
    let audience = if volunteers_only(case.profile.category, case.audience) {
        Audience::Volunteers
    } else {
        Audience::Everybody
    };
    let steps: Vec<Step> = possible(case.state)
        .into_iter()
        .filter(|step| self_verified || *step != Step::Confirm)
        .collect();
    Ok(json!({
        "id": case.id,
        "agency": case.agency,
        "state": case.state,
        "possible_steps": steps,
        "version": case.version,
        "urgency": case.urgency,
        "exercise": case.exercise,
        "time_zone": case.time_zone,
        "category": case.profile.category,
        "age": case.profile.age,
        "mobility": case.profile.mobility,
        "environment": case.profile.environment,
        "report": case.report,
        "proposal": case.proposal,
        "duplicates": duplicates,
        "last_seen_at": case.last_seen_at,
        "submitted_at": case.submitted_at,
        "verification": case.verification,
        "verified_at": case.verified_at,
        "ceiling": case.ceiling,
        "budget": case.budget,
        "audience": audience,
        "updates": case.updates,
        "paused_at": case.paused_at,
        "alert": alert,
        "closed_at": case.closed_at,
        "outcome": case.outcome,
        "attribution": case.attribution,
        "found_km": case.found_km,
        "found_after_s": case.found_after_s,
        "erase_at": case.erase_at,
        "erased_at": case.erased_at,
    }))
}
