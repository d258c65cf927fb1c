//! Lanes: one sender per app. A lane is owned by lease with a fencing number; its owner stops at two
//! thirds of the lease by its own clock, and a successor starts with an empty bucket (`pick`), so
//! the app's rate holds through a change.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::SignedDuration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Dispatch;
use super::sender::Sender;
use crate::model::{App, AppId};
use crate::store::{StoreError, holders, lanes};

/// How often new apps are looked for.
const APPS_EVERY: Duration = Duration::from_secs(2);

/// Keeps one lane running for every app, until shutdown.
pub(super) async fn run(dispatch: Dispatch, shutdown: CancellationToken) {
    let owner = Uuid::now_v7();
    let running: Arc<Mutex<HashSet<AppId>>> = Arc::default();
    let mut lanes = tokio::task::JoinSet::new();
    loop {
        let apps = match dispatch.store.read().await {
            Ok(mut session) => holders::apps(&mut session).await,
            Err(error) => Err(error),
        };
        for app in apps.unwrap_or_default() {
            if running
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(app.id)
            {
                let lane = Lane {
                    dispatch: dispatch.clone(),
                    owner,
                    app: app.id,
                    shutdown: shutdown.clone(),
                };
                lanes.spawn(lane.run());
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(APPS_EVERY) => {}
        }
    }
    while lanes.join_next().await.is_some() {}
}

struct Lane {
    dispatch: Dispatch,
    owner: Uuid,
    app: AppId,
    shutdown: CancellationToken,
}

/// A lane in its owner's hands.
#[derive(Debug, Clone)]
pub(super) struct Tenure {
    /// The app as it is now.
    pub app: App,
    /// Who owns the lane.
    pub owner: Uuid,
    /// The fencing number.
    pub fence: i64,
    /// Until when the owner may act, by its own clock.
    until: Instant,
}

impl Lane {
    /// Takes the lane whenever it is free and sends until the lease is lost.
    async fn run(self) {
        while !self.shutdown.is_cancelled() {
            match self.acquire().await {
                Ok(Some(tenure)) => self.hold(tenure).await,
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(app.id = self.app.0, error = %error, "lane could not be taken");
                }
            }
            let wait = self.lease() / 8;
            tokio::select! {
                () = self.shutdown.cancelled() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    fn lease(&self) -> Duration {
        self.dispatch.config.dispatch.lane_lease()
    }

    async fn acquire(&self) -> Result<Option<Tenure>, StoreError> {
        let started = Instant::now();
        let mut tx = self.dispatch.store.begin().await?;
        let now = tx.now().await?;
        let lease = signed(self.lease());
        let fence = lanes::acquire(&mut tx, self.app, self.owner, now, lease).await?;
        let app = holders::app(&mut tx, self.app).await?;
        let (Some(fence), Some(app)) = (fence, app) else {
            return Ok(None);
        };
        tx.commit().await?;
        Ok(Some(Tenure {
            app,
            owner: self.owner,
            fence,
            until: started + self.lease() * 2 / 3,
        }))
    }

    /// Sends while the lease lasts, and prolongs it meanwhile.
    async fn hold(&self, tenure: Tenure) {
        let fence = tenure.fence;
        let (renewed, current) = watch::channel(tenure);
        let sender = Sender::new(self.dispatch.clone(), current, self.shutdown.clone());
        tokio::select! {
            () = self.keep(renewed) => {
                tracing::warn!(app.id = self.app.0, "the lane's lease was lost, sending stops");
            }
            failed = sender.run() => {
                if let Err(error) = failed {
                    // What was claimed may not be recorded: taking the lane anew sorts it out.
                    tracing::warn!(app.id = self.app.0, error = %error, "lane failed, taken anew");
                }
                self.release(fence).await;
            }
        }
    }

    /// Prolongs the lease again and again; returns when it is lost.
    async fn keep(&self, current: watch::Sender<Tenure>) {
        let mut wait = self.lease() / 3;
        loop {
            tokio::time::sleep(wait).await;
            let tenure = current.borrow().clone();
            match tokio::time::timeout_at(tenure.until, self.renew(&tenure)).await {
                Ok(Ok(Some(renewed))) => {
                    current.send_replace(renewed);
                    wait = self.lease() / 3;
                }
                Ok(Err(error)) => {
                    tracing::warn!(app.id = self.app.0, error = %error, "lane not renewed");
                    wait = self.lease() / 16;
                }
                Ok(Ok(None)) | Err(_) => return,
            }
        }
    }

    /// The tenure with a new lease, unless the lane is another's by now.
    async fn renew(&self, tenure: &Tenure) -> Result<Option<Tenure>, StoreError> {
        let started = Instant::now();
        let mut tx = self.dispatch.store.begin().await?;
        let now = tx.now().await?;
        let lease = signed(self.lease());
        let (owner, fence) = (self.owner, tenure.fence);
        let renewed = lanes::renew(&mut tx, self.app, owner, fence, now, lease).await?;
        let app = holders::app(&mut tx, self.app).await?;
        tx.commit().await?;
        let until = started + self.lease() * 2 / 3;
        Ok(app.filter(|_| renewed).map(|app| Tenure {
            app,
            owner,
            fence,
            until,
        }))
    }

    async fn release(&self, fence: i64) {
        let released: Result<(), StoreError> = async {
            let mut tx = self.dispatch.store.begin().await?;
            lanes::release(&mut tx, self.app, self.owner, fence).await?;
            tx.commit().await
        }
        .await;
        if let Err(error) = released {
            tracing::info!(app.id = self.app.0, error = %error, "lane not given back, it will lapse");
        }
    }
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}
