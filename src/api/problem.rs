//! Problems as RFC 9457: what was being done, which field, what would be accepted.

use std::any::Any;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::cases::{FieldProblem, Refusal};
use crate::store::{Cause, StoreError};

/// An answer other than success; or the answer kept for a repeated request.
#[derive(Debug)]
pub enum Problem {
    /// Something is wrong.
    Refused {
        /// The status.
        status: StatusCode,
        /// What is wrong, in a sentence.
        detail: String,
        /// Further members of the document.
        more: Value,
    },
    /// The same request was answered before.
    Replayed(Box<Response>),
}

impl Problem {
    /// A problem with a status and a sentence.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self::Refused {
            status,
            detail: detail.into(),
            more: json!({}),
        }
    }

    /// Fields that cannot be taken.
    pub fn fields(problems: &[FieldProblem]) -> Self {
        let detail = match problems {
            [one] => format!("{} {}; accepted: {}", one.field, one.problem, one.accepted),
            many => format!("{} fields cannot be taken, see 'errors'", many.len()),
        };
        Self::Refused {
            status: StatusCode::UNPROCESSABLE_ENTITY,
            detail,
            more: json!({ "errors": problems }),
        }
    }

    /// The key may not be used for this.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, detail)
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let text = refusal.to_string();
        match refusal {
            Refusal::Store(error) => error.into(),
            Refusal::NotFound(_) => Self::new(StatusCode::NOT_FOUND, text),
            Refusal::Invalid(problems) => Self::fields(&problems),
            Refusal::Illegal(illegal) => Self::Refused {
                status: StatusCode::CONFLICT,
                detail: text,
                more: json!({ "state": illegal.state, "possible": illegal.possible }),
            },
            Refusal::Forbidden(_) => Self::forbidden(text),
            Refusal::Conflict(_) => Self::new(StatusCode::CONFLICT, text),
            Refusal::Stale(version) => Self::Refused {
                status: StatusCode::PRECONDITION_FAILED,
                detail: text,
                more: json!({ "version": version }),
            },
            Refusal::Area(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, text),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        // Logged here, at the edge, once; database text never reaches a client.
        let (status, detail) = match error.cause() {
            Cause::Unavailable | Cause::Conflict => {
                tracing::warn!(error = %error, "database not available to a request");
                (
                    StatusCode::SERVICE_UNAVAILABLE,
                    "the database is not available, try again",
                )
            }
            Cause::DiskFull => {
                tracing::error!(error = %error, "the database's disk is full");
                (
                    StatusCode::INSUFFICIENT_STORAGE,
                    "the database has no room left",
                )
            }
            Cause::Constraint(name) if name.ends_with("_name_unique") => {
                (StatusCode::CONFLICT, "the name is taken: choose another")
            }
            Cause::Constraint(_) | Cause::Defect => {
                tracing::error!(error = %error, "a database statement failed");
                (
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "something is wrong on our side; it was logged",
                )
            }
        };
        Self::new(status, detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, detail, more) = match self {
            Self::Replayed(response) => return *response,
            Self::Refused {
                status,
                detail,
                more,
            } => (status, detail, more),
        };
        let mut document = json!({
            "type": "about:blank",
            "title": status.canonical_reason().unwrap_or("Problem"),
            "status": status.as_u16(),
            "detail": detail,
        });
        if let (Some(document), Value::Object(more)) = (document.as_object_mut(), more) {
            document.extend(more);
        }
        let mut response = (status, Json(document)).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// No route at all.
pub async fn no_such_route() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "there is nothing under this path; all routes begin with /v1",
    )
}

/// A route, but not with this method.
pub async fn no_such_method() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "this path is not for that method",
    )
}

/// A handler that panicked: a defect, but the server goes on.
pub fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    tracing::error!("a request handler panicked");
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "something is wrong on our side; it was logged",
    )
    .into_response()
}
