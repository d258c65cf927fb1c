//! A Homeward of a test's own: its database, its settings, its servers, its commands.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::net::{SocketAddr, TcpListener};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::db::{Connection, Db, Kind};

/// The setting that names the broker.
pub const AMQP_URL: &str = "HOMEWARD_AMQP_URL";
/// How long anything may take that takes a moment.
pub const SOON: Duration = Duration::from_secs(30);
/// How long the work of a whole test may take on a busy machine.
pub const LATE: Duration = Duration::from_mins(2);

/// What the tests change of the defaults: small units of work, so that there is much to interrupt;
/// short leases, so that a successor need not wait long; no night.
const SETTINGS: &str = r#"
[dispatch]
batch_people = 100
shard_people = 500
lane_lease_s = 2
shard_lease_s = 2
poll_ms = 50

[quiet_hours]
from = "00:00"
to = "00:00"
"#;

/// `batch_people` of these settings.
pub const BATCH_PEOPLE: u32 = 100;
/// `shard_lease_s` of these settings.
pub const SHARD_LEASE_MS: i64 = 2_000;

/// Looks again and again until there is something to see.
pub async fn until<T>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(Instant::now() < end, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Counts how long this machine did not do what it was told, from the moment it is watched.
pub struct Stalls {
    total: Arc<Mutex<Duration>>,
    _watching: JoinSet<()>,
}

impl Stalls {
    /// How often a look is due, and how late one may come without being counted.
    const LOOK_EVERY: Duration = Duration::from_millis(10);

    pub fn watch() -> Self {
        let total: Arc<Mutex<Duration>> = Arc::default();
        let (mut watching, sum) = (JoinSet::new(), Arc::clone(&total));
        watching.spawn(async move {
            loop {
                let begun = Instant::now();
                tokio::time::sleep(Self::LOOK_EVERY).await;
                let late = begun.elapsed().saturating_sub(Self::LOOK_EVERY);
                if late > Self::LOOK_EVERY {
                    *sum.lock().unwrap() += late;
                }
            }
        });
        Self {
            total,
            _watching: watching,
        }
    }

    pub fn total(&self) -> Duration {
        *self.total.lock().unwrap()
    }
}

/// A place to run Homeward in.
pub struct House {
    pub db: Db,
    pub http: reqwest::Client,
    folder: TempDir,
    settings: Vec<(&'static str, String)>,
}

impl House {
    pub async fn new(kind: Kind, settings: &[(&'static str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::fresh(kind, folder.path()).await;
        Self::with(db, folder, settings)
    }

    /// A house over a database that somebody else makes and removes.
    pub fn over(db: Db, settings: &[(&'static str, &str)]) -> Self {
        Self::with(db, tempfile::tempdir().unwrap(), settings)
    }

    fn with(db: Db, folder: TempDir, settings: &[(&'static str, &str)]) -> Self {
        std::fs::write(folder.path().join("settings.toml"), SETTINGS).unwrap();
        let settings = settings
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()));
        Self {
            db,
            http: reqwest::Client::builder().timeout(SOON).build().unwrap(),
            settings: settings.collect(),
            folder,
        }
    }

    /// The program with this house's settings; those of whoever runs the tests are not ours.
    pub fn command(&self, arguments: &[impl AsRef<OsStr>]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_homeward"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("HOMEWARD_") {
                command.env_remove(name);
            }
        }
        command
            .current_dir(self.folder.path())
            .env("HOMEWARD_DATABASE_URL", &self.db.url)
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .arg("--config")
            .arg(self.folder.path().join("settings.toml"))
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs `homeward admin`, which must succeed; gives what it printed.
    pub fn admin(&self, arguments: &[&str]) -> String {
        let output = self.run(&[&["admin"], arguments].concat());
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {complaint}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// The broker that carries the batches; none if they stay in the servers.
    pub fn amqp_url(&self) -> Option<&str> {
        let mut settings = self.settings.iter();
        settings.find_map(|(name, value)| (*name == AMQP_URL).then_some(value.as_str()))
    }

    /// A server on addresses of its own, ready.
    pub async fn server(&self) -> Server {
        self.server_with(&[]).await
    }

    /// A server with further arguments.
    pub async fn server_with(&self, arguments: &[&str]) -> Server {
        let mut server = self.server_to_be(&[]);
        server.arguments = arguments.iter().map(|one| (*one).to_owned()).collect();
        server.start(self).await;
        server
    }

    /// A server with settings of its own, not started yet.
    pub fn server_to_be(&self, settings: &[(&'static str, &str)]) -> Server {
        let addresses = Addresses::free();
        let log = format!("{}.log", addresses.http.port());
        let settings = settings.iter();
        Server {
            addresses,
            log: self.folder.path().join(log),
            arguments: Vec::new(),
            settings: settings
                .map(|(name, value)| (*name, (*value).to_owned()))
                .collect(),
            child: None,
        }
    }

    pub async fn connect(&self) -> Connection {
        self.db.connect().await
    }

    /// Asks a server, which must answer.
    pub async fn get(&self, at: Addresses, key: &str, path: &str) -> Value {
        let url = format!("http://{}{path}", at.http);
        let answer = self.http.get(url).bearer_auth(key).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        answer.json().await.unwrap()
    }

    /// Has a server do something. As a client should, tries again under the same idempotency key
    /// while the server is away.
    pub async fn post(&self, at: Addresses, key: &str, path: &str, body: &Value) -> Value {
        let url = format!("http://{}{path}", at.http);
        let once = Uuid::now_v7().to_string();
        let (status, answer) = until(path, SOON, async || {
            let request = self.http.post(&url).bearer_auth(key).json(body);
            let answer = request.header("idempotency-key", &once).send().await.ok()?;
            let status = answer.status().as_u16();
            (status != 503).then_some((status, answer.json::<Value>().await.ok()?))
        })
        .await;
        assert!((200..300).contains(&status), "{path}: {status} {answer}");
        answer
    }

    /// The end of a test that has passed.
    pub async fn remove(self) {
        self.db.remove().await;
    }
}

/// Where a server listens.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    pub http: SocketAddr,
    pub grpc: SocketAddr,
    pub admin: SocketAddr,
}

impl Addresses {
    fn free() -> Self {
        Self {
            http: free_address(),
            grpc: free_address(),
            admin: free_address(),
        }
    }
}

/// Ports for servers: outside the range that the kernel gives to outgoing connections, and that of
/// `ops/services`. Either could take one while the server that had it is being restarted.
const PORTS: Range<u16> = 20_000..26_000;
/// So many were looked at; each test gets others.
static PORTS_LOOKED_AT: AtomicU16 = AtomicU16::new(0);

fn free_address() -> SocketAddr {
    // Another run of these tests begins elsewhere.
    let begin = u16::try_from(std::process::id() % 6_000).unwrap();
    loop {
        let next = begin.wrapping_add(PORTS_LOOKED_AT.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + next % (PORTS.end - PORTS.start);
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// `homeward serve`, which may be stopped and started again on the same addresses.
pub struct Server {
    pub addresses: Addresses,
    log: PathBuf,
    arguments: Vec<String>,
    settings: Vec<(&'static str, String)>,
    child: Option<Child>,
}

impl Server {
    /// Starts it and waits until it is ready.
    pub async fn start(&mut self, house: &House) {
        self.spawn(house);
        until("the server is ready", SOON, async || {
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                panic!("the server ended, {status}:\n{}", self.log());
            }
            (self.ready(house).await.0 == 200).then_some(())
        })
        .await;
    }

    fn spawn(&mut self, house: &House) {
        let log = append(&self.log);
        let child = house
            .command(&["serve"])
            .args(&self.arguments)
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .env("HOMEWARD_HTTP_ADDR", self.addresses.http.to_string())
            .env("HOMEWARD_GRPC_ADDR", self.addresses.grpc.to_string())
            .env("HOMEWARD_ADMIN_ADDR", self.addresses.admin.to_string())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    /// What `/readyz` says: the status (0 without an answer) and the document.
    pub async fn ready(&self, house: &House) -> (u16, Value) {
        let url = format!("http://{}/readyz", self.addresses.admin);
        let Ok(answer) = house.http.get(url).send().await else {
            return (0, Value::Null);
        };
        (
            answer.status().as_u16(),
            answer.json().await.unwrap_or_default(),
        )
    }

    /// What `/metrics` says.
    pub async fn metrics(&self, house: &House) -> String {
        let url = format!("http://{}/metrics", self.addresses.admin);
        let answer = house.http.get(url).send().await.unwrap();
        answer.text().await.unwrap()
    }

    /// A figure of `/metrics`, summed over its labels.
    pub async fn metric(&self, house: &House, name: &str) -> f64 {
        let text = self.metrics(house).await;
        let lines = text.lines().filter(|line| line.starts_with(name));
        lines
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum()
    }

    /// The most memory it has had so far.
    pub fn peak_memory_mib(&self) -> u64 {
        let process = self.child.as_ref().unwrap().id();
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .unwrap();
        let kib: u64 = peak.trim_end_matches(" kB").trim().parse().unwrap();
        kib / 1024
    }

    /// SIGKILL: whatever it was doing, it does no more.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// SIGKILL, and a new process on the same addresses.
    pub async fn kill_and_start(&mut self, house: &House) {
        self.kill();
        self.start(house).await;
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        signal("TERM", self.child.as_ref().unwrap().id());
    }

    /// SIGSTOP: it keeps all its connections and does nothing.
    pub fn pause(&self) {
        signal("STOP", self.child.as_ref().unwrap().id());
    }

    pub fn go_on(&self) {
        signal("CONT", self.child.as_ref().unwrap().id());
    }

    /// Waits for it to end by itself.
    pub async fn ended(&mut self, limit: Duration) -> ExitStatus {
        let child = self.child.as_mut().unwrap();
        let status = until("the server ends", limit, async || child.try_wait().unwrap()).await;
        self.child = None;
        status
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            println!("log of {}:\n{}", self.addresses.http, tail(&self.log(), 60));
        }
    }
}

/// Sends a signal to a process that a test started.
pub fn signal(name: &str, process: u32) {
    let status = Command::new("kill")
        .args(["-s", name, &process.to_string()])
        .status();
    assert!(status.unwrap().success(), "kill -s {name} {process}");
}

fn append(path: &Path) -> File {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .unwrap()
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
