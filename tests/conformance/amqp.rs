//! Apps that take their batches from RabbitMQ themselves: what the house knows of them is what they
//! report.

use std::collections::BTreeSet;

use homeward::alert::proto::v1::{AlertBatch, Kind};
use homeward::queue::{AppUser, Broker, UserError, Users};
use homeward::store::holders;
use lapin::message::Delivery;
use lapin::options::{BasicPublishOptions, BasicRejectOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Consumer};
use prost::Message as _;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use crate::common::broker::{Bare, ack, management_url, next_of};
use crate::common::{
    Caller, House, Person, app_id, cell_at, dispatch, filing, text, tokens_of, until,
};

const LAT: f64 = 57.1497;
const LON: f64 = -2.0943;
const QUEUE: &str = "homeward.alerts.Nearby.v1";

with_rabbitmq! {
    receipts_settle_what_the_app_took,
    after_a_close_exactly_those_in_the_queue_are_recalled,
    what_the_app_rejects_is_a_dead_letter_and_can_be_replayed,
    what_a_deleted_queue_held_goes_out_again,
    what_a_deleted_queue_held_goes_out_though_nothing_else_does,
    an_apps_user_reads_its_own_queue_and_nothing_else,
}

/// A case that tells so many people of an app, and its alert.
async fn told(house: &House, app: &Caller, people: usize) -> (Caller, String, String) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let now = house.now().await;
    app.register(&Person::many("p", people, cell_at(LAT, LON), now))
        .await;
    let case = agency.file(&filing(now, LAT, LON)).await;
    let alert = text(&operator.verify(&case).await, "/alert/id").to_owned();
    (operator, case, alert)
}

/// The next batch of a consumer.
async fn next_batch(consumer: &mut Consumer) -> (AlertBatch, Delivery) {
    let message = next_of(consumer).await;
    (
        AlertBatch::decode(message.data.as_slice()).unwrap(),
        message,
    )
}

fn kind_of(batch: &AlertBatch) -> Kind {
    batch.alert.as_ref().unwrap().kind()
}

/// How many people are in batches of a kind and a state.
async fn people(caller: &Caller, case: &str, kind: &str, state: &str) -> i64 {
    let alert = dispatch(caller, case).await;
    let batches = alert["batches"].as_array().unwrap();
    let those = batches
        .iter()
        .filter(|b| b["kind"] == kind && b["state"] == state);
    those.map(|batch| batch["people"].as_i64().unwrap()).sum()
}

async fn until_people(caller: &Caller, case: &str, kind: &str, state: &str, wanted: i64) {
    let what = format!("{wanted} people in {kind} batches that are {state}");
    until(&what, async || {
        (people(caller, case, kind, state).await == wanted).then_some(())
    })
    .await;
}

/// Acknowledging towards the broker says nothing to the house; a receipt does, and the recall comes
/// whether there was one or not.
async fn receipts_settle_what_the_app_took(house: House) {
    let app = house.app("Nearby", 100_000).await;
    house.serve(&[("dispatch.batch_people", "5")]).await;
    let (operator, case, _) = told(&house, &app, 20).await;
    until_people(&operator, &case, "issue", "sent", 20).await;
    let bare = Bare::at(&house.vhost().url()).await;
    let mut consumer = bare.consume(QUEUE, 8).await;
    let mut issued = Vec::new();
    for _ in 0..4 {
        let (batch, message) = next_batch(&mut consumer).await;
        assert_eq!(kind_of(&batch), Kind::Issue);
        ack(&message).await;
        issued.push(batch);
    }
    until("the broker to forget them", async || {
        (house.vhost().waiting_in(QUEUE).await == 0).then_some(())
    })
    .await;
    assert_eq!(people(&operator, &case, "issue", "sent").await, 20);

    let receipt =
        |batch: &AlertBatch| json!({ "batch_id": batch.batch_id, "kind": "taken", "people": 5 });
    let receipts: Vec<Value> = issued[..2].iter().map(receipt).collect();
    let answer = app
        .post("/v1/receipts", &json!({ "receipts": receipts }))
        .await
        .ok();
    assert_eq!(answer, json!({ "kept": 2, "unknown": [] }));
    assert_eq!(people(&operator, &case, "issue", "taken").await, 10);
    assert_eq!(people(&operator, &case, "issue", "sent").await, 10);

    operator.close(&case).await;
    let mut recalled = BTreeSet::new();
    while recalled.len() < 20 {
        let (batch, message) = next_batch(&mut consumer).await;
        assert_eq!(kind_of(&batch), Kind::Recall);
        assert!(recalled.is_disjoint(&tokens_of(&batch)), "recalled twice");
        recalled.extend(tokens_of(&batch));
        ack(&message).await;
    }
    let told: BTreeSet<String> = issued.iter().flat_map(tokens_of).collect();
    assert_eq!(recalled, told);
    until_people(&operator, &case, "recall", "sent", 20).await;
}

/// The queue is full when the case is closed, and nobody has read from it yet.
async fn after_a_close_exactly_those_in_the_queue_are_recalled(house: House) {
    let app = house.app("Nearby", 40).await;
    house.serve(&[("dispatch.batch_people", "10")]).await;
    let (operator, case, alert) = told(&house, &app, 200).await;
    // Two seconds of the rate, or eight batches.
    until_people(&operator, &case, "issue", "sent", 80).await;
    let closed = operator.close(&case).await;
    assert_ne!(closed["recall"]["withdrawn"], 0, "{closed:#}");
    let maybe_sent = format!(
        "SELECT CAST(sum(people) AS BIGINT) FROM batches
         WHERE alert_id = {} AND kind = 'issue' AND sending_at IS NOT NULL",
        house.database().id(&alert)
    );
    let sent = house.database().number(&maybe_sent).await;

    // Somebody else is told afterwards; nothing of the closed case comes behind that.
    let agency = house.agency("Tayside").await;
    let now = house.now().await;
    let marker = Person::new("marker", cell_at(48.0, 11.0), now);
    app.register(&[marker]).await;
    let other = agency.file(&filing(now, 48.0, 11.0)).await;
    operator.verify(&other).await;

    let bare = Bare::at(&house.vhost().url()).await;
    let mut consumer = bare.consume(QUEUE, 4).await;
    let (mut issued, mut recalled, mut others) = (BTreeSet::new(), BTreeSet::new(), false);
    while !others || (recalled.len() as i64) < sent {
        let (batch, message) = next_batch(&mut consumer).await;
        let tokens = tokens_of(&batch);
        if tokens.contains("marker") {
            others = true;
        } else if kind_of(&batch) == Kind::Recall {
            assert!(
                tokens.is_subset(&issued),
                "the recall comes behind its issue"
            );
            assert!(recalled.is_disjoint(&tokens), "recalled twice");
            recalled.extend(tokens);
        } else {
            assert!(issued.is_disjoint(&tokens), "told twice");
            issued.extend(tokens);
        }
        ack(&message).await;
    }
    assert_eq!(
        issued, recalled,
        "those who were told get the recall, nobody else"
    );
    assert_eq!(issued.len() as i64, sent);
    assert_eq!(
        house.database().number(&maybe_sent).await,
        sent,
        "nothing since the close"
    );
    assert_eq!(
        people(&operator, &case, "issue", "withdrawn").await,
        200 - sent
    );
}

async fn what_the_app_rejects_is_a_dead_letter_and_can_be_replayed(house: House) {
    let app = house.app("Nearby", 100_000).await;
    house.serve(&[]).await;
    let bare = Bare::at(&house.vhost().url()).await;
    let (operator, case, _) = told(&house, &app, 6).await;
    until_people(&operator, &case, "issue", "sent", 6).await;
    let mut consumer = bare.consume(QUEUE, 4).await;
    let (first, message) = next_batch(&mut consumer).await;
    let for_good = BasicRejectOptions { requeue: false };
    message.acker.reject(for_good).await.unwrap();
    let letter = until("a dead letter", async || {
        let letters = app.get("/v1/dead-letters").await.ok();
        letters["items"].get(0).cloned()
    })
    .await;
    assert_eq!(text(&letter, "/id"), first.batch_id);
    assert_eq!(text(&letter, "/reason"), "rejected by the app");
    assert_eq!(people(&operator, &case, "issue", "dead").await, 6);

    let replay = format!("/v1/dead-letters/{}/replay", first.batch_id);
    operator.post(&replay, &json!({})).await.ok();
    let (again, message) = next_batch(&mut consumer).await;
    assert_eq!(again, first, "the same id, the same content");
    ack(&message).await;

    // What is no batch of ours is put aside, counted and forgotten.
    bare.put(QUEUE, b"hello", BasicProperties::default()).await;
    let foreign = next_of(&mut consumer).await;
    foreign.acker.reject(for_good).await.unwrap();
    until("the foreign message to be counted", async || {
        let metrics = house.probe("/metrics").await.text;
        let counted =
            |line: &str| line.starts_with("homeward_foreign_messages") && line.ends_with(" 1");
        metrics.lines().any(counted).then_some(())
    })
    .await;
    assert_eq!(app.get("/v1/dead-letters").await.ok()["items"], json!([]));
}

async fn what_a_deleted_queue_held_goes_out_again(house: House) {
    queue_deleted(house, Then::TestAlert).await;
}

async fn what_a_deleted_queue_held_goes_out_though_nothing_else_does(house: House) {
    queue_deleted(house, Then::Nothing).await;
}

/// What there is to send after a queue was deleted.
#[derive(PartialEq)]
enum Then {
    TestAlert,
    Nothing,
}

/// Of what the app had not taken nothing is lost; what it took does not come again.
async fn queue_deleted(house: House, then: Then) {
    let app = house.app("Nearby", 100_000).await;
    house.serve(&[("dispatch.batch_people", "5")]).await;
    let (operator, case, _) = told(&house, &app, 30).await;
    until_people(&operator, &case, "issue", "sent", 30).await;
    let bare = Bare::at(&house.vhost().url()).await;
    let mut consumer = bare.consume(QUEUE, 1).await;
    let (taken, _) = next_batch(&mut consumer).await;
    let receipt = json!({ "batch_id": taken.batch_id, "kind": "taken", "people": 5 });
    app.post("/v1/receipts", &json!({ "receipts": [receipt] }))
        .await
        .ok();
    house.vhost().delete(QUEUE).await;
    drop(bare);

    if then == Then::TestAlert {
        let body = json!({ "tokens": ["p-00000"] });
        app.post("/v1/apps/me/test-alert", &body).await.ok();
    }
    until("the queue to be made again", async || {
        let queues = house.vhost().queues().await;
        queues.contains(&QUEUE.to_owned()).then_some(())
    })
    .await;
    let bare = Bare::at(&house.vhost().url()).await;
    let mut consumer = bare.consume(QUEUE, 1).await;
    let (mut again, mut tested) = (BTreeSet::new(), then == Then::Nothing);
    while !tested || again.len() < 5 {
        let (batch, message) = next_batch(&mut consumer).await;
        assert_ne!(batch.batch_id, taken.batch_id, "it was taken");
        match kind_of(&batch) {
            Kind::Test => tested = true,
            _ => assert!(again.insert(batch.batch_id.clone())),
        }
        ack(&message).await;
    }
    assert_eq!(people(&operator, &case, "issue", "taken").await, 5);
    operator.close(&case).await;
    let mut recalled = BTreeSet::new();
    while recalled.len() < 30 {
        let (batch, message) = next_batch(&mut consumer).await;
        assert_eq!(kind_of(&batch), Kind::Recall);
        recalled.extend(tokens_of(&batch));
        ack(&message).await;
    }
}

async fn an_apps_user_reads_its_own_queue_and_nothing_else(house: House) {
    let (app, _) = (
        house.app("Nearby", 100_000).await,
        house.app("Other", 100_000).await,
    );
    house.serve(&[]).await;
    let (mut tx, _) = house.begin().await;
    let whole = holders::app(&mut tx, app_id(&app)).await.unwrap().unwrap();
    drop(tx);
    let broker = Broker::at(&house.vhost().url().into()).unwrap();
    let users = Users::at(&management_url().into()).unwrap();
    let user = AppUser::fresh(&broker, &whole).unwrap();
    users.make(&user).await.unwrap();
    assert!(users.list().await.unwrap().contains(&user.name));
    assert_eq!(user.queue, QUEUE);

    let url = house
        .vhost()
        .url_of(&user.name, user.password.expose_secret());
    let (operator, case, _) = told(&house, &app, 3).await;
    until_people(&operator, &case, "issue", "sent", 3).await;
    let bare = Bare::at(&url).await;
    let mut consumer = bare.consume(QUEUE, 1).await;
    let (batch, message) = next_batch(&mut consumer).await;
    ack(&message).await;
    assert_eq!(batch.tokens.len(), 3);
    for queue in [
        "homeward.alerts.Other.v1",
        "homeward.dead.v1",
        "homeward.kept.Nearby.v1",
    ] {
        assert!(!Bare::at(&url).await.may_consume(queue).await, "{queue}");
    }
    for exchange in ["", "homeward.alerts", "homeward.dead"] {
        let bare = Bare::at(&url).await;
        bare.channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .unwrap();
        let options = BasicPublishOptions::default();
        let key = "Nearby.issue";
        let sent = bare.channel.basic_publish(
            exchange.into(),
            key.into(),
            options,
            b"x",
            BasicProperties::default(),
        );
        let refused = match sent.await {
            Ok(sent) => sent.await.is_err(),
            Err(_) => true,
        };
        assert!(refused, "it published to '{exchange}'");
    }

    users.remove(&user.name).await.unwrap();
    assert!(matches!(
        users.remove(&user.name).await,
        Err(UserError::Unknown(_))
    ));
    let broker_users = users.remove("homeward").await;
    assert!(
        matches!(broker_users, Err(UserError::Unknown(_))),
        "it is no app's"
    );
    assert!(!users.list().await.unwrap().contains(&user.name));
}
