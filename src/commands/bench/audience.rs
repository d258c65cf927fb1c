//! The audience: found, uploaded and told, beside what one would otherwise use.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::ensure;
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use sqlx::{Executor as _, PgConnection};

use super::ground::Ground;
use super::people::{Population, Subscriber};
use super::redis::Redis;
use super::search::{Peer, connect, postgis_peers};
use super::{fanout, median, memory, say, upload};
use crate::config::Config;
use crate::model::Position;

/// Radii of the circles searched, in km.
const RADII_KM: [f64; 5] = [1.0, 3.0, 5.0, 10.0, 50.0];
/// The one searched while people move.
const CHURN_KM: f64 = 5.0;
/// How long people move before that is searched, in seconds.
const CHURN_S: u64 = 20;
/// Most rows written on each side in a round of comparing uploads; those of Homeward are its first, too.
const COMPARED_ROWS: u32 = 100_000;
/// People told to Redis at once.
const PIECE: u32 = 1_000;

/// What to measure with.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A fresh PostgreSQL database; with PostGIS, that is compared as well.
    #[arg(long, value_name = "URL")]
    database_url: SecretString,
    /// A Redis to compare with: `homeward:bench` in it is overwritten.
    #[arg(long, value_name = "HOST:PORT")]
    redis: Option<String>,
    /// Subscribers to register.
    #[arg(long, default_value_t = 1_000_000)]
    subscribers: u32,
    /// Where people live, as rows of `h3,population`; cities made up, if not given.
    #[arg(long, value_name = "FILE")]
    population: Option<PathBuf>,
    /// Points searched round, and rounds of everything else.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Kilometres round a city's middle in which everybody is told.
    #[arg(long, value_name = "KM", default_value_t = 12.0)]
    wave_km: f64,
}

/// Measures and prints.
pub async fn run(args: &Args) -> anyhow::Result<()> {
    let url = args.database_url.expose_secret();
    let mut config = Config::defaults()?;
    config.database_url.clone_from(&args.database_url);
    config.dispatch.workers = 2;
    config.dispatch.poll_ms = 10;
    ensure!(args.rounds > 0, "--rounds must be at least 1");
    let population = Arc::new(Population::read(args.population.as_deref())?);
    let ground = Ground::start(config).await?;
    ground.lanes("hold").await?;
    let mut direct = connect(url).await?;
    let mut report = json!({ "subscribers": args.subscribers });

    report["upload"] = uploads(&ground, &mut direct, &population, args).await?;
    let mut peers = vec![
        Peer::Homeward(ground.store.read().await?),
        Peer::BareScan(connect(url).await?),
    ];
    peers.extend(postgis_peers(url, &population, args.subscribers).await?);
    if let Some(address) = &args.redis {
        let mut redis = Peer::Redis(Redis::connect(address).await?);
        for first in (0..args.subscribers).step_by(PIECE as usize) {
            let people = (first..args.subscribers.min(first + PIECE))
                .map(|number| population.subscriber(number))
                .collect::<Vec<Subscriber>>();
            redis.put(&people).await?;
        }
        peers.push(redis);
    }
    for missing in ["geography", "redis geosearch"] {
        if !peers.iter().any(|peer| peer.name() == missing) {
            say(&format!(
                "not compared: {missing} (not there, or not given)"
            ))?;
        }
    }
    direct.execute("VACUUM ANALYZE subscribers").await?;
    direct.execute("CHECKPOINT").await?;

    let points = population.points(args.rounds);
    report["search_ms"] = searches(&mut peers, &points).await?;
    memory::forget_peak()?;
    report["fan_out"] = waves(&ground, &mut direct, &points, args).await?;
    report["waves_peak_memory_mib"] = json!(memory::peak_mib()?);
    report["moving"] = moving(&ground, &mut direct, &mut peers, &points, &population, args).await?;
    report["scattered"] = scattered(&ground, &mut direct, &points, args).await?;
    ground.leave().await?;
    say(&report.to_string())
}

/// Newcomers in turn with the bare upsert, then the others, then what is known already.
async fn uploads(
    ground: &Ground,
    direct: &mut PgConnection,
    population: &Arc<Population>,
    args: &Args,
) -> anyhow::Result<Value> {
    let rows = (args.subscribers / (2 * args.rounds)).min(COMPARED_ROWS);
    upload::bare_table(direct).await?;
    let now = ground.store.now().await?;
    let new = compared(ground, direct, population, args.rounds, rows, now).await?;
    say(&format!("upload, new: {}", in_words(new)))?;
    let rest = args.subscribers - args.rounds * rows;
    let others = Arc::clone(population);
    let others = (args.rounds * rows..args.subscribers)
        .map(move |number| others.subscriber(number).line(now));
    let all = upload::homeward(ground, others, rest).await?;
    say(&format!("upload, the other {rest} new: {all:.0} rows/s"))?;
    let later = ground.store.now().await?;
    let moved = compared(ground, direct, population, args.rounds, rows, later).await?;
    say(&format!("upload, seen again later: {}", in_words(moved)))?;
    let known: Vec<String> = (0..rows)
        .map(|number| population.subscriber(number).line(later))
        .collect();
    let again = upload::homeward(ground, known.into_iter(), rows).await?;
    say(&format!("upload, unchanged: {again:.0} rows/s"))?;
    direct.execute("DROP TABLE bench_upsert").await?;
    Ok(json!({
        "new_rows_per_s": new.0, "bare_new_rows_per_s": new.1, "later_rows_per_s": moved.0,
        "bare_later_rows_per_s": moved.1, "unchanged_rows_per_s": again, "all_rows_per_s": all,
    }))
}

/// Rows a second of Homeward and of the bare upsert, each so many rows in turn. What either is given is
/// made before its time is taken.
async fn compared(
    ground: &Ground,
    direct: &mut PgConnection,
    population: &Population,
    rounds: u32,
    rows: u32,
    at: Timestamp,
) -> anyhow::Result<(f64, f64)> {
    let (mut own, mut bare) = (vec![], vec![]);
    for round in 0..rounds {
        let people: Vec<Subscriber> = (round * rows..(round + 1) * rows)
            .map(|number| population.subscriber(number))
            .collect();
        let lines: Vec<String> = people.iter().map(|one| one.line(at)).collect();
        bare.push(upload::bare(direct, &upload::bare_rows(&people), at).await?);
        own.push(upload::homeward(ground, lines.into_iter(), rows).await?);
    }
    Ok((median(own), median(bare)))
}

fn in_words((own, bare): (f64, f64)) -> String {
    format!("{own:.0} rows/s, bare upsert {bare:.0} ({:.2})", own / bare)
}

/// Every circle by every peer in turn; nobody whom a peer finds by exact position may be missed.
async fn searches(peers: &mut [Peer], points: &[Position]) -> anyhow::Result<Value> {
    let mut table = Vec::new();
    for km in RADII_KM {
        let row = search(peers, points, km).await?;
        let found = |one: &Value| one["found"].as_u64().unwrap_or(0);
        let people = row.as_array().into_iter().flatten();
        let most = people.map(found).max().unwrap_or(0);
        ensure!(
            found(&row[0]) == most,
            "somebody within {km} km was missed: {row}"
        );
        say(&format!("search {km:>4} km: {}", line(&row)))?;
        table.push(json!({ "km": km, "peers": row }));
    }
    Ok(Value::Array(table))
}

async fn search(peers: &mut [Peer], points: &[Position], km: f64) -> anyhow::Result<Value> {
    let mut times = vec![Vec::new(); peers.len()];
    let mut found = vec![0; peers.len()];
    for at in points {
        for (peer, (times, found)) in peers.iter_mut().zip(times.iter_mut().zip(&mut found)) {
            // Once to warm up.
            peer.within(*at, km).await?;
            let (people, ms) = peer.within(*at, km).await?;
            *found += people;
            times.push(ms);
        }
    }
    let rows = peers.iter().zip(times).zip(&found).map(|((peer, times), found)| {
        json!({ "peer": peer.name(), "ms": median(times), "found": found })
    });
    Ok(rows.collect())
}

fn line(row: &Value) -> String {
    let peers = row.as_array().into_iter().flatten();
    let words = peers.map(|one| {
        format!(
            "{} {:.1} ms ({})",
            one["peer"].as_str().unwrap_or_default(),
            one["ms"].as_f64().unwrap_or(f64::NAN),
            one["found"]
        )
    });
    words.collect::<Vec<_>>().join(", ")
}

async fn waves(
    ground: &Ground,
    direct: &mut PgConnection,
    points: &[Position],
    args: &Args,
) -> anyhow::Result<Value> {
    let (mut rates, mut bytes, mut people) = (vec![], vec![], vec![]);
    for at in points {
        let wave = fanout::wave(ground, direct, *at, args.wave_km).await?;
        rates.push(wave.people / wave.seconds);
        bytes.push(wave.bytes_each);
        people.push(wave.people);
    }
    let [rate, bytes, people] = [rates, bytes, people].map(median);
    say(&format!(
        "fan-out: {rate:.0} people/s, {people:.0} people in a wave, {bytes:.0} bytes of database each"
    ))?;
    Ok(json!({ "people_per_s": rate, "people": people, "bytes_each": bytes }))
}

/// Waves once more, when neighbours' numbers lie as far apart as can be: the worst that can become of them.
async fn scattered(
    ground: &Ground,
    direct: &mut PgConnection,
    points: &[Position],
    args: &Args,
) -> anyhow::Result<Value> {
    direct
        .execute(
            "UPDATE subscribers s SET person = mixed.other
             FROM (SELECT person, row_number() OVER (ORDER BY person) AS place FROM subscribers) AS old
             JOIN (SELECT person AS other, row_number() OVER (ORDER BY random()) AS place FROM subscribers)
                  AS mixed USING (place)
             WHERE s.person = old.person",
        )
        .await?;
    direct.execute("VACUUM ANALYZE subscribers").await?;
    say("person numbers at random:")?;
    waves(ground, direct, points, args).await
}

/// Everything once more while people move; each peer while those of its own table do.
async fn moving(
    ground: &Ground,
    direct: &mut PgConnection,
    peers: &mut [Peer],
    points: &[Position],
    population: &Population,
    args: &Args,
) -> anyhow::Result<Value> {
    let settle = tokio::time::Duration::from_secs(CHURN_S);
    let (mut rows, mut fan_out) = (Vec::new(), Value::Null);
    let (own, others) = peers.split_at_mut(2);
    let measured = async {
        tokio::time::sleep(settle).await;
        let found = search(own, points, CHURN_KM).await?;
        let waves = waves(ground, direct, points, args).await?;
        anyhow::Ok((found, waves))
    };
    tokio::select! {
        done = measured => {
            let (found, waves) = done?;
            rows.extend(found.as_array().cloned().unwrap_or_default());
            fan_out = waves;
        }
        failed = upload::movers(ground, None, population, args.subscribers) => failed?,
    }
    for peer in others {
        // A connection of its own for what moves.
        let mut mover = match &*peer {
            Peer::PostGis(_, kind) => {
                Peer::PostGis(connect(args.database_url.expose_secret()).await?, kind)
            }
            _ => continue,
        };
        let measured = async {
            tokio::time::sleep(settle).await;
            search(std::slice::from_mut(peer), points, CHURN_KM).await
        };
        tokio::select! {
            found = measured => rows.extend(found?.as_array().cloned().unwrap_or_default()),
            failed = upload::movers(ground, Some(&mut mover), population, args.subscribers) => failed?,
        }
    }
    let rows = Value::Array(rows);
    say(&format!(
        "search {CHURN_KM:>4} km, 5,000 moves/s: {}",
        line(&rows)
    ))?;
    Ok(json!({ "search_ms": rows, "fan_out": fan_out }))
}
