//! The partner apps' backends: each takes its batches over gRPC and acknowledges them.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Request;
use tonic::transport::Endpoint;

use super::city::APPS;
use super::screen::Progress;
use crate::alert::proto::v1::alerts_client::AlertsClient;
use crate::alert::proto::v1::consume_request::Message;
use crate::alert::proto::v1::{Ack, Alert, AlertBatch, ConsumeRequest, Hello, Kind};

/// Batches that an app takes before it acknowledges the first of them.
const IN_FLIGHT: u32 = 16;
/// Pushes that wait for the story to look at them.
const WAITING: usize = 1_024;
/// How long no push at all may come while some are owed.
const SILENCE: Duration = Duration::from_secs(30);

/// A batch as it came into an app's hands.
pub struct Push {
    /// The app, by its place in [`APPS`].
    pub app: usize,
    /// What people read.
    pub alert: Alert,
    /// How many people it is for.
    pub people: u64,
    /// When it came.
    pub at: Instant,
    batch_id: String,
    /// Stands for the tokens of those people.
    recipients: u64,
}

/// What the apps were pushed, in the order it came.
pub struct Pushes(mpsc::Receiver<anyhow::Result<Push>>);

/// All pushes of one kind for one alert.
#[derive(Default)]
pub struct Gathered {
    /// The first one.
    pub first: Option<Push>,
    /// When each app had all of its own.
    pub whole_at: [Option<Instant>; APPS.len()],
    people: [u64; APPS.len()],
    /// Who is in each batch, by app and batch id.
    batches: HashMap<(usize, String), u64>,
}

/// Opens a stream for every app and takes what comes until `stop`.
///
/// # Errors
/// If the server refuses a stream.
pub async fn start(
    server: SocketAddr,
    keys: &[SecretString],
    stop: &CancellationToken,
) -> anyhow::Result<Pushes> {
    let (hand_over, pushes) = mpsc::channel(WAITING);
    for (app, key) in keys.iter().enumerate() {
        let name = APPS[app].0;
        let (say, said) = mpsc::channel(IN_FLIGHT as usize + 1);
        let max_in_flight = IN_FLIGHT;
        say.send(message(Message::Hello(Hello { max_in_flight })))
            .await?;
        let channel = Endpoint::from_shared(format!("http://{server}"))?
            .connect()
            .await
            .with_context(|| format!("{name} cannot reach {server}"))?;
        let mut request = Request::new(ReceiverStream::new(said));
        let bearer = format!("Bearer {}", key.expose_secret()).parse()?;
        request.metadata_mut().insert("authorization", bearer);
        let batches = AlertsClient::new(channel)
            .consume(request)
            .await
            .map_err(|status| anyhow!("{name} may not consume: {status}"))?
            .into_inner();
        let (hand_over, stop) = (hand_over.clone(), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                Err(error) = consume(app, batches, &say, &hand_over) => {
                    // If nobody looks any more, nobody misses it.
                    let _ = hand_over.send(Err(error)).await;
                }
            }
        });
    }
    Ok(Pushes(pushes))
}

async fn consume(
    app: usize,
    mut batches: tonic::Streaming<AlertBatch>,
    say: &mpsc::Sender<ConsumeRequest>,
    hand_over: &mpsc::Sender<anyhow::Result<Push>>,
) -> anyhow::Result<()> {
    let name = APPS[app].0;
    loop {
        let batch = batches
            .message()
            .await
            .map_err(|status| anyhow!("{name}'s stream broke: {status}"))?;
        let Some(batch) = batch else {
            bail!("{name}'s stream ended");
        };
        let at = Instant::now();
        let batch_id = batch.batch_id.clone();
        hand_over.send(Ok(push(app, batch, at)?)).await?;
        say.send(message(Message::Ack(Ack { batch_id }))).await?;
    }
}

fn push(app: usize, batch: AlertBatch, at: Instant) -> anyhow::Result<Push> {
    let mut recipients = DefaultHasher::new();
    batch.tokens.hash(&mut recipients);
    Ok(Push {
        app,
        people: batch.tokens.len() as u64,
        alert: batch.alert.context("a batch came without an alert")?,
        at,
        batch_id: batch.batch_id,
        recipients: recipients.finish(),
    })
}

const fn message(message: Message) -> ConsumeRequest {
    ConsumeRequest {
        message: Some(message),
    }
}

impl Pushes {
    /// The next push of any kind.
    ///
    /// # Errors
    /// If a stream broke.
    pub async fn next(&mut self) -> anyhow::Result<Push> {
        self.0.recv().await.context("all streams have ended")?
    }

    /// Takes the pushes of one kind of the newest alert until every app has told as many people as
    /// it owes; what belongs to other alerts is left aside.
    ///
    /// # Errors
    /// If a stream broke, nothing came for a while, or an app got more than it owes.
    pub async fn gather(
        &mut self,
        alert: &str,
        kind: Kind,
        owed: [u64; APPS.len()],
        progress: &mut Progress,
    ) -> anyhow::Result<Gathered> {
        let mut gathered = Gathered::default();
        while gathered.people != owed {
            let push = tokio::time::timeout(SILENCE, self.next())
                .await
                .with_context(|| {
                    format!(
                        "no push for {} s, {} of {} people told; is another server at work on this \
                         database?",
                        SILENCE.as_secs(),
                        gathered.people.iter().sum::<u64>(),
                        owed.iter().sum::<u64>()
                    )
                })??;
            if push.alert.alert_id != alert || push.alert.kind() != kind {
                continue;
            }
            let app = push.app;
            let batch = (app, push.batch_id.clone());
            // A batch may come twice; its id says so.
            if gathered.batches.insert(batch, push.recipients).is_some() {
                continue;
            }
            gathered.people[app] += push.people;
            if gathered.people[app] > owed[app] {
                bail!("{} was sent more people than were told", APPS[app].0);
            }
            if gathered.people[app] == owed[app] {
                gathered.whole_at[app] = Some(push.at);
            }
            progress.add(app, push.people);
            gathered.first.get_or_insert(push);
        }
        Ok(gathered)
    }
}

impl Gathered {
    /// How many people.
    #[must_use]
    pub fn people(&self) -> u64 {
        self.people.iter().sum()
    }

    /// How many batches.
    #[must_use]
    pub fn batches(&self) -> usize {
        self.batches.len()
    }

    /// Whether these went to just the same people as others, app by app and batch by batch.
    #[must_use]
    pub fn same_people_as(&self, other: &Self) -> bool {
        self.sorted() == other.sorted()
    }

    fn sorted(&self) -> Vec<(usize, u64)> {
        let mut all: Vec<_> = self
            .batches
            .iter()
            .map(|((app, _), recipients)| (*app, *recipients))
            .collect();
        all.sort_unstable();
        all
    }
}
