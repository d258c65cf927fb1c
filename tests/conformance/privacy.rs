//! Personal data leave only where they were agreed to, and are gone in the end.

use std::io::Write;
use std::sync::{Arc, LazyLock, Mutex};

use homeward::alert::proto::v1::Kind;
use jiff::SignedDuration;
use serde_json::{Value, json};
use tracing_subscriber::EnvFilter;

use crate::common::{Caller, House, Inbox, Person, ago, cell_at, filing, settled, text, until};

const LAT: f64 = 57.149_713;
const LON: f64 = -112.094_321;
const FOUND: (f64, f64) = (57.166_611, -112.117_744);
const FORMER_HOME: (f64, f64) = (57.188_822, -112.133_755);
const SEARCHED: (f64, f64) = (57.1, -112.0);
const TOKEN: &str = "token-of-a-neighbour";

conformance! {
    nothing_personal_is_left_after_the_retention_period,
    erasure_ends_what_is_still_on_its_way,
    nothing_personal_reaches_logs_metrics_or_others,
}

/// Every text that somebody says about somebody in these tests, with where it is said.
const SAID: &[(&str, &str)] = &[
    ("/person/name", "Xenia Quillfeather"),
    ("/person/alias", "Grandma Xen"),
    ("/person/description", "a heron tattoo"),
    ("/person/clothing", "ochre galoshes"),
    ("/person/photo_reference", "archive/4711.jpg"),
    ("/lkp/place", "Rubislaw Quarry"),
    ("/circumstances", "quarrelled about the budgerigar"),
    ("/contact/name", "Yolanda Quillfeather"),
    ("/contact/phone", "+44 1632 960961"),
    ("/contact/relation", "stepdaughter"),
    ("/consent/given_by", "Zebedee Quillfeather"),
    ("/consent/legal_basis", "order 88/2026"),
];
/// The same, said later.
const SAID_LATER: &[&str] = &[
    "magenta galoshes",
    "vermilion galoshes",
    "by the boathouse",
    "Walburga Boatwright",
    "+44 1632 960962",
    "her nephew called",
    "seen near the canal",
    "his purse lay on the quay",
];

fn personal_filing(now: jiff::Timestamp) -> Value {
    let mut body = filing(now, LAT, LON);
    for (pointer, said) in SAID {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        body.pointer_mut(parent).unwrap()[name] = (*said).into();
    }
    body["clues"] = json!({ "known_places": [{
        "kind": "former_home", "weight": 0.2,
        "position": { "lat": FORMER_HOME.0, "lon": FORMER_HOME.1 },
    }] });
    body
}

/// All that must not be found, as a database or a log would write it.
fn needles() -> Vec<(String, Vec<String>)> {
    let positions = [LAT, LON, FOUND.0, FOUND.1, FORMER_HOME.0, FORMER_HOME.1]
        .map(|degrees| format!("{:.5}", degrees.abs()));
    let cell = cell_at(LAT, LON);
    let coarse = cell.parent(h3o::Resolution::Eight).unwrap();
    let searched = cell_at(SEARCHED.0, SEARCHED.1).to_string();
    let cells = [coarse.to_string(), u64::from(cell).to_string(), searched];
    let said = SAID.iter().map(|(_, said)| (*said).to_owned());
    let later = SAID_LATER.iter().map(|said| (*said).to_owned());
    let all = said
        .chain(later)
        .chain(positions)
        .chain(cells)
        .chain([TOKEN.to_owned()]);
    all.map(|needle| {
        let bytes = hex::encode(needle.as_bytes());
        (needle.clone(), vec![needle.to_lowercase(), bytes])
    })
    .collect()
}

/// What is found of the needles, and where.
fn found<'a>(lines: impl IntoIterator<Item = &'a String>) -> Vec<String> {
    let needles = needles();
    let mut found = Vec::new();
    for line in lines {
        let lower = line.to_lowercase();
        for (needle, forms) in &needles {
            if forms.iter().any(|form| lower.contains(form)) {
                let place: String = lower.chars().take(60).collect();
                found.push(format!("{needle} in {place}"));
            }
        }
    }
    found
}

/// A case with everything said about everybody, told, seen, changed and closed; gives its id and
/// its alert's.
async fn whole_story(house: &House, agency: &Caller, app: &Caller) -> (String, String, Caller) {
    let operator = house.operator("Ann").await;
    let now = house.now().await;
    app.register(&[Person::new(TOKEN, cell_at(LAT, LON), now)])
        .await;
    let case = agency.file(&personal_filing(now)).await;
    let path = format!("/v1/cases/{case}");
    let alert = text(&operator.verify(&case).await, "/alert/id").to_owned();
    settled(&operator, &case).await;
    let sighting = json!({
        "lat": FOUND.0, "lon": FOUND.1, "accuracy_m": 20.0, "seen_at": ago(now, 1),
        "text": SAID_LATER[2], "contact": { "name": SAID_LATER[3], "phone": SAID_LATER[4] },
    });
    app.post(&format!("/v1/cases/{alert}/sightings"), &sighting)
        .await
        .ok();
    agency
        .patch(&path, &json!({ "clothing": SAID_LATER[0] }))
        .await
        .ok();
    operator.step(&case, "proposal/accept").await.ok();
    let searched = json!({
        "searched_at": now, "detection": 0.5, "cells": [cell_at(SEARCHED.0, SEARCHED.1).to_string()],
    });
    agency
        .post(&format!("{path}/searches"), &searched)
        .await
        .ok();
    let audience = json!({ "audience": "everybody", "reason": SAID_LATER[6] });
    operator
        .post(&format!("{path}/audience"), &audience)
        .await
        .ok();
    let replan = json!({ "reason": SAID_LATER[7] });
    operator.post(&format!("{path}/replan"), &replan).await.ok();
    let reason = json!({ "reason": SAID_LATER[5] });
    agency.post(&format!("{path}/pause"), &reason).await.ok();
    agency.post(&format!("{path}/resume"), &reason).await.ok();
    agency
        .patch(&path, &json!({ "clothing": SAID_LATER[1] }))
        .await
        .ok();
    settled(&operator, &case).await;
    let close = json!({
        "outcome": "found_well", "found": { "lat": FOUND.0, "lon": FOUND.1, "at": now },
    });
    let key = [("idempotency-key", "close")];
    let (method, path) = (reqwest::Method::POST, format!("{path}/close"));
    agency
        .send(method, &path, &key, close.to_string())
        .await
        .ok();
    (case, alert, operator)
}

/// Has the retention period of every case end, and waits for the erasure.
async fn erased(house: &House, operator: &Caller, case: &str) {
    let due = "UPDATE cases SET erase_at = 1 WHERE erase_at IS NOT NULL";
    house.database().execute(due).await;
    until("erasure", async || {
        operator.case(case).await["erased_at"]
            .is_string()
            .then_some(())
    })
    .await;
}

async fn nothing_personal_is_left_after_the_retention_period(house: House) {
    let agency = house.agency("Grampian").await;
    let app = house.app("Nearby", 100_000).await;
    house.serve(&[]).await;
    let inbox = Inbox::open(&app).await;
    let (case, alert, operator) = whole_story(&house, &agency, &app).await;
    let rejected = agency.file(&personal_filing(house.now().await)).await;
    let reason = json!({ "reason": SAID_LATER[5] });
    operator
        .post(&format!("/v1/cases/{rejected}/reject"), &reason)
        .await
        .ok();
    settled(&operator, &case).await;
    assert_eq!(inbox.once(&alert, Kind::Recall).len(), 1);

    // The search finds every single one while they are there.
    let before = found(&house.database().dump().await);
    for (needle, _) in needles() {
        assert!(
            before.iter().any(|line| line.starts_with(&needle)),
            "the test misses {needle}"
        );
    }

    let nine_days = SignedDuration::from_hours(9 * 24);
    house
        .age(
            "idempotency_keys",
            "created_at",
            SignedDuration::from_hours(25),
        )
        .await;
    house.age("told", "told_at", nine_days).await;
    house.age("alerts", "closed_at", nine_days).await;
    erased(&house, &operator, &case).await;
    erased(&house, &operator, &rejected).await;
    // One round of upkeep does all of it, the erasure first.
    until("upkeep", async || {
        let left = house.database().number("SELECT count(*) FROM told").await;
        (left == 0).then_some(())
    })
    .await;
    let dump = house.database().dump().await;
    // The registry knows the neighbour's token and cell as long as the app keeps them there.
    let (registry, rest): (Vec<String>, Vec<String>) = dump
        .into_iter()
        .partition(|line| line.starts_with("subscribers: "));
    assert_eq!(registry.len(), 1);
    let ranges = "SELECT count(*) FROM shards WHERE ranges <> '[]'";
    assert_eq!(house.database().number(ranges).await, 0);
    let left = found(&rest);
    assert!(left.is_empty(), "{left:#?}");

    // What is kept for statistics is still there, and nobody can go on with the case.
    let outcomes = agency.get("/v1/outcomes").await.ok();
    assert_eq!(text(&outcomes, "/items/0/outcome"), "found_well");
    assert!(
        outcomes["items"][0]["found_km"]
            .as_f64()
            .is_some_and(|km| km > 1.0)
    );
    let path = format!("/v1/cases/{case}");
    let mut answers = Vec::new();
    for rest in [
        "",
        "/timeline",
        "/dispatch",
        "/alert",
        "/sightings",
        "/searches",
    ] {
        let answer = operator.get(&format!("{path}{rest}")).await;
        answers.push(answer.text.clone());
        answer.ok();
    }
    assert!(found(&answers).is_empty(), "{:#?}", found(&answers));
    operator.get(&format!("{path}/plan")).await.refused(404);
    agency.step(&case, "reopen").await.refused(409);
    let late = json!({ "lat": LAT, "lon": LON, "accuracy_m": 9.0, "seen_at": house.now().await });
    app.post(&format!("/v1/cases/{alert}/sightings"), &late)
        .await
        .refused(409);
}

async fn erasure_ends_what_is_still_on_its_way(house: House) {
    let (agency, app) = (
        house.agency("Grampian").await,
        house.app("Nearby", 100_000).await,
    );
    house.serve(&[]).await;
    let inbox = Inbox::open(&app).await;
    let (case, _, operator) = {
        let operator = house.operator("Ann").await;
        let now = house.now().await;
        app.register(&[Person::new(TOKEN, cell_at(LAT, LON), now)])
            .await;
        let case = agency.file(&personal_filing(now)).await;
        operator.verify(&case).await;
        let rest = settled(&operator, &case).await;
        (case, rest, operator)
    };
    // The app is away for longer than the agency keeps anything.
    drop(inbox);
    agency.close(&case).await;
    erased(&house, &operator, &case).await;
    house.serve(&[]).await;
    let inbox = Inbox::open(&app).await;
    let rest = settled(&operator, &case).await;
    for batch in inbox.all() {
        let inside = batch.alert.unwrap();
        assert!(
            !inside.alert_id.is_empty() && !batch.tokens.is_empty(),
            "a batch of nothing"
        );
    }
    let batches = rest["batches"].as_array().unwrap();
    let recall = batches
        .iter()
        .find(|batch| batch["kind"] == "recall")
        .unwrap();
    assert_eq!(recall["state"], "expired", "counted, not lost: {rest:#}");
}

/// What all servers of this process have logged: there is one subscriber for all of them.
static LOG: LazyLock<Arc<Mutex<Vec<u8>>>> = LazyLock::new(|| {
    let log = Arc::new(Mutex::new(Vec::new()));
    let writer = Arc::clone(&log);
    let filter = EnvFilter::new("info,homeward=trace,sqlx=debug");
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .without_time()
        .with_writer(move || Log(Arc::clone(&writer)));
    subscriber.init();
    log
});

struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

async fn nothing_personal_reaches_logs_metrics_or_others(house: House) {
    LazyLock::force(&LOG);
    let (agency, other) = (
        house.agency("Grampian").await,
        house.agency("Tayside").await,
    );
    let app = house.app("Nearby", 100_000).await;
    house.serve(&[]).await;
    let inbox = Inbox::open(&app).await;
    let (case, alert, operator) = whole_story(&house, &agency, &app).await;
    settled(&operator, &case).await;

    // The app reads what was agreed to: four fields of all that was said.
    let texts = |kind: Kind| -> Vec<String> {
        let batches = inbox.of(&alert, kind);
        let texts = batches
            .into_iter()
            .flat_map(|batch| batch.alert.unwrap().texts);
        texts
            .map(|text| format!("{} {}", text.title, text.body))
            .collect()
    };
    let shown: Vec<String> = [Kind::Issue, Kind::Update, Kind::Recall]
        .map(texts)
        .concat();
    assert_eq!(shown.len(), 3);
    let agreed = [SAID[1].1, SAID[2].1, SAID[3].1, SAID_LATER[0]];
    for line in found(&shown) {
        assert!(
            agreed.iter().any(|agreed| line.starts_with(agreed)),
            "{line}"
        );
    }
    assert!(
        found(&shown)
            .iter()
            .any(|line| line.starts_with("a heron tattoo"))
    );

    // What is wrong is said without saying it again.
    let mut wrong = personal_filing(house.now().await);
    wrong["lkp"]["accuracy_m"] = 0.into();
    wrong["category"] = "child_1_3".into();
    let refused = agency.try_file(&wrong).await.text;
    let bad_line = Person::new(TOKEN, cell_at(LAT, LON), house.now().await).with("nickname", "Xen");
    let bad_line = app.put([bad_line.line()]).await.text;

    // Another agency files the same person, and asks for everything.
    let twin = other
        .file(&filing(house.now().await, LAT + 0.02, LON + 0.02))
        .await;
    let mut answers = vec![refused, bad_line];
    for path in [
        format!("/v1/cases/{twin}"),
        format!("/v1/cases/{twin}/timeline"),
        format!("/v1/cases/{case}"),
        format!("/v1/cases/{case}/timeline"),
        format!("/v1/cases/{case}/sightings"),
        format!("/v1/cases/{case}/alert"),
        "/v1/cases".into(),
        "/v1/outcomes".into(),
    ] {
        answers.push(other.get(&path).await.text);
    }
    assert!(found(&answers).is_empty(), "{:#?}", found(&answers));

    let metrics = house.probe("/metrics").await.text;
    let ready = house.probe("/readyz").await.text;
    assert!(metrics.contains("homeward"), "{metrics}");
    assert!(found(&[metrics, ready]).is_empty());
    house.stop().await;
    let log = String::from_utf8(LOG.lock().unwrap().clone()).unwrap();
    // How long a statement took may look like a position.
    let is_told = |word: &&str| !word.starts_with("elapsed");
    let lines: Vec<String> = log
        .lines()
        .map(|line| {
            line.split(' ')
                .filter(is_told)
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect();
    assert!(
        lines.iter().any(|line| line.contains("case filed")),
        "the log is being read"
    );
    assert!(found(&lines).is_empty(), "{:#?}", found(&lines));
}
