//! Homeward: a geofenced missing-person alert dispatcher.
//!
//! A case comes in ([`api`], [`cases`]), is verified, and its area is worked out ([`planning`],
//! [`area`]). Its waves
//! wait in the database until they are due; fan-out decides person by person who is told
//! ([`dispatch`], [`audience`]); lanes put the batches into app queues at each app's rate ([`queue`]);
//! readers hand them on ([`readers`]). What comes back are receipts, [`sightings`] and
//! [`searches`], which make new plans; closing the case recalls the alert. [`store`] is the only room with SQL. ARCHITECTURE.md has the map.

pub mod alert;
pub mod api;
pub mod area;
pub mod audience;
pub mod cases;
pub mod commands;
pub mod config;
pub mod dispatch;
pub mod holders;
pub mod keys;
pub mod model;
pub mod planning;
pub mod queue;
pub mod readers;
pub mod searches;
pub mod shutdown;
pub mod sightings;
pub mod store;
pub mod telemetry;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::alert::proto::v1::alerts_server::AlertsServer;
use crate::api::House;
use crate::cases::Desk;
use crate::config::{Config, Role};
use crate::dispatch::{Dispatch, Wake};
use crate::keys::RateLimits;
use crate::planning::Planner;
use crate::queue::{AppQueue, Broker, DeadLetters, LocalQueue, RabbitQueue};
use crate::readers::dead_letters;
use crate::readers::grpc::AlertsService;
use crate::store::Store;
use crate::telemetry::Metrics;

/// The public interface descriptions, for reflection.
const DESCRIPTIONS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/homeward.v1.bin"));
/// How often keyed limiters forget keys not used lately.
const SHRINK_EVERY: Duration = Duration::from_mins(1);
/// How long closing the database may take; what has not committed by then is rolled back.
const CLOSE_GRACE: Duration = Duration::from_secs(5);

/// The sockets a server listens on.
#[derive(Debug)]
pub struct Listeners {
    /// REST, if this server does that.
    pub http: Option<TcpListener>,
    /// gRPC, if this server does that.
    pub grpc: Option<TcpListener>,
    /// Health and metrics.
    pub admin: TcpListener,
}

impl Listeners {
    /// Listens where the configuration says.
    ///
    /// # Errors
    /// Names the setting and the address that cannot be had.
    pub async fn bind(config: &Config) -> anyhow::Result<Self> {
        async fn on(name: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
            TcpListener::bind(address)
                .await
                .with_context(|| format!("cannot listen on {address} ({name}): choose another"))
        }
        let mut listeners = Self {
            http: None,
            grpc: None,
            admin: on("admin_addr", config.admin_addr).await?,
        };
        if config.does(Role::Api) {
            listeners.http = Some(on("http_addr", config.http_addr).await?);
        }
        if config.does(Role::Readers) {
            listeners.grpc = Some(on("grpc_addr", config.grpc_addr).await?);
        }
        Ok(listeners)
    }
}

/// Puts the parts together and serves until `shutdown`: the one place where that is done.
///
/// # Errors
/// If a listener breaks, or what was begun could not be ended within the deadline.
pub async fn run(
    config: Config,
    store: Store,
    listeners: Listeners,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let config = Arc::new(config);
    let metrics = Arc::new(Metrics::default());
    let tasks = TaskTracker::new();
    let (queue, dead_letters) = queues(&config, &tasks, &shutdown)?;
    let planner = Arc::new(Planner::of(&config)?);
    let dispatch = Dispatch {
        store: store.clone(),
        config: Arc::clone(&config),
        planner: Arc::clone(&planner),
        queue,
        wake: Wake::default(),
        metrics,
    };
    let desk = Desk {
        config: Arc::clone(&config),
        planner,
    };
    let limits = Arc::new(RateLimits::new(&config));
    let house = House {
        dispatch: dispatch.clone(),
        desk,
        limits: Arc::clone(&limits),
    };

    dispatch.start(&tasks, &shutdown);
    if let Some(letters) = dead_letters {
        tasks.spawn(dead_letters::run(
            dispatch.clone(),
            letters,
            shutdown.clone(),
        ));
    }
    tasks.spawn(shrink(Arc::clone(&limits), shutdown.clone()));
    let alerts = AlertsService::new(dispatch, limits, shutdown.clone());
    let served = tokio::try_join!(
        serve_http(listeners.http, api::router(house.clone()), shutdown.clone()),
        serve_http(
            Some(listeners.admin),
            api::admin_router(house),
            shutdown.clone()
        ),
        serve_grpc(listeners.grpc, alerts, shutdown.clone()),
        within(config.shutdown_deadline(), &tasks, &shutdown),
    );
    shutdown.cancel();
    if tokio::time::timeout(CLOSE_GRACE, store.close())
        .await
        .is_err()
    {
        tracing::warn!("database connections still in use were left open");
    }
    served.map(drop)
}

/// The app queues: in RabbitMQ if there is one, else in this process; and what RabbitMQ puts aside, if
/// this server reads.
fn queues(
    config: &Config,
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
) -> anyhow::Result<(Arc<dyn AppQueue>, Option<DeadLetters>)> {
    let (people, limit) = (config.dispatch.batch_people, config.dispatch.delivery_limit);
    let Some(url) = &config.amqp_url else {
        return Ok((Arc::new(LocalQueue::new(people, limit)), None));
    };
    let queue = RabbitQueue::new(&Broker::at(url)?, people, limit, tasks, shutdown);
    let letters = config.does(Role::Readers).then(|| queue.dead_letters());
    Ok((Arc::new(queue), letters))
}

async fn serve_http(
    listener: Option<TcpListener>,
    router: axum::Router,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let Some(listener) = listener else {
        return Ok(());
    };
    let stop = shutdown.clone();
    let served = axum::serve(listener, router)
        .with_graceful_shutdown(async move { stop.cancelled().await })
        .into_future();
    ends_with(served, &shutdown)
        .await
        .unwrap_or(Ok(()))
        .context("HTTP listener")
}

async fn serve_grpc(
    listener: Option<TcpListener>,
    alerts: AlertsService,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let Some(listener) = listener else {
        return Ok(());
    };
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<AlertsServer<AlertsService>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTIONS)
        .build_v1()?;
    let stop = shutdown.clone();
    let served = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_EVERY))
        .http2_keepalive_timeout(Some(KEEPALIVE_ANSWER))
        .add_service(AlertsServer::new(alerts))
        .add_service(health_service)
        .add_service(reflection)
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async move {
            stop.cancelled().await;
        });
    ends_with(served, &shutdown)
        .await
        .unwrap_or(Ok(()))
        .context("gRPC listener")
}

/// How often a gRPC connection is asked whether its app is still there, and how long it may take to
/// answer: what a dead connection holds goes back into the queue.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
const KEEPALIVE_ANSWER: Duration = Duration::from_secs(10);

/// How long open connections may go on after shutdown began; streams end by themselves before.
const CONNECTION_GRACE: Duration = Duration::from_secs(5);

/// Waits for a server to end, but not for ever once shutdown has begun.
async fn ends_with<F: Future>(served: F, shutdown: &CancellationToken) -> Option<F::Output> {
    let grace = async {
        shutdown.cancelled().await;
        tokio::time::sleep(CONNECTION_GRACE).await;
    };
    tokio::select! {
        served = served => Some(served),
        () = grace => None,
    }
}

/// Waits for the workers to finish or hand back what they have, within the deadline.
async fn within(
    deadline: Duration,
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    shutdown.cancelled().await;
    tasks.close();
    tokio::time::timeout(deadline, tasks.wait())
        .await
        .context("workers did not end in time; what they had is taken up by the next server")
}

async fn shrink(limits: Arc<RateLimits>, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(SHRINK_EVERY) => limits.shrink(),
        }
    }
}
