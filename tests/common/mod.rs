//! A house to test in: the real server in this process, on a database (and a virtual host of the
//! broker) of its own, with callers and apps that talk to it the way theirs would.

pub mod broker;
mod database;
mod inbox;
mod people;
pub mod queues;
mod rest;
mod told;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use homeward::Listeners;
use homeward::config::Config;
use homeward::holders::{self, NewAgency, NewApp, NewOperator};
use homeward::keys;
use homeward::model::{AppId, BatchFormat, Holder};
use homeward::store::{Store, Tx};
use jiff::{SignedDuration, Timestamp};
use secrecy::ExposeSecret as _;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::broker::Vhost;

use database::Database;
pub use database::Fresh;
pub use inbox::{Inbox, Stream, client, tokens_of, with_key};
pub use people::{Person, cell_at, disk};
pub use rest::{Answer, CHECKS, Caller, ago, filing};
pub use told::{Rounds, dispatch, settled, taken_by};

/// How long anything that has to happen may take.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How long a whole test may take.
const TEST_LIMIT: Duration = Duration::from_secs(150);

/// What is set otherwise than by default, so that tests need not wait and the time of day does not
/// matter.
const SETTINGS: &[(&str, &str)] = &[
    ("dispatch.poll_ms", "20"),
    // A lane is not lost because this machine is busy.
    ("dispatch.lane_lease_s", "12"),
    ("quiet_hours.from", "\"00:00\""),
    ("quiet_hours.to", "\"00:00\""),
    ("requests_per_s", "100000"),
    ("requests_burst", "100000"),
];

/// A server with its database. Clones are the same house.
#[derive(Clone)]
pub struct House(Arc<Inner>);

struct Inner {
    database: Fresh,
    vhost: Option<Vhost>,
    store: Store,
    folder: tempfile::TempDir,
    server: tokio::sync::Mutex<Option<Server>>,
    addresses: Mutex<Option<Addresses>>,
    http: reqwest::Client,
}

struct Server {
    shutdown: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

#[derive(Clone, Copy)]
struct Addresses {
    http: SocketAddr,
    grpc: SocketAddr,
    admin: SocketAddr,
}

/// What a house stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ground {
    /// SQLite, and app queues in the process.
    Sqlite,
    /// PostgreSQL, and app queues in the process.
    Postgres,
    /// PostgreSQL, and app queues in RabbitMQ.
    Rabbitmq,
}

/// Runs a test in a house on a fresh database, and pulls the house down whatever comes of it.
pub async fn in_a_house<T: Future<Output = ()>>(ground: Ground, test: impl FnOnce(House) -> T) {
    let house = House::build(ground).await;
    let test = tokio::time::timeout(TEST_LIMIT, test(house.clone()));
    let result = AssertUnwindSafe(test).catch_unwind().await;
    house.pull_down().await;
    match result {
        Ok(Ok(())) => {}
        Ok(Err(_)) => panic!("the test is not done after {TEST_LIMIT:?}"),
        Err(panic) => resume_unwind(panic),
    }
}

/// Looks again and again until there is something, and gives it.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(
            started.elapsed() < PATIENCE,
            "waited {PATIENCE:?} in vain: {what}"
        );
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
}

impl House {
    async fn build(ground: Ground) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let kind = match ground {
            Ground::Sqlite => Database::Sqlite,
            Ground::Postgres | Ground::Rabbitmq => Database::Postgres,
        };
        let database = Fresh::make(kind, folder.path()).await;
        let vhost = match ground {
            Ground::Sqlite | Ground::Postgres => None,
            Ground::Rabbitmq => Some(Vhost::make().await),
        };
        let store = Store::open(database.url()).await.unwrap();
        store.migrate().await.unwrap();
        Self(Arc::new(Inner {
            database,
            vhost,
            store,
            folder,
            server: tokio::sync::Mutex::default(),
            addresses: Mutex::default(),
            http: reqwest::Client::new(),
        }))
    }

    /// Starts the server with the settings of tests and these; one that runs is stopped before.
    pub async fn serve(&self, settings: &[(&str, &str)]) {
        self.stop().await;
        let config = self.config(settings);
        let loopback = || TcpListener::bind("127.0.0.1:0");
        let (http, grpc) = (loopback().await.unwrap(), loopback().await.unwrap());
        let admin = loopback().await.unwrap();
        let addresses = Addresses {
            http: http.local_addr().unwrap(),
            grpc: grpc.local_addr().unwrap(),
            admin: admin.local_addr().unwrap(),
        };
        let listeners = Listeners {
            http: Some(http),
            grpc: Some(grpc),
            admin,
        };
        let shutdown = CancellationToken::new();
        let store = Store::open(self.0.database.url()).await.unwrap();
        let task = tokio::spawn(homeward::run(config, store, listeners, shutdown.clone()));
        *self.0.server.lock().await = Some(Server { shutdown, task });
        *self.0.addresses.lock().unwrap() = Some(addresses);
    }

    /// Stops the server in good order, if it runs.
    pub async fn stop(&self) {
        if let Some(server) = self.0.server.lock().await.take() {
            server.shutdown.cancel();
            server
                .task
                .await
                .unwrap()
                .expect("the server stops in time");
        }
    }

    /// The configuration of a server with these settings.
    pub fn config(&self, settings: &[(&str, &str)]) -> Config {
        let broker = self
            .0
            .vhost
            .as_ref()
            .map(|vhost| format!("{:?}", vhost.url()));
        let broker = broker.as_deref().map(|url| ("amqp_url", url));
        let usual = SETTINGS.iter().copied().chain(broker);
        let settings: BTreeMap<_, _> = usual.chain(settings.iter().copied()).collect();
        let file = self.0.folder.path().join("homeward.toml");
        let lines = settings
            .iter()
            .map(|(name, value)| format!("{name} = {value}\n"));
        std::fs::write(&file, lines.collect::<String>()).unwrap();
        Config::load(Some(&file)).unwrap()
    }

    async fn pull_down(&self) {
        let stopped = AssertUnwindSafe(self.stop()).catch_unwind().await;
        self.0.store.close().await;
        self.0.database.drop().await;
        if let Some(vhost) = &self.0.vhost {
            vhost.remove().await;
        }
        if let Err(panic) = stopped {
            resume_unwind(panic);
        }
    }

    /// The same database, by a pool of the test's own.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// The database, for what no operation of the store does.
    pub fn database(&self) -> &Fresh {
        &self.0.database
    }

    /// The broker's virtual host of a house with RabbitMQ.
    pub fn vhost(&self) -> &Vhost {
        self.0.vhost.as_ref().expect("a house with RabbitMQ")
    }

    /// A transaction and the database's time.
    pub async fn begin(&self) -> (Tx, Timestamp) {
        let mut tx = self.store().begin().await.unwrap();
        let now = tx.now().await.unwrap();
        (tx, now)
    }

    /// The database's time.
    pub async fn now(&self) -> Timestamp {
        self.store().now().await.unwrap()
    }

    /// An agency whose cases wait for an operator.
    pub async fn agency(&self, name: &str) -> Caller {
        self.add_agency(name, false).await
    }

    /// An agency whose complete cases verify themselves.
    pub async fn trusted_agency(&self, name: &str) -> Caller {
        self.add_agency(name, true).await
    }

    async fn add_agency(&self, name: &str, trusted: bool) -> Caller {
        let (mut tx, now) = self.begin().await;
        let new = NewAgency {
            name: name.into(),
            trusted,
            time_zone: "UTC".into(),
            retention_days: 30,
        };
        let agency = holders::add_agency(&mut tx, new, now).await.unwrap();
        self.key(tx, Holder::Agency(agency.id, agency.name), now)
            .await
    }

    /// An operator.
    pub async fn operator(&self, name: &str) -> Caller {
        let (mut tx, now) = self.begin().await;
        let new = NewOperator { name: name.into() };
        let operator = holders::add_operator(&mut tx, new, now).await.unwrap();
        self.key(tx, Holder::Operator(operator.id, operator.name), now)
            .await
    }

    /// An administrator.
    pub async fn admin(&self) -> Caller {
        let (tx, now) = self.begin().await;
        self.key(tx, Holder::Admin, now).await
    }

    /// An app that takes part in exercises. Make it before the server starts: lanes of newcomers
    /// start within two seconds.
    pub async fn app(&self, name: &str, rate_per_s: i64) -> Caller {
        self.add_app(name, rate_per_s, true).await
    }

    /// An app that takes no part in exercises.
    pub async fn app_without_drills(&self, name: &str) -> Caller {
        self.add_app(name, 100_000, false).await
    }

    async fn add_app(&self, name: &str, rate_per_s: i64, drills: bool) -> Caller {
        let (mut tx, now) = self.begin().await;
        let new = NewApp {
            name: name.into(),
            rate_per_s,
            drills,
            format: BatchFormat::Protobuf,
        };
        let app = holders::add_app(&mut tx, new, now).await.unwrap();
        self.key(tx, Holder::App(app.id, app.name), now).await
    }

    async fn key(&self, mut tx: Tx, holder: Holder, now: Timestamp) -> Caller {
        let key = keys::make(&mut tx, &holder, now).await.unwrap();
        tx.commit().await.unwrap();
        let secret = key.secret.expose_secret();
        Caller::new(self.clone(), secret, Some(holder), key.id)
    }

    /// Somebody with a key of our choosing.
    pub fn stranger(&self, key: &str) -> Caller {
        Caller::new(self.clone(), key, None, homeward::model::KeyId::fresh())
    }

    /// What the probe's listener answers.
    pub async fn probe(&self, path: &str) -> Answer {
        let url = format!("http://{}{path}", self.addresses().admin);
        Answer::read(self.0.http.get(url).send().await.unwrap()).await
    }

    fn addresses(&self) -> Addresses {
        self.0
            .addresses
            .lock()
            .unwrap()
            .expect("the server was started")
    }

    /// Makes time pass for one alert: moves a moment kept in a row of SQL by this much into the past.
    pub async fn age(&self, table: &str, column: &str, by: SignedDuration) {
        let ms = by.as_millis();
        let sql = format!("UPDATE {table} SET {column} = {column} - {ms}");
        self.database().execute(&sql).await;
    }
}

/// The app behind a caller.
pub fn app_id(app: &Caller) -> AppId {
    match &app.holder {
        Some(Holder::App(id, _)) => *id,
        _ => panic!("not an app"),
    }
}

/// A part of a JSON document as text.
pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_else(|| panic!("{pointer} is no text in {value:#}"))
}

/// A part of a JSON document as a number.
pub fn number(value: &Value, pointer: &str) -> i64 {
    value
        .pointer(pointer)
        .and_then(Value::as_i64)
        .unwrap_or_else(|| panic!("{pointer} is no number in {value:#}"))
}
