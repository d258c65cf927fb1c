//! Uploads of subscribers on bad days: cut off, interrupted by a kill, sent twice at once, with tokens
//! of any length, and far too often. The state is the one that the lines describe.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use futures_util::future::join_all;
use h3o::{CellIndex, LatLng, Resolution};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::db::{Connection, Kind};
use crate::house::{Addresses, House, LATE, SOON, Server, until};
use crate::on_both_databases;
use crate::people::CENTRE;

on_both_databases! {
    cut_off_in_the_middle_and_sent_again
    killed_in_the_middle_and_sent_again
    the_same_twice_at_once
    tokens_of_any_length
    very_many_updates_of_one_token
}

/// A house with two apps, and a time of its database.
struct Scene {
    house: House,
    keys: [String; 2],
    now: Timestamp,
    cells: Vec<CellIndex>,
}

impl Scene {
    async fn new(kind: Kind) -> Self {
        let house = House::new(kind, &[]).await;
        for app in ["one", "two"] {
            house.admin(&["app", app, "--rate-per-s", "1000"]);
        }
        let now = house.connect().await.now_ms().await;
        let centre = LatLng::new(CENTRE.0, CENTRE.1)
            .unwrap()
            .to_cell(Resolution::Nine);
        Self {
            keys: ["one", "two"].map(|app| house.admin(&["key", "app", app])),
            now: Timestamp::from_millisecond(now).unwrap(),
            cells: centre.grid_disk(5),
            house,
        }
    }

    /// A line for each of so many tokens, in the order of the tokens; every tenth with a person key.
    fn lines(&self, count: usize) -> String {
        let at = self.now - SignedDuration::from_mins(1);
        let lines = (0..count).map(|n| {
            let cell = self.cells[n % self.cells.len()].to_string();
            let mut line = json!({ "token": format!("t{n:06}"), "cell": cell, "at": at });
            if n % 10 == 0 {
                line["person_keys"] = json!([format!("{n:032x}")]);
            }
            line.to_string()
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    async fn put(&self, at: Addresses, app: usize, lines: String) -> Value {
        let url = format!("http://{}/v1/subscribers", at.http);
        let put = self
            .house
            .http
            .put(url)
            .bearer_auth(&self.keys[app])
            .timeout(LATE);
        put.body(lines).send().await.unwrap().json().await.unwrap()
    }

    /// Begins an upload that says it is longer than it is.
    fn begin(&self, at: Addresses, query: &str, lines: &str) -> TcpStream {
        let mut stream = TcpStream::connect(at.http).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let head = format!(
            "PUT /v1/subscribers{query} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n\
             content-length: {}\r\n\r\n",
            at.http,
            self.keys[0],
            lines.len() + 1_000
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(lines.as_bytes()).unwrap();
        stream
    }
}

async fn registered(db: &mut Connection) -> usize {
    let count = db.number("SELECT count(*) FROM subscribers").await;
    usize::try_from(count).unwrap()
}

/// That just the first so many of the lines are there, each with a number of its own.
async fn check_first(db: &mut Connection, count: usize) {
    let rows = db
        .rows::<(Vec<u8>, i64)>("SELECT token, person FROM subscribers")
        .await;
    let mut tokens: Vec<String> = rows
        .iter()
        .map(|(token, _)| String::from_utf8(token.clone()).unwrap())
        .collect();
    tokens.sort();
    let wanted: Vec<String> = (0..count).map(|n| format!("t{n:06}")).collect();
    assert!(
        tokens == wanted,
        "{} rows, not the first {count} lines",
        tokens.len()
    );
    let mut persons: Vec<i64> = rows.iter().map(|(_, person)| *person).collect();
    persons.sort_unstable();
    persons.dedup();
    assert_eq!(persons.len(), count);
    assert!(!persons.contains(&0));
}

async fn cut_off_in_the_middle_and_sent_again(kind: Kind) {
    const LINES: usize = 40_000;
    let scene = Scene::new(kind).await;
    let server = scene.house.server().await;
    let (at, mut db) = (server.addresses, scene.house.connect().await);
    let lines = scene.lines(LINES);
    // In the middle of a line.
    let part = &lines[..lines.len() / 2];
    for (query, all_or_none) in [("?atomic=true", true), ("", false)] {
        let mut stream = scene.begin(at, query, part);
        if !all_or_none {
            until("some of it is there", SOON, async || {
                (registered(&mut db).await > 0).then_some(())
            })
            .await;
        }
        stream.shutdown(Shutdown::Write).unwrap();
        // Once the server has hung up, it does no more about it.
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
        let there = registered(&mut db).await;
        assert_eq!(there == 0, all_or_none, "{there}");
        assert!(there < LINES / 2 + 1);
        check_first(&mut db, there).await;
    }
    let before = db
        .rows::<(Vec<u8>, i64)>("SELECT token, person FROM subscribers")
        .await;
    let report = scene.put(at, 0, lines.clone()).await;
    assert_eq!(
        (&report["lines"], &report["refused"]),
        (&json!(LINES), &json!(0))
    );
    check_first(&mut db, LINES).await;
    let after = db
        .rows::<(Vec<u8>, i64)>("SELECT token, person FROM subscribers")
        .await;
    let kept = before.iter().filter(|row| after.contains(row)).count();
    assert_eq!(kept, before.len(), "whoever was there keeps their number");
    // And once more changes nothing.
    let report = scene.put(at, 0, lines).await;
    assert_eq!(report["changed"], 0, "{report}");
    scene.house.remove().await;
}

async fn killed_in_the_middle_and_sent_again(kind: Kind) {
    const LINES: usize = 40_000;
    let scene = Scene::new(kind).await;
    let mut server = scene.house.server().await;
    let (at, mut db) = (server.addresses, scene.house.connect().await);
    let lines = scene.lines(LINES);
    for _ in 0..3 {
        let before = registered(&mut db).await;
        let stream = scene.begin(at, "", &format!("{lines}\n"));
        until("some of it is there", SOON, async || {
            (registered(&mut db).await > before || before == LINES).then_some(())
        })
        .await;
        server.kill_and_start(&scene.house).await;
        drop(stream);
        let there = registered(&mut db).await;
        check_first(&mut db, there).await;
    }
    scene.put(at, 0, lines).await;
    check_first(&mut db, LINES).await;
    scene.house.remove().await;
}

/// To two servers on PostgreSQL; SQLite has one.
async fn the_same_twice_at_once(kind: Kind) {
    const LINES: usize = 12_000;
    let scene = Scene::new(kind).await;
    let mut servers: Vec<Server> = vec![scene.house.server().await];
    if kind == Kind::Postgres {
        servers.push(scene.house.server().await);
    }
    let mut db = scene.house.connect().await;
    let (first, last) = (servers[0].addresses, servers[servers.len() - 1].addresses);
    let lines = scene.lines(LINES);
    // Both apps at the same time, too: every tenth person is the same in both.
    let uploads = [(first, 0), (last, 0), (last, 1), (first, 1)];
    let uploads = uploads.map(|(at, app)| scene.put(at, app, lines.clone()));
    for report in join_all(uploads).await {
        assert_eq!(
            (&report["lines"], &report["refused"]),
            (&json!(LINES), &json!(0)),
            "{report}"
        );
    }
    assert_eq!(registered(&mut db).await, 2 * LINES);
    let persons = "SELECT count(DISTINCT person) FROM subscribers";
    let shared = LINES / 10;
    let persons = usize::try_from(db.number(persons).await).unwrap();
    assert_eq!(persons, 2 * LINES - shared);
    let numbers = "SELECT count(*) FROM subscribers WHERE flags & 3 = 2";
    assert_eq!(db.number(numbers).await, i64::try_from(2 * shared).unwrap());
    for (at, app) in [(first, 0), (last, 1)] {
        let again = scene.put(at, app, lines.clone()).await;
        assert_eq!(again["changed"], 0, "{again}");
    }
    scene.house.remove().await;
}

async fn tokens_of_any_length(kind: Kind) {
    let scene = Scene::new(kind).await;
    let server = scene.house.server().await;
    let (at, mut db) = (server.addresses, scene.house.connect().await);
    let cell = scene.cells[0].to_string();
    let tokens = [
        String::new(),
        "x".to_owned(),
        "x".repeat(64),
        "x".repeat(65),
        // Bytes count, not letters.
        "é".repeat(32),
        format!("{}x", "é".repeat(32)),
        "\u{0}".to_owned(),
    ];
    let line =
        |token: &String| json!({ "token": token, "cell": cell, "at": scene.now }).to_string();
    let lines: Vec<String> = tokens.iter().map(line).collect();
    let report = scene.put(at, 0, lines.join("\n")).await;
    let refused: Vec<(&Value, bool)> = report["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| {
            (
                &error["line"],
                error["problem"].as_str().unwrap().contains("1 to 64 bytes"),
            )
        })
        .collect();
    assert_eq!(
        refused,
        [(&json!(1), true), (&json!(4), true), (&json!(6), true)],
        "{report}"
    );
    assert_eq!(report["changed"], 4);
    let mut kept: Vec<Vec<u8>> = db
        .rows::<(Vec<u8>,)>("SELECT token FROM subscribers")
        .await
        .into_iter()
        .map(|row| row.0)
        .collect();
    let mut wanted: Vec<Vec<u8>> = [1, 2, 4, 6]
        .map(|place: usize| tokens[place].clone().into_bytes())
        .into();
    kept.sort();
    wanted.sort();
    assert_eq!(kept, wanted);
    scene.house.remove().await;
}

/// A hundred thousand lines, four uploads at once, none in order: a thousand lines make one row, and
/// more of them take no other way.
async fn very_many_updates_of_one_token(kind: Kind) {
    const UPLOADS: usize = 4;
    const LINES: usize = 25_000;
    let scene = Scene::new(kind).await;
    let server = scene.house.server().await;
    let (at, mut db) = (server.addresses, scene.house.connect().await);
    let begun = scene.now - SignedDuration::from_hours(2);
    let upload = |part: usize| {
        let lines = (0..LINES).map(|n| {
            // Each time once in all uploads, in an order that goes to and fro.
            let step = (n * 7_919 % LINES) * UPLOADS + part;
            let at = begun + SignedDuration::from_millis(i64::try_from(step).unwrap());
            let cell = scene.cells[step % scene.cells.len()].to_string();
            json!({ "token": "restless", "cell": cell, "at": at }).to_string()
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    let uploads = (0..UPLOADS).map(|part| scene.put(at, 0, upload(part)));
    for report in join_all(uploads).await {
        assert_eq!(
            (&report["lines"], &report["refused"]),
            (&json!(LINES), &json!(0)),
            "{report}"
        );
    }
    let last = UPLOADS * LINES - 1;
    let at_ms = begun.as_millisecond() + i64::try_from(last).unwrap();
    let cell = i64::try_from(u64::from(scene.cells[last % scene.cells.len()])).unwrap();
    let rows = db
        .rows::<(i64, i64)>("SELECT cell, seen_at FROM subscribers")
        .await;
    assert_eq!(rows, [(cell, at_ms)]);
    scene.house.remove().await;
}
