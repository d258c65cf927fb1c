//! Apps over gRPC.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use homeward::alert::proto::v1::alerts_client::AlertsClient;
use homeward::alert::proto::v1::consume_request::Message as Said;
use homeward::alert::proto::v1::{Ack, AlertBatch, ConsumeRequest, Hello, Kind, Reject};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

use super::PATIENCE;
use super::rest::Caller;

/// An app's stream, acknowledged by hand.
pub struct Stream {
    said: mpsc::Sender<ConsumeRequest>,
    batches: Streaming<AlertBatch>,
}

impl Stream {
    /// Opens a stream on which so many batches may be unacknowledged.
    pub async fn open(app: &Caller, max_in_flight: u32) -> Self {
        Self::try_open(app, max_in_flight).await.expect("a stream")
    }

    /// Tries to open a stream.
    pub async fn try_open(app: &Caller, max_in_flight: u32) -> Result<Self, Status> {
        let (said, saying) = mpsc::channel(2_000);
        let hello = Said::Hello(Hello { max_in_flight });
        said.send(ConsumeRequest {
            message: Some(hello),
        })
        .await
        .unwrap();
        let request = with_key(app, Request::new(ReceiverStream::new(saying)));
        let batches = client(app).await.consume(request).await?.into_inner();
        Ok(Self { said, batches })
    }

    /// The next batch; fails if none comes.
    pub async fn next(&mut self) -> AlertBatch {
        let next = tokio::time::timeout(PATIENCE, self.batches.message()).await;
        next.expect("a batch in time")
            .expect("an open stream")
            .expect("a batch")
    }

    /// Acknowledges a batch.
    pub async fn ack(&self, batch: &AlertBatch) {
        let ack = Said::Ack(Ack {
            batch_id: batch.batch_id.clone(),
        });
        self.said
            .send(ConsumeRequest { message: Some(ack) })
            .await
            .unwrap();
    }

    /// Refuses a batch.
    pub async fn reject(&self, batch: &AlertBatch) {
        let (batch_id, reason) = (batch.batch_id.clone(), "busy".to_owned());
        let reject = Said::Reject(Reject { batch_id, reason });
        self.said
            .send(ConsumeRequest {
                message: Some(reject),
            })
            .await
            .unwrap();
    }

    /// Says anything.
    pub async fn say(&self, message: Option<Said>) {
        self.said.send(ConsumeRequest { message }).await.unwrap();
    }

    /// How the server ends the stream.
    pub async fn end(&mut self) -> Result<(), Status> {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.batches.message()).await;
            match next.expect("an end in time") {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(()),
                Err(status) => return Err(status),
            }
        }
    }
}

/// A client of the gRPC interface.
pub async fn client(app: &Caller) -> AlertsClient<Channel> {
    let url = format!("http://{}", app.house.addresses().grpc);
    AlertsClient::connect(url)
        .await
        .unwrap()
        .max_decoding_message_size(64 << 20)
}

/// A request that carries the caller's key.
pub fn with_key<T>(app: &Caller, mut request: Request<T>) -> Request<T> {
    let key: MetadataValue<Ascii> = format!("Bearer {}", app.key).parse().unwrap();
    request.metadata_mut().insert("authorization", key);
    request
}

/// An app that acknowledges everything at once and keeps it, in order of arrival.
pub struct Inbox {
    got: watch::Receiver<Arc<Vec<AlertBatch>>>,
    task: JoinHandle<()>,
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Inbox {
    /// Opens the app's stream.
    pub async fn open(app: &Caller) -> Self {
        let mut stream = Stream::open(app, 64).await;
        let (put, got) = watch::channel(Arc::<Vec<AlertBatch>>::default());
        let task = tokio::spawn(async move {
            while let Ok(Some(batch)) = stream.batches.message().await {
                put.send_modify(|all| Arc::make_mut(all).push(batch.clone()));
                stream.ack(&batch).await;
            }
        });
        Self { got, task }
    }

    /// Everything that came, repeats of a batch left out.
    pub fn all(&self) -> Vec<AlertBatch> {
        let mut seen = BTreeSet::new();
        let got = self.got.borrow();
        got.iter()
            .filter(|batch| seen.insert(batch.batch_id.clone()))
            .cloned()
            .collect()
    }

    /// The batches of an alert of a kind.
    pub fn of(&self, alert: &str, kind: Kind) -> Vec<AlertBatch> {
        let mut all = self.all();
        all.retain(|batch| {
            let inside = batch.alert.as_ref().unwrap();
            inside.alert_id == alert && inside.kind() == kind
        });
        all
    }

    /// Who is in the batches of an alert of a kind, and in how many.
    pub fn told(&self, alert: &str, kind: Kind) -> BTreeMap<String, usize> {
        let mut told = BTreeMap::new();
        for batch in self.of(alert, kind) {
            for token in tokens_of(&batch) {
                *told.entry(token).or_default() += 1;
            }
        }
        told
    }

    /// Who is in the batches of an alert of a kind; fails if somebody is in two.
    #[track_caller]
    pub fn once(&self, alert: &str, kind: Kind) -> BTreeSet<String> {
        let told = self.told(alert, kind);
        let twice: Vec<_> = told.iter().filter(|(_, times)| **times > 1).collect();
        assert!(twice.is_empty(), "told more than once: {twice:?}");
        told.into_keys().collect()
    }

    /// Waits until so many people are in the batches of an alert of a kind.
    pub async fn people(&self, alert: &str, kind: Kind, people: usize) {
        let what = format!("{people} people in {kind:?}");
        self.until(&what, |inbox| {
            inbox.told(alert, kind).values().sum::<usize>() >= people
        })
        .await;
    }

    /// Waits until what came is enough.
    pub async fn until(&self, what: &str, enough: impl Fn(&Self) -> bool) {
        super::until(what, async || enough(self).then_some(())).await;
    }
}

/// The tokens in a batch, as text.
pub fn tokens_of(batch: &AlertBatch) -> BTreeSet<String> {
    let text = |token: &Vec<u8>| String::from_utf8(token.clone()).unwrap();
    batch.tokens.iter().map(text).collect()
}
