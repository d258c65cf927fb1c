//! Who decides that people are told: nobody before an operator, or a trusted agency within limits.

use homeward::alert::proto::v1::{Intrusion, Kind, Urgency};
use serde_json::{Value, json};

use crate::common::{
    CHECKS, Caller, House, Inbox, Person, Rounds, ago, cell_at, disk, dispatch, filing, settled,
    text, until,
};

const LAT: f64 = 57.1497;
const LON: f64 = -2.0943;

conformance! {
    nobody_is_told_before_verification,
    a_self_verified_case_tells_up_to_its_ceiling,
    what_a_trusted_agency_leaves_out_needs_an_operator,
    only_an_operator_grants_critical,
    a_wide_wave_waits_for_a_second_operator,
    a_held_wave_waits_for_another_operator,
    a_budget_is_kept_to_the_last_person,
}

/// Has somebody else's case go out, so that whatever waits before it would have gone out, too.
async fn meanwhile(house: &House, agency: &Caller, operator: &Caller, app: &Caller) {
    let now = house.now().await;
    let (lat, lon) = (48.0, 11.0);
    let barrier = Person::new(format!("barrier-{now}"), cell_at(lat, lon), now);
    app.register(&[barrier]).await;
    let case = agency.file(&filing(now, lat, lon)).await;
    operator.verify(&case).await;
    assert!(Rounds::of(&settled(operator, &case).await).told() > 0);
}

async fn nobody_is_told_before_verification(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let app = house.app("Nearby", 100_000).await;
    house.serve(&[]).await;
    let now = house.now().await;
    app.register(&Person::many("p", 8, cell_at(LAT, LON), now))
        .await;
    let inbox = Inbox::open(&app).await;

    let case = agency.file(&filing(now, LAT, LON)).await;
    let preview = agency.get(&format!("/v1/cases/{case}/alert")).await.ok();
    assert_eq!(preview["preview"], true);
    let rejected = agency.file(&filing(now, LAT, LON)).await;
    operator.step(&rejected, "reject").await.ok();
    // Not by the agency, not by halves, and nothing of it is kept.
    agency.verify_with(&case, json!({})).await.refused(403);
    for missing in CHECKS {
        let checks: Vec<_> = CHECKS.iter().filter(|check| **check != missing).collect();
        let refused = operator
            .verify_with(&case, json!({ "checks": checks }))
            .await
            .refused(422);
        assert_eq!(text(&refused, "/errors/0/field"), "checks");
        assert!(text(&refused, "/errors/0/problem").contains(missing));
    }
    operator
        .verify_with(&case, json!({ "budget": 0 }))
        .await
        .refused(422);
    meanwhile(&house, &agency, &operator, &app).await;
    for case in [&case, &rejected] {
        assert!(agency.case(case).await["alert"].is_null());
        assert!(dispatch(&operator, case).await.is_null());
    }
    assert_eq!(inbox.all().len(), 1, "only the case that was verified");

    let alert = text(&operator.verify(&case).await, "/alert/id").to_owned();
    settled(&operator, &case).await;
    assert_eq!(inbox.once(&alert, Kind::Issue).len(), 8);
}

async fn a_self_verified_case_tells_up_to_its_ceiling(house: House) {
    let (agency, operator) = (
        house.trusted_agency("Police").await,
        house.operator("Ann").await,
    );
    let apps = [
        house.app("One", 100_000).await,
        house.app("Two", 100_000).await,
    ];
    let settings = [
        ("approval.self_verified_recipients", "23"),
        ("dispatch.workers", "6"),
        ("dispatch.batch_people", "4"),
        ("dispatch.shard_people", "8"),
    ];
    house.serve(&settings).await;
    let now = house.now().await;
    let mut inboxes = Vec::new();
    // They come from many places, so that their shards have nothing in common but the ceiling.
    for (n, app) in apps.iter().enumerate() {
        for (place, cell) in disk(cell_at(LAT, LON), 3).into_iter().enumerate() {
            let (prefix, from) = (format!("{n}-{place}"), cell_at(place as f64, 10.0));
            app.register(&Person::many(&prefix, 4, from, ago(now, 9)))
                .await;
            app.register(&Person::many(&prefix, 4, cell, now)).await;
        }
        inboxes.push(Inbox::open(app).await);
    }
    let case = agency.file(&filing(now, LAT, LON)).await;
    let filed = agency.case(&case).await;
    assert_eq!(
        (text(&filed, "/state"), &filed["ceiling"]),
        ("active", &json!(23))
    );
    assert_eq!(filed["verification"]["self_verified"], true);
    let alert = text(&filed, "/alert/id").to_owned();
    let told = || -> usize {
        inboxes
            .iter()
            .map(|inbox| inbox.once(&alert, Kind::Issue).len())
            .sum()
    };
    let rest = settled(&operator, &case).await;
    let (first, reasons) = Rounds::of(&rest).last_counts();
    assert_eq!((first, told()), (23, 23));
    assert!(reasons["ceiling"] > 0);

    // Neither a sweep nor the next wave goes above it.
    house.wave_now(&operator, &case, 2).await;
    until("the second wave", async || {
        (Rounds::of(&dispatch(&operator, &case).await).count() == 2).then_some(())
    })
    .await;
    let (second, reasons) = Rounds::of(&house.sweep(&operator, &case).await).last_counts();
    assert_eq!((second, reasons["told_already"], told()), (0, 23, 23));
    let held_back = reasons["ceiling"];

    // An operator stands by it: the others are told without waiting for the next sweep.
    let confirmed = operator.verify(&case).await;
    assert_eq!(confirmed["ceiling"], Value::Null);
    until("all the others", async || {
        (told() as i64 == 23 + held_back).then_some(())
    })
    .await;
    let (third, reasons) = Rounds::of(&settled(&operator, &case).await).last_counts();
    assert_eq!((third, reasons["told_already"]), (held_back, 23));
    operator.verify_with(&case, json!({})).await.refused(409);
    let timeline = operator.timeline(&case).await;
    assert!(timeline.contains(&"verified_itself".into()) && timeline.contains(&"confirmed".into()));
}

async fn what_a_trusted_agency_leaves_out_needs_an_operator(house: House) {
    let (agency, operator) = (
        house.trusted_agency("Police").await,
        house.operator("Ann").await,
    );
    let app = house.app("Nearby", 100_000).await;
    house.serve(&[]).await;
    let now = house.now().await;
    app.register(&Person::many("p", 8, cell_at(LAT, LON), now))
        .await;
    let inbox = Inbox::open(&app).await;
    let mut cases = Vec::new();
    for (pointer, value) in [
        ("/person/age", Value::Null),
        ("/lkp/accuracy_m", json!(6_000)),
        ("/category", json!("despondent")),
        ("/category", json!("abduction")),
    ] {
        let mut filing = filing(now, LAT, LON);
        filing["person"]["name"] = format!("Person {}", cases.len()).into();
        *filing.pointer_mut(pointer).unwrap() = value;
        cases.push((pointer, agency.file(&filing).await));
    }
    // The same person twice.
    let mut twin = filing(now, LAT, LON);
    twin["person"]["age"] = 81.into();
    cases.push(("duplicate", agency.file(&twin).await));
    let whole = agency.file(&filing(now, 48.0, 11.0)).await;
    assert_eq!(text(&agency.case(&whole).await, "/state"), "active");
    meanwhile(&house, &agency, &operator, &app).await;
    for (what, case) in &cases[..3] {
        assert_eq!(
            text(&agency.case(case).await, "/state"),
            "submitted",
            "{what}"
        );
        assert!(
            agency
                .timeline(case)
                .await
                .contains(&"waits_for_operator".into()),
            "{what}"
        );
    }
    assert!(
        inbox.all().iter().all(|batch| batch.tokens.len() == 1),
        "only the barrier's"
    );
}

async fn only_an_operator_grants_critical(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let trusted = house.trusted_agency("Police").await;
    let app = house.app("Nearby", 100_000).await;
    let night = [
        ("quiet_hours.from", "\"00:00:00\""),
        ("quiet_hours.to", "\"23:59:59.999999999\""),
    ];
    house.serve(&night).await;
    let now = house.now().await;
    app.register(&Person::many("p", 5, cell_at(LAT, LON), now))
        .await;
    let inbox = Inbox::open(&app).await;

    let mut urgent = filing(now, LAT, LON);
    urgent["urgency"] = "critical".into();
    let by_itself = trusted.file(&urgent).await;
    let filed = trusted.case(&by_itself).await;
    assert_eq!(
        (text(&filed, "/state"), text(&filed, "/urgency")),
        ("active", "high")
    );
    let (told, reasons) = Rounds::of(&settled(&operator, &by_itself).await).last_counts();
    assert_eq!((told, reasons["quiet_hours"]), (0, 5), "not at night");
    let critical = json!({ "urgency": "critical" });
    for (caller, case) in [
        (&trusted, &by_itself),
        (&agency, &agency.file(&urgent).await),
    ] {
        caller
            .patch(&format!("/v1/cases/{case}"), &critical)
            .await
            .refused(403);
    }

    let granted = agency.file(&urgent).await;
    assert_eq!(
        text(&agency.case(&granted).await, "/urgency"),
        "normal",
        "nothing granted yet"
    );
    let alert = text(&operator.verify(&granted).await, "/alert/id").to_owned();
    assert_eq!(
        Rounds::of(&settled(&operator, &granted).await)
            .last_counts()
            .0,
        5
    );
    let batch = &inbox.of(&alert, Kind::Issue)[0];
    let inside = batch.alert.as_ref().unwrap();
    assert_eq!(inside.urgency(), Urgency::Critical);
    assert_eq!(inside.intrusion(), Intrusion::TimeSensitive);
    // An operator may also grant less than was asked for.
    let less = agency.file(&urgent).await;
    let verified = operator
        .verify_with(&less, json!({ "urgency": "normal" }))
        .await
        .ok();
    assert_eq!(text(&verified, "/urgency"), "normal");
}

async fn a_wide_wave_waits_for_a_second_operator(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let (second, admin) = (house.operator("Ben").await, house.admin().await);
    let app = house.app("Nearby", 100_000).await;
    let by_recipients = [("approval.recipients", "10")];
    let by_points = [("approval.recipients_per_point", "0")];
    let now = house.now().await;
    for (n, settings) in [by_recipients, by_points].iter().enumerate() {
        house.serve(settings).await;
        let inbox = Inbox::open(&app).await;
        let lat = LAT + n as f64;
        app.register(&Person::many(&format!("p{n}"), 11, cell_at(lat, LON), now))
            .await;
        let case = agency.file(&filing(now, lat, LON)).await;
        let alert = text(&operator.verify(&case).await, "/alert/id").to_owned();
        let wave = until("the wave to be stopped", async || {
            let wave = dispatch(&operator, &case).await["waves"][0].clone();
            (wave["state"] == "approval").then_some(wave)
        })
        .await;
        assert_eq!(wave["needs_approval"], true);
        assert!(
            wave["approval"]["why"]
                .as_str()
                .is_some_and(|why| why.contains("more than"))
        );
        assert!(
            operator
                .timeline(&case)
                .await
                .contains(&"wave_needs_approval".into())
        );

        let approve = format!("/v1/cases/{case}/waves/1/approve");
        for caller in [&operator, &agency, &admin, &app] {
            caller.post(&approve, &json!({})).await.refused(403);
        }
        let waiting = dispatch(&operator, &case).await;
        assert_eq!(
            (&waiting["rounds"], &waiting["recipients"]),
            (&json!([]), &json!(0))
        );
        second.post(&approve, &json!({})).await.ok();
        assert_eq!(
            Rounds::of(&settled(&operator, &case).await).last_counts().0,
            11
        );
        assert_eq!(inbox.once(&alert, Kind::Issue).len(), 11);
        second.post(&approve, &json!({})).await.refused(409);
    }
    // As many as are allowed need nobody.
    house.serve(&by_recipients).await;
    let _inbox = Inbox::open(&app).await;
    app.register(&Person::many("few", 10, cell_at(48.0, 11.0), now))
        .await;
    let case = agency.file(&filing(now, 48.0, 11.0)).await;
    operator.verify(&case).await;
    assert_eq!(
        Rounds::of(&settled(&operator, &case).await).last_counts().0,
        10
    );
}

async fn a_held_wave_waits_for_another_operator(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let second = house.operator("Ben").await;
    let app = house.app("Nearby", 100_000).await;
    house.serve(&[]).await;
    let now = house.now().await;
    for (place, cell) in disk(cell_at(LAT, LON), 8).into_iter().enumerate() {
        app.register(&Person::many(&format!("{place}"), 1, cell, now))
            .await;
    }
    let inbox = Inbox::open(&app).await;
    let case = agency.file(&filing(now, LAT, LON)).await;
    let alert = text(&operator.verify(&case).await, "/alert/id").to_owned();
    settled(&operator, &case).await;
    let first = inbox.once(&alert, Kind::Issue).len();

    operator
        .post(&format!("/v1/cases/{case}/waves/1/hold"), &json!({}))
        .await
        .refused(409);
    operator
        .post(&format!("/v1/cases/{case}/waves/9/hold"), &json!({}))
        .await
        .refused(404);
    operator
        .post(&format!("/v1/cases/{case}/waves/2/hold"), &json!({}))
        .await
        .ok();
    let alert_id = house.database().id(&alert);
    let overdue = format!("UPDATE waves SET due_at = 0 WHERE alert_id = {alert_id} AND number = 2");
    house.database().execute(&overdue).await;
    meanwhile(&house, &agency, &operator, &app).await;
    assert_eq!(Rounds::of(&dispatch(&operator, &case).await).count(), 1);
    let approve = format!("/v1/cases/{case}/waves/2/approve");
    operator.post(&approve, &json!({})).await.refused(403);
    second.post(&approve, &json!({})).await.ok();
    until("the second wave", async || {
        (Rounds::of(&dispatch(&operator, &case).await).count() == 2).then_some(())
    })
    .await;
    let (told, _) = Rounds::of(&settled(&operator, &case).await).last_counts();
    assert!(told > 0);
    assert_eq!(
        inbox.once(&alert, Kind::Issue).len() as i64,
        first as i64 + told
    );
}

async fn a_budget_is_kept_to_the_last_person(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let app = house.app("Nearby", 100_000).await;
    house
        .serve(&[
            ("dispatch.batch_people", "3"),
            ("dispatch.shard_people", "5"),
        ])
        .await;
    let now = house.now().await;
    for (place, cell) in disk(cell_at(LAT, LON), 1).into_iter().enumerate() {
        app.register(&Person::many(&format!("{place}"), 5, cell, now))
            .await;
    }
    let inbox = Inbox::open(&app).await;
    let case = agency.file(&filing(now, LAT, LON)).await;
    operator
        .verify_with(&case, json!({ "budget": 17 }))
        .await
        .ok();
    let (told, reasons) = Rounds::of(&settled(&operator, &case).await).last_counts();
    assert_eq!((told, reasons["budget"]), (17, 18));
    let (told, _) = Rounds::of(&house.sweep(&operator, &case).await).last_counts();
    assert_eq!(told, 0);
    assert_eq!(
        inbox
            .once(&operator.alert_of(&case).await, Kind::Issue)
            .len(),
        17
    );
}
