//! Who gets another person number keeps what they were told of, as long as it was told.

use homeward::alert::proto::v1::Kind;
use homeward::model::{AlertId, CapBudget, PersonNumber};
use homeward::store::told;
use serde_json::json;

use crate::common::{
    House, Inbox, Person, Rounds, ago, cell_at, dispatch, filing, settled, taken_by, text, until,
};

const LAT: f64 = 57.1497;
const LON: f64 = -2.0943;

conformance! {
    what_was_withdrawn_costs_nobody_who_got_another_number,
    whoever_was_told_by_another_number_stays_told,
}

on!(
    postgres_alone,
    Postgres,
    rounds_sent_late_stand_in_nobodys_way
);

/// Waits until the rounds of a case have told so many, with the lanes held.
async fn fanned_out(operator: &crate::common::Caller, case: &str, people: i64) {
    until("fan-out", async || {
        let rounds = Rounds::of(&dispatch(operator, case).await);
        (rounds.told() == people).then_some(())
    })
    .await;
}

async fn what_was_withdrawn_costs_nobody_who_got_another_number(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let app = house.app("Nearby", 100_000).await;
    house.serve(&[("cap.per_day", "1")]).await;
    operator.post("/v1/lanes/hold", &json!({})).await.ok();
    let now = house.now().await;
    let (here, there) = (cell_at(LAT, LON), cell_at(LAT + 1.0, LON));
    let far = |token: &str| Person::new(token, there, ago(now, 20));
    app.register(&[far("far one").known_as(1), far("far two").known_as(2)])
        .await;
    let near = |minutes| Person::new("near", here, ago(now, minutes));
    app.register(&[near(20), Person::new("stays", here, ago(now, 20))])
        .await;
    let inbox = Inbox::open(&app).await;
    let case = agency.file(&filing(now, LAT, LON)).await;
    operator.verify(&case).await;
    fanned_out(&operator, &case, 2).await;
    // One number after the other, while the batch waits.
    app.register(&[near(19).known_as(1)]).await;
    app.register(&[near(18).known_as(2)]).await;
    let on_the_list = async || {
        let alert: AlertId = operator.alert_of(&case).await.parse().unwrap();
        let mut session = house.store().read().await.unwrap();
        told::count(&mut session, alert).await.unwrap()
    };
    assert_eq!(on_the_list().await, 4);
    let closed = agency.close(&case).await;
    assert_eq!(closed["recall"], json!({ "withdrawn": 1, "recalls": 0 }));
    assert_eq!(on_the_list().await, 0);

    operator.post("/v1/lanes/release", &json!({})).await.ok();
    let other = agency.file(&filing(now, LAT, LON)).await;
    operator.verify(&other).await;
    let (told, reasons) = Rounds::of(&settled(&operator, &other).await).last_counts();
    assert_eq!(told, 2, "{reasons:?}");
    let issued = inbox.once(&operator.alert_of(&other).await, Kind::Issue);
    assert_eq!(issued.into_iter().collect::<Vec<_>>(), ["near", "stays"]);
}

async fn whoever_was_told_by_another_number_stays_told(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let (app, away) = (
        house.app("Nearby", 100_000).await,
        house.app("Away", 100_000).await,
    );
    house.serve(&[]).await;
    let (now, here) = (house.now().await, cell_at(LAT, LON));
    let person = |token: &str, minutes| Person::new(token, here, ago(now, minutes));
    // Each app by another secret. Of one the app that is away has the lower number, of one the other.
    away.register(&[person("a", 20).known_as(11)]).await;
    app.register(&[person("a", 19).known_as(1), person("b", 19).known_as(2)])
        .await;
    away.register(&[person("b", 20).known_as(12), person("c", 20).known_as(13)])
        .await;
    let inbox = Inbox::open(&app).await;
    let case = agency.file(&filing(now, LAT, LON)).await;
    let alert = text(&operator.verify(&case).await, "/alert/id").to_owned();
    inbox.people(&alert, Kind::Issue, 2).await;
    until("the batch of the app that is away", async || {
        let me = away.get("/v1/apps/me").await.ok();
        (me["queue"]["sent"] == 1).then_some(())
    })
    .await;
    // Now it turns out that they are the same.
    app.register(&[
        person("a", 9).known_as_both(1, 11),
        person("b", 9).known_as_both(2, 12),
    ])
    .await;
    // The batch of the app that is away is as good as never sent, and its time is over.
    taken_by(&operator, &case, "Nearby").await;
    operator.post("/v1/lanes/hold", &json!({})).await.ok();
    let over =
        "UPDATE batches SET state = 'pending', sending_at = NULL, sent_at = NULL, expires_at = 1
                WHERE state = 'sent'";
    assert_eq!(house.database().execute(over).await, 1);
    until("expiry", async || {
        let timeline = operator.timeline(&case).await;
        timeline.contains(&"batches_expired".into()).then_some(())
    })
    .await;
    operator.post("/v1/lanes/release", &json!({})).await.ok();
    let back = Inbox::open(&away).await;
    let (told, reasons) = Rounds::of(&house.sweep(&operator, &case).await).last_counts();
    assert_eq!((told, reasons["told_already"]), (1, 2), "{reasons:?}");
    let told = [&inbox, &back].map(|inbox| inbox.once(&alert, Kind::Issue));
    assert_eq!(told[0].iter().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(told[1].iter().collect::<Vec<_>>(), ["c"]);
}

/// Batches of several rounds that were sent late count from now on; their blocks are locked in one go, in
/// the order in which a fan-out locks them, or each could wait for the other.
async fn rounds_sent_late_stand_in_nobodys_way(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let app = house.app("Nearby", 100_000).await;
    house.serve(&[]).await;
    operator.post("/v1/lanes/hold", &json!({})).await.ok();
    let now = house.now().await;
    // Two regions, and so two blocks.
    let (here, there) = (cell_at(LAT, LON), cell_at(LAT + 1.0, LON));
    app.register(&[
        Person::new("near", here, now),
        Person::new("far", there, now),
    ])
    .await;
    let number = "SELECT person FROM subscribers WHERE token = ";
    let near = house.database().number(&format!("{number}'near'")).await;
    let far = house.database().number(&format!("{number}'far'")).await;
    let mut blocks = [near, far].map(|person| PersonNumber(person).block());
    blocks.sort_unstable();
    let [low, high] = blocks;
    assert!(low < high);
    let case = agency.file(&filing(now, LAT, LON)).await;
    operator.verify(&case).await;
    fanned_out(&operator, &case, 1).await;
    let alert: AlertId = operator.alert_of(&case).await.parse().unwrap();
    // The earlier round lies in the higher block.
    let (mut tx, _) = house.begin().await;
    for (round, block) in [(11, high), (12, low)] {
        let people = [(block, [7].into_iter().collect())].into();
        told::put(&mut tx, alert, round, CapBudget::Usual, now, &people)
            .await
            .unwrap();
    }
    tx.commit().await.unwrap();

    // A fan-out on its way through the blocks.
    let (mut fan_out, _) = house.begin().await;
    told::lock_blocks(&mut fan_out, &[low]).await.unwrap();
    let late = async {
        let (mut tx, now) = house.begin().await;
        told::sent_late(&mut tx, &[(alert, 11), (alert, 12)], now)
            .await
            .unwrap();
        tx.commit().await.unwrap();
    };
    let goes_on = async {
        until("the lane waits for the fan-out", async || {
            let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                AND wait_event_type = 'Lock' AND query LIKE '%person_blocks%FOR UPDATE%'";
            (house.database().number(waiting).await == 1).then_some(())
        })
        .await;
        told::lock_blocks(&mut fan_out, &[high]).await.unwrap();
        fan_out.commit().await.unwrap();
    };
    tokio::join!(late, goes_on);
    let moved = format!(
        "SELECT count(*) FROM told WHERE round > 10 AND told_at > {}",
        now.as_millisecond()
    );
    assert_eq!(house.database().number(&moved).await, 2);
}
