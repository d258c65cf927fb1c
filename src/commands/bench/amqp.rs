//! The way over RabbitMQ.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use lapin::options::{
    BasicCancelOptions, BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions,
    QueueDeclareOptions, QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;

use super::ground::{APP, Ground};
use super::{median, percentile, say};
use crate::config::Config;
use crate::model::{AlertId, BatchState, Kind};
use crate::store::backlog;

/// The bare publisher's queue, with the arguments of an app's.
const BARE: &str = "homeward.bench.v1";
/// Messages that the bare publisher has in flight: as many as a lane.
const WINDOW: usize = 256;
/// How long anything may take.
const LIMIT: Duration = Duration::from_mins(2);
/// How often the database is asked how far a lane is: seldom enough to take nothing of its time.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What to measure with.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A fresh database.
    #[arg(long, value_name = "URL")]
    database_url: SecretString,
    /// A virtual host that nobody else uses.
    #[arg(long, value_name = "URL")]
    amqp_url: SecretString,
    /// Subscribers to register.
    #[arg(long, default_value_t = 1_000_000)]
    subscribers: usize,
    /// Rounds of lane and bare publisher, in turn.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Cases whose first batch is waited for.
    #[arg(long, default_value_t = 50)]
    cases: usize,
    /// Cases whose first waves make the backlog of a round.
    #[arg(long, default_value_t = 8)]
    backlog: usize,
}

/// Measures and prints.
pub async fn run(args: &Args) -> anyhow::Result<()> {
    let mut config = Config::defaults()?;
    config.database_url.clone_from(&args.database_url);
    config.amqp_url = Some(args.amqp_url.clone());
    config.dispatch.workers = 2;
    say(&format!("registering {} subscribers ...", args.subscribers))?;
    let ground = Ground::prepare(config, args.subscribers).await?;
    let url = args.amqp_url.expose_secret();
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;

    let first_ms = first_batches(&ground, &channel, args.cases).await?;
    let (lane, bare) = lane_and_bare(&ground, &connection, &channel, args).await?;
    ground.leave().await?;

    let (p50, p99) = (percentile(&first_ms, 50), percentile(&first_ms, 99));
    let (lane_s, bare_s) = (median(lane.rates.clone()), median(bare.clone()));
    say(&format!(
        "verified -> first batch in an AMQP consumer's hands, {} cases: p50 {p50:.0} ms, p99 {p99:.0} ms\n\
         lane -> quorum queue, {} batches of {} bytes: {lane_s:.0} batches/s\n\
         bare publisher with confirms, the same bodies, {WINDOW} in flight: {bare_s:.0} batches/s\n\
         ratio of the medians of {} rounds: {:.2}",
        first_ms.len(),
        lane.batches,
        lane.body_bytes,
        args.rounds,
        lane_s / bare_s
    ))?;
    say(&json!({
        "subscribers": args.subscribers, "first_batch_ms": { "p50": p50, "p99": p99 },
        "lane_batches_per_s": lane.rates, "bare_batches_per_s": bare,
        "batches": lane.batches, "body_bytes": lane.body_bytes, "ratio": lane_s / bare_s,
    })
    .to_string())
}

fn queue() -> String {
    format!("homeward.alerts.{APP}.v1")
}

async fn consumer(channel: &Channel, queue: &str) -> anyhow::Result<Consumer> {
    let options = BasicConsumeOptions {
        no_ack: true,
        ..BasicConsumeOptions::default()
    };
    let (tag, arguments) = ("bench".into(), FieldTable::default());
    Ok(channel
        .basic_consume(queue.into(), tag, options, arguments)
        .await?)
}

/// From an operator's yes to the first batch with an AMQP consumer, in milliseconds, sorted.
async fn first_batches(
    ground: &Ground,
    channel: &Channel,
    cases: usize,
) -> anyhow::Result<Vec<f64>> {
    let mut batches = consumer(channel, &queue()).await?;
    let mut times = Vec::with_capacity(cases);
    for _ in 0..cases {
        let (case, alert) = ground.verified().await?;
        let first = tokio::time::timeout(LIMIT, async {
            while let Some(batch) = batches.next().await {
                let batch = batch?;
                if batch
                    .properties
                    .kind()
                    .as_ref()
                    .is_some_and(|kind| kind.as_str() == "alert.issue")
                {
                    return anyhow::Ok(());
                }
            }
            anyhow::bail!("the consumer was cancelled")
        });
        first.await.context("no batch came")??;
        times.push(verified_to_now_ms(ground, &alert).await?);
        settled(ground, &alert).await?;
        ground.close(&case).await?;
        settled(ground, &alert).await?;
        // Otherwise idle: what was on its way has come.
        drained(&mut batches).await;
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

async fn verified_to_now_ms(ground: &Ground, alert: &str) -> anyhow::Result<f64> {
    let now = ground.store.now().await?;
    let alert: AlertId = alert.parse()?;
    let mut session = ground.store.read().await?;
    let opened = crate::store::alerts::get(&mut session, alert).await?;
    let opened = opened.context("the alert is gone")?.opened_at;
    Ok(now.duration_since(opened).as_secs_f64() * 1e3)
}

/// Takes what still comes, until nothing has for a moment.
async fn drained(batches: &mut Consumer) {
    while let Ok(Some(_)) = tokio::time::timeout(Duration::from_millis(200), batches.next()).await {
    }
}

/// Waits until nothing of an alert waits or is on its way to the queue; says how many batches of it
/// were issued.
async fn settled(ground: &Ground, alert: &str) -> anyhow::Result<i64> {
    waited(ground, alert, |state| {
        !matches!(state, BatchState::Pending | BatchState::Sending)
    })
    .await
}

async fn waited(
    ground: &Ground,
    alert: &str,
    done: impl Fn(BatchState) -> bool,
) -> anyhow::Result<i64> {
    let alert: AlertId = alert.parse()?;
    let end = Instant::now() + LIMIT;
    loop {
        let mut session = ground.store.read().await?;
        let open = crate::store::rounds::undone(&mut session, alert).await?;
        let tally = backlog::tally(&mut session, alert).await?;
        drop(session);
        let issues = tally.iter().filter(|one| one.kind == Kind::Issue);
        let issues = issues.map(|one| one.batches).sum();
        if issues > 0 && open == 0 && tally.iter().all(|one| done(one.state)) {
            return Ok(issues);
        }
        ensure!(Instant::now() < end, "not settled within {LIMIT:?}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What a lane did.
struct Lane {
    rates: Vec<f64>,
    batches: usize,
    body_bytes: usize,
}

/// A lane's backlog into its queue, and the same bodies by a bare publisher, in turn.
async fn lane_and_bare(
    ground: &Ground,
    connection: &Connection,
    channel: &Channel,
    args: &Args,
) -> anyhow::Result<(Lane, Vec<f64>)> {
    channel
        .basic_cancel("bench".into(), BasicCancelOptions::default())
        .await?;
    let mut lane = Lane {
        rates: Vec::new(),
        batches: 0,
        body_bytes: 0,
    };
    let mut bare = Vec::new();
    // The first round warms both up.
    for round in 0..=args.rounds {
        ground.lanes("hold").await?;
        let (mut cases, mut batches) = (Vec::new(), 0);
        for _ in 0..args.backlog {
            let (case, alert) = ground.verified().await?;
            batches += waited(ground, &alert, |_| true).await?;
            cases.push((case, alert));
        }
        purge(channel, &queue()).await?;
        ground.lanes("release").await?;
        let mut sent = Vec::new();
        for (_, alert) in &cases {
            settled(ground, alert).await?;
            let mut session = ground.store.read().await?;
            sent.push(backlog::sending(&mut session, alert.parse()?).await?);
        }
        let took = from_first_to_last(&sent).context("nothing was sent")?;

        let bodies = bodies(channel, usize::try_from(batches)?).await?;
        let rate = publish(connection, &bodies).await?;
        if round > 0 {
            lane.rates.push(count(bodies.len()) / took.as_secs_f64());
            bare.push(rate);
        }
        lane.batches = bodies.len();
        lane.body_bytes = bodies.iter().map(Vec::len).sum::<usize>() / bodies.len().max(1);
        for (case, alert) in &cases {
            ground.close(case).await?;
            settled(ground, alert).await?;
        }
    }
    Ok((lane, bare))
}

/// From the first beginning to the last end.
fn from_first_to_last(spans: &[Option<(Timestamp, Timestamp)>]) -> Option<SignedDuration> {
    let spans = || spans.iter().flatten();
    let first = spans().map(|(began, _)| *began).min()?;
    let last = spans().map(|(_, ended)| *ended).max()?;
    Some(last.duration_since(first))
}

fn count(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::NAN, f64::from)
}

async fn purge(channel: &Channel, queue: &str) -> anyhow::Result<()> {
    let purged = channel.queue_purge(queue.into(), QueuePurgeOptions::default());
    purged.await.map(drop).context("emptying the queue")
}

/// The bodies that the lane has put into its queue.
async fn bodies(channel: &Channel, number: usize) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut batches = consumer(channel, &queue()).await?;
    let mut bodies = Vec::with_capacity(number);
    while bodies.len() < number {
        let next = tokio::time::timeout(LIMIT, batches.next()).await?;
        bodies.push(next.context("the consumer was cancelled")??.data);
    }
    channel
        .basic_cancel("bench".into(), BasicCancelOptions::default())
        .await?;
    Ok(bodies)
}

/// Publishes bodies with confirms into a quorum queue, a window at a time; batches a second.
async fn publish(connection: &Connection, bodies: &[Vec<u8>]) -> anyhow::Result<f64> {
    let channel = connection.create_channel().await?;
    let mut arguments = FieldTable::default();
    for (name, value) in [("x-queue-type", "quorum"), ("x-overflow", "reject-publish")] {
        arguments.insert(name.into(), AMQPValue::LongString(value.into()));
    }
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(10_000));
    channel
        .queue_declare(BARE.into(), QueueDeclareOptions::durable(), arguments)
        .await?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    let begun = Instant::now();
    for window in bodies.chunks(WINDOW) {
        let sent = join_all(window.iter().map(|body| {
            let properties = BasicProperties::default().with_delivery_mode(2);
            let options = BasicPublishOptions::default();
            channel.basic_publish("".into(), BARE.into(), options, body, properties)
        }));
        let confirms: Vec<_> = sent.await.into_iter().collect::<Result<_, _>>()?;
        for confirmed in join_all(confirms).await {
            ensure!(confirmed?.is_ack(), "the broker refused a message");
        }
    }
    let rate = count(bodies.len()) / begun.elapsed().as_secs_f64();
    purge(&channel, BARE).await?;
    Ok(rate)
}
