//! Callers over REST, and what they file.

use homeward::model::{Holder, KeyId};
use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use uuid::Uuid;

use super::House;
use super::people::Person;

/// The points an operator checks.
pub const CHECKS: [&str; 5] = [
    "reporter_called_back",
    "identity_confirmed",
    "last_seen_confirmed",
    "consent_confirmed",
    "duplicates_checked",
];

/// Somebody with a key.
#[derive(Clone)]
pub struct Caller {
    pub house: House,
    pub key: String,
    pub holder: Option<Holder>,
    pub key_id: KeyId,
}

/// What was answered.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
    /// The body as JSON, `null` if it is none.
    pub body: Value,
}

impl Answer {
    pub(super) async fn read(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or_default();
        Self {
            status,
            headers,
            text,
            body,
        }
    }

    /// The body of a success.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!(
            (200..300).contains(&self.status),
            "{} {}",
            self.status,
            self.text
        );
        self.body
    }

    /// The problem document of a refusal with this status.
    #[track_caller]
    pub fn refused(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(
            self.header("content-type"),
            "application/problem+json",
            "{}",
            self.text
        );
        assert_eq!(self.body["status"], status, "{}", self.text);
        assert!(
            self.body["detail"]
                .as_str()
                .is_some_and(|detail| !detail.is_empty())
        );
        self.body
    }

    /// A header, empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

impl Caller {
    pub(super) fn new(house: House, key: &str, holder: Option<Holder>, key_id: KeyId) -> Self {
        Self {
            house,
            key: key.to_owned(),
            holder,
            key_id,
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], String::new()).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, &[], body.to_string()).await
    }

    pub async fn patch(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PATCH, path, &[], body.to_string()).await
    }

    /// Any request.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> Answer {
        let url = format!("http://{}{path}", self.house.addresses().http);
        let mut request = self.house.0.http.request(method, url).body(body);
        if !self.key.is_empty() {
            request = request.bearer_auth(&self.key);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Answer::read(request.send().await.unwrap()).await
    }

    /// Files a case under an idempotency key of its own.
    pub async fn try_file(&self, filing: &Value) -> Answer {
        let key = Uuid::now_v7().to_string();
        let headers = [("idempotency-key", key.as_str())];
        self.send(Method::POST, "/v1/cases", &headers, filing.to_string())
            .await
    }

    /// Files a case that is taken; gives its id.
    pub async fn file(&self, filing: &Value) -> String {
        let case = self.try_file(filing).await.ok();
        case["id"].as_str().unwrap().to_owned()
    }

    /// Verifies (or confirms) a case.
    pub async fn verify(&self, case: &str) -> Value {
        self.verify_with(case, json!({})).await.ok()
    }

    /// Verifies a case, with more in the request than the checks.
    pub async fn verify_with(&self, case: &str, more: Value) -> Answer {
        let mut request = json!({ "checks": CHECKS });
        request
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        self.post(&format!("/v1/cases/{case}/verify"), &request)
            .await
    }

    /// Takes a step that needs nothing said.
    pub async fn step(&self, case: &str, step: &str) -> Answer {
        self.post(&format!("/v1/cases/{case}/{step}"), &json!({}))
            .await
    }

    /// Closes a case: the person came back.
    pub async fn close(&self, case: &str) -> Value {
        self.post(
            &format!("/v1/cases/{case}/close"),
            &json!({ "outcome": "returned" }),
        )
        .await
        .ok()
    }

    /// The case as this caller sees it.
    pub async fn case(&self, case: &str) -> Value {
        self.get(&format!("/v1/cases/{case}")).await.ok()
    }

    /// What happened to a case, in order.
    pub async fn timeline(&self, case: &str) -> Vec<String> {
        let timeline = self.get(&format!("/v1/cases/{case}/timeline")).await.ok();
        let items = timeline["items"].as_array().unwrap();
        items
            .iter()
            .map(|item| item["what"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Registers people with this app.
    pub async fn register(&self, people: &[Person]) -> Value {
        self.put(people.iter().map(Person::line)).await.ok()
    }

    /// Sends lines to the registry.
    pub async fn put(&self, lines: impl IntoIterator<Item = Value>) -> Answer {
        let lines: Vec<String> = lines.into_iter().map(|line| line.to_string()).collect();
        self.send(Method::PUT, "/v1/subscribers", &[], lines.join("\n"))
            .await
    }

    /// The id of the newest alert of a case.
    pub async fn alert_of(&self, case: &str) -> String {
        let case = self.case(case).await;
        case["alert"]["id"].as_str().expect("an alert").to_owned()
    }
}

/// A time before another.
pub fn ago(now: Timestamp, minutes: i64) -> Timestamp {
    now - SignedDuration::from_mins(minutes)
}

/// A complete filing: somebody with dementia, seen half an hour ago at this place in a town.
pub fn filing(now: Timestamp, lat: f64, lon: f64) -> Value {
    json!({
        "person": {
            "name": "Margaret Hall", "age": 82, "sex": "female",
            "description": "grey hair, walks with a stick", "clothing": "red coat, brown boots",
        },
        "category": "dementia",
        "environment": "urban",
        "lkp": {
            "lat": lat, "lon": lon, "accuracy_m": 50.0, "at": ago(now, 30),
            "place": "Union Street",
        },
        "circumstances": "Left home to buy milk and has not come back.",
        "contact": { "name": "Jane Hall", "phone": "+44 1224 496 0123", "relation": "daughter" },
        "consent": {
            "given_by": "Jane Hall", "publish": ["name", "age", "description", "clothing"],
        },
    })
}
