//! `homeward tail`

use anyhow::{Context as _, bail};
use jiff::SignedDuration;
use secrecy::ExposeSecret as _;
use tokio_util::sync::CancellationToken;
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Endpoint;

use crate::alert::proto::v1::alerts_client::AlertsClient;
use crate::alert::proto::v1::{AlertBatch, WatchRequest};
use crate::config::Config;
use crate::holders::{self, WantedKey};
use crate::model::Scope;
use crate::store::{Store, holders as store};
use crate::{keys, shutdown};

/// Watch what an app is sent, live, from the running server; consumes nothing.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The app's name.
    #[arg(long, value_name = "NAME")]
    app: String,
}

/// Prints a line per batch until interrupted. The key it calls with is made for this and expires at
/// the end.
///
/// # Errors
/// If the database or the server cannot be reached, or there is no such app.
pub async fn run(args: &Args, config: &Config) -> anyhow::Result<()> {
    let stop = shutdown::on_signal()?;
    let database = Store::open(config.database_url.expose_secret()).await?;
    let wanted = WantedKey {
        scope: Scope::App,
        holder: Some(args.app.clone()),
    };
    let mut tx = database.begin().await?;
    let now = tx.now().await?;
    let Ok(holder) = holders::find(&mut tx, &wanted).await else {
        bail!(
            "there is no app '{}': 'homeward admin app' adds one",
            args.app
        );
    };
    let key = keys::make(&mut tx, &holder, now).await?;
    // Should this command be killed, its key does not outlive the day.
    store::expire_key(&mut tx, key.id, now + SignedDuration::from_hours(24)).await?;
    tx.commit().await?;

    let bearer = format!("Bearer {}", key.secret.expose_secret()).parse()?;
    let watched = watch(config, bearer, &stop).await;

    let mut tx = database.begin().await?;
    let now = tx.now().await?;
    store::expire_key(&mut tx, key.id, now).await?;
    tx.commit().await?;
    database.close().await;
    watched
}

#[expect(
    clippy::print_stdout,
    reason = "a line per batch is what was asked for"
)]
async fn watch(
    config: &Config,
    bearer: MetadataValue<Ascii>,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let url = format!("http://{}", config.grpc_addr);
    let channel = Endpoint::from_shared(url.clone())?
        .connect()
        .await
        .with_context(|| format!("no server at {url} (grpc_addr)"))?;
    let mut client = AlertsClient::new(channel).max_decoding_message_size(64 << 20);
    let mut request = Request::new(WatchRequest {});
    request.metadata_mut().insert("authorization", bearer);
    let mut batches = client.watch(request).await?.into_inner();
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            batch = batches.message() => match batch.context("the server broke off")? {
                Some(batch) => println!("{}", line(&batch)),
                None => return Ok(()),
            },
        }
    }
}

/// One line: what it says and to how many; never to whom.
fn line(batch: &AlertBatch) -> String {
    let Some(alert) = &batch.alert else {
        return format!("{} (no alert)", batch.batch_id);
    };
    let title = alert.texts.first().map_or("", |text| text.title.as_str());
    let kind = alert
        .kind()
        .as_str_name()
        .trim_start_matches("KIND_")
        .to_lowercase();
    let people = batch.tokens.len();
    format!(
        "{}  {kind} r{}  {people} people  {title}",
        batch.batch_id, alert.revision
    )
}
