//! Volunteers are told first, and one wave further out; and what a dry run says is what happens.

use std::collections::BTreeSet;

use h3o::CellIndex;
use homeward::alert::proto::v1::Kind;
use serde_json::{Value, json};

use crate::common::{
    Caller, House, Inbox, Person, Rounds, ago, dispatch, filing, number, settled, text, tokens_of,
    until,
};

const LAT: f64 = 57.1497;
const LON: f64 = -2.0943;

conformance! {
    volunteers_hear_first_and_one_wave_further_out,
    a_volunteer_further_out_who_was_held_back_is_told_by_a_sweep,
    volunteers_do_not_go_round_the_second_operator,
    volunteers_further_out_count_towards_the_wave_they_hear_with,
    a_dry_run_tells_nobody_and_says_what_will_be,
    a_dry_run_keeps_to_the_ceiling,
    a_dry_run_leaves_out_volunteers_of_a_wave_on_hold,
}

/// A subscriber's cell in the middle of each wave of a case filed here.
pub async fn cells(agency: &Caller, operator: &Caller, filing: &Value) -> Vec<CellIndex> {
    let case = agency.file(filing).await;
    operator.verify(&case).await;
    let plan = operator.get(&format!("/v1/cases/{case}/plan")).await.ok();
    agency.close(&case).await;
    let waves = plan["waves"].as_array().unwrap().iter();
    let middle = |wave: &Value| {
        let cells = wave["cells"].as_array().unwrap();
        let cell: CellIndex = cells[cells.len() / 2].as_str().unwrap().parse().unwrap();
        cell.center_child(h3o::Resolution::Nine).unwrap()
    };
    waves.map(middle).collect()
}

/// So many volunteers in a cell.
pub fn volunteers(prefix: &str, count: usize, cell: CellIndex, at: jiff::Timestamp) -> Vec<Person> {
    let people = Person::many(prefix, count, cell, at).into_iter();
    people.map(|one| one.with("volunteer", true)).collect()
}

async fn volunteers_hear_first_and_one_wave_further_out(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let app = house.app("Nearby", 100_000).await;
    house
        .serve(&[
            ("dispatch.workers", "1"),
            ("dispatch.shard_people", "20"),
            ("dispatch.batch_people", "20"),
        ])
        .await;
    let now = house.now().await;
    let filing = filing(now, LAT, LON);
    let cells = cells(&agency, &operator, &filing).await;
    for (wave, cell) in cells.iter().enumerate() {
        app.register(&Person::many(
            &format!("others{}", wave + 1),
            40,
            *cell,
            now,
        ))
        .await;
        app.register(&volunteers(&format!("first{}", wave + 1), 5, *cell, now))
            .await;
    }
    let inbox = Inbox::open(&app).await;
    let case = agency.file(&filing).await;
    let alert = text(&operator.verify(&case).await, "/alert/id").to_owned();
    let shown = settled(&operator, &case).await;
    let rounds: Vec<_> = shown["rounds"]
        .as_array()
        .unwrap()
        .iter()
        .map(|round| {
            let count = |field| number(round, field);
            (
                text(round, "/kind"),
                count("/wave"),
                count("/in_area"),
                count("/told"),
            )
        })
        .collect();
    assert_eq!(rounds, [("volunteers", 1, 10, 10), ("wave", 1, 45, 40)]);
    let (_, reasons) = Rounds::of(&shown).last_counts();
    assert_eq!((reasons["told_already"], reasons.len()), (5, 1));

    let issues = inbox.of(&alert, Kind::Issue);
    let first = tokens_of(&issues[0]);
    assert!(
        first.iter().all(|token| token.starts_with("first")),
        "{first:?}"
    );
    // A phone one wave further out must not think that it is outside.
    let covers = |batch: &homeward::alert::proto::v1::AlertBatch, cell: CellIndex| {
        let area = batch.alert.as_ref().unwrap().area.as_ref().unwrap();
        let area: BTreeSet<u64> = area.cells.iter().copied().collect();
        (0..=9_u8).any(|r| area.contains(&cell.parent(r.try_into().unwrap()).unwrap().into()))
    };
    assert!(covers(&issues[0], cells[0]) && covers(&issues[0], cells[1]));
    let others = issues
        .iter()
        .find(|batch| tokens_of(batch).iter().any(|one| one.starts_with("others")));
    assert!(covers(others.unwrap(), cells[0]) && !covers(others.unwrap(), cells[1]));

    for wave in 2..=3 {
        house.wave_now(&operator, &case, wave).await;
        let rounds = 2 * usize::try_from(wave).unwrap();
        until("the next wave", async || {
            (Rounds::of(&dispatch(&operator, &case).await).count() == rounds).then_some(())
        })
        .await;
        let shown = settled(&operator, &case).await;
        let (told, reasons) = Rounds::of(&shown).last_counts();
        assert_eq!((told, reasons["told_already"]), (40, 5), "wave {wave}");
    }
    let told = inbox.once(&alert, Kind::Issue);
    assert_eq!(told.len(), 3 * 45);
    agency.close(&case).await;
    settled(&operator, &case).await;
    assert_eq!(inbox.once(&alert, Kind::Recall), told);
}

async fn a_volunteer_further_out_who_was_held_back_is_told_by_a_sweep(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let app = house.app("Nearby", 100_000).await;
    house.serve(&[]).await;
    let now = house.now().await;
    let filing = filing(now, LAT, LON);
    let cells = cells(&agency, &operator, &filing).await;
    let later = (now + jiff::SignedDuration::from_hours(1)).to_string();
    let muted = Person::new("muted", cells[1], ago(now, 9)).with("volunteer", true);
    app.register(&[muted.clone().with("muted_until", later)])
        .await;
    let inbox = Inbox::open(&app).await;
    let case = agency.file(&filing).await;
    let alert = text(&operator.verify(&case).await, "/alert/id").to_owned();
    let shown = settled(&operator, &case).await;
    assert_eq!(number(&shown, "/rounds/0/not_told/muted"), 1);
    // Another came since, and one who is no volunteer must wait for the wave.
    app.register(&[
        muted.seen(ago(now, 8)),
        Person::new("came", cells[1], ago(now, 8)).with("volunteer", true),
        Person::new("other", cells[1], ago(now, 8)),
    ])
    .await;
    house.sweep(&operator, &case).await;
    let told: Vec<String> = inbox.once(&alert, Kind::Issue).into_iter().collect();
    assert_eq!(told, ["came", "muted"]);
}

async fn volunteers_do_not_go_round_the_second_operator(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let app = house.app("Nearby", 100_000).await;
    house.serve(&[("approval.recipients", "20")]).await;
    let now = house.now().await;
    let filing = filing(now, LAT, LON);
    let cells = cells(&agency, &operator, &filing).await;
    app.register(&Person::many("near", 3, cells[0], now)).await;
    app.register(&Person::many("others", 18, cells[1], now))
        .await;
    app.register(&volunteers("first", 5, cells[1], now)).await;
    let inbox = Inbox::open(&app).await;
    let case = agency.file(&filing).await;
    let alert = text(&operator.verify(&case).await, "/alert/id").to_owned();
    let kinds = |shown: &Value| -> Vec<String> {
        let rounds = shown["rounds"].as_array().unwrap().iter();
        rounds
            .map(|round| text(round, "/kind").to_owned())
            .collect()
    };
    assert_eq!(kinds(&settled(&operator, &case).await), ["wave"]);
    let swept = house.sweep(&operator, &case).await;
    assert_eq!(kinds(&swept), ["wave", "sweep"]);
    assert_eq!(inbox.once(&alert, Kind::Issue).len(), 3);
}

async fn volunteers_further_out_count_towards_the_wave_they_hear_with(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let app = house.app("Nearby", 100_000).await;
    house.serve(&[("approval.recipients", "20")]).await;
    let now = house.now().await;
    let filing = filing(now, LAT, LON);
    let cells = cells(&agency, &operator, &filing).await;
    app.register(&Person::many("near", 15, cells[0], now)).await;
    app.register(&volunteers("first", 6, cells[1], now)).await;
    let case = agency.file(&filing).await;
    operator.verify(&case).await;
    let wave = until("the wave to be stopped", async || {
        let wave = dispatch(&operator, &case).await["waves"][0].clone();
        (wave["state"] == "approval").then_some(wave)
    })
    .await;
    assert_eq!(number(&wave, "/approval/subscribers"), 21);
}

async fn dry_run(operator: &Caller, case: &str) -> Value {
    let path = format!("/v1/cases/{case}/replan?dry_run=true");
    operator.post(&path, &json!({})).await.ok()
}

async fn a_dry_run_tells_nobody_and_says_what_will_be(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let (one, two) = (
        house.app("One", 100_000).await,
        house.app("Two", 100_000).await,
    );
    house
        .serve(&[
            // One shard after the other, as the dry run does.
            ("dispatch.workers", "1"),
            ("dispatch.shard_people", "20"),
            ("dispatch.batch_people", "20"),
            ("cap.per_day", "1"),
        ])
        .await;
    let now = house.now().await;
    let filing = filing(now, LAT, LON);
    let cells = cells(&agency, &operator, &filing).await;
    // Some were told of another case today.
    one.register(&Person::many("told", 6, cells[1], now)).await;
    let inboxes = [Inbox::open(&one).await, Inbox::open(&two).await];
    let other = agency.file(&filing).await;
    operator.verify(&other).await;
    settled(&operator, &other).await;
    house.wave_now(&operator, &other, 2).await;
    inboxes[0]
        .people(&operator.alert_of(&other).await, Kind::Issue, 6)
        .await;
    settled(&operator, &other).await;

    let case = agency.file(&filing).await;
    operator.verify(&case).await;
    settled(&operator, &case).await;
    for cell in &cells[1..] {
        let name = |kind: &str| format!("{kind}-{cell}");
        one.register(&Person::many(&name("other"), 30, *cell, now))
            .await;
        two.register(&volunteers(&name("first"), 5, *cell, now))
            .await;
        two.register(&[Person::new(name("out"), *cell, now).with("opt_out", true)])
            .await;
    }
    // The same person in two apps.
    one.register(&[Person::new("both1", cells[1], ago(now, 9)).known_as(1)])
        .await;
    two.register(&[Person::new("both2", cells[1], ago(now, 8)).known_as(1)])
        .await;
    let before = house.database().dump().await;
    let foreseen = dry_run(&operator, &case).await;
    assert_eq!(dry_run(&operator, &case).await, foreseen);
    let changed = |dump: &[String]| {
        let kept = dump.iter().filter(|line| !line.starts_with("lanes:"));
        kept.cloned().collect::<Vec<_>>()
    };
    assert_eq!(
        changed(&house.database().dump().await),
        changed(&before),
        "it changed something"
    );
    assert_eq!(
        foreseen["rounds"][1]["by_app"]["One"]["not_told"]["cap"], 6,
        "{foreseen:#}"
    );
    assert_eq!(
        foreseen["rounds"][1]["by_app"]["Two"]["told"], 1,
        "{foreseen:#}"
    );

    // Now it happens.
    let before = Rounds::of(&settled(&operator, &case).await).count();
    let replan = format!("/v1/cases/{case}/replan");
    operator.post(&replan, &json!({})).await.ok();
    for wave in 4..=5 {
        house.wave_now(&operator, &case, wave).await;
        until("the wave", async || {
            let shown = dispatch(&operator, &case).await;
            let rounds = shown["rounds"].as_array().unwrap();
            rounds
                .iter()
                .any(|round| round["kind"] == "wave" && round["wave"] == wave)
                .then_some(())
        })
        .await;
        settled(&operator, &case).await;
    }
    let shown = settled(&operator, &case).await;
    let happened = &shown["rounds"].as_array().unwrap()[before..];
    let foreseen = foreseen["rounds"].as_array().unwrap();
    // The volunteers' rounds first, wave by wave; the last wave has none further out.
    for (foreseen, happened) in foreseen.iter().zip(happened) {
        for field in ["kind", "wave", "in_area", "told", "not_told", "by_app"] {
            assert_eq!(foreseen[field], happened[field], "{field} of {happened:#}");
        }
    }
    assert_eq!(foreseen.len(), happened.len());
    assert!(foreseen.len() >= 4, "{foreseen:#?}");
    let agencys = format!("/v1/cases/{case}/replan?dry_run=true");
    agency.post(&agencys, &json!({})).await.refused(403);
}

async fn a_dry_run_keeps_to_the_ceiling(house: House) {
    let (agency, operator) = (
        house.trusted_agency("Grampian").await,
        house.operator("Ann").await,
    );
    let app = house.app("Nearby", 100_000).await;
    let settings = [
        ("approval.self_verified_recipients", "30"),
        ("dispatch.shard_people", "20"),
        ("dispatch.batch_people", "20"),
    ];
    house.serve(&settings).await;
    let now = house.now().await;
    let case = agency.file(&filing(now, LAT, LON)).await;
    settled(&operator, &case).await;
    let plan = operator.get(&format!("/v1/cases/{case}/plan")).await.ok();
    for wave in 1..=2 {
        let cell: CellIndex = text(&plan, &format!("/waves/{wave}/cells/0"))
            .parse()
            .unwrap();
        let cell = cell.center_child(h3o::Resolution::Nine).unwrap();
        app.register(&Person::many(&format!("wave{wave}"), 25, cell, now))
            .await;
    }
    let foreseen = dry_run(&operator, &case).await;
    let told: Vec<i64> = foreseen["rounds"]
        .as_array()
        .unwrap()
        .iter()
        .map(|round| number(round, "/told"))
        .collect();
    assert_eq!(told, [25, 5]);
    assert_eq!(number(&foreseen, "/rounds/1/not_told/ceiling"), 20);
}

async fn a_dry_run_leaves_out_volunteers_of_a_wave_on_hold(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let app = house.app("Nearby", 100_000).await;
    house.serve(&[]).await;
    let now = house.now().await;
    let filing = filing(now, LAT, LON);
    let cells = cells(&agency, &operator, &filing).await;
    let case = agency.file(&filing).await;
    operator.verify(&case).await;
    settled(&operator, &case).await;
    for (wave, cell) in (2..).zip(&cells[1..3]) {
        app.register(&volunteers(&format!("first{wave}"), 5, *cell, now))
            .await;
    }
    let first = async || {
        let rounds = dry_run(&operator, &case).await["rounds"].clone();
        assert_eq!(
            (&rounds[0]["kind"], &rounds[0]["wave"]),
            (&json!("volunteers"), &json!(4))
        );
        number(&rounds[0], "/in_area")
    };
    assert_eq!(first().await, 10);
    let hold = format!("/v1/cases/{case}/waves/3/hold");
    operator.post(&hold, &json!({})).await.ok();
    assert_eq!(first().await, 5);
    agency.close(&case).await;
    let path = format!("/v1/cases/{case}/replan?dry_run=true");
    operator.post(&path, &json!({})).await.refused(409);
}
