//! REST: thin. Every handler finds out who calls, reads what was sent, calls a room below, and writes
//! the answer.

mod admin;
mod apps;
mod auth;
mod cases;
mod dry_run;
mod extract;
mod health;
mod lines;
mod operators;
mod plans;
mod post;
mod problem;
mod searches;
mod sightings;
mod subscribers;
mod views;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{MethodRouter, get, post, put};
use tower_http::catch_panic::CatchPanicLayer;

use self::extract::InPath;
use self::post::Sent;
use crate::cases::Desk;
use crate::cases::steps::PlainStep;
use crate::dispatch::Dispatch;
use crate::keys::RateLimits;
use crate::model::{Caller, CaseId};

pub use health::admin_router;

/// Bytes of a JSON body: many times a long report.
const BODY_BYTES: usize = 256 * 1024;

/// What the handlers need.
#[derive(Clone)]
pub struct House {
    /// Dispatch, and with it database, settings, wake-ups and metrics.
    pub dispatch: Dispatch,
    /// What the steps of a case need.
    pub desk: Desk,
    /// How often each key may be used.
    pub limits: Arc<RateLimits>,
}

/// Everything under `/v1`.
pub fn router(house: House) -> Router {
    let routes = Router::new()
        .route("/v1/cases", post(cases::file).get(cases::list))
        .route("/v1/cases/{id}", get(cases::show).patch(cases::amend))
        .route("/v1/cases/{id}/verify", post(cases::verify))
        .route("/v1/cases/{id}/reject", plain(PlainStep::Reject))
        .route("/v1/cases/{id}/pause", plain(PlainStep::Pause))
        .route("/v1/cases/{id}/resume", plain(PlainStep::Resume))
        .route("/v1/cases/{id}/close", post(cases::close))
        .route("/v1/cases/{id}/reopen", plain(PlainStep::Reopen))
        .route(
            "/v1/cases/{id}/proposal/accept",
            post(cases::accept_proposal),
        )
        .route(
            "/v1/cases/{id}/proposal/decline",
            post(cases::decline_proposal),
        )
        .route(
            "/v1/cases/{id}/waves/{n}/approve",
            post(cases::approve_wave),
        )
        .route("/v1/cases/{id}/waves/{n}/hold", post(cases::hold_wave))
        .route("/v1/cases/{id}/audience", post(cases::set_audience))
        .route("/v1/cases/{id}/plan", get(plans::show))
        .route("/v1/cases/{id}/replan", post(plans::replan))
        .route("/v1/cases/{id}/dispatch", get(views::dispatch))
        .route("/v1/cases/{id}/timeline", get(views::timeline))
        .route("/v1/cases/{id}/alert", get(views::alert))
        .route(
            "/v1/cases/{id}/sightings",
            post(sightings::report).get(sightings::list),
        )
        .route(
            "/v1/cases/{id}/searches",
            post(searches::report).get(searches::list),
        )
        .route(
            "/v1/cases/{id}/searches/{n}/withdraw",
            post(searches::withdraw),
        )
        .route(
            "/v1/sightings/{id}",
            get(sightings::show).patch(sightings::decide),
        )
        .route(
            "/v1/subscribers",
            put(subscribers::sync).layer(DefaultBodyLimit::disable()),
        )
        .route("/v1/receipts", post(apps::receipts))
        .route("/v1/apps/me", get(apps::me))
        .route("/v1/apps/me/test-alert", post(apps::test_alert))
        .route("/v1/lanes/hold", post(operators::hold_lanes))
        .route("/v1/lanes/release", post(operators::release_lanes))
        .route("/v1/dead-letters", get(operators::dead_letters))
        .route("/v1/dead-letters/{id}/replay", post(operators::replay))
        .route("/v1/outcomes", get(operators::outcomes))
        .route("/v1/agencies", post(admin::add_agency).get(admin::agencies))
        .route("/v1/apps", post(admin::add_app).get(admin::apps))
        .route("/v1/apps/{id}", axum::routing::patch(admin::change_app))
        .route(
            "/v1/operators",
            post(admin::add_operator).get(admin::operators),
        )
        .route("/v1/keys", post(admin::add_key).get(admin::keys))
        .route("/v1/keys/{id}/expire", post(admin::expire_key))
        .fallback(problem::no_such_route)
        .method_not_allowed_fallback(problem::no_such_method);
    routes
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(from_fn_with_state(house.clone(), count))
        .layer(CatchPanicLayer::custom(problem::panicked))
        .with_state(house)
}

/// The route of a step that needs nothing but a reason.
fn plain(step: PlainStep) -> MethodRouter<House> {
    post(
        move |State(house): State<House>,
              caller: Caller,
              InPath(id): InPath<CaseId>,
              sent: Sent| { cases::take_step(step, house, caller, id, sent) },
    )
}

/// A method as it is counted: anybody can make up others, and each would be counted for ever.
const fn counted(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    }
}

/// Counts requests by route pattern (never by path) and status.
async fn count(State(house): State<House>, request: Request, next: Next) -> Response {
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let method = counted(request.method());
    let response = next.run(request).await;
    house
        .dispatch
        .metrics
        .request(&format!("{method} {route}"), response.status().as_u16());
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_methods_are_counted_as_one() {
        assert_eq!(counted(&Method::PATCH), "PATCH");
        for made_up in ["X1", "get", "TRACE"] {
            let method = Method::from_bytes(made_up.as_bytes()).unwrap();
            assert_eq!(counted(&method), "OTHER", "{made_up}");
        }
    }
}
