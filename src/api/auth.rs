//! Who calls: the key in the `Authorization` header, and how often it may be used.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use super::House;
use super::problem::Problem;
use crate::keys;
use crate::model::{AgencyId, AppId, Caller, Holder};

impl FromRequestParts<House> for Caller {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, house: &House) -> Result<Self, Response> {
        let key = parts
            .headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(keys::bearer)
            .ok_or_else(|| unauthorized("the header 'Authorization: Bearer KEY' is needed"))?;
        let caller = keys::caller(&house.dispatch.store, &key)
            .await
            .map_err(|error| Problem::from(error).into_response())?
            .ok_or_else(|| unauthorized("the key is unknown or no longer good"))?;
        house.limits.check(caller.key).map_err(|wait| {
            let mut response = Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "this key is used too often: wait as long as Retry-After says",
            )
            .into_response();
            let seconds = wait.as_secs() + 1;
            if let Ok(value) = HeaderValue::from_str(&seconds.to_string()) {
                response.headers_mut().insert(header::RETRY_AFTER, value);
            }
            response
        })?;
        Ok(caller)
    }
}

fn unauthorized(detail: &str) -> Response {
    let mut response = Problem::new(StatusCode::UNAUTHORIZED, detail).into_response();
    response
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// The agency behind a key, or a refusal.
pub fn agency(caller: &Caller) -> Result<AgencyId, Problem> {
    match &caller.holder {
        Holder::Agency(id, _) => Ok(*id),
        _ => Err(Problem::forbidden("this takes an agency's key")),
    }
}

/// The app behind a key, or a refusal.
pub fn app(caller: &Caller) -> Result<AppId, Problem> {
    match &caller.holder {
        Holder::App(id, _) => Ok(*id),
        _ => Err(Problem::forbidden("this takes an app's key")),
    }
}

/// Nothing for operators, a refusal for all others.
pub fn operator(caller: &Caller) -> Result<(), Problem> {
    match caller.holder {
        Holder::Operator(..) => Ok(()),
        _ => Err(Problem::forbidden("this takes an operator's key")),
    }
}

/// Nothing for administrators, a refusal for all others.
pub fn admin(caller: &Caller) -> Result<(), Problem> {
    match caller.holder {
        Holder::Admin => Ok(()),
        _ => Err(Problem::forbidden("this takes an administrator's key")),
    }
}
