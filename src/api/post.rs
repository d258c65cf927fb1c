//! Requests that change something: one transaction, in which the answer is kept for a repeat under
//! the same `Idempotency-Key`.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use super::House;
use super::problem::Problem;
use crate::cases::FieldProblem;
use crate::model::Caller;
use crate::store::Tx;
use crate::store::idempotency::{self, Reservation};

/// Longest idempotency key, in characters.
const KEY_MAX: usize = 200;

/// What was sent.
pub struct Sent {
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

impl FromRequest<House> for Sent {
    type Rejection = Problem;

    async fn from_request(request: Request, house: &House) -> Result<Self, Problem> {
        let path = format!("{} {}", request.method(), request.uri());
        let headers = request.headers().clone();
        let body = Bytes::from_request(request, house)
            .await
            .map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))?;
        Ok(Self {
            path,
            headers,
            body,
        })
    }
}

impl Sent {
    /// The body as JSON.
    ///
    /// # Errors
    /// 422 that names the field.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        let mut reader = serde_json::Deserializer::from_slice(&self.body);
        let value = serde_path_to_error::deserialize(&mut reader)
            .map_err(|error| Problem::fields(&[FieldProblem::of_json(&error)]))?;
        reader.end().map_err(|_| {
            Problem::fields(&[FieldProblem::of_body(
                "goes on after its end",
                "one JSON object",
            )])
        })?;
        Ok(value)
    }

    /// The body as JSON, or the default if nothing was sent.
    ///
    /// # Errors
    /// 422 that names the field.
    pub fn json_or_default<T: DeserializeOwned + Default>(&self) -> Result<T, Problem> {
        if self.body.is_empty() {
            Ok(T::default())
        } else {
            self.json()
        }
    }

    /// The version in `If-Match`, if there is one.
    ///
    /// # Errors
    /// 400 if it is no version.
    pub fn expected_version(&self) -> Result<Option<i64>, Problem> {
        let Some(value) = self.headers.get(header::IF_MATCH) else {
            return Ok(None);
        };
        let version = value
            .to_str()
            .ok()
            .and_then(|text| text.trim_matches('"').parse().ok());
        version.map(Some).ok_or_else(|| {
            Problem::new(
                StatusCode::BAD_REQUEST,
                "If-Match: the ETag of the case as it was read is expected, such as \"3\"",
            )
        })
    }

    fn idempotency_key(&self) -> Result<Option<&str>, Problem> {
        let Some(value) = self.headers.get("idempotency-key") else {
            return Ok(None);
        };
        value
            .to_str()
            .ok()
            .filter(|key| (1..=KEY_MAX).contains(&key.len()))
            .map(Some)
            .ok_or_else(|| {
                Problem::new(
                    StatusCode::BAD_REQUEST,
                    "Idempotency-Key: 1 to 200 printable characters are accepted",
                )
            })
    }
}

/// A change under way: use its transaction, then answer.
pub struct Post {
    /// The transaction of everything the request does.
    pub tx: Tx,
    /// The database's time.
    pub now: Timestamp,
    key: Option<(String, String)>,
}

impl Post {
    /// Begins; or gives the kept answer if the same request was answered before.
    ///
    /// # Errors
    /// 422 if the key was used for another request.
    pub async fn begin(house: &House, caller: &Caller, sent: &Sent) -> Result<Self, Problem> {
        let key = sent.idempotency_key()?;
        let mut tx = house.dispatch.store.begin().await?;
        let now = tx.now().await?;
        let Some(key) = key else {
            return Ok(Self { tx, now, key: None });
        };
        // Keys belong to the holder, not to the key they authenticate with: that may be rotated.
        let holder = caller.holder.actor().to_string();
        let mut hash = Sha256::new();
        hash.update(sent.path.as_bytes());
        hash.update([0]);
        hash.update(&sent.body);
        match idempotency::reserve(&mut tx, &holder, key, &hash.finalize(), now).await? {
            Reservation::Fresh => Ok(Self {
                tx,
                now,
                key: Some((holder, key.to_owned())),
            }),
            Reservation::Answered(status, body) => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
                let mut response = json_response(status, body);
                response
                    .headers_mut()
                    .insert("idempotent-replay", HeaderValue::from_static("true"));
                Err(Problem::Replayed(Box::new(response)))
            }
            Reservation::OtherRequest => Err(Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "this Idempotency-Key was used for another request: take a new one",
            )),
        }
    }

    /// Begins a request that must carry an idempotency key.
    ///
    /// # Errors
    /// 400 without a key.
    pub async fn begin_with_key(
        house: &House,
        caller: &Caller,
        sent: &Sent,
    ) -> Result<Self, Problem> {
        if sent.idempotency_key()?.is_none() {
            return Err(Problem::new(
                StatusCode::BAD_REQUEST,
                "the header Idempotency-Key is needed, so that a repeat files no second case",
            ));
        }
        Self::begin(house, caller, sent).await
    }

    /// Keeps the answer, commits, and gives the answer; `version` becomes the `ETag`.
    ///
    /// # Errors
    /// If the database does not confirm it.
    pub async fn answer<T: Serialize>(
        mut self,
        status: StatusCode,
        body: &T,
        version: Option<i64>,
    ) -> Result<Response, Problem> {
        let body = serde_json::to_string(body).map_err(|error| {
            tracing::error!(error = %error, "an answer cannot be written as JSON");
            Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the answer cannot be written",
            )
        })?;
        if let Some((holder, key)) = &self.key {
            idempotency::keep(&mut self.tx, holder, key, status.as_u16(), &body).await?;
        }
        self.tx.commit().await?;
        let mut response = json_response(status, body);
        if let Some(version) = version {
            set_etag(&mut response, version);
        }
        Ok(response)
    }
}

/// Sets the `ETag` to a version.
pub fn set_etag(response: &mut Response, version: i64) {
    if let Ok(value) = HeaderValue::from_str(&format!("\"{version}\"")) {
        response.headers_mut().insert(header::ETAG, value);
    }
}

fn json_response(status: StatusCode, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}
