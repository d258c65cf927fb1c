//! Changing what people read, and who may.

use std::collections::BTreeMap;

use homeward::alert::proto::v1::Kind;
use serde_json::json;

use crate::common::{
    Caller, House, Inbox, Person, Rounds, Stream, cell_at, filing, number, settled, text,
    tokens_of, until,
};

const LAT: f64 = 57.1497;
const LON: f64 = -2.0943;

conformance! {
    an_update_reaches_everybody_who_was_told_once,
    an_update_never_overtakes_its_issue,
    an_agency_proposes_and_an_operator_decides,
}

with_rabbitmq! {
    an_update_reaches_everybody_who_was_told_once,
    an_update_never_overtakes_its_issue,
}

async fn changed(caller: &Caller, case: &str, change: serde_json::Value) -> crate::common::Answer {
    caller.patch(&format!("/v1/cases/{case}"), &change).await
}

async fn an_update_reaches_everybody_who_was_told_once(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let app = house.app("Nearby", 100_000).await;
    house.serve(&[("dispatch.batch_people", "4")]).await;
    let (now, here) = (house.now().await, cell_at(LAT, LON));
    app.register(&Person::many("p", 10, here, now)).await;
    let inbox = Inbox::open(&app).await;
    let case = agency.file(&filing(now, LAT, LON)).await;
    let alert = text(&operator.verify(&case).await, "/alert/id").to_owned();
    settled(&operator, &case).await;

    let told = changed(&operator, &case, json!({ "clothing": "blue coat" }))
        .await
        .ok();
    assert_eq!(
        (number(&told, "/updates"), number(&told, "/alert/revision")),
        (1, 2)
    );
    settled(&operator, &case).await;
    assert_eq!(
        inbox.once(&alert, Kind::Update),
        inbox.once(&alert, Kind::Issue)
    );
    for batch in inbox.of(&alert, Kind::Update) {
        let inside = batch.alert.unwrap();
        assert_eq!((inside.revision, inside.area.is_some()), (2, true));
        assert!(inside.texts[0].body.contains("blue coat"));
        assert!(!inside.texts[0].body.contains("red coat"));
    }

    // Whoever comes now reads the new text at once, and nothing twice.
    app.register(&[Person::new("newcomer", here, now)]).await;
    house.sweep(&operator, &case).await;
    let fresh = inbox.of(&alert, Kind::Issue).pop().unwrap();
    assert!(tokens_of(&fresh).contains("newcomer"));
    let inside = fresh.alert.unwrap();
    assert!(inside.revision == 2 && inside.texts[0].body.contains("blue coat"));
    assert_eq!(inbox.once(&alert, Kind::Update).len(), 10);

    // What nobody reads is no update, and costs none.
    let contact = json!({ "contact": { "name": "Jo", "phone": "112 113" } });
    assert_eq!(
        number(&changed(&operator, &case, contact).await.ok(), "/updates"),
        1
    );
    for (n, colour) in ["green", "white"].iter().enumerate() {
        let clothing = json!({ "clothing": format!("{colour} coat") });
        let told = changed(&operator, &case, clothing).await.ok();
        assert_eq!(number(&told, "/updates"), n as i64 + 2);
        settled(&operator, &case).await;
    }
    let updates = inbox.told(&alert, Kind::Update);
    assert_eq!(
        (updates.len(), updates["newcomer"], updates["p-00000"]),
        (11, 2, 3)
    );

    // More than three nobody reads who was told before: only who is told from here on.
    let told = changed(&operator, &case, json!({ "clothing": "no coat" }))
        .await
        .ok();
    assert_eq!(
        (number(&told, "/updates"), number(&told, "/update/batches")),
        (3, 0)
    );
    assert!(text(&told, "/update/none_because").contains("limit of updates for a case, 3,"));
    app.register(&[Person::new("late", here, now)]).await;
    house.sweep(&operator, &case).await;
    let fresh = inbox.of(&alert, Kind::Issue).pop().unwrap();
    assert!(tokens_of(&fresh).contains("late"));
    let inside = fresh.alert.unwrap();
    assert!(inside.revision == 5 && inside.texts[0].body.contains("no coat"));
    assert_eq!(inbox.told(&alert, Kind::Update), updates);
    // All that was one alert for the cap.
    for told in [12, 0] {
        let other = agency.file(&filing(now, LAT, LON)).await;
        operator.verify(&other).await;
        assert_eq!(Rounds::of(&settled(&operator, &other).await).told(), told);
    }
    agency.close(&case).await;
    settled(&operator, &case).await;
    assert_eq!(
        inbox.once(&alert, Kind::Recall),
        inbox.once(&alert, Kind::Issue)
    );
    assert_eq!(
        inbox.of(&alert, Kind::Recall)[0]
            .alert
            .as_ref()
            .unwrap()
            .revision,
        6
    );
}

async fn an_update_never_overtakes_its_issue(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let app = house.app("Nearby", 60).await;
    house.serve(&[("dispatch.batch_people", "5")]).await;
    let now = house.now().await;
    app.register(&Person::many("p", 200, cell_at(LAT, LON), now))
        .await;
    // What is not acknowledged keeps the queue full, so that some waits however long the change takes.
    let mut stream = Stream::open(&app, 3).await;
    let case = agency.file(&filing(now, LAT, LON)).await;
    let alert = text(&operator.verify(&case).await, "/alert/id").to_owned();
    for _ in 0..3 {
        stream.next().await;
    }
    changed(&operator, &case, json!({ "clothing": "blue coat" }))
        .await
        .ok();
    drop(stream);
    let inbox = Inbox::open(&app).await;
    let rest = until("everybody to be told", async || {
        let rest = settled(&operator, &case).await;
        (inbox.told(&alert, Kind::Issue).len() == 200).then_some(rest)
    })
    .await;
    assert_eq!(number(&rest, "/recipients"), 200);

    // Each reads the old words and then the new ones, or only the new ones.
    let mut read: BTreeMap<String, Vec<(Kind, u32)>> = BTreeMap::new();
    for batch in inbox.all() {
        let inside = batch.alert.as_ref().unwrap();
        let (kind, revision) = (inside.kind(), inside.revision);
        assert_eq!(inside.texts[0].body.contains("blue coat"), revision == 2);
        for token in tokens_of(&batch) {
            read.entry(token).or_default().push((kind, revision));
        }
    }
    let both = [(Kind::Issue, 1), (Kind::Update, 2)];
    let told_late = [(Kind::Issue, 2)];
    assert!(
        read.values()
            .all(|read| *read == both || *read == told_late),
        "{read:?}"
    );
    let late = read.values().filter(|read| **read == told_late).count();
    assert!(
        (1..200).contains(&late),
        "{late} of 200 were told by the new words alone"
    );
}

async fn an_agency_proposes_and_an_operator_decides(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let app = house.app("Nearby", 100_000).await;
    house.serve(&[]).await;
    let now = house.now().await;
    app.register(&Person::many("p", 3, cell_at(LAT, LON), now))
        .await;
    let inbox = Inbox::open(&app).await;
    let case = agency.file(&filing(now, LAT, LON)).await;
    // Before anybody is told it is the agency's own to change.
    let own = changed(&agency, &case, json!({ "clothing": "green hat" }))
        .await
        .ok();
    assert_eq!(text(&own, "/report/person/clothing"), "green hat");
    let alert = text(&operator.verify(&case).await, "/alert/id").to_owned();
    settled(&operator, &case).await;

    let proposed = changed(&agency, &case, json!({ "clothing": "blue hat" }))
        .await
        .ok();
    assert_eq!(text(&proposed, "/report/person/clothing"), "green hat");
    assert_eq!(text(&proposed, "/proposal/clothing"), "blue hat");
    let more = json!({ "description": "tall", "clothing": "grey hat" });
    let proposed = changed(&agency, &case, more).await.ok();
    assert_eq!(
        text(&proposed, "/proposal/clothing"),
        "grey hat",
        "the later one wins"
    );
    for decision in ["accept", "decline"] {
        let decide = format!("/v1/cases/{case}/proposal/{decision}");
        agency.post(&decide, &json!({})).await.refused(403);
    }
    assert!(inbox.of(&alert, Kind::Update).is_empty());

    operator.step(&case, "proposal/accept").await.ok();
    settled(&operator, &case).await;
    assert_eq!(inbox.once(&alert, Kind::Update).len(), 3);
    let update = inbox.of(&alert, Kind::Update).remove(0).alert.unwrap();
    let body = &update.texts[0].body;
    assert!(body.contains("grey hat") && body.contains("tall"), "{body}");
    operator.step(&case, "proposal/accept").await.refused(409);

    changed(&agency, &case, json!({ "clothing": "no hat" }))
        .await
        .ok();
    let declined = operator.step(&case, "proposal/decline").await.ok();
    assert_eq!(text(&declined, "/report/person/clothing"), "grey hat");
    assert!(declined["proposal"].is_null());
    agency.close(&case).await;
    changed(&agency, &case, json!({ "clothing": "no hat" }))
        .await
        .refused(409);
    changed(&operator, &case, json!({ "clothing": "no hat" }))
        .await
        .refused(409);
    let timeline = agency.get(&format!("/v1/cases/{case}/timeline")).await.text;
    assert!(
        !timeline.contains(" hat"),
        "the timeline names fields, not what they say"
    );
}
