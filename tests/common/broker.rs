//! RabbitMQ: a virtual host for each test, a client without any of our code, and a wire that can be
//! cut.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use reqwest::{Method, Url};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::PATIENCE;

/// A virtual host nobody else uses.
pub struct Vhost {
    name: String,
    http: reqwest::Client,
}

impl Vhost {
    /// Makes one.
    pub async fn make() -> Self {
        let vhost = Self {
            name: format!("homeward-test-{}", Uuid::now_v7().simple()),
            http: reqwest::Client::new(),
        };
        vhost.furnish().await;
        vhost
    }

    /// Loses everything that is in it; whoever is connected is thrown out.
    pub async fn wipe(&self) {
        self.remove().await;
        self.furnish().await;
    }

    async fn furnish(&self) {
        self.ask(Method::PUT, &["vhosts", &self.name], json!({}))
            .await;
        let all = json!({ "configure": ".*", "write": ".*", "read": ".*" });
        let user = Url::parse(&amqp_url()).unwrap().username().to_owned();
        self.ask(Method::PUT, &["permissions", &self.name, &user], all)
            .await;
    }

    /// Removes it with all that is in it; whoever is connected is thrown out.
    pub async fn remove(&self) {
        self.ask(Method::DELETE, &["vhosts", &self.name], json!({}))
            .await;
    }

    /// Where it is: `amqp://...`.
    pub fn url(&self) -> String {
        let mut url = Url::parse(&amqp_url()).unwrap();
        url.set_path(&self.name);
        url.into()
    }

    /// Where it is for another user.
    pub fn url_of(&self, user: &str, password: &str) -> String {
        let mut url = Url::parse(&self.url()).unwrap();
        url.set_username(user).unwrap();
        url.set_password(Some(password)).unwrap();
        url.into()
    }

    /// Lets no queue of that name grow beyond `most` messages; returns once that holds.
    pub async fn limit(&self, queue: &str, most: u32) {
        let policy = json!({
            "pattern": format!("^{}$", queue.replace('.', "\\.")), "apply-to": "queues",
            "definition": { "max-length": most },
        });
        self.ask(Method::PUT, &["policies", &self.name, "limit"], policy)
            .await;
        super::until("the policy to hold", async || {
            let path = ["queues", &self.name, queue];
            let queue = self.ask(Method::GET, &path, Value::Null).await;
            (queue["policy"] == "limit").then_some(())
        })
        .await;
    }

    /// Deletes a queue, whatever is in it.
    pub async fn delete(&self, queue: &str) {
        self.ask(Method::DELETE, &["queues", &self.name, queue], json!({}))
            .await;
    }

    /// Deletes an exchange.
    pub async fn delete_exchange(&self, exchange: &str) {
        let path = ["exchanges", &self.name, exchange];
        self.ask(Method::DELETE, &path, json!({})).await;
    }

    /// Empties a queue.
    pub async fn purge(&self, queue: &str) {
        let path = ["queues", &self.name, queue, "contents"];
        self.ask(Method::DELETE, &path, json!({})).await;
    }

    /// The names of all queues.
    pub async fn queues(&self) -> Vec<String> {
        let queues = self
            .ask(Method::GET, &["queues", &self.name], Value::Null)
            .await;
        let name = |queue: &Value| queue["name"].as_str().unwrap().to_owned();
        queues.as_array().unwrap().iter().map(name).collect()
    }

    /// How many messages wait in a queue, not counting those in consumers' hands.
    pub async fn waiting_in(&self, queue: &str) -> u32 {
        let client = Bare::at(&self.url()).await;
        let passive = QueueDeclareOptions::durable().passive();
        let asked = client
            .channel
            .queue_declare(queue.into(), passive, FieldTable::default());
        asked.await.unwrap().message_count()
    }

    async fn ask(&self, method: Method, path: &[&str], body: Value) -> Value {
        let mut url = Url::parse(&management_url()).unwrap();
        url.path_segments_mut()
            .unwrap()
            .pop_if_empty()
            .push("api")
            .extend(path);
        let answer = self
            .http
            .request(method, url)
            .json(&body)
            .send()
            .await
            .unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{status} for {path:?}: {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }
}

/// A client that knows nothing of Homeward.
pub struct Bare {
    pub channel: Channel,
    _connection: Connection,
}

impl Bare {
    /// Connects.
    pub async fn at(url: &str) -> Self {
        let options = ConnectionProperties::default();
        let connection = Connection::connect(url, options).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        Self {
            channel,
            _connection: connection,
        }
    }

    /// Consumes a queue, with at most so many messages in hand.
    pub async fn consume(&self, queue: &str, in_hand: u16) -> Consumer {
        let qos = BasicQosOptions::default();
        self.channel.basic_qos(in_hand, qos).await.unwrap();
        let options = BasicConsumeOptions::default();
        let consuming =
            self.channel
                .basic_consume(queue.into(), "".into(), options, FieldTable::default());
        consuming.await.unwrap()
    }

    /// Whether the broker lets it consume a queue. Spoilt afterwards, if not.
    pub async fn may_consume(&self, queue: &str) -> bool {
        let options = BasicConsumeOptions::default();
        let consuming =
            self.channel
                .basic_consume(queue.into(), "".into(), options, FieldTable::default());
        consuming.await.is_ok()
    }

    /// Puts a message straight into a queue.
    pub async fn put(&self, queue: &str, body: &[u8], properties: BasicProperties) {
        let options = BasicPublishOptions::default();
        let sent = self
            .channel
            .basic_publish("".into(), queue.into(), options, body, properties);
        sent.await.unwrap().await.unwrap();
    }
}

/// The next message of a consumer; fails if none comes.
pub async fn next_of(consumer: &mut Consumer) -> Delivery {
    let next = tokio::time::timeout(PATIENCE, consumer.next()).await;
    next.expect("a message in time")
        .expect("an open consumer")
        .unwrap()
}

/// Acknowledges a message.
pub async fn ack(message: &Delivery) {
    assert!(message.acker.ack(BasicAckOptions::default()).await.unwrap());
}

/// The way to the broker, which can be cut, or carry nothing for a while.
pub struct Wire {
    here: SocketAddr,
    state: watch::Sender<State>,
    carried: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    /// It carries.
    Whole,
    /// Connections stand, and carry nothing any more.
    Frozen,
    /// Connections end.
    Cut,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Wire {
    /// A whole wire.
    pub async fn lay() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = listener.local_addr().unwrap();
        let (state, current) = watch::channel(State::Whole);
        let carried = Arc::<AtomicUsize>::default();
        let task = tokio::spawn({
            let carried = Arc::clone(&carried);
            async move {
                while let Ok((near, _)) = listener.accept().await {
                    if *current.borrow() == State::Whole {
                        carried.fetch_add(1, Ordering::Relaxed);
                    }
                    tokio::spawn(carry(near, current.clone()));
                }
            }
        });
        Self {
            here,
            state,
            carried,
            task,
        }
    }

    /// A URL that leads over this wire.
    pub fn over(&self, url: &str) -> String {
        let mut url = Url::parse(url).unwrap();
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(self.here.port())).unwrap();
        url.into()
    }

    /// Ends all connections and lets none through.
    pub fn cut(&self) {
        self.state.send_replace(State::Cut);
    }

    /// Carries nothing on any connection, and never will on those there are.
    pub fn freeze(&self) {
        self.state.send_replace(State::Frozen);
    }

    /// Lets new connections through.
    pub fn mend(&self) {
        self.state.send_replace(State::Whole);
    }

    /// How many connections were made over it while it was whole.
    pub fn carried(&self) -> usize {
        self.carried.load(Ordering::Relaxed)
    }
}

/// Carries one connection until it ends or is cut.
async fn carry(mut near: TcpStream, mut state: watch::Receiver<State>) {
    let url = Url::parse(&amqp_url()).unwrap();
    let there = (
        url.host_str().unwrap().to_owned(),
        url.port().unwrap_or(5672),
    );
    let mut far = TcpStream::connect(there)
        .await
        .expect("the broker of the tests");
    let left = tokio::select! {
        biased;
        left = state.wait_for(|state| *state != State::Whole) => left.map(|state| *state),
        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => return,
    };
    if matches!(left, Ok(State::Frozen)) {
        let _ = state.wait_for(|state| *state == State::Cut).await;
    }
}

fn amqp_url() -> String {
    variable("HOMEWARD_TEST_AMQP_URL")
}

/// The management API of the broker of the tests.
pub fn management_url() -> String {
    variable("HOMEWARD_TEST_AMQP_MANAGEMENT_URL")
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!(
            "{name} is not set: run ./ops/test, which starts a RabbitMQ for the tests and ends it \
             afterwards"
        )
    })
}
