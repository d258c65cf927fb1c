//! Paths and queries whose refusal is a problem document.

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::House;
use super::problem::Problem;

/// What stands in the path.
pub struct InPath<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<House> for InPath<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, house: &House) -> Result<Self, Problem> {
        Path::from_request_parts(parts, house)
            .await
            .map(|Path(value)| Self(value))
            .map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))
    }
}

/// What stands behind the question mark.
pub struct InQuery<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<House> for InQuery<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, house: &House) -> Result<Self, Problem> {
        Query::from_request_parts(parts, house)
            .await
            .map(|Query(value)| Self(value))
            .map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))
    }
}
