//! The app's side: `tests/consumer.py` or `tests/amqp_consumer.py` as a process, and what it was handed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde::Deserialize;

use crate::house::{Addresses, SOON, signal, until};
use crate::people::number_of;

/// Batches that a consumer over AMQP has in hand at most.
pub const PREFETCH: u32 = 16;

/// A line that the consumer prints: a batch it was handed.
#[derive(Debug, Clone, Deserialize)]
pub struct Handed {
    pub batch_id: String,
    pub alert_id: String,
    pub kind: String,
    pub revision: u32,
    pub people: usize,
    pub tokens: Vec<String>,
    sha256: String,
    /// Seconds of a clock that all processes of this machine share.
    pub at: f64,
}

/// What all consumers were handed, in order, repeats too.
#[derive(Clone, Default)]
pub struct Inbox(Arc<Mutex<Vec<Handed>>>);

impl Inbox {
    pub fn all(&self) -> Vec<Handed> {
        self.0.lock().unwrap().clone()
    }

    pub fn push(&self, handed: Handed) {
        self.0.lock().unwrap().push(handed);
    }

    pub fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// The batches without repeats. A repeat must be the same, byte for byte.
    pub fn ledger(&self) -> Ledger {
        let mut ledger = Ledger::default();
        for handed in self.all() {
            assert_eq!(handed.people, handed.tokens.len());
            match ledger.batches.get(&handed.batch_id) {
                Some(first) => {
                    assert_eq!(
                        first.sha256, handed.sha256,
                        "batch {} changed",
                        first.batch_id
                    );
                    ledger.repeats += 1;
                }
                None => drop(ledger.batches.insert(handed.batch_id.clone(), handed)),
            }
        }
        ledger
    }
}

/// What remains when batches that were seen before are dropped.
#[derive(Default)]
pub struct Ledger {
    pub batches: BTreeMap<String, Handed>,
    pub repeats: usize,
}

impl Ledger {
    /// The tokens that got a kind of notice of an alert. Nobody may have got a revision twice, by
    /// whichever app.
    pub fn told(&self, alert: &str, kind: &str) -> BTreeSet<String> {
        let mut persons = BTreeSet::new();
        let mut tokens = BTreeSet::new();
        let of_kind = |handed: &&Handed| handed.alert_id == alert && handed.kind == kind;
        for handed in self.batches.values().filter(of_kind) {
            for token in &handed.tokens {
                let fresh = persons.insert((handed.revision, number_of(token)));
                assert!(
                    fresh,
                    "{token} got a second {kind} in batch {}",
                    handed.batch_id
                );
                tokens.insert(token.clone());
            }
        }
        tokens
    }
}

/// The Python program, running.
pub struct Consumer {
    child: Child,
    out: Option<JoinHandle<()>>,
    err: Option<JoinHandle<String>>,
}

impl Consumer {
    /// Starts it with an app's key; what it prints goes into the inbox.
    pub fn start(at: Addresses, key: &str, inbox: &Inbox) -> Self {
        Self::start_with(at, key, inbox, &[])
    }

    pub fn start_with(at: Addresses, key: &str, inbox: &Inbox, arguments: &[&str]) -> Self {
        let mut command = python("consumer.py");
        command
            .args(["--server", &at.grpc.to_string()])
            .args(arguments)
            .env("APP_KEY", key);
        Self::run(command, inbox)
    }

    /// Starts one that takes an app's batches from a broker.
    pub fn over_amqp(url: &str, app: &str, inbox: &Inbox) -> Self {
        Self::run(over_amqp(url, app), inbox)
    }

    /// One that also tells a server what it has taken.
    pub fn over_amqp_with_receipts(
        url: &str,
        (app, key): (&str, &str),
        at: Addresses,
        inbox: &Inbox,
    ) -> Self {
        let mut command = over_amqp(url, app);
        command
            .arg("--receipts")
            .arg(format!("http://{}", at.http))
            .env("APP_KEY", key);
        Self::run(command, inbox)
    }

    fn run(mut command: Command, inbox: &Inbox) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let inbox = inbox.clone();
        Self {
            child,
            out: Some(std::thread::spawn(move || keep(out, &inbox))),
            err: Some(std::thread::spawn(move || {
                std::io::read_to_string(err).unwrap()
            })),
        }
    }

    /// Lets it neither take nor acknowledge anything until [`Self::go_on`].
    pub fn pause(&self) {
        signal("STOP", self.child.id());
    }

    pub fn go_on(&self) {
        signal("CONT", self.child.id());
    }

    /// SIGKILL.
    pub async fn kill(mut self) {
        self.child.kill().unwrap();
        self.ended().await;
    }

    /// Asks it to end, which it must do without a complaint.
    pub async fn stop(self) {
        signal("TERM", self.child.id());
        let (code, complaint) = self.ended().await;
        assert_eq!(code, Some(0), "{complaint}");
    }

    /// Waits for it to end, and until everything that it printed has been read. Gives its exit code
    /// and what it complained of.
    pub async fn ended(mut self) -> (Option<i32>, String) {
        let child = &mut self.child;
        let look = async || child.try_wait().unwrap();
        let status = until("the consumer ends", SOON, look).await;
        self.out.take().unwrap().join().unwrap();
        (status.code(), self.err.take().unwrap().join().unwrap())
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(err) = self.err.take().filter(|_| std::thread::panicking()) {
            println!("the consumer said:\n{}", err.join().unwrap_or_default());
        }
    }
}

fn python(program: &str) -> Command {
    let python = std::env::var("HOMEWARD_TEST_PYTHON").expect(
        "HOMEWARD_TEST_PYTHON is not set: run ./ops/test, or name a Python that has grpcio, \
         grpcio-tools and pika",
    );
    let mut command = Command::new(python);
    command.arg(format!("{}/tests/{program}", env!("CARGO_MANIFEST_DIR")));
    command
}

fn over_amqp(url: &str, app: &str) -> Command {
    let mut command = python("amqp_consumer.py");
    let prefetch = PREFETCH.to_string();
    // However long a test pauses it, the broker does not take it for gone.
    let url = format!("{url}?heartbeat=0");
    command
        .args(["--app", app, "--prefetch", &prefetch])
        .env("AMQP_URL", url);
    command
}

fn keep(out: impl Read, inbox: &Inbox) {
    let mut out = BufReader::new(out);
    let mut line = String::new();
    // What a killed consumer did not write to the end was never acknowledged.
    while out.read_line(&mut line).unwrap() > 0 && line.ends_with('\n') {
        inbox.push(serde_json::from_str(&line).unwrap());
        line.clear();
    }
}
