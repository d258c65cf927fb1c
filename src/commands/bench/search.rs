//! Who is in a circle: Homeward's search by cell, and what one would otherwise use.

use std::fmt::Write as _;
use std::time::Instant;

use anyhow::Context as _;
use h3o::LatLng;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _};

use super::people::{Population, Subscriber};
use super::redis::Redis;
use crate::area;
use crate::model::{Cell, Position, RoundKind, SUBSCRIBER_RESOLUTION};
use crate::store::{Session, subscribers};

/// Whom one could ask for everybody in a circle.
pub enum Peer {
    /// Homeward's own search; tokens and all that is decided on, in this process.
    Homeward(Session),
    /// The same index, only counted: nothing over the same table can be faster.
    BareScan(PgConnection),
    /// PostGIS, on the spheroid (`geography`) or on plain degrees (`geometry`).
    PostGis(PgConnection, &'static str),
    /// Redis.
    Redis(Redis),
}

impl Peer {
    /// In tables and output.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Homeward(_) => "homeward",
            Self::BareScan(_) => "bare index-only scan",
            Self::PostGis(_, kind) => kind,
            Self::Redis(_) => "redis geosearch",
        }
    }

    /// Registers people with a peer, or moves them. Homeward and the bare scan over its table are told
    /// by upload.
    pub async fn put(&mut self, people: &[Subscriber]) -> anyhow::Result<()> {
        match self {
            Self::Homeward(_) | Self::BareScan(_) => Ok(()),
            Self::PostGis(connection, kind) => {
                let tokens: Vec<String> = people.iter().map(|one| one.token()).collect();
                let lon: Vec<f64> = people.iter().map(|one| one.at.lon()).collect();
                let lat: Vec<f64> = people.iter().map(|one| one.at.lat()).collect();
                let sql = format!(
                    "INSERT INTO bench_{kind} (app_id, token, at)
                     SELECT 1, token::bytea, ST_SetSRID(ST_MakePoint(lon, lat), 4326)::{kind}
                     FROM unnest($1::text[], $2::float8[], $3::float8[]) AS new(token, lon, lat)
                     ON CONFLICT (token) DO UPDATE SET at = excluded.at, seen_at = bench_{kind}.seen_at + 1"
                );
                let query = sqlx::query(AssertSqlSafe(sql))
                    .bind(tokens)
                    .bind(lon)
                    .bind(lat);
                query
                    .execute(connection)
                    .await
                    .map(drop)
                    .context("moving people in PostGIS")
            }
            Self::Redis(redis) => redis.put(people).await,
        }
    }

    /// Everybody in a circle; how many they are, and how long it took in ms. Which cells it touches is known
    /// beforehand, as a plan knows its cells.
    pub async fn within(&mut self, at: Position, km: f64) -> anyhow::Result<(usize, f64)> {
        let ranges = match self {
            Self::Homeward(_) | Self::BareScan(_) => area::ranges(&circle(at, km)),
            Self::PostGis(..) | Self::Redis(_) => Vec::new(),
        };
        let begun = Instant::now();
        let found = match self {
            Self::Homeward(session) => {
                let found = subscribers::candidates(session, RoundKind::Wave, &ranges).await?;
                found.iter().count()
            }
            Self::BareScan(connection) => {
                let (lo, hi): (Vec<i64>, Vec<i64>) =
                    ranges.iter().map(|range| (range.lo, range.hi)).unzip();
                let sql = "SELECT count(*) FROM unnest($1::bigint[], $2::bigint[]) AS r(lo, hi)
                           CROSS JOIN LATERAL (SELECT 1 FROM subscribers
                           WHERE cell BETWEEN r.lo AND r.hi AND flags & 1 = 0 OFFSET 0) AS s";
                let row = sqlx::query(sql)
                    .bind(lo)
                    .bind(hi)
                    .fetch_one(connection)
                    .await?;
                usize::try_from(row.try_get::<i64, _>(0)?)?
            }
            Self::PostGis(connection, kind) => postgis(connection, kind, at, km).await?,
            Self::Redis(redis) => redis.within(at, km).await?.len(),
        };
        Ok((found, begun.elapsed().as_secs_f64() * 1e3))
    }
}

/// Everybody with all that Homeward decides on, packed as Homeward has it: a row each would cost more than
/// the search.
async fn postgis(
    connection: &mut PgConnection,
    kind: &str,
    at: Position,
    km: f64,
) -> anyhow::Result<usize> {
    let centre = "ST_SetSRID(ST_MakePoint($1, $2), 4326)";
    let nearby = match kind {
        "geography" => format!("ST_DWithin(at, {centre}::geography, $3 * 1000)"),
        // A box in degrees finds them, the sphere decides.
        _ => format!(
            "at && ST_Expand({centre}, $3 / (111.195 * cos(radians($2))), $3 / 111.195)
             AND ST_DistanceSphere(at, {centre}) <= $3 * 1000"
        ),
    };
    let sql = format!(
        "SELECT count(*), string_agg(int8send(person) || int8send(muted_until)
             || int8send((app_id::bigint << 32) | flags)
             || int8send((seen_hour::bigint << 32) | length(token)) || token, '')
         FROM bench_{kind} WHERE {nearby}"
    );
    let query = sqlx::query(AssertSqlSafe(sql))
        .bind(at.lon())
        .bind(at.lat())
        .bind(km);
    let row: PgRow = query
        .fetch_one(connection)
        .await
        .context("searching in PostGIS")?;
    std::hint::black_box(row.try_get::<Option<Vec<u8>>, _>(1)?);
    Ok(usize::try_from(row.try_get::<i64, _>(0)?)?)
}

/// The subscriber cells that a circle touches.
pub fn circle(at: Position, km: f64) -> Vec<Cell> {
    let middle = Cell::at(at, SUBSCRIBER_RESOLUTION);
    let centre = |cell: Cell| {
        let point = LatLng::from(cell.index());
        Position::new(point.lat(), point.lng()).unwrap_or(at)
    };
    // Neighbours' middles are 0.3 km apart, the corners of a cell at most this far from its own.
    let corner_km = 0.26;
    let mut rings = 1_u32;
    while f64::from(rings) * 0.25 < km + corner_km {
        rings += 1;
    }
    middle
        .index()
        .grid_disk::<Vec<_>>(rings)
        .into_iter()
        .map(Cell::from)
        .filter(|cell| area::great_circle_km(at, centre(*cell)) <= km + corner_km)
        .collect()
}

/// A connection to the bench's database, with the settings Homeward has for its own.
pub async fn connect(url: &str) -> anyhow::Result<PgConnection> {
    let mut connection = PgConnection::connect(url)
        .await
        .context("connecting to the database")?;
    connection
        .execute("SET jit = off; SET max_parallel_workers_per_gather = 0")
        .await?;
    Ok(connection)
}

/// PostGIS's two tables, filled; nothing if the extension is not there.
pub async fn postgis_peers(
    url: &str,
    population: &Population,
    count: u32,
) -> anyhow::Result<Vec<Peer>> {
    let mut connection = connect(url).await?;
    if connection
        .execute("CREATE EXTENSION IF NOT EXISTS postgis")
        .await
        .is_err()
    {
        return Ok(Vec::new());
    }
    let mut peers = Vec::new();
    for kind in ["geography", "geometry"] {
        let mut connection = connect(url).await?;
        // The columns of `subscribers`, with the exact place instead of the cell.
        let sql = format!(
            "CREATE TABLE bench_{kind} (app_id int NOT NULL DEFAULT 1, token bytea, at {kind}(Point, 4326),
                 person bigint NOT NULL DEFAULT 65536, seen_at bigint NOT NULL DEFAULT 0,
                 seen_hour int NOT NULL DEFAULT 0, flags int NOT NULL DEFAULT 0,
                 muted_until bigint NOT NULL DEFAULT 0)"
        );
        connection.execute(AssertSqlSafe(sql)).await?;
        let mut copy = connection
            .copy_in_raw(&format!("COPY bench_{kind} (token, at) FROM STDIN"))
            .await?;
        let mut text = String::new();
        for number in 0..count {
            let one = population.subscriber(number);
            let (token, at) = (one.token(), one.at);
            writeln!(text, "{token}\tSRID=4326;POINT({} {})", at.lon(), at.lat())?;
            if text.len() > 1 << 20 {
                copy.send(std::mem::take(&mut text).into_bytes()).await?;
            }
        }
        copy.send(text.into_bytes()).await?;
        copy.finish().await?;
        let sql = format!(
            "CREATE INDEX ON bench_{kind} USING gist (at);
             CREATE UNIQUE INDEX ON bench_{kind} (token);
             VACUUM ANALYZE bench_{kind}"
        );
        for sql in sql.split(';').map(str::to_owned) {
            connection.execute(AssertSqlSafe(sql)).await?;
        }
        peers.push(Peer::PostGis(connection, kind));
    }
    Ok(peers)
}
