//! An upload of everybody an app has, after which nobody else is left.

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::sync::Entry;
use crate::model::AppId;
use crate::store::{Store, StoreError, everybody, without_conflict};

/// What an upload named that broke off is kept so long: no upload goes on longer.
const UPLOAD_LIFE: SignedDuration = SignedDuration::from_hours(48);

/// An upload of an app's whole registry: who is not in it is no subscriber any more.
#[derive(Debug)]
pub struct Registry {
    upload: Uuid,
    began: Timestamp,
    named: u64,
}

impl Registry {
    /// Begins one, by the database's clock.
    #[must_use]
    pub fn begin(now: Timestamp) -> Self {
        Self {
            upload: Uuid::now_v7(),
            began: now,
            named: 0,
        }
    }

    /// Notes whom these entries name.
    ///
    /// # Errors
    /// [`StoreError`] if the database does not answer.
    pub async fn name(&mut self, store: &Store, entries: &[Entry]) -> Result<(), StoreError> {
        let named = entries.iter().filter_map(Entry::named);
        let tokens: Vec<Vec<u8>> = named.map(<[u8]>::to_vec).collect();
        let mut tx = store.begin().await?;
        let now = tx.now().await?;
        let named = everybody::name(&mut tx, self.upload, &tokens, now).await?;
        tx.commit().await?;
        self.named += named;
        Ok(())
    }

    /// Deletes all others of the app, in one transaction; says how many. Whoever was written about since the
    /// upload began stays. `None`, and nobody is deleted, if nobody was named, or the database lost count.
    ///
    /// # Errors
    /// [`StoreError`] if the database does not answer; nobody is deleted then.
    pub async fn delete_others(
        &self,
        store: &Store,
        app: AppId,
    ) -> Result<Option<u64>, StoreError> {
        if self.named == 0 {
            return Ok(None);
        }
        without_conflict(|| self.try_delete(store, app)).await
    }

    async fn try_delete(&self, store: &Store, app: AppId) -> Result<Option<u64>, StoreError> {
        let mut tx = store.begin().await?;
        let (upload, named) = (self.upload, self.named);
        let deleted = everybody::delete_unnamed(&mut tx, app, upload, named, self.began).await?;
        let before = tx.now().await? - UPLOAD_LIFE;
        everybody::forget_named(&mut tx, upload, before).await?;
        tx.commit().await?;
        Ok(deleted)
    }
}
