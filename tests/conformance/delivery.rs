//! From the lane to the app: at least once, under an id that never changes, and nothing lost.

use std::collections::{BTreeMap, BTreeSet};

use homeward::alert::proto::v1::consume_request::Message as Said;
use homeward::alert::proto::v1::{Ack, AlertBatch, Hello, Kind, WatchRequest};
use serde_json::json;
use tonic::{Code, Request};

use crate::common::{
    Caller, House, Inbox, Person, Rounds, Stream, cell_at, client, dispatch, filing, settled, text,
    tokens_of, until, with_key,
};

const LAT: f64 = 57.1497;
const LON: f64 = -2.0943;

conformance! {
    what_is_refused_too_often_is_a_dead_letter_and_can_be_replayed,
    what_was_not_acknowledged_comes_again_under_the_same_id,
    a_restart_goes_on_where_it_stopped,
    an_app_that_is_away_holds_up_nobody,
    receipts_settle_and_count,
    a_test_alert_reaches_the_apps_own_devices,
    watching_consumes_nothing,
    the_stream_says_what_is_wrong,
}

with_rabbitmq! {
    what_is_refused_too_often_is_a_dead_letter_and_can_be_replayed,
    what_was_not_acknowledged_comes_again_under_the_same_id,
    a_restart_goes_on_where_it_stopped,
    an_app_that_is_away_holds_up_nobody,
    receipts_settle_and_count,
}

/// A house with people in one place, and the id of the alert that tells them.
async fn told(house: &House, app: &Caller, people: usize) -> (String, String, Caller) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let now = house.now().await;
    app.register(&Person::many("p", people, cell_at(LAT, LON), now))
        .await;
    let case = agency.file(&filing(now, LAT, LON)).await;
    let alert = text(&operator.verify(&case).await, "/alert/id").to_owned();
    (case, alert, operator)
}

async fn what_is_refused_too_often_is_a_dead_letter_and_can_be_replayed(house: House) {
    let (app, other) = (
        house.app("Nearby", 100_000).await,
        house.app("Other", 100_000).await,
    );
    house.serve(&[("dispatch.delivery_limit", "3")]).await;
    let mut stream = Stream::open(&app, 4).await;
    let (case, _, operator) = told(&house, &app, 6).await;
    let first = stream.next().await;
    stream.reject(&first).await;
    for _ in 0..2 {
        let again = stream.next().await;
        assert_eq!(again, first, "the same id, the same content");
        stream.reject(&again).await;
    }
    let letter = until("a dead letter", async || {
        let letters = app.get("/v1/dead-letters").await.ok();
        letters["items"].get(0).cloned()
    })
    .await;
    assert_eq!(text(&letter, "/id"), first.batch_id);
    assert_eq!(
        (&letter["people"], text(&letter, "/kind")),
        (&json!(6), "issue")
    );
    assert!(text(&letter, "/reason").contains("3 times"));
    assert_eq!(
        other.get("/v1/dead-letters").await.ok()["items"],
        json!([]),
        "not theirs"
    );
    assert_eq!(
        operator.get("/v1/dead-letters").await.ok()["items"][0]["id"],
        letter["id"]
    );
    let rest = settled(&operator, &case).await;
    assert_eq!(
        (&rest["batches"][0]["state"], &rest["recipients"]),
        (&json!("dead"), &json!(6))
    );

    let replay = format!("/v1/dead-letters/{}/replay", first.batch_id);
    app.post(&replay, &json!({})).await.refused(403);
    operator.post(&replay, &json!({})).await.ok();
    let replayed = stream.next().await;
    assert_eq!(replayed, first, "the same id, the same content");
    stream.ack(&replayed).await;
    let rest = settled(&operator, &case).await;
    assert_eq!(rest["batches"][0]["state"], "taken");
    operator.post(&replay, &json!({})).await.refused(409);
    assert_eq!(
        operator.get("/v1/dead-letters").await.ok()["items"],
        json!([])
    );

    // Dead once more, then recalled: it is not replayed, and its people get the recall.
    let (case, _) = {
        let agency = house.agency("Tayside").await;
        let case = agency.file(&filing(house.now().await, LAT, LON)).await;
        operator.verify(&case).await;
        (case, agency)
    };
    for _ in 0..3 {
        let batch = stream.next().await;
        stream.reject(&batch).await;
    }
    let dead = until("a dead letter", async || {
        let letters = app.get("/v1/dead-letters").await.ok();
        letters["items"]
            .get(0)
            .map(|letter| text(letter, "/id").to_owned())
    })
    .await;
    operator.close(&case).await;
    operator
        .post(&format!("/v1/dead-letters/{dead}/replay"), &json!({}))
        .await
        .refused(409);
    let recall = stream.next().await;
    assert_eq!(recall.alert.as_ref().unwrap().kind(), Kind::Recall);
    assert_eq!(tokens_of(&recall).len(), 6);
}

async fn what_was_not_acknowledged_comes_again_under_the_same_id(house: House) {
    let app = house.app("Nearby", 100_000).await;
    house
        .serve(&[
            ("dispatch.batch_people", "5"),
            ("dispatch.delivery_limit", "2"),
        ])
        .await;
    let mut stream = Stream::open(&app, 3).await;
    let (case, alert, operator) = told(&house, &app, 30).await;
    let acknowledged = stream.next().await;
    stream.ack(&acknowledged).await;
    let mut held = BTreeMap::new();
    // More often than the delivery limit: that an app goes away is not the batch's fault.
    for _ in 0..4 {
        for _ in 0..3 {
            let batch = stream.next().await;
            assert_ne!(batch.batch_id, acknowledged.batch_id);
            if let Some(before) = held.insert(batch.batch_id.clone(), batch.clone()) {
                assert_eq!(before, batch, "its content never changes");
            }
        }
        drop(stream);
        stream = Stream::open(&app, 3).await;
    }
    drop(stream);
    assert!(
        (3..=5).contains(&held.len()),
        "those held before come first: {}",
        held.len()
    );
    let inbox = Inbox::open(&app).await;
    let rest = settled(&operator, &case).await;
    let told = inbox.once(&alert, Kind::Issue);
    assert!(told.is_disjoint(&tokens_of(&acknowledged)));
    assert_eq!(told.len(), 25);
    assert!(
        rest["batches"]
            .as_array()
            .unwrap()
            .iter()
            .all(|batches| batches["state"] == "taken")
    );
}

async fn a_restart_goes_on_where_it_stopped(house: House) {
    let app = house.app("Nearby", 60).await;
    let settings = [
        ("dispatch.batch_people", "5"),
        ("dispatch.shard_people", "10"),
    ];
    house.serve(&settings).await;
    let mut stream = Stream::open(&app, 2).await;
    let (case, alert, operator) = told(&house, &app, 100).await;
    let first = stream.next().await;
    stream.ack(&first).await;
    let held = stream.next().await;
    until("the acknowledgement to be kept", async || {
        let batches = dispatch(&operator, &case).await["batches"].clone();
        let taken = |batches: &serde_json::Value| batches["state"] == "taken";
        batches.as_array().unwrap().iter().any(taken).then_some(())
    })
    .await;
    house.stop().await;
    let end = stream.end().await;
    assert_eq!(end.unwrap_err().code(), Code::Unavailable);

    house.serve(&settings).await;
    let inbox = Inbox::open(&app).await;
    let rest = settled(&operator, &case).await;
    let again = inbox.of(&alert, Kind::Issue);
    let same: Vec<&AlertBatch> = again
        .iter()
        .filter(|batch| batch.batch_id == held.batch_id)
        .collect();
    assert_eq!(same, [&held], "it comes again as it was");
    let mut people: BTreeSet<String> = inbox.once(&alert, Kind::Issue);
    let acknowledged = again.iter().any(|batch| batch.batch_id == first.batch_id);
    people.extend(tokens_of(&first));
    assert_eq!(people.len(), 100);
    assert!(
        !acknowledged,
        "what the app acknowledged does not come again"
    );
    assert_eq!(Rounds::of(&rest).told(), 100);
}

async fn an_app_that_is_away_holds_up_nobody(house: House) {
    let (away, app) = (
        house.app("Away", 100_000).await,
        house.app("Nearby", 100_000).await,
    );
    house.serve(&[("dispatch.batch_people", "10")]).await;
    let now = house.now().await;
    away.register(&Person::many("away", 500, cell_at(LAT, LON), now))
        .await;
    let inbox = Inbox::open(&app).await;
    let (case, alert, operator) = told(&house, &app, 500).await;
    inbox.people(&alert, Kind::Issue, 500).await;
    inbox.once(&alert, Kind::Issue);
    let me = away.get("/v1/apps/me").await.ok();
    let queue = &me["queue"];
    let waiting = |state: &str| queue[state].as_i64().unwrap();
    assert_eq!(
        waiting("pending") + waiting("sending") + waiting("sent"),
        50,
        "{me:#}"
    );
    assert!(queue["oldest_since"].is_string());
    assert_eq!(
        (&me["registered"], &me["fresh"]),
        (&json!(500), &json!(500))
    );

    let back = Inbox::open(&away).await;
    settled(&operator, &case).await;
    assert_eq!(back.once(&alert, Kind::Issue).len(), 500);
}

async fn receipts_settle_and_count(house: House) {
    let (app, other) = (
        house.app("Nearby", 100_000).await,
        house.app("Other", 100_000).await,
    );
    house.serve(&[]).await;
    let mut stream = Stream::open(&app, 4).await;
    let (case, _, operator) = told(&house, &app, 9).await;
    let batch = stream.next().await;
    let receipt = |kind: &str, people: i64| json!({ "receipts": [{ "batch_id": batch.batch_id, "kind": kind, "people": people }] });
    let kept = other.post("/v1/receipts", &receipt("taken", 9)).await.ok();
    assert_eq!(kept, json!({ "kept": 0, "unknown": [batch.batch_id] }));
    // The app may have it before the lane has recorded that it is on its way.
    until("the batch to be sent, and no more", async || {
        let state = dispatch(&operator, &case).await["batches"][0]["state"].clone();
        assert_ne!(state, "taken");
        (state == "sent").then_some(())
    })
    .await;

    for (kind, people) in [
        ("taken", 9),
        ("delivered", 7),
        ("delivered", 4),
        ("opened", 2),
    ] {
        assert_eq!(
            app.post("/v1/receipts", &receipt(kind, people)).await.ok()["kept"],
            1
        );
    }
    let rest = settled(&operator, &case).await;
    assert_eq!(rest["batches"][0]["state"], "taken");
    assert_eq!(
        rest["receipts"],
        json!({ "taken": 9, "delivered": 7, "opened": 2 })
    );
    app.post("/v1/receipts", &receipt("delivered", -1))
        .await
        .refused(422);
    operator
        .post("/v1/receipts", &receipt("taken", 1))
        .await
        .refused(403);

    let gone = json!({ "batch_id": batch.batch_id, "kind": "token_gone", "tokens": ["p-00003"] });
    app.post("/v1/receipts", &json!({ "receipts": [gone] }))
        .await
        .ok();
    assert_eq!(app.get("/v1/apps/me").await.ok()["registered"], 8);
}

async fn a_test_alert_reaches_the_apps_own_devices(house: House) {
    let (app, other) = (
        house.app("Nearby", 100_000).await,
        house.app("Other", 100_000).await,
    );
    house.serve(&[]).await;
    let now = house.now().await;
    app.register(&Person::many("p", 3, cell_at(LAT, LON), now))
        .await;
    other
        .register(&[Person::new("theirs", cell_at(LAT, LON), now)])
        .await;
    let (inbox, others) = (Inbox::open(&app).await, Inbox::open(&other).await);
    let send = async |tokens: &[&str]| {
        app.post("/v1/apps/me/test-alert", &json!({ "tokens": tokens }))
            .await
    };
    send(&["p-00000", "theirs"]).await.refused(422);
    send(&[]).await.refused(422);
    let gone = json!({ "token": "p-00001", "at": house.now().await, "delete": true });
    app.put([gone]).await.ok();
    send(&["p-00001"]).await.refused(422);
    send(&["p-00000", "p-00002", "p-00000"]).await.ok();
    inbox
        .until("the test", |inbox| !inbox.all().is_empty())
        .await;
    let batch = &inbox.all()[0];
    assert_eq!(
        tokens_of(batch).into_iter().collect::<Vec<_>>(),
        ["p-00000", "p-00002"]
    );
    assert_eq!(batch.alert.as_ref().unwrap().kind(), Kind::Test);
    assert!(others.all().is_empty());
}

async fn watching_consumes_nothing(house: House) {
    let app = house.app("Nearby", 100_000).await;
    house.serve(&[]).await;
    let request = with_key(&app, Request::new(WatchRequest {}));
    let mut watched = client(&app)
        .await
        .watch(request)
        .await
        .unwrap()
        .into_inner();
    let (case, alert, operator) = told(&house, &app, 4).await;
    let seen = tokio::time::timeout(crate::common::PATIENCE, watched.message()).await;
    let seen = seen.unwrap().unwrap().unwrap();
    let inbox = Inbox::open(&app).await;
    settled(&operator, &case).await;
    assert_eq!(inbox.of(&alert, Kind::Issue), [seen]);
}

async fn the_stream_says_what_is_wrong(house: House) {
    let (app, operator) = (
        house.app("Nearby", 100_000).await,
        house.operator("Ben").await,
    );
    house.serve(&[]).await;
    let refused = async |caller: &Caller, in_flight| {
        Stream::try_open(caller, in_flight)
            .await
            .err()
            .map(|status| status.code())
    };
    assert_eq!(
        refused(&house.stranger("hw_app_no"), 1).await,
        Some(Code::Unauthenticated)
    );
    assert_eq!(refused(&operator, 1).await, Some(Code::PermissionDenied));
    assert_eq!(refused(&app, 1_001).await, Some(Code::InvalidArgument));
    assert_eq!(refused(&app, 0).await, None);
    let wrong = [
        Some(Said::Hello(Hello { max_in_flight: 1 })),
        Some(Said::Ack(Ack {
            batch_id: "nonsense".into(),
        })),
        None,
    ];
    for said in wrong {
        let mut stream = Stream::open(&app, 1).await;
        stream.say(said.clone()).await;
        let code = stream.end().await.unwrap_err().code();
        assert_eq!(code, Code::InvalidArgument, "{said:?}");
    }
    // An acknowledgement of what the app never got harms nobody.
    let stranger = Ack {
        batch_id: uuid::Uuid::now_v7().to_string(),
    };
    let mut stream = Stream::open(&app, 1).await;
    stream.say(Some(Said::Ack(stranger))).await;
    let (case, _, operator) = told(&house, &app, 1).await;
    let batch = stream.next().await;
    stream.ack(&batch).await;
    stream.ack(&batch).await;
    assert_eq!(
        settled(&operator, &case).await["batches"][0]["state"],
        "taken"
    );
}
