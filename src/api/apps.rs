//! What apps see of themselves and report back.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use prost::Message as _;
use serde::Deserialize;
use serde_json::json;

use super::post::{Post, Sent};
use super::problem::Problem;
use super::{House, auth};
use crate::alert::compose::{TEST_LIFETIME, test_alert as compose_test};
use crate::alert::recipients;
use crate::cases::FieldProblem;
use crate::model::{BatchId, BatchState, Caller, Kind, ReceiptKind, SubscriberFlags};
use crate::store::batches::{NewBatch, NewBatches};
use crate::store::{
    alerts, backlog, batches, handed, holders, receipts as store_receipts, subscribers,
    uploads::{self, Known},
};

/// Receipts in one request.
const RECEIPTS_MAX: usize = 1_000;
/// Devices that one test alert may reach.
const TEST_TOKENS_MAX: usize = 10;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Receipts {
    receipts: Vec<Receipt>,
}

/// What an app reports of one batch.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Receipt {
    batch_id: BatchId,
    kind: ReceiptKind,
    /// People so far; a repeated or lower figure changes nothing.
    #[serde(default)]
    people: i64,
    /// For `token_gone`: the tokens that are no longer good.
    #[serde(default)]
    tokens: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TestAlert {
    tokens: Vec<String>,
}

/// `POST /v1/receipts`
pub(super) async fn receipts(
    State(house): State<House>,
    caller: Caller,
    sent: Sent,
) -> Result<Response, Problem> {
    let app = auth::app(&caller)?;
    let given: Receipts = sent.json()?;
    let problems = check_receipts(&given.receipts);
    if !problems.is_empty() {
        return Err(Problem::fields(&problems));
    }
    let mut post = Post::begin(&house, &caller, &sent).await?;
    let mut unknown = Vec::new();
    for receipt in &given.receipts {
        let gone: Vec<Vec<u8>> = receipt
            .tokens
            .iter()
            .map(|token| token.clone().into_bytes())
            .collect();
        let people = receipt
            .people
            .max(i64::try_from(gone.len()).unwrap_or(i64::MAX));
        let (id, kind) = (receipt.batch_id, receipt.kind);
        if !store_receipts::put(&mut post.tx, app, id, kind, people, post.now).await? {
            unknown.push(id);
            continue;
        }
        if kind == ReceiptKind::Taken {
            handed::taken(&mut post.tx, app, &[id], post.now).await?;
        }
        if !gone.is_empty() {
            subscribers::delete(&mut post.tx, app, &gone, post.now).await?;
        }
    }
    let body = json!({ "kept": given.receipts.len() - unknown.len(), "unknown": unknown });
    let response = post.answer(StatusCode::OK, &body, None).await?;
    house.dispatch.wake.batches();
    Ok(response)
}

fn check_receipts(receipts: &[Receipt]) -> Vec<FieldProblem> {
    let mut problems = Vec::new();
    if receipts.len() > RECEIPTS_MAX {
        let problem = format!("has {} entries", receipts.len());
        problems.push(FieldProblem::new(
            "receipts",
            problem,
            "at most 1000 in one request",
        ));
    }
    for (place, receipt) in receipts.iter().enumerate() {
        if receipt.people < 0 {
            let field = format!("receipts[{place}].people");
            problems.push(FieldProblem::new(
                field,
                "is below 0",
                "how many people so far",
            ));
        }
        if !receipt.tokens.is_empty() && receipt.kind != ReceiptKind::TokenGone {
            let field = format!("receipts[{place}].tokens");
            problems.push(FieldProblem::new(
                field,
                "is for token_gone only",
                "leave it out",
            ));
        }
    }
    problems
}

/// `GET /v1/apps/me`
pub(super) async fn me(State(house): State<House>, caller: Caller) -> Result<Response, Problem> {
    let id = auth::app(&caller)?;
    let mut session = house.dispatch.store.read().await?;
    let now = session.now().await?;
    let app = holders::app(&mut session, id)
        .await?
        .ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "there is no such app"))?;
    let now_hour = i32::try_from(now.as_second() / 3600).unwrap_or(i32::MAX);
    let fresh_from = now_hour - house.dispatch.config.audience.stale_after_h;
    let (registered, fresh) = subscribers::count_of_app(&mut session, id, fresh_from).await?;
    let backlog = backlog::backlog(&mut session).await?;
    let batches_in = |state: BatchState| {
        backlog
            .iter()
            .filter(|b| b.app == id && b.state == state)
            .map(|b| b.batches)
            .sum::<i64>()
    };
    let oldest = backlog
        .iter()
        .filter(|b| b.app == id)
        .map(|b| b.oldest)
        .min();
    let last = backlog::last_of_app(&mut session, id).await?.map(|(id, state, kind, sent_at)| {
        json!({ "id": id, "state": state, "kind": kind, "sent_at": sent_at })
    });
    Ok(Json(json!({
        "id": app.id, "name": app.name, "rate_per_s": app.rate_per_s, "paused": app.paused,
        "drills": app.drills, "registered": registered, "fresh": fresh,
        "queue": {
            "pending": batches_in(BatchState::Pending), "sending": batches_in(BatchState::Sending),
            "sent": batches_in(BatchState::Sent), "oldest_since": oldest,
        },
        "last_batch": last,
    }))
    .into_response())
}

/// `POST /v1/apps/me/test-alert`: sends a test to some of the app's own devices.
pub(super) async fn test_alert(
    State(house): State<House>,
    caller: Caller,
    sent: Sent,
) -> Result<Response, Problem> {
    let app = auth::app(&caller)?;
    let request: TestAlert = sent.json()?;
    if !(1..=TEST_TOKENS_MAX).contains(&request.tokens.len()) {
        let problem = format!("has {} entries", request.tokens.len());
        let problem = FieldProblem::new("tokens", problem, "1 to 10 of the app's own tokens");
        return Err(Problem::fields(&[problem]));
    }
    let mut post = Post::begin(&house, &caller, &sent).await?;
    let mut tokens: Vec<Vec<u8>> = request.tokens.into_iter().map(String::into_bytes).collect();
    tokens.sort();
    tokens.dedup();
    let known = uploads::known(&mut post.tx, app, &tokens).await?;
    let registered = |known: &Option<Known>| {
        known.is_some_and(|known| !known.flags.has(SubscriberFlags::DELETED))
    };
    if let Some(place) = known.iter().position(|known| !registered(known)) {
        let field = format!("tokens[{place}]");
        let problem = FieldProblem::new(field, "is not registered", "a token this app registered");
        return Err(Problem::fields(&[problem]));
    }
    let alert = alerts::open_test(&mut post.tx, post.now).await?;
    let content = compose_test(alert, post.now).encode_to_vec();
    alerts::add_revision(&mut post.tx, alert, 1, Kind::Test, &content, post.now).await?;
    let recipients: Vec<_> = tokens
        .iter()
        .zip(known)
        .filter_map(|(token, known)| Some((known?.person, token.as_slice())))
        .collect();
    let people = i64::try_from(recipients.len()).unwrap_or(i64::MAX);
    let new = NewBatches {
        alert,
        revision: 1,
        kind: Kind::Test,
        round: 0,
        wave: 0,
        urgency: 0,
        expires_at: post.now + TEST_LIFETIME,
        probability: 0.0,
        batches: vec![NewBatch {
            app,
            people,
            recipients: recipients::encode(&recipients),
        }],
    };
    batches::add(&mut post.tx, new, post.now).await?;
    let response = post
        .answer(
            StatusCode::ACCEPTED,
            &json!({ "alert": alert, "people": people }),
            None,
        )
        .await?;
    house.dispatch.wake.batches();
    Ok(response)
}
