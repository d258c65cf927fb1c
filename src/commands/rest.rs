//! The server's REST interface as agencies, apps and operators use it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use reqwest::{Body, Client, RequestBuilder};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use uuid::Uuid;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long an upload of a whole city may take.
const UPLOAD_TIMEOUT: Duration = Duration::from_mins(5);

/// A caller of one server.
pub struct Rest {
    client: Client,
    /// The server's URL, without a slash at its end.
    pub url: String,
}

impl Rest {
    /// Calls the server that listens there.
    ///
    /// # Errors
    /// If no client can be made.
    pub fn new(address: SocketAddr) -> anyhow::Result<Self> {
        // What the environment says about proxies is not for this machine.
        let client = Client::builder().no_proxy().timeout(TIMEOUT).build()?;
        Ok(Self {
            client,
            url: format!("http://{address}"),
        })
    }

    /// `GET`
    ///
    /// # Errors
    /// The server's problem document, or that it did not answer.
    pub async fn get(&self, key: &SecretString, path: &str) -> anyhow::Result<Value> {
        let request = self.client.get(format!("{}{path}", self.url));
        answer(request, key, || format!("GET {path}")).await
    }

    /// `GET`, answered with a map.
    ///
    /// # Errors
    /// The server's problem document, or that it did not answer.
    pub async fn get_map(&self, key: &SecretString, path: &str) -> anyhow::Result<Value> {
        let request = self.client.get(format!("{}{path}", self.url));
        let request = request.header("accept", "application/geo+json");
        answer(request, key, || format!("GET {path} as GeoJSON")).await
    }

    /// `POST`
    ///
    /// # Errors
    /// The server's problem document, or that it did not answer.
    pub async fn post(
        &self,
        key: &SecretString,
        path: &str,
        body: &Value,
    ) -> anyhow::Result<Value> {
        let request = self.client.post(format!("{}{path}", self.url));
        let request = request
            .header("idempotency-key", Uuid::now_v7().to_string())
            .json(body);
        answer(request, key, || format!("POST {path}")).await
    }

    /// `PATCH`
    ///
    /// # Errors
    /// The server's problem document, or that it did not answer.
    pub async fn patch(
        &self,
        key: &SecretString,
        path: &str,
        body: &Value,
    ) -> anyhow::Result<Value> {
        let request = self.client.patch(format!("{}{path}", self.url)).json(body);
        answer(request, key, || format!("PATCH {path}")).await
    }

    /// `PUT /v1/subscribers`
    ///
    /// # Errors
    /// The server's problem document, or that it did not answer.
    pub async fn upload(&self, key: &SecretString, lines: Body) -> anyhow::Result<Value> {
        let path = "/v1/subscribers";
        let request = self.client.put(format!("{}{path}", self.url));
        let request = request
            .header("content-type", "application/x-ndjson")
            .timeout(UPLOAD_TIMEOUT)
            .body(lines);
        answer(request, key, || format!("PUT {path}")).await
    }
}

async fn answer(
    request: RequestBuilder,
    key: &SecretString,
    what: impl Fn() -> String,
) -> anyhow::Result<Value> {
    let answered = request
        .bearer_auth(key.expose_secret())
        .send()
        .await
        .with_context(|| format!("{}: no answer", what()))?;
    let status = answered.status();
    let body = answered
        .text()
        .await
        .with_context(|| format!("{}: the answer broke off", what()))?;
    if !status.is_success() {
        bail!("{} was answered {status}: {body}", what());
    }
    serde_json::from_str(&body).with_context(|| format!("{}: the answer is no JSON", what()))
}
