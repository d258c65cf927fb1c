//! One person behind several subscribers, or in several places while a wave goes out.

use std::collections::BTreeSet;

use homeward::alert::proto::v1::Kind;
use jiff::SignedDuration;
use serde_json::json;

use crate::common::{House, Inbox, Person, Rounds, ago, cell_at, disk, filing, settled, text};

const LAT: f64 = 57.1497;
const LON: f64 = -2.0943;

conformance! {
    a_person_in_two_apps_is_told_by_the_one_that_saw_them_last,
    whoever_moves_while_a_wave_goes_out_is_told_at_most_once,
    registering_again_starts_nothing_anew,
}

async fn a_person_in_two_apps_is_told_by_the_one_that_saw_them_last(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let (one, two) = (
        house.app("One", 100_000).await,
        house.app("Two", 100_000).await,
    );
    house.serve(&[]).await;
    let now = house.now().await;
    let (here, there) = (cell_at(LAT, LON), cell_at(LAT + 1.0, LON));
    let seen = |minutes| ago(now, minutes);
    one.register(&[
        Person::new("a1", here, seen(20)).known_as(1),
        Person::new("b1", here, seen(10)).known_as(2),
        Person::new("c1", here, seen(20)).known_as(3),
        Person::new("d1", there, seen(20)).known_as(4),
        Person::new("alone", here, seen(10)),
    ])
    .await;
    two.register(&[
        Person::new("a2", here, seen(10)).known_as(1),
        Person::new("b2", here, seen(20)).known_as(2),
        // Gone since, as the other app saw.
        Person::new("c2", there, seen(10)).known_as(3),
        // Came since.
        Person::new("d2", here, seen(10)).known_as(4),
    ])
    .await;
    let (first, second) = (Inbox::open(&one).await, Inbox::open(&two).await);
    let case = agency.file(&filing(now, LAT, LON)).await;
    let alert = text(&operator.verify(&case).await, "/alert/id").to_owned();
    let (told, reasons) = Rounds::of(&settled(&operator, &case).await).last_counts();
    assert_eq!(
        (told, reasons.len()),
        (4, 0),
        "each person counts once: {reasons:?}"
    );
    let names = |names: &[&str]| {
        names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(first.once(&alert, Kind::Issue), names(&["alone", "b1"]));
    assert_eq!(second.once(&alert, Kind::Issue), names(&["a2", "d2"]));

    // Now the other app saw them last: that makes nobody new.
    one.register(&[Person::new("a1", here, seen(1)).known_as(1)])
        .await;
    two.register(&[Person::new("c2", here, seen(1)).known_as(3)])
        .await;
    let (told, reasons) = Rounds::of(&house.sweep(&operator, &case).await).last_counts();
    assert_eq!((told, reasons["told_already"]), (1, 4));
    assert_eq!(second.once(&alert, Kind::Issue), names(&["a2", "c2", "d2"]));
    // An app that no longer says who somebody is makes them nobody new either.
    one.register(&[Person::new("e1", here, seen(9)).known_as(5)])
        .await;
    two.register(&[Person::new("e2", here, seen(8)).known_as(5)])
        .await;
    one.register(&[Person::new("e1", here, seen(7))]).await;
    let other = agency.file(&filing(now, LAT, LON)).await;
    let other_alert = text(&operator.verify(&other).await, "/alert/id").to_owned();
    settled(&operator, &other).await;
    let told = [&first, &second].map(|inbox| inbox.once(&other_alert, Kind::Issue));
    let them = ["e1", "e2"].map(String::from);
    assert_eq!(
        told.iter()
            .flatten()
            .filter(|token| them.contains(token))
            .count(),
        1
    );

    agency.close(&case).await;
    settled(&operator, &case).await;
    assert_eq!(first.once(&alert, Kind::Recall), names(&["alone", "b1"]));
    assert_eq!(
        second.once(&alert, Kind::Recall),
        names(&["a2", "c2", "d2"])
    );
}

async fn whoever_moves_while_a_wave_goes_out_is_told_at_most_once(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let app = house.app("Nearby", 100_000).await;
    let settings = [
        ("dispatch.batch_people", "5"),
        ("dispatch.shard_people", "6"),
        ("cap.per_day", "9"),
        ("cap.per_week", "9"),
    ];
    house.serve(&settings).await;
    let now = house.now().await;
    let cells = disk(cell_at(LAT, LON), 2);
    let movers = 60;
    let at_step = |step: usize| -> Vec<Person> {
        let at = ago(now, 60) + SignedDuration::from_secs(step as i64);
        let cell = |n: usize| cells[(n * 7 + step * 5) % cells.len()];
        (0..movers)
            .map(|n| Person::new(format!("mover-{n}"), cell(n), at))
            .collect()
    };
    app.register(&at_step(0)).await;
    let inbox = Inbox::open(&app).await;
    let mut filing = filing(now, LAT, LON);
    // Vague enough that all those cells are in the first wave.
    filing["lkp"]["accuracy_m"] = 2_000.into();
    for round in 0..3 {
        let case = agency.file(&filing).await;
        let walking = async {
            for step in 1..=12 {
                app.register(&at_step(20 * round + step)).await;
            }
        };
        tokio::join!(operator.verify(&case), walking);
        settled(&operator, &case).await;
        let alert = operator.alert_of(&case).await;
        inbox.once(&alert, Kind::Issue);
        // Now that they stand still a sweep finds whoever slipped through.
        let (_, reasons) = Rounds::of(&house.sweep(&operator, &case).await).last_counts();
        assert!(reasons["told_already"] > 0);
        assert_eq!(inbox.once(&alert, Kind::Issue).len(), movers);
        agency.close(&case).await;
    }
}

async fn registering_again_starts_nothing_anew(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let app = house.app("Nearby", 100_000).await;
    house.serve(&[]).await;
    let (now, here) = (house.now().await, cell_at(LAT, LON));
    let people: Vec<Person> = (0..5_u8)
        .map(|n| Person::new(format!("p{n}"), here, ago(now, 9)))
        .map(|one| {
            if one.token == "p4" {
                one.known_as(4)
            } else {
                one
            }
        })
        .collect();
    app.register(&people).await;
    let inbox = Inbox::open(&app).await;
    let case = agency.file(&filing(now, LAT, LON)).await;
    let alert = text(&operator.verify(&case).await, "/alert/id").to_owned();
    settled(&operator, &case).await;

    let delete = |token: &str| json!({ "token": token, "at": ago(now, 8), "delete": true });
    app.put([delete("p0"), delete("p1"), delete("p4")])
        .await
        .ok();
    let batch = &inbox.of(&alert, Kind::Issue)[0].batch_id;
    let gone = json!({ "batch_id": batch, "kind": "token_gone", "tokens": ["p2"] });
    app.post("/v1/receipts", &json!({ "receipts": [gone] }))
        .await
        .ok();
    let (_, reasons) = Rounds::of(&house.sweep(&operator, &case).await).last_counts();
    assert_eq!(
        reasons["told_already"], 1,
        "who is deleted is not in the area"
    );

    let later = house.now().await;
    let again = |token: &str| Person::new(token, here, later);
    app.register(&[
        again("p0"),
        again("p1"),
        again("p2"),
        again("p4").known_as(4),
    ])
    .await;
    // Under another token, but the same person.
    app.register(&[again("new phone").known_as(4)]).await;
    let (told, reasons) = Rounds::of(&house.sweep(&operator, &case).await).last_counts();
    assert_eq!((told, reasons["told_already"]), (0, 5));
    assert_eq!(inbox.once(&alert, Kind::Issue).len(), 5);
}
