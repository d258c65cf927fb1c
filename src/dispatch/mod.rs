//! From a due wave to an app queue: release, fan-out by shard, lanes, update and recall.

mod budget;
mod cost;
pub(crate) mod cut;
mod decide;
mod dry_run;
mod fanout;
mod lane;
mod pick;
mod recall;
mod release;
mod sender;
mod shards;
mod upkeep;

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{Config, Role};
use crate::planning::Planner;
use crate::queue::AppQueue;
use crate::store::Store;
use crate::telemetry::Metrics;

pub use cost::widening_needs_approval;
pub use dry_run::{WouldTell, dry_run};
pub use recall::{Recalled, recall, renew, update, write_revision};
pub use release::waits_until;

/// Wake-ups inside one process. They are hints only: whoever waits also looks by itself.
#[derive(Debug, Clone)]
pub struct Wake {
    due: watch::Sender<u64>,
    shards: watch::Sender<u64>,
    batches: watch::Sender<u64>,
}

impl Default for Wake {
    fn default() -> Self {
        let channel = || watch::channel(0).0;
        Self {
            due: channel(),
            shards: channel(),
            batches: channel(),
        }
    }
}

impl Wake {
    /// Something may be due: a case was verified, resumed, approved or confirmed.
    pub fn due(&self) {
        self.due.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// There may be batches to send or to look at.
    pub fn batches(&self) {
        self.batches
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Told whenever there may be batches to send or to look at.
    #[must_use]
    pub fn batches_listener(&self) -> watch::Receiver<u64> {
        self.batches.subscribe()
    }

    fn shards(&self) {
        self.shards
            .send_modify(|count| *count = count.wrapping_add(1));
    }
}

/// What every worker of dispatch needs.
#[derive(Clone)]
pub struct Dispatch {
    /// The database.
    pub store: Store,
    /// The settings.
    pub config: Arc<Config>,
    /// What plans are made with.
    pub planner: Arc<Planner>,
    /// The app queues.
    pub queue: Arc<dyn AppQueue>,
    /// Wake-ups inside this process.
    pub wake: Wake,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl Dispatch {
    /// Starts the workers of this server's roles; they end by themselves once `shutdown` is cancelled.
    pub fn start(&self, tasks: &TaskTracker, shutdown: &CancellationToken) {
        if self.config.does(Role::Fanout) {
            tasks.spawn(release::run(self.clone(), shutdown.clone()));
            for _ in 0..self.config.dispatch.workers {
                tasks.spawn(fanout::run(self.clone(), shutdown.clone()));
            }
            tasks.spawn(upkeep::run(self.clone(), shutdown.clone()));
        }
        if self.config.does(Role::Lanes) {
            tasks.spawn(lane::run(self.clone(), shutdown.clone()));
        }
    }
}

/// Waits until woken, or as long as `poll`, or until shutdown; `false` at shutdown.
async fn pause(
    wake: &mut watch::Receiver<u64>,
    poll: std::time::Duration,
    shutdown: &CancellationToken,
) -> bool {
    tokio::select! {
        () = shutdown.cancelled() => false,
        _ = wake.changed() => true,
        () = tokio::time::sleep(poll) => true,
    }
}
