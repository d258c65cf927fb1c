//! A connection to the broker that is made again whenever it is lost, for ever.

use std::future::Future;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd as _;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_compat::Compat;
use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use futures_util::{FutureExt as _, StreamExt as _};
use lapin::tcp::{AsyncTcpStream, OwnedTLSConfig};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Connection, ConnectionProperties, ErrorKind};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::queue::QueueError;

/// How long connecting may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How long the broker may take over anything that it was asked, unless it said that it blocks the
/// connection.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long it may take over a question that every broker answers at once.
const PROBE_WITHIN: Duration = Duration::from_secs(2);
/// How long, once the server is stopping, answers are still waited for.
const STOP_GRACE: Duration = Duration::from_secs(2);
/// How long the broker may take over closing a connection.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);
/// Between two tries to connect: the shortest and the longest wait.
const AGAIN_AFTER: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Seconds between heartbeats, unless the URL says otherwise (`?heartbeat=`). Whoever only waits for
/// messages notices a dead connection after twice this.
const HEARTBEAT_S: u16 = 5;
/// How often the state of a connection is looked at, in case that an event was missed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Where the broker is: one node, or those of a cluster.
#[derive(Debug, Clone)]
pub struct Broker(SecretString);

/// A broker's URL that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "amqp_url: {0}; expected is amqp://USER:PASSWORD@HOST:PORT/VHOST (or amqps://), with %2f for the \
     vhost /, and commas between the nodes of a cluster"
)]
pub struct BrokerUrlError(String);

impl Broker {
    /// The broker behind `amqp://...` or `amqps://...`, or several such with commas between them.
    ///
    /// # Errors
    /// [`BrokerUrlError`] if the text is no such URL.
    pub fn at(urls: &SecretString) -> Result<Self, BrokerUrlError> {
        let broker = Self(urls.clone());
        let vhost = broker.vhost()?;
        for node in 0..broker.nodes() {
            if broker.uri(node)?.vhost != vhost {
                let unequal = "the nodes of a cluster have the same vhost";
                return Err(BrokerUrlError(unequal.to_owned()));
            }
        }
        Ok(broker)
    }

    fn nodes(&self) -> usize {
        self.0.expose_secret().split(',').count()
    }

    /// The node that is tried at this attempt: one after the other.
    fn uri(&self, attempt: usize) -> Result<AMQPUri, BrokerUrlError> {
        let mut urls = self.0.expose_secret().split(',');
        let url = urls.nth(attempt % self.nodes()).unwrap_or_default();
        let mut uri: AMQPUri = url.trim().parse().map_err(BrokerUrlError)?;
        uri.query.heartbeat.get_or_insert(HEARTBEAT_S);
        Ok(uri)
    }

    /// The virtual host.
    ///
    /// # Errors
    /// None for a broker that was made by [`Self::at`].
    pub(super) fn vhost(&self) -> Result<String, BrokerUrlError> {
        Ok(self.uri(0)?.vhost)
    }
}

/// The connection, or none while it is lost.
type Current = Option<Arc<Connection>>;

/// One supervised connection.
#[derive(Clone)]
pub(super) struct Link {
    current: watch::Receiver<Current>,
    give_up: Arc<Notify>,
    shutdown: CancellationToken,
}

impl Link {
    /// Connects in the background and keeps connected until `shutdown`.
    pub fn start(
        broker: &Broker,
        name: &'static str,
        tasks: &TaskTracker,
        shutdown: &CancellationToken,
    ) -> Self {
        let (set, current) = watch::channel(None);
        let give_up = Arc::new(Notify::new());
        let supervisor = Supervisor {
            broker: broker.clone(),
            name,
            set,
            give_up: Arc::clone(&give_up),
            shutdown: shutdown.clone(),
        };
        tasks.spawn(supervisor.run());
        Self {
            current,
            give_up,
            shutdown: shutdown.clone(),
        }
    }

    /// The connection, if there is one.
    pub fn connection(&self) -> Current {
        self.current
            .borrow()
            .clone()
            .filter(|connection| connection.status().connected())
    }

    /// The connection, as soon as there is one.
    pub async fn connected(&self) -> Arc<Connection> {
        let mut current = self.current.clone();
        loop {
            if let Some(connection) = self.connection() {
                return connection;
            }
            // At shutdown nobody connects any more.
            if current.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Whether the broker has said that it takes nothing for now (memory or disk alarm).
    pub fn blocked(&self) -> bool {
        self.connection()
            .is_some_and(|connection| connection.status().blocked())
    }

    /// Waits for the broker to answer: as long as it blocks the connection, else for a while, and a
    /// little longer once the server is stopping. If nothing else is answered on the connection
    /// either, it is given up.
    pub async fn patiently<F: Future>(&self, answer: F) -> Option<F::Output> {
        let mut answer = pin!(answer);
        let asked = self.connection();
        let blocked = || asked.as_ref().is_some_and(|asked| asked.status().blocked());
        loop {
            tokio::select! {
                answer = &mut answer => return Some(answer),
                () = tokio::time::sleep(ANSWER_WITHIN) => {}
                () = self.stopping() => return None,
            }
            if !blocked() {
                break;
            }
        }
        // Others may have waited, too, and the next connection be there already.
        if let Some(asked) = asked
            && asked.status().connected()
            && !answers(&asked).await
        {
            tracing::warn!("the broker does not answer, connecting anew");
            self.give_up.notify_one();
        }
        None
    }

    async fn stopping(&self) {
        self.shutdown.cancelled().await;
        tokio::time::sleep(STOP_GRACE).await;
    }

    /// Waits for an answer as [`Self::patiently`] does; the broker's refusal is one.
    pub async fn heard<T>(
        &self,
        doing: &str,
        answer: impl Future<Output = lapin::Result<T>>,
    ) -> Result<lapin::Result<T>, QueueError> {
        match self.patiently(answer).await {
            Some(answer) => Ok(answer),
            None if self.connection().is_some() => Err(QueueError::Refused {
                doing: doing.to_owned(),
                reason: format!("the broker does not answer within {ANSWER_WITHIN:?}"),
            }),
            None => Err(QueueError::Away),
        }
    }

    /// Waits for an answer that is not a refusal.
    pub async fn asked<T>(
        &self,
        doing: &str,
        answer: impl Future<Output = lapin::Result<T>>,
    ) -> Result<T, QueueError> {
        let answer = self.heard(doing, answer).await?;
        answer.map_err(|error| refused(doing, &error))
    }
}

/// Whether the broker answers anything at all on a connection.
async fn answers(connection: &Connection) -> bool {
    let probe = tokio::time::timeout(PROBE_WITHIN, connection.create_channel()).await;
    matches!(probe, Ok(Ok(_)))
}

/// What the broker said, for people.
pub(super) fn refused(doing: &str, error: &lapin::Error) -> QueueError {
    let reason = match error.kind() {
        ErrorKind::ProtocolError(said) => said.get_message().to_string(),
        ErrorKind::IOError(_)
        | ErrorKind::MissingHeartbeatError
        | ErrorKind::InvalidConnectionState(_) => return QueueError::Away,
        _ => error.to_string(),
    };
    let doing = doing.to_owned();
    QueueError::Refused { doing, reason }
}

/// The number of the broker's refusal.
pub(super) fn code(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(said) => Some(said.get_id()),
        _ => None,
    }
}

/// The waits between tries of something that is tried for ever.
pub(super) fn waits() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(AGAIN_AFTER.0)
        .with_max_delay(AGAIN_AFTER.1)
        .with_jitter()
        .without_max_times()
        .build()
}

struct Supervisor {
    broker: Broker,
    name: &'static str,
    set: watch::Sender<Current>,
    give_up: Arc<Notify>,
    shutdown: CancellationToken,
}

impl Supervisor {
    /// Connect, lend it out, first error, wait, for ever.
    async fn run(self) {
        let mut waits = waits();
        for attempt in 0_usize.. {
            let connected = tokio::select! {
                () = self.shutdown.cancelled() => return,
                connected = self.connect(attempt) => connected,
            };
            match connected {
                Ok((connection, socket)) => {
                    waits = self::waits();
                    self.serve(connection).await;
                    socket.shut();
                }
                Err(error) => {
                    tracing::warn!(connection = self.name, error = %error, "no connection to the broker, trying again");
                }
            }
            let wait = waits.next().unwrap_or(AGAIN_AFTER.1);
            tokio::select! {
                () = self.shutdown.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn connect(&self, attempt: usize) -> anyhow::Result<(Connection, Socket)> {
        let uri = self.broker.uri(attempt)?;
        let properties = ConnectionProperties::default().with_connection_name(self.name.into());
        let socket = Socket::default();
        let connecting = connect(uri, properties, socket.clone());
        let Ok(connected) = tokio::time::timeout(CONNECT_WITHIN, connecting).await else {
            socket.shut();
            anyhow::bail!("it does not answer within {CONNECT_WITHIN:?}");
        };
        Ok((connected?, socket))
    }

    /// Lends the connection out until it is lost or given up.
    async fn serve(&self, connection: Connection) {
        let connection = Arc::new(connection);
        tracing::info!(connection = self.name, "connected to the broker");
        let mut events = pin!(connection.events_listener());
        // What was said of the one before is not for this one.
        let _ = self.give_up.notified().now_or_never();
        self.set.send_replace(Some(Arc::clone(&connection)));
        let why = loop {
            tokio::select! {
                () = self.shutdown.cancelled() => break "stopping",
                () = self.give_up.notified() => break "given up",
                event = events.next() => match event {
                    Some(lapin::Event::ConnectionBlocked(reason)) => {
                        tracing::warn!(connection = self.name, reason, "the broker takes nothing for now");
                    }
                    Some(lapin::Event::ConnectionUnblocked) => {
                        tracing::info!(connection = self.name, "the broker takes messages again");
                    }
                    _ => {}
                },
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            if !connection.status().connected() {
                break "lost";
            }
        };
        if why != "stopping" {
            // While stopping, those who have begun something may still end it.
            self.set.send_replace(None);
            tracing::warn!(
                connection = self.name,
                why,
                "connection to the broker ended"
            );
            let closing = connection.close(200, "OK".into());
            let _ = tokio::time::timeout(CLOSE_WITHIN, closing).await;
        }
    }
}

/// A second handle of a connection's socket. The library's thread waits for ever on a peer that has
/// gone silent; shutting the socket ends it.
#[derive(Clone, Default)]
struct Socket(Arc<OnceLock<TcpStream>>);

impl Socket {
    fn shut(&self) {
        if let Some(socket) = self.0.get() {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

/// Connects as the library does by itself, but keeps a handle of the socket.
async fn connect(
    uri: AMQPUri,
    properties: ConnectionProperties,
    socket: Socket,
) -> lapin::Result<Connection> {
    let open = async move |uri: AMQPUri, runtime| {
        let (host, port) = (uri.authority.host.clone(), uri.authority.port);
        let addresses: Vec<_> = tokio::net::lookup_host((host.as_str(), port))
            .await?
            .collect();
        let stream: AsyncTcpStream<Compat<tokio::net::TcpStream>> =
            AsyncTcpStream::connect(&runtime, addresses.as_slice()).await?;
        if let AsyncTcpStream::Plain(plain) = &stream {
            let handle = plain.get_ref().as_fd().try_clone_to_owned()?;
            let _ = socket.0.set(TcpStream::from(handle));
        }
        if uri.scheme == AMQPScheme::AMQPS {
            return Ok(stream
                .into_tls(&host, OwnedTLSConfig::default().as_ref())
                .await?);
        }
        Ok(stream)
    };
    Connection::connector(uri, lapin::runtime::default_runtime()?, open, properties).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nodes_of_a_cluster_are_tried_in_turn() {
        let nodes = "amqp://u:p@one:1/v, amqps://u:p@two/v?heartbeat=9".to_owned();
        let broker = Broker::at(&nodes.into()).unwrap();
        let uris = [0, 1, 2].map(|attempt| broker.uri(attempt).unwrap());
        let hosts = uris.each_ref().map(|uri| uri.authority.host.as_str());
        assert_eq!(hosts, ["one", "two", "one"]);
        let heartbeats = uris.each_ref().map(|uri| uri.query.heartbeat);
        assert_eq!(heartbeats, [Some(HEARTBEAT_S), Some(9), Some(HEARTBEAT_S)]);
        assert_eq!(broker.vhost().unwrap(), "v");
    }

    #[test]
    fn what_is_no_url_is_refused_without_its_password() {
        for wrong in [
            "",
            "http://u:secret@host",
            "amqp://u:p@one/v,",
            "amqp://u:secret@host:port/v",
            "amqp://u:secret@one/v,amqp://u:secret@two/other",
        ] {
            let error = Broker::at(&wrong.to_owned().into())
                .unwrap_err()
                .to_string();
            assert!(error.contains("expected is amqp://"), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
