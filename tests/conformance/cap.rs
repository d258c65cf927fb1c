//! How often a person is told: once per alert, and no more than the cap; who is held back is told
//! later.

use std::collections::BTreeMap;

use homeward::alert::proto::v1::Kind;
use jiff::SignedDuration;
use serde_json::json;

use crate::common::{
    House, Inbox, Person, Rounds, ago, cell_at, disk, dispatch, filing, settled, taken_by, text,
    until,
};

const LAT: f64 = 57.1497;
const LON: f64 = -2.0943;

conformance! {
    two_of_four_overlapping_cases,
    five_in_a_week,
    a_sweep_tells_newcomers_and_nobody_twice,
    who_was_held_back_is_told_by_a_later_sweep,
    critical_cases_have_an_allowance_of_their_own,
    withdrawn_batches_cost_nobody_their_cap,
    what_expired_unsent_is_told_by_a_later_sweep,
    an_alert_that_was_sent_late_counts_from_then,
}

async fn two_of_four_overlapping_cases(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let apps = [
        house.app("One", 100_000).await,
        house.app("Two", 100_000).await,
    ];
    let settings = [
        ("dispatch.workers", "4"),
        ("dispatch.batch_people", "7"),
        ("dispatch.shard_people", "12"),
    ];
    house.serve(&settings).await;
    let now = house.now().await;
    let mut inboxes = Vec::new();
    for (n, app) in apps.iter().enumerate() {
        let mut people = Vec::new();
        for (place, cell) in disk(cell_at(LAT, LON), 1).into_iter().enumerate() {
            people.extend(Person::many(&format!("app{n}-{place}"), 15, cell, now));
        }
        app.register(&people).await;
        inboxes.push(Inbox::open(app).await);
    }
    let people = 2 * 7 * 15;

    // All four are verified at the same moment, so that their shards are fanned out side by side.
    let mut cases = Vec::new();
    for _ in 0..4 {
        cases.push(agency.file(&filing(now, LAT, LON)).await);
    }
    tokio::join!(
        operator.verify(&cases[0]),
        operator.verify(&cases[1]),
        operator.verify(&cases[2]),
        operator.verify(&cases[3]),
    );
    let alerts_of_each = async || {
        let mut told: BTreeMap<String, usize> = BTreeMap::new();
        let mut counted = 0;
        for case in &cases {
            let rest = settled(&operator, case).await;
            counted += Rounds::of(&rest).told();
            let alert = operator.alert_of(case).await;
            for inbox in &inboxes {
                for token in inbox.once(&alert, Kind::Issue) {
                    *told.entry(token).or_default() += 1;
                }
            }
        }
        assert_eq!(told.values().sum::<usize>() as i64, counted);
        told
    };
    let told = alerts_of_each().await;
    assert_eq!(told.len(), people);
    assert!(told.values().all(|alerts| *alerts == 2), "{told:?}");

    // A sweep of all four changes nothing while the day lasts.
    for case in &cases {
        let (told, reasons) = Rounds::of(&house.sweep(&operator, case).await).last_counts();
        assert_eq!(told, 0);
        assert!(
            reasons
                .keys()
                .all(|reason| ["told_already", "cap"].contains(&reason.as_str()))
        );
        assert_eq!(reasons.values().sum::<i64>(), people as i64);
    }
    // A day later everybody hears of the two that were held back.
    house
        .age("told", "told_at", SignedDuration::from_hours(25))
        .await;
    for case in &cases {
        house.sweep(&operator, case).await;
    }
    let told = alerts_of_each().await;
    assert!(told.values().all(|alerts| *alerts == 4), "{told:?}");
}

async fn five_in_a_week(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let app = house.app("Nearby", 100_000).await;
    house
        .serve(&[("cap.per_day", "1"), ("cap.per_week", "2")])
        .await;
    let now = house.now().await;
    app.register(&Person::many("p", 3, cell_at(LAT, LON), now))
        .await;
    let _inbox = Inbox::open(&app).await;
    let mut told = Vec::new();
    for _ in 0..3 {
        let case = agency.file(&filing(now, LAT, LON)).await;
        operator.verify(&case).await;
        told.push(Rounds::of(&settled(&operator, &case).await).told());
        house
            .age("told", "told_at", SignedDuration::from_hours(25))
            .await;
    }
    assert_eq!(told, [3, 3, 0], "two in the week, though one a day");
    house
        .age("told", "told_at", SignedDuration::from_hours(6 * 24))
        .await;
    let case = agency.file(&filing(now, LAT, LON)).await;
    operator.verify(&case).await;
    assert_eq!(Rounds::of(&settled(&operator, &case).await).told(), 3);
}

async fn a_sweep_tells_newcomers_and_nobody_twice(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let app = house.app("Nearby", 100_000).await;
    house.serve(&[("dispatch.shard_people", "500")]).await;
    let now = house.now().await;
    let here = cell_at(LAT, LON);
    app.register(&Person::many("resident", 5, here, now)).await;
    let inbox = Inbox::open(&app).await;
    let case = agency.file(&filing(now, LAT, LON)).await;
    let alert = text(&operator.verify(&case).await, "/alert/id").to_owned();
    settled(&operator, &case).await;
    for round in 1..=3 {
        app.register(&Person::many(&format!("visitor{round}"), 2, here, now))
            .await;
        let (told, reasons) = Rounds::of(&house.sweep(&operator, &case).await).last_counts();
        assert_eq!((told, reasons["told_already"]), (2, 3 + 2 * round));
    }
    assert_eq!(inbox.once(&alert, Kind::Issue).len(), 11);
}

async fn who_was_held_back_is_told_by_a_later_sweep(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let app = house.app("Nearby", 100_000).await;
    let night = [
        ("quiet_hours.from", "\"00:00:00\""),
        ("quiet_hours.to", "\"23:59:59.999999999\""),
    ];
    house.serve(&night).await;
    let now = house.now().await;
    let here = cell_at(LAT, LON);
    app.register(&Person::many("sleeper", 3, here, ago(now, 10)))
        .await;
    let tomorrow = now + SignedDuration::from_hours(24);
    let muted = Person::new("muted", here, ago(now, 10)).with("muted_until", tomorrow.to_string());
    app.register(&[muted]).await;
    let case = agency.file(&filing(now, LAT, LON)).await;
    let alert = text(&operator.verify(&case).await, "/alert/id").to_owned();
    let (told, reasons) = Rounds::of(&settled(&operator, &case).await).last_counts();
    assert_eq!((told, reasons["quiet_hours"], reasons["muted"]), (0, 3, 1));

    house.serve(&[]).await;
    let inbox = Inbox::open(&app).await;
    let (told, reasons) = Rounds::of(&house.sweep(&operator, &case).await).last_counts();
    assert_eq!((told, reasons["muted"]), (3, 1), "the morning after");
    app.register(&[Person::new("muted", here, now)]).await;
    let (told, _) = Rounds::of(&house.sweep(&operator, &case).await).last_counts();
    assert_eq!(told, 1, "no longer muted");
    assert_eq!(inbox.once(&alert, Kind::Issue).len(), 4);
}

async fn critical_cases_have_an_allowance_of_their_own(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let app = house.app("Nearby", 100_000).await;
    house.serve(&[]).await;
    let now = house.now().await;
    app.register(&Person::many("p", 3, cell_at(LAT, LON), now))
        .await;
    let _inbox = Inbox::open(&app).await;
    let told_of = async |urgency: &str| {
        let case = agency.file(&filing(now, LAT, LON)).await;
        operator
            .verify_with(&case, json!({ "urgency": urgency }))
            .await
            .ok();
        Rounds::of(&settled(&operator, &case).await).told()
    };
    for (urgency, told) in [
        ("critical", 3),
        ("normal", 3),
        ("high", 3),
        ("normal", 0),
        ("critical", 3),
        ("critical", 0),
    ] {
        assert_eq!(told_of(urgency).await, told, "{urgency}");
    }
}

async fn withdrawn_batches_cost_nobody_their_cap(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let app = house.app("Nearby", 100_000).await;
    house.serve(&[]).await;
    operator.post("/v1/lanes/hold", &json!({})).await.ok();
    let now = house.now().await;
    app.register(&Person::many("p", 9, cell_at(LAT, LON), now))
        .await;
    let inbox = Inbox::open(&app).await;
    let mut cases = Vec::new();
    for _ in 0..3 {
        let case = agency.file(&filing(now, LAT, LON)).await;
        operator.verify(&case).await;
        let fanned_out = async || {
            let alert = dispatch(&operator, &case).await;
            let round = alert["rounds"].get(0)?;
            (round["shards"] == round["shards_done"]).then(|| Rounds::of(&alert).told())
        };
        cases.push((until("fan-out", fanned_out).await, case));
    }
    assert_eq!(
        cases.iter().map(|(told, _)| *told).collect::<Vec<_>>(),
        [9, 9, 0]
    );
    for (_, case) in &cases[..2] {
        let closed = agency.close(case).await;
        assert_eq!(closed["recall"], json!({ "withdrawn": 1, "recalls": 0 }));
    }
    operator.post("/v1/lanes/release", &json!({})).await.ok();
    let case = &cases[2].1;
    assert_eq!(
        Rounds::of(&house.sweep(&operator, case).await)
            .last_counts()
            .0,
        9
    );
    assert_eq!(
        inbox
            .once(&operator.alert_of(case).await, Kind::Issue)
            .len(),
        9
    );
    assert_eq!(
        inbox.all().len(),
        1,
        "nothing of the cases that were closed"
    );
}

async fn what_expired_unsent_is_told_by_a_later_sweep(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let (app, away) = (
        house.app("Nearby", 100_000).await,
        house.app("Away", 100_000).await,
    );
    house.serve(&[("dispatch.batch_people", "3")]).await;
    let now = house.now().await;
    app.register(&Person::many("p", 3, cell_at(LAT, LON), now))
        .await;
    away.register(&Person::many("q", 30, cell_at(LAT, LON), now))
        .await;
    let inbox = Inbox::open(&app).await;
    let case = agency.file(&filing(now, LAT, LON)).await;
    let alert = text(&operator.verify(&case).await, "/alert/id").to_owned();
    inbox.people(&alert, Kind::Issue, 3).await;
    // Some wait in the queue of the app that is away; the others are as good as never sent.
    until("the batches of the app that is away", async || {
        let me = away.get("/v1/apps/me").await.ok();
        (me["queue"]["sent"] == 10).then_some(())
    })
    .await;
    taken_by(&operator, &case, "Nearby").await;
    operator.post("/v1/lanes/hold", &json!({})).await.ok();
    let database = house.database();
    let unsent = "UPDATE batches SET state = 'pending', sending_at = NULL, sent_at = NULL
                  WHERE id IN (SELECT id FROM batches WHERE state = 'sent' ORDER BY id LIMIT 4)";
    assert_eq!(database.execute(unsent).await, 4);
    let over = "UPDATE batches SET expires_at = 1 WHERE state IN ('pending', 'sent')";
    assert_eq!(database.execute(over).await, 10);
    let expired = until("expiry", async || {
        let batches = dispatch(&operator, &case).await["batches"].clone();
        let expired = batches
            .as_array()?
            .iter()
            .find(|batch| batch["state"] == "expired")?;
        Some(expired["people"].clone())
    })
    .await;
    assert_eq!(expired, 30, "counted");
    assert!(
        operator
            .timeline(&case)
            .await
            .contains(&"batches_expired".into())
    );

    operator.post("/v1/lanes/release", &json!({})).await.ok();
    let back = Inbox::open(&away).await;
    let (told, reasons) = Rounds::of(&house.sweep(&operator, &case).await).last_counts();
    assert_eq!((told, reasons["told_already"]), (12, 3 + 18));
    assert_eq!(back.once(&alert, Kind::Issue).len(), 12);
}

async fn an_alert_that_was_sent_late_counts_from_then(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let app = house.app("Nearby", 100_000).await;
    house.serve(&[]).await;
    let now = house.now().await;
    app.register(&Person::many("p", 4, cell_at(LAT, LON), now))
        .await;
    let inbox = Inbox::open(&app).await;
    operator.post("/v1/lanes/hold", &json!({})).await.ok();
    let late = agency.file(&filing(now, LAT, LON)).await;
    let alert = text(&operator.verify(&late).await, "/alert/id").to_owned();
    until("fan-out", async || {
        let rounds = Rounds::of(&dispatch(&operator, &late).await);
        (rounds.told() == 4).then_some(())
    })
    .await;
    // It waited for longer than the day of the cap.
    let long = SignedDuration::from_hours(25);
    house.age("told", "told_at", long).await;
    house.age("batches", "made_at", long).await;
    operator.post("/v1/lanes/release", &json!({})).await.ok();
    inbox.people(&alert, Kind::Issue, 4).await;
    let mut told = Vec::new();
    for _ in 0..2 {
        let case = agency.file(&filing(now, LAT, LON)).await;
        operator.verify(&case).await;
        told.push(Rounds::of(&settled(&operator, &case).await).told());
    }
    assert_eq!(told, [4, 0], "with the late one that makes two today");
}
