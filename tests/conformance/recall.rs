//! Taking an alert back: everybody who was or may have been told hears of it, and nobody else.

use std::collections::BTreeSet;

use homeward::alert::proto::v1::Kind;
use homeward::model::AlertId;
use homeward::store::told;
use serde_json::json;

use crate::common::{
    Caller, House, Inbox, Person, Rounds, Stream, cell_at, disk, dispatch, filing, settled, text,
    tokens_of, until,
};

const LAT: f64 = 57.1497;
const LON: f64 = -2.0943;

conformance! {
    closed_while_it_is_fanned_out,
    closed_while_batches_are_in_the_apps_hands,
    recalls_reach_those_who_left_since,
    a_case_taken_up_again_is_a_new_alert,
    a_case_closed_before_anybody_was_told,
}

with_rabbitmq! {
    closed_while_it_is_fanned_out,
    closed_while_batches_are_in_the_apps_hands,
    recalls_reach_those_who_left_since,
}

/// People in issue batches of an alert that were or may have been sent.
async fn maybe_sent(house: &House, alert: &str) -> i64 {
    let alert = house.database().id(alert);
    let sql = format!(
        "SELECT CAST(coalesce(sum(people), 0) AS BIGINT) FROM batches
         WHERE alert_id = {alert} AND kind = 'issue' AND sending_at IS NOT NULL"
    );
    house.database().number(&sql).await
}

async fn on_the_told_list(house: &House, alert: &str) -> u64 {
    let alert: AlertId = alert.parse().unwrap();
    told::count(&mut house.store().read().await.unwrap(), alert)
        .await
        .unwrap()
}

async fn closed_while_it_is_fanned_out(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let app = house.app("Nearby", 20).await;
    let settings = [
        ("dispatch.batch_people", "5"),
        ("dispatch.shard_people", "10"),
    ];
    house.serve(&settings).await;
    let now = house.now().await;
    let mut people = Vec::new();
    for (n, cell) in disk(cell_at(LAT, LON), 2).into_iter().enumerate() {
        people.extend(Person::many(&format!("cell{n}"), 40, cell, now));
    }
    app.register(&people).await;
    let inbox = Inbox::open(&app).await;

    let case = agency.file(&filing(now, LAT, LON)).await;
    let alert = text(&operator.verify(&case).await, "/alert/id").to_owned();
    inbox
        .until("the first batches", |inbox| {
            inbox.of(&alert, Kind::Issue).len() >= 3
        })
        .await;
    let closed = agency.close(&case).await;
    let sent = maybe_sent(&house, &alert).await;
    assert!(sent < people.len() as i64, "some must be left to withdraw");
    assert_ne!(closed["recall"]["withdrawn"], 0, "{closed:#}");

    let after = settled_or_withdrawn(&operator, &case).await;
    assert_eq!(
        maybe_sent(&house, &alert).await,
        sent,
        "nothing was sent after the close"
    );
    let (issued, recalled) = (
        inbox.once(&alert, Kind::Issue),
        inbox.once(&alert, Kind::Recall),
    );
    assert!(
        issued.is_subset(&recalled),
        "everybody who was told gets the recall"
    );
    assert_eq!(
        recalled.len() as i64,
        sent,
        "nobody else gets it: {after:#}"
    );
    assert_eq!(
        on_the_told_list(&house, &alert).await,
        recalled.len() as u64
    );

    // Who was withdrawn can be told of two others, who was told of one.
    let app_rate = json!({ "rate_per_s": 100_000 });
    let admin = house.admin().await;
    let path = format!("/v1/apps/{}", crate::common::app_id(&app).0);
    admin.patch(&path, &app_rate).await.ok();
    let mut told = Vec::new();
    for _ in 0..2 {
        let case = agency.file(&filing(now, LAT, LON)).await;
        let alert = text(&operator.verify(&case).await, "/alert/id").to_owned();
        settled(&operator, &case).await;
        told.push(inbox.once(&alert, Kind::Issue));
    }
    let area: BTreeSet<_> = told[0].clone();
    assert!(
        recalled.is_subset(&area),
        "the first alert uses up nobody's day"
    );
    let twice: BTreeSet<_> = area.difference(&recalled).cloned().collect();
    assert_eq!(told[1], twice);
}

/// Like [`settled`], for a case whose shards may have been withdrawn.
async fn settled_or_withdrawn(caller: &Caller, case: &str) -> serde_json::Value {
    until("delivery comes to rest", async || {
        let alert = dispatch(caller, case).await;
        let batches = alert["batches"].as_array()?;
        let moving = ["pending", "sending", "sent"];
        let rests = |batch: &serde_json::Value| !moving.contains(&batch["state"].as_str().unwrap());
        batches.iter().all(rests).then_some(alert)
    })
    .await
}

async fn closed_while_batches_are_in_the_apps_hands(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let app = house.app("Nearby", 40).await;
    house.serve(&[("dispatch.batch_people", "10")]).await;
    let now = house.now().await;
    app.register(&Person::many("p", 200, cell_at(LAT, LON), now))
        .await;
    let mut stream = Stream::open(&app, 3).await;
    let case = agency.file(&filing(now, LAT, LON)).await;
    let alert = text(&operator.verify(&case).await, "/alert/id").to_owned();
    let held = [
        stream.next().await,
        stream.next().await,
        stream.next().await,
    ];
    // Some more wait in the app's queue by now, where the app has no room for them.
    until("batches in the queue", async || {
        (maybe_sent(&house, &alert).await >= 50).then_some(())
    })
    .await;
    let closed = agency.close(&case).await;
    let sent = maybe_sent(&house, &alert).await;
    assert_ne!(closed["recall"]["withdrawn"], 0);

    for batch in &held {
        assert_eq!(batch.alert.as_ref().unwrap().kind(), Kind::Issue);
        stream.ack(batch).await;
    }
    let mut recalled = BTreeSet::new();
    while (recalled.len() as i64) < sent {
        let batch = stream.next().await;
        let inside = batch.alert.as_ref().unwrap();
        assert_eq!(
            inside.kind(),
            Kind::Recall,
            "no issue reaches the app after the close"
        );
        for token in tokens_of(&batch) {
            assert!(recalled.insert(token), "recalled twice");
        }
        stream.ack(&batch).await;
    }
    let rest = settled_or_withdrawn(&operator, &case).await;
    assert_eq!(maybe_sent(&house, &alert).await, sent);
    assert!(
        held.iter()
            .flat_map(tokens_of)
            .all(|token| recalled.contains(&token))
    );
    let people = |kind: &str, state: &str| -> i64 {
        let batches = rest["batches"].as_array().unwrap();
        let those = batches
            .iter()
            .filter(|b| b["kind"] == kind && b["state"] == state);
        those.map(|batch| batch["people"].as_i64().unwrap()).sum()
    };
    assert_eq!(people("issue", "taken"), 30, "{rest:#}");
    assert_eq!(
        people("issue", "expired"),
        sent - 30,
        "held back by the reader: {rest:#}"
    );
    assert_eq!(people("recall", "taken"), sent, "{rest:#}");
    assert_eq!(people("issue", "withdrawn"), 200 - sent, "{rest:#}");
}

async fn recalls_reach_those_who_left_since(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let app = house.app("Nearby", 100_000).await;
    house.serve(&[]).await;
    let (now, here) = (house.now().await, cell_at(LAT, LON));
    let people = Person::many("p", 6, here, crate::common::ago(now, 5));
    app.register(&people).await;
    let inbox = Inbox::open(&app).await;
    let case = agency.file(&filing(now, LAT, LON)).await;
    let alert = text(&operator.verify(&case).await, "/alert/id").to_owned();
    settled(&operator, &case).await;

    let moved = Person::new("p-00000", cell_at(LAT + 1.0, LON), now);
    let opted_out = Person::new("p-00001", here, now).with("opt_out", true);
    app.register(&[moved, opted_out]).await;
    let gone = json!({ "token": "p-00002", "at": now, "delete": true });
    app.put([gone]).await.ok();
    // A newcomer, who has nothing to be taken back.
    app.register(&[Person::new("newcomer", here, now)]).await;

    operator.close(&case).await;
    settled(&operator, &case).await;
    assert_eq!(inbox.once(&alert, Kind::Issue).len(), 6);
    assert_eq!(
        inbox.once(&alert, Kind::Recall),
        inbox.once(&alert, Kind::Issue)
    );
}

async fn a_case_taken_up_again_is_a_new_alert(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let app = house.app("Nearby", 100_000).await;
    house.serve(&[]).await;
    let now = house.now().await;
    app.register(&Person::many("p", 4, cell_at(LAT, LON), now))
        .await;
    let inbox = Inbox::open(&app).await;
    let case = agency.file(&filing(now, LAT, LON)).await;
    let first = text(&operator.verify(&case).await, "/alert/id").to_owned();
    settled(&operator, &case).await;
    agency.close(&case).await;
    settled(&operator, &case).await;

    let reopened = agency.step(&case, "reopen").await.ok();
    assert_eq!(text(&reopened, "/state"), "submitted");
    assert_eq!(
        operator.alert_of(&case).await,
        first,
        "nobody is told before it is verified anew"
    );
    let second = text(&operator.verify(&case).await, "/alert/id").to_owned();
    assert_ne!(first, second);
    let rest = settled(&operator, &case).await;
    assert_eq!(Rounds::of(&rest).last_counts().0, 4);
    assert_eq!(
        inbox.once(&second, Kind::Issue),
        inbox.once(&first, Kind::Recall)
    );
    agency.close(&case).await;
    settled(&operator, &case).await;
    assert_eq!(inbox.once(&second, Kind::Recall).len(), 4);
    assert_eq!(
        inbox.once(&first, Kind::Recall).len(),
        4,
        "the first is not recalled again"
    );
}

async fn a_case_closed_before_anybody_was_told(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let app = house.app("Nearby", 100_000).await;
    house.serve(&[]).await;
    let now = house.now().await;
    app.register(&Person::many("p", 4, cell_at(LAT, LON), now))
        .await;
    let inbox = Inbox::open(&app).await;
    let unverified = agency.file(&filing(now, LAT, LON)).await;
    let closed = agency.close(&unverified).await;
    assert!(
        closed["recall"].is_null() && closed["alert"].is_null(),
        "{closed:#}"
    );

    operator.post("/v1/lanes/hold", &json!({})).await.ok();
    let held = agency.file(&filing(now, LAT, LON)).await;
    let alert = text(&operator.verify(&held).await, "/alert/id").to_owned();
    until("fan-out", async || {
        (on_the_told_list(&house, &alert).await == 4).then_some(())
    })
    .await;
    let closed = agency.close(&held).await;
    assert_eq!(closed["recall"], json!({ "withdrawn": 1, "recalls": 0 }));
    operator.post("/v1/lanes/release", &json!({})).await.ok();
    assert_eq!(on_the_told_list(&house, &alert).await, 0);

    let told = agency.file(&filing(now, LAT, LON)).await;
    operator.verify(&told).await;
    settled(&operator, &told).await;
    assert!(
        inbox.told(&alert, Kind::Issue).is_empty() && inbox.told(&alert, Kind::Recall).is_empty()
    );
    assert_eq!(inbox.all().len(), 1);
}
