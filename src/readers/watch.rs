//! Shows what an app is sent, as it is sent. It consumes nothing: it reads the batches' records.

use prost::Message as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::grpc::{AppKey, unavailable};
use crate::alert::compose::Writer;
use crate::alert::proto::v1::AlertBatch;
use crate::dispatch::Dispatch;
use crate::model::AppId;
use crate::store::backlog::Seen;
use crate::store::{Session, StoreError, backlog, batches};

/// Shows an app's batches from there on.
pub(super) async fn watch(
    dispatch: Dispatch,
    key: AppKey,
    mut seen: Seen,
    out: mpsc::Sender<Result<AlertBatch, Status>>,
    shutdown: CancellationToken,
) {
    let mut wake = dispatch.wake.batches_listener();
    let mut checks = AppKey::checks();
    loop {
        let sent = match dispatch.store.read().await {
            Ok(mut session) => sent_since(&mut session, key.app, &mut seen).await,
            Err(error) => Err(error),
        };
        match sent {
            Ok(sent) => {
                for batch in sent {
                    if out.send(Ok(batch)).await.is_err() {
                        return;
                    }
                }
            }
            Err(error) => {
                let _ = out.send(Err(unavailable(&error))).await;
                return;
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = out.closed() => return,
            _ = checks.tick() => {
                if let Err(status) = key.check(&dispatch.store).await {
                    let _ = out.send(Err(status)).await;
                    return;
                }
            }
            _ = wake.changed() => {}
            () = tokio::time::sleep(dispatch.config.dispatch.poll()) => {}
        }
    }
}

/// What an app was sent since. What cannot be read is left out here; its lane says so.
async fn sent_since(
    session: &mut Session,
    app: AppId,
    seen: &mut Seen,
) -> Result<Vec<AlertBatch>, StoreError> {
    let sent = backlog::sent_since(session, app, *seen).await?;
    let editions = sent.iter().map(|(_, batch)| batch.edition);
    let mut writer = Writer::new(batches::contents(session, editions).await?);
    *seen = sent.last().map_or(*seen, |(last, _)| *last);
    let written = sent
        .iter()
        .filter_map(|(_, batch)| writer.write(batch).ok());
    Ok(written
        .filter_map(|body| AlertBatch::decode(body.as_slice()).ok())
        .collect())
}
