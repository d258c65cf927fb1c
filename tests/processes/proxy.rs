//! Somebody between a server and its broker, who can stop passing on what they say.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A server says less than this at once unless it hands over a batch.
const BATCH_BYTES: usize = 1_000;

/// What a proxy passes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Passes {
    Everything,
    /// Everything, until the server hands over a batch.
    UntilABatch,
    /// What the server says, and no answer.
    NoAnswers,
    Nothing,
}

/// A TCP proxy.
pub struct Proxy {
    pub address: SocketAddr,
    passes: watch::Sender<Passes>,
    tasks: Arc<Mutex<JoinSet<()>>>,
    _accepting: JoinSet<()>,
}

impl Proxy {
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let passes = watch::Sender::new(Passes::Everything);
        let tasks: Arc<Mutex<JoinSet<()>>> = Arc::default();
        let mut accepting = JoinSet::new();
        let (carrying, now) = (Arc::clone(&tasks), passes.clone());
        accepting.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(target).await else {
                    continue;
                };
                let (client, server) = (client.into_split(), server.into_split());
                let mut tasks = carrying.lock().unwrap();
                tasks.spawn(carry(client.0, server.1, now.clone(), true));
                tasks.spawn(carry(server.0, client.1, now.clone(), false));
            }
        });
        Self {
            address,
            passes,
            tasks,
            _accepting: accepting,
        }
    }

    /// Passes on nothing from now on, and ends no connection.
    pub fn fall_silent(&self) {
        self.passes.send_replace(Passes::Nothing);
    }

    /// Passes on the next batch that the server hands over, and no answer from then on.
    pub fn keep_back_the_confirm(&self) {
        self.passes.send_replace(Passes::UntilABatch);
    }

    /// Passes on everything again, also what was said meanwhile.
    pub fn go_on(&self) {
        self.passes.send_replace(Passes::Everything);
    }

    /// Ends all connections.
    pub fn cut(&self) {
        self.tasks.lock().unwrap().abort_all();
    }
}

async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    passes: watch::Sender<Passes>,
    of_server: bool,
) {
    let mut buffer = vec![0; 16_384];
    let mut now = passes.subscribe();
    while let Ok(read) = from.read(&mut buffer).await {
        let passes_on = |now: &Passes| match now {
            Passes::Everything | Passes::UntilABatch => true,
            Passes::NoAnswers => of_server,
            Passes::Nothing => false,
        };
        let talks = now.wait_for(passes_on).await.is_ok();
        if of_server && read > BATCH_BYTES {
            passes.send_if_modified(|now| {
                let last = *now == Passes::UntilABatch;
                if last {
                    *now = Passes::NoAnswers;
                }
                last
            });
        }
        if !talks || read == 0 || to.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
}
