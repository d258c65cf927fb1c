//! What is measured on: a server in this process, with people round one place, one app and one
//! operator.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use reqwest::Body;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::Listeners;
use crate::commands::rest::Rest;
use crate::config::Config;
use crate::holders::{self, NewAgency, NewOperator};
use crate::keys;
use crate::model::{AlertId, BatchFormat, Cell, Check, Holder, Position, SUBSCRIBER_RESOLUTION};
use crate::store::{Store, holders as store, rounds};

/// The app that is measured.
pub const APP: &str = "bench";
/// A throttle that is open: more recipients a second than anything here can do.
const OPEN: i64 = 4_000_000_000;
/// Where everybody is.
const PLACE: (f64, f64) = (57.15, -2.10);
/// How far they are from it at most, north to south and east to west.
const SPREAD_DEG: (f64, f64) = (0.011, 0.02);
/// How long a wave may take to fan out.
const FAN_OUT_LIMIT: Duration = Duration::from_mins(5);
/// Lines in one piece of the upload.
const PIECE_LINES: usize = 1_000;

/// A server with its people.
pub struct Ground {
    pub store: Store,
    pub rest: Rest,
    operator: SecretString,
    agency: SecretString,
    app: SecretString,
    shutdown: CancellationToken,
    server: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Ground {
    /// Starts the server over an empty database and registers so many people round the place.
    pub async fn prepare(config: Config, people: usize) -> anyhow::Result<Self> {
        let ground = Self::start(config).await?;
        let now = ground.store.now().await?;
        let mut chance = StdRng::seed_from_u64(1);
        let lines: anyhow::Result<Vec<_>> = (0..people)
            .map(|number| line(number, &mut chance, now))
            .collect();
        ground.register(lines?.into_iter()).await?;
        Ok(ground)
    }

    /// Starts the server over an empty database.
    pub async fn start(mut config: Config) -> anyhow::Result<Self> {
        config.quiet_hours.to = config.quiet_hours.from;
        config.approval.recipients = i64::from(u32::MAX);
        config.approval.recipients_per_point = i64::from(u32::MAX);
        config.cap.per_day = u32::MAX;
        config.cap.per_week = u32::MAX;
        config.requests_per_s = 1_000_000;
        config.requests_burst = 1_000_000;
        let store = Store::open(config.database_url.expose_secret()).await?;
        store.migrate().await?;
        let [agency, operator, app] = cast(&store)
            .await
            .context("making agency, operator and app: the database must be a fresh one")?;
        let listen = || TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)));
        let http = listen().await?;
        let rest = Rest::new(http.local_addr()?)?;
        let listeners = Listeners {
            http: Some(http),
            grpc: Some(listen().await?),
            admin: listen().await?,
        };
        let shutdown = CancellationToken::new();
        let running = crate::run(config, store.clone(), listeners, shutdown.clone());
        let server = tokio::spawn(running);
        Ok(Self {
            store,
            rest,
            operator,
            agency,
            app,
            shutdown,
            server,
        })
    }

    /// Has the app upload lines.
    pub async fn register(
        &self,
        mut lines: impl Iterator<Item = String> + Send + Sync + 'static,
    ) -> anyhow::Result<()> {
        let pieces = std::iter::from_fn(move || {
            let piece: String = lines.by_ref().take(PIECE_LINES).collect();
            (!piece.is_empty()).then_some(anyhow::Ok(piece))
        });
        let body = Body::wrap_stream(futures_util::stream::iter(pieces));
        self.rest.upload(&self.app, body).await.map(drop)
    }

    /// Waits until nothing of an alert is left to be fanned out.
    pub async fn fanned_out(&self, alert: AlertId) -> anyhow::Result<()> {
        let end = Instant::now() + FAN_OUT_LIMIT;
        while rounds::undone(&mut self.store.read().await?, alert).await? > 0 {
            ensure!(
                Instant::now() < end,
                "not fanned out within {FAN_OUT_LIMIT:?}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Files a case and has it verified; gives its id and its alert's.
    pub async fn verified(&self) -> anyhow::Result<(String, String)> {
        let seen = self.store.now().await? - SignedDuration::from_hours(1);
        let filing = json!({
            "person": { "alias": "Bench", "age": 80 },
            "category": "dementia", "environment": "urban",
            "lkp": { "lat": PLACE.0, "lon": PLACE.1, "accuracy_m": 50, "at": seen },
            "contact": { "name": "Bench", "phone": "+44 20 7946 0000" },
            "consent": { "given_by": "the family", "publish": ["name", "age"] },
        });
        let case = self.rest.post(&self.agency, "/v1/cases", &filing).await?;
        let case = text(&case["id"])?;
        let checks: Vec<&str> = Check::ALL.iter().map(|check| check.name()).collect();
        let path = format!("/v1/cases/{case}/verify");
        let verified = self
            .rest
            .post(&self.operator, &path, &json!({ "checks": checks }))
            .await?;
        Ok((case, text(&verified["alert"]["id"])?))
    }

    /// Closes a case.
    pub async fn close(&self, case: &str) -> anyhow::Result<()> {
        let path = format!("/v1/cases/{case}/close");
        let found = json!({ "outcome": "found_well" });
        self.rest.post(&self.agency, &path, &found).await.map(drop)
    }

    /// Holds all lanes, or lets them go on.
    pub async fn lanes(&self, what: &str) -> anyhow::Result<()> {
        let path = format!("/v1/lanes/{what}");
        self.rest
            .post(&self.operator, &path, &json!({}))
            .await
            .map(drop)
    }

    /// Stops the server.
    pub async fn leave(self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        self.server.await?
    }
}

fn text(value: &Value) -> anyhow::Result<String> {
    value
        .as_str()
        .map(str::to_owned)
        .context("an id is expected")
}

fn line(number: usize, chance: &mut StdRng, now: Timestamp) -> anyhow::Result<String> {
    let mut off = |spread: f64| spread * (chance.random::<f64>() * 2.0 - 1.0);
    let at = Position::new(PLACE.0 + off(SPREAD_DEG.0), PLACE.1 + off(SPREAD_DEG.1))?;
    let cell = Cell::at(at, SUBSCRIBER_RESOLUTION);
    Ok(format!(
        "{{\"token\":\"bench-{number:012x}\",\"cell\":\"{cell}\",\"at\":\"{now}\"}}\n"
    ))
}

/// Keys of an agency, an operator and the app.
async fn cast(store: &Store) -> anyhow::Result<[SecretString; 3]> {
    let mut tx = store.begin().await?;
    let now = tx.now().await?;
    let agency = NewAgency {
        name: APP.to_owned(),
        trusted: false,
        time_zone: "Europe/London".to_owned(),
        retention_days: 30,
    };
    let agency = holders::add_agency(&mut tx, agency, now).await?;
    let name = APP.to_owned();
    let operator = holders::add_operator(&mut tx, NewOperator { name }, now).await?;
    let app = store::add_app(&mut tx, APP, OPEN, false, BatchFormat::Protobuf, now).await?;
    let holders = [
        Holder::Agency(agency.id, agency.name),
        Holder::Operator(operator.id, operator.name),
        Holder::App(app, APP.to_owned()),
    ];
    let mut made = Vec::new();
    for holder in &holders {
        made.push(keys::make(&mut tx, holder, now).await?.secret);
    }
    tx.commit().await?;
    made.try_into()
        .map_err(|_| anyhow::anyhow!("three keys were made"))
}
