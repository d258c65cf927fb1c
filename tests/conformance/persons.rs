//! One person behind several subscribers, or in several places while a wave goes out.

use std::collections::BTreeSet;

use homeward::alert::proto::v1::Kind;
use homeward::model::PersonNumber;
use homeward::store::{persons, told};
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::common::{
    Caller, House, Inbox, Person, Rounds, ago, app_id, cell_at, disk, filing, settled, text, until,
};

const LAT: f64 = 57.1497;
const LON: f64 = -2.0943;

conformance! {
    a_person_in_two_apps_is_told_by_the_one_that_saw_them_last,
    whoever_moves_while_a_wave_goes_out_is_told_at_most_once,
    registering_again_starts_nothing_anew,
    whoever_is_known_by_another_secret_stays_the_same_person,
    two_keys_in_one_line_make_one_person_of_two,
    all_keys_of_somebody_united_follow,
    a_token_passed_on_to_somebody_unknown_is_somebody_new,
    whoever_gets_a_key_late_was_told_what_they_were_told,
    a_key_that_nobody_sends_any_more_is_forgotten,
}

on!(
    postgres_alone,
    Postgres,
    whoever_gets_another_number_during_the_fan_out_is_read_again,
    whoever_is_written_while_two_become_one_is_that_one
);

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

/// A case is filed, verified and goes out; gives its id and its alert's.
async fn alert(agency: &Caller, operator: &Caller, filing: &Value) -> (String, String) {
    let case = agency.file(filing).await;
    let alert = text(&operator.verify(&case).await, "/alert/id").to_owned();
    settled(operator, &case).await;
    (case, alert)
}

async fn whoever_is_known_by_another_secret_stays_the_same_person(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let (one, two) = (
        house.app("One", 100_000).await,
        house.app("Two", 100_000).await,
    );
    house
        .serve(&[("cap.per_day", "9"), ("cap.per_week", "9")])
        .await;
    let (now, here) = (house.now().await, cell_at(LAT, LON));
    let (first, second) = (Inbox::open(&one).await, Inbox::open(&two).await);
    let told = |alert: &str| {
        let tokens = |inbox: &Inbox| inbox.once(alert, Kind::Issue).len();
        (tokens(&first), tokens(&second))
    };
    let a = |minutes| Person::new("a", here, ago(now, minutes));
    let b = |minutes| Person::new("b", here, ago(now, minutes));
    // By the old secret; by both, one app after the other; by the new one, the same way.
    let steps = [
        (a(20).known_as(1), b(19).known_as(1)),
        (a(18).known_as_both(11, 1), b(17).known_as(1)),
        (a(16).known_as_both(11, 1), b(15).known_as_both(1, 11)),
        (a(14).known_as(11), b(13).known_as_both(1, 11)),
        (a(12).known_as(11), b(11).known_as(11)),
    ];
    let mut cases = Vec::new();
    for (a, b) in steps {
        two.register(&[b]).await;
        one.register(&[a]).await;
        let (case, alert) = alert(&agency, &operator, &filing(now, LAT, LON)).await;
        assert_eq!(told(&alert), (0, 1), "by the app that saw them last");
        cases.push(case);
    }
    for case in cases {
        let (told, reasons) = Rounds::of(&house.sweep(&operator, &case).await).last_counts();
        assert_eq!((told, reasons["told_already"]), (0, 1));
    }
}

async fn two_keys_in_one_line_make_one_person_of_two(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let (one, two) = (
        house.app("One", 100_000).await,
        house.app("Two", 100_000).await,
    );
    house.serve(&[("cap.per_day", "2")]).await;
    let now = house.now().await;
    let (here, there) = (cell_at(LAT, LON), cell_at(LAT + 1.0, LON));
    // Each app by another secret: nobody can know that those are the same two.
    one.register(&[
        Person::new("a1", here, ago(now, 20)).known_as(1),
        Person::new("b1", there, ago(now, 20)).known_as(2),
    ])
    .await;
    two.register(&[
        Person::new("a2", there, ago(now, 20)).known_as(11),
        Person::new("b2", here, ago(now, 20)).known_as(12),
    ])
    .await;
    let inboxes = [Inbox::open(&one).await, Inbox::open(&two).await];
    let (case, issued) = alert(&agency, &operator, &filing(now, LAT, LON)).await;
    // Now one app sends both keys, and all of them are here.
    one.register(&[
        Person::new("a1", here, ago(now, 9)).known_as_both(11, 1),
        Person::new("b1", here, ago(now, 5)).known_as_both(2, 12),
    ])
    .await;
    two.register(&[
        Person::new("a2", here, ago(now, 8)).known_as(11),
        Person::new("b2", here, ago(now, 8)).known_as(12),
    ])
    .await;
    let (told, reasons) = Rounds::of(&house.sweep(&operator, &case).await).last_counts();
    assert_eq!((told, reasons["told_already"], reasons.len()), (0, 2, 1));
    let all = |alert: &str, kind| -> Vec<String> {
        let each = inboxes.iter().flat_map(|inbox| inbox.once(alert, kind));
        each.collect()
    };
    assert_eq!(all(&issued, Kind::Issue), ["a1", "b2"]);
    // What either of the two numbers was told of counts towards the one cap.
    for (told, reasons) in [(2, 0), (0, 2)] {
        let (case, _) = alert(&agency, &operator, &filing(now, LAT, LON)).await;
        let rounds = Rounds::of(&settled(&operator, &case).await);
        let (now_told, held_back) = rounds.last_counts();
        assert_eq!(
            (now_told, held_back.get("cap").copied().unwrap_or(0)),
            (told, reasons)
        );
    }
    agency.close(&case).await;
    settled(&operator, &case).await;
    assert_eq!(
        all(&issued, Kind::Recall),
        ["a1", "b2"],
        "where the issue went"
    );
}

/// How many persons are behind all subscribers.
async fn persons_known(house: &House) -> i64 {
    let persons = "SELECT count(DISTINCT person) FROM subscribers";
    house.database().number(persons).await
}

async fn all_keys_of_somebody_united_follow(house: House) {
    let app = house.app("Nearby", 100_000).await;
    house.serve(&[]).await;
    let (now, here) = (house.now().await, cell_at(LAT, LON));
    let person = |token: &str| Person::new(token, here, now);
    app.register(&[
        person("a").known_as_both(1, 11),
        person("b").known_as_both(2, 12),
    ])
    .await;
    assert_eq!(persons_known(&house).await, 2);
    app.register(&[person("c").known_as_both(1, 2)]).await;
    assert_eq!(persons_known(&house).await, 1);
    // By the keys that the line did not name.
    app.register(&[person("d").known_as(11), person("e").known_as(12)])
        .await;
    assert_eq!(persons_known(&house).await, 1);
}

async fn a_token_passed_on_to_somebody_unknown_is_somebody_new(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let (one, two) = (
        house.app("One", 100_000).await,
        house.app("Two", 100_000).await,
    );
    house.serve(&[]).await;
    let (now, here) = (house.now().await, cell_at(LAT, LON));
    let person = |token: &str, minutes| Person::new(token, here, ago(now, minutes));
    one.register(&[
        person("phone", 20).known_as(1),
        person("deleted", 20).known_as(2),
    ])
    .await;
    two.register(&[
        person("first", 20).known_as(1),
        person("second", 20).known_as(2),
    ])
    .await;
    one.put([json!({ "token": "deleted", "at": ago(now, 9), "delete": true })])
        .await
        .ok();
    one.register(&[
        person("phone", 8).known_as(3),
        person("deleted", 8).known_as(4),
    ])
    .await;
    let inboxes = [Inbox::open(&one).await, Inbox::open(&two).await];
    let (_, issued) = alert(&agency, &operator, &filing(now, LAT, LON)).await;
    for inbox in &inboxes {
        assert_eq!(inbox.once(&issued, Kind::Issue).len(), 2);
    }
}

async fn whoever_gets_a_key_late_was_told_what_they_were_told(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let (one, two) = (
        house.app("One", 100_000).await,
        house.app("Two", 100_000).await,
    );
    house.serve(&[]).await;
    let now = house.now().await;
    let (here, there) = (cell_at(LAT, LON), cell_at(LAT + 1.0, LON));
    one.register(&[Person::new("far", there, ago(now, 20)).known_as(1)])
        .await;
    two.register(&[Person::new("near", here, ago(now, 20))])
        .await;
    let inbox = Inbox::open(&two).await;
    let (case, issued) = alert(&agency, &operator, &filing(now, LAT, LON)).await;
    two.register(&[Person::new("near", here, ago(now, 9)).known_as(1)])
        .await;
    // And another device of theirs.
    two.register(&[Person::new("tablet", here, ago(now, 8)).known_as(1)])
        .await;
    let (told, reasons) = Rounds::of(&house.sweep(&operator, &case).await).last_counts();
    assert_eq!((told, reasons["told_already"]), (0, 1));
    assert_eq!(inbox.once(&issued, Kind::Issue).len(), 1);
}

async fn a_key_that_nobody_sends_any_more_is_forgotten(house: House) {
    let app = house.app("Nearby", 100_000).await;
    house.serve(&[]).await;
    let (now, here) = (house.now().await, cell_at(LAT, LON));
    let person = |minutes| Person::new("a", here, ago(now, minutes));
    let number = async || {
        house
            .database()
            .number("SELECT person FROM subscribers")
            .await
    };
    app.register(&[person(20).known_as_both(1, 11)]).await;
    let before = number().await;
    house
        .age("persons", "sent_at", SignedDuration::from_hours(59 * 24))
        .await;
    app.register(&[person(19).known_as(11)]).await;
    house
        .age("persons", "sent_at", SignedDuration::from_hours(2 * 24))
        .await;
    until("the old key is forgotten", async || {
        (house
            .database()
            .number("SELECT count(*) FROM persons")
            .await
            == 1)
            .then_some(())
    })
    .await;
    app.register(&[person(18).known_as(11)]).await;
    assert_eq!(number().await, before);
}

/// Reading who is in a shard and locking their numbers are two steps. Whoever gets another number in
/// between must not be told under the old one, or the next sweep would tell them again.
async fn whoever_gets_another_number_during_the_fan_out_is_read_again(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let app = house.app("Nearby", 100_000).await;
    house.serve(&[]).await;
    let now = house.now().await;
    let (here, there) = (cell_at(LAT, LON), cell_at(LAT + 1.0, LON));
    app.register(&[Person::new("far", there, ago(now, 20)).known_as(1)])
        .await;
    app.register(&[Person::new("near", here, ago(now, 20))])
        .await;
    let inbox = Inbox::open(&app).await;
    let number = "SELECT person FROM subscribers WHERE token = ";
    let near = house.database().number(&format!("{number}'near'")).await;
    let far = house.database().number(&format!("{number}'far'")).await;

    let (mut tx, _) = house.begin().await;
    told::lock_blocks(&mut tx, &[PersonNumber(near).block()])
        .await
        .unwrap();
    let case = agency.file(&filing(now, LAT, LON)).await;
    let issued = text(&operator.verify(&case).await, "/alert/id").to_owned();
    until(
        "the fan-out has read who is there and waits for their numbers",
        async || {
            let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
            AND wait_event_type = 'Lock' AND query LIKE '%person_blocks%FOR UPDATE%'";
            (house.database().number(waiting).await == 1).then_some(())
        },
    )
    .await;
    let keyed = (b"near".to_vec(), PersonNumber(far), ago(now, 20));
    persons::follow_keys(&mut tx, app_id(&app), &[keyed])
        .await
        .unwrap();
    tx.commit().await.unwrap();
    settled(&operator, &case).await;
    let (told, reasons) = Rounds::of(&house.sweep(&operator, &case).await).last_counts();
    assert_eq!((told, reasons["told_already"]), (0, 1));
    assert_eq!(inbox.once(&issued, Kind::Issue).len(), 1);
}

/// An upload looks up the numbers of its keys before it writes; what becomes of them meanwhile counts.
async fn whoever_is_written_while_two_become_one_is_that_one(house: House) {
    let app = house.app("Nearby", 100_000).await;
    house.serve(&[]).await;
    let (now, here) = (house.now().await, cell_at(LAT, LON));
    let person = |token: &str| Person::new(token, here, now);
    app.register(&[person("a").known_as(1)]).await;
    app.register(&[person("b").known_as(2)]).await;
    let number = "SELECT person FROM subscribers WHERE token = ";
    let to = house.database().number(&format!("{number}'a'")).await;
    let from = house.database().number(&format!("{number}'b'")).await;

    let (mut tx, _) = house.begin().await;
    persons::unite(&mut tx, PersonNumber(from), PersonNumber(to))
        .await
        .unwrap();
    let late = [person("late").known_as(2)];
    let commit = async {
        until("the upload waits for the key", async || {
            let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                AND wait_event_type = 'Lock' AND query LIKE '%persons%FOR SHARE%'";
            (house.database().number(waiting).await == 1).then_some(())
        })
        .await;
        tx.commit().await.unwrap();
    };
    tokio::join!(app.register(&late), commit);
    assert_eq!(persons_known(&house).await, 1);
}
