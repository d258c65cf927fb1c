//! What is logged and counted. Never names, tokens, contacts or exact positions: log lines carry ids,
//! metric labels carry app names, kinds and reasons.

use std::io::IsTerminal as _;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;
use crate::model::{AppId, Kind, Reason, RoundKind};

/// Sets up logging for this process. Commands call it once; the library never does.
///
/// # Errors
/// A sentence if the filter cannot be read.
pub fn start_logging(filter: &str, format: LogFormat) -> Result<(), String> {
    // It calls an error what we ask for on purpose, such as whether there is a queue; what matters we log
    // ourselves.
    let quiet = if filter.contains("lapin") {
        ""
    } else {
        ",lapin=off"
    };
    let filter = EnvFilter::try_new(format!("{filter}{quiet}"))
        .map_err(|error| format!("log: '{filter}' is no filter such as \"info\": {error}"))?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => subscriber.init(),
        LogFormat::Json => subscriber.json().flatten_event(true).init(),
    }
    Ok(())
}

/// App and kind of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Sent {
    app: String,
    kind: &'static str,
}

/// What became of a person in the area, and in what kind of round.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Audience {
    app: String,
    round: &'static str,
    reason: &'static str,
}

/// A request as it was answered.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    route: String,
    status: u16,
}

/// App and state of a backlog.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Waiting {
    app: i32,
    state: &'static str,
}

/// Everything one server counts. No statics: two servers in one process count apart.
pub struct Metrics {
    registry: Registry,
    audience: Family<Audience, Counter>,
    batches_sent: Family<Sent, Counter>,
    recipients_sent: Family<Sent, Counter>,
    batches_taken: Family<Sent, Counter>,
    batches_dead: Counter,
    requests: Family<Request, Counter>,
    waiting: Family<Waiting, Gauge>,
    oldest_untaken_s: Gauge,
    /// Waves and sweeps released.
    pub rounds_released: Counter,
    /// Batches that went out again because their lane or queue was lost.
    pub batches_again: Counter,
    /// Batches that an app queue did not confirm; they go out again.
    pub batches_not_confirmed: Counter,
    /// Dead letters of batches that had gone another way by then.
    pub dead_letters_stale: Counter,
    /// Batches whose time was over before the app took them.
    pub batches_expired: Counter,
    /// Batches that a reader held back because their alert was recalled.
    pub batches_held_back: Counter,
    /// Messages in apps' queues that were not ours.
    pub foreign_messages: Counter,
    /// Lines of subscriber uploads that were refused.
    pub sync_lines_refused: Counter,
    /// Subscriber rows that changed.
    pub subscribers_changed: Counter,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics(..)")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("homeward");
        macro_rules! register {
            ($name:literal, $help:literal) => {{
                let metric = Default::default();
                register_one(&mut registry, $name, $help, &metric);
                metric
            }};
        }
        let audience: Family<Audience, Counter> = register!(
            "audience_people",
            "People in released areas by what became of them"
        );
        let batches_sent: Family<Sent, Counter> =
            register!("batches_sent", "Batches confirmed by app queues");
        let recipients_sent: Family<Sent, Counter> = register!(
            "recipients_sent",
            "People in batches confirmed by app queues"
        );
        let batches_taken: Family<Sent, Counter> =
            register!("batches_taken", "Batches acknowledged by apps");
        let batches_dead: Counter = register!("batches_dead", "Batches refused too often");
        let requests: Family<Request, Counter> = register!("requests", "Requests answered");
        let waiting: Family<Waiting, Gauge> =
            register!("backlog_batches", "Batches waiting or on their way");
        let oldest_untaken_s: Gauge = register!(
            "oldest_untaken_batch_seconds",
            "Age of the oldest batch that nobody took"
        );
        let rounds_released: Counter = register!("rounds_released", "Waves and sweeps released");
        let batches_again: Counter = register!(
            "batches_sent_again",
            "Batches handed over again after a lane or queue was lost"
        );
        let batches_not_confirmed: Counter = register!(
            "batches_not_confirmed",
            "Batches that an app queue did not confirm; they go out again"
        );
        let dead_letters_stale: Counter = register!(
            "dead_letters_stale",
            "Dead letters of batches that had gone another way by then"
        );
        let batches_expired: Counter = register!(
            "batches_expired",
            "Batches whose time was over before the app took them"
        );
        let batches_held_back: Counter = register!(
            "batches_held_back",
            "Batches held back by a reader because their alert was recalled"
        );
        let foreign_messages: Counter = register!(
            "foreign_messages",
            "Messages in apps' queues that were not Homeward's"
        );
        let sync_lines_refused: Counter =
            register!("sync_lines_refused", "Lines of subscriber uploads refused");
        let subscribers_changed: Counter =
            register!("subscribers_changed", "Subscriber rows changed");
        Self {
            registry,
            audience,
            batches_sent,
            recipients_sent,
            batches_taken,
            batches_dead,
            requests,
            waiting,
            oldest_untaken_s,
            rounds_released,
            batches_again,
            batches_not_confirmed,
            dead_letters_stale,
            batches_expired,
            batches_held_back,
            foreign_messages,
            sync_lines_refused,
            subscribers_changed,
        }
    }
}

fn register_one<M>(registry: &mut Registry, name: &str, help: &str, metric: &M)
where
    M: prometheus_client::registry::Metric + Clone,
{
    registry.register(name, help, metric.clone());
}

impl Metrics {
    /// Counts what became of the people of a shard of such a round: by app, told or why not.
    pub fn fanned_out<'a>(
        &self,
        round: RoundKind,
        counts: impl IntoIterator<Item = (&'a str, Reason, i64)>,
    ) {
        for (app, reason, people) in counts {
            let label = Audience {
                app: app.to_owned(),
                round: round.name(),
                reason: reason.name(),
            };
            self.audience
                .get_or_create(&label)
                .inc_by(people.unsigned_abs());
        }
    }

    /// Counts a batch that an app queue confirmed.
    pub fn sent(&self, app: &str, kind: Kind, people: i64) {
        let label = Sent {
            app: app.to_owned(),
            kind: kind.name(),
        };
        self.batches_sent.get_or_create(&label).inc();
        self.recipients_sent
            .get_or_create(&label)
            .inc_by(people.unsigned_abs());
    }

    /// Counts a batch that an app took.
    pub fn taken(&self, app: &str, kind: &'static str) {
        self.batches_taken
            .get_or_create(&Sent {
                app: app.to_owned(),
                kind,
            })
            .inc();
    }

    /// Counts a batch that an app refused too often.
    pub fn dead(&self) {
        self.batches_dead.inc();
    }

    /// Counts a request as it was answered; `route` is the pattern, never the path.
    pub fn request(&self, route: &str, status: u16) {
        self.requests
            .get_or_create(&Request {
                route: route.to_owned(),
                status,
            })
            .inc();
    }

    /// Sets what waits, and the age of the oldest batch that nobody took.
    pub fn backlog(&self, waiting: &[(AppId, &'static str, i64)], oldest_s: i64) {
        self.waiting.clear();
        for (app, state, batches) in waiting {
            self.waiting
                .get_or_create(&Waiting { app: app.0, state })
                .set(*batches);
        }
        self.oldest_untaken_s.set(oldest_s);
    }

    /// Everything in the text format of Prometheus.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = text::encode(&mut text, &self.registry);
        text
    }
}
