//! Waves are decided, not only timed: what holds one back, what replaces one, and whom a budget tells.

use h3o::Resolution;
use homeward::alert::proto::v1::Kind;
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::area::{crowd, happened, plan, seen};
use crate::common::{
    House, Inbox, Person, Rounds, ago, cell_at, disk, dispatch, filing, number, settled, text,
    until,
};

const LAT: f64 = 57.1497;
const LON: f64 = -2.0943;

conformance! {
    a_wave_waits_while_a_sighting_is_checked,
    a_stream_of_sightings_holds_no_wave_for_ever,
    a_due_wave_is_planned_anew_and_goes_out,
    an_operators_hold_outlives_a_new_plan,
    a_sighting_taken_back_sends_nothing_past_a_hold,
    a_pause_moves_the_waves_of_a_new_plan_too,
    a_budget_goes_to_the_likeliest,
    who_is_in_despair_is_for_volunteers,
}

async fn a_wave_waits_while_a_sighting_is_checked(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let app = house.app("Nearby", 100_000).await;
    house.serve(&[]).await;
    let now = house.now().await;
    crowd(&app, LAT, LON, now).await;
    let _inbox = Inbox::open(&app).await;
    let case = agency.file(&filing(now, LAT, LON)).await;
    // The first wave waits for nothing.
    let early = seen(&agency, &case, LAT, LON, ago(now, 5)).await;
    operator.verify(&case).await;
    assert_eq!(Rounds::of(&settled(&operator, &case).await).count(), 1);

    let waits =
        async || dispatch(&operator, &case).await["waves"][1]["waits_for_sightings"].clone();
    assert!(waits().await.is_null(), "not due yet");
    house.wave_now(&operator, &case, 2).await;
    assert_eq!(waits().await["sightings"], 1);
    assert!(waits().await["until"].is_string());
    // Another case shows that whatever would have gone out has.
    let far = Person::new("barrier", cell_at(48.0, 11.0), now);
    app.register(&[far]).await;
    let other = agency.file(&filing(now, 48.0, 11.0)).await;
    operator.verify(&other).await;
    settled(&operator, &other).await;
    assert_eq!(
        Rounds::of(&dispatch(&operator, &case).await).count(),
        1,
        "held back"
    );
    operator
        .patch(&early, &json!({"state": "rejected"}))
        .await
        .ok();
    let rounds = async |count| {
        until("the next wave", async || {
            let rounds = Rounds::of(&dispatch(&operator, &case).await);
            (rounds.count() == count).then_some(())
        })
        .await;
    };
    rounds(2).await;

    // One that nobody looks at does not hold it back for ever.
    seen(&agency, &case, LAT, LON, ago(now, 5)).await;
    house.wave_now(&operator, &case, 3).await;
    assert!(dispatch(&operator, &case).await["waves"][2]["waits_for_sightings"].is_object());
    house
        .age("sightings", "received_at", SignedDuration::from_mins(16))
        .await;
    rounds(3).await;
}

async fn a_stream_of_sightings_holds_no_wave_for_ever(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    house.serve(&[]).await;
    let now = house.now().await;
    let case = agency.file(&filing(now, LAT, LON)).await;
    operator.verify(&case).await;
    until("the first wave", async || {
        let first = dispatch(&operator, &case).await["waves"][0]["state"].clone();
        (first == "released").then_some(())
    })
    .await;
    // The second was due 16 minutes ago, its plan is old, and somebody has just been seen again.
    seen(&agency, &case, LAT, LON, ago(now, 5)).await;
    for (table, column) in [
        ("plans", "made_at"),
        ("alerts", "waves_from"),
        ("waves", "released_at"),
        ("waves", "due_at"),
    ] {
        house
            .age(table, column, SignedDuration::from_mins(46))
            .await;
    }
    until("the second wave", async || {
        let states = dispatch(&operator, &case).await["waves"].clone();
        let released = |wave: &&Value| wave["state"] == "released";
        (states.as_array()?.iter().filter(released).count() == 2).then_some(())
    })
    .await;
    assert_eq!(
        text(&plan(&operator, &case).await, "/why/cause"),
        "wave_due"
    );
}

async fn a_due_wave_is_planned_anew_and_goes_out(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let app = house.app("Nearby", 100_000).await;
    house.serve(&[]).await;
    let now = house.now().await;
    crowd(&app, LAT, LON, now).await;
    let inbox = Inbox::open(&app).await;
    let seen = now - SignedDuration::from_mins(40);
    let case = agency.file(&filing(seen, LAT, LON)).await;
    let alert = text(&operator.verify(&case).await, "/alert/id").to_owned();
    settled(&operator, &case).await;
    let first = plan(&operator, &case).await;
    // Half an hour passes.
    let half = SignedDuration::from_mins(31);
    for (table, column) in [
        ("plans", "made_at"),
        ("alerts", "waves_from"),
        ("waves", "released_at"),
        ("waves", "due_at"),
    ] {
        house.age(table, column, half).await;
    }
    until("the second wave", async || {
        let rounds = Rounds::of(&dispatch(&operator, &case).await);
        (rounds.count() == 2).then_some(())
    })
    .await;
    settled(&operator, &case).await;
    let second = plan(&operator, &case).await;
    assert_eq!(
        (number(&second, "/version"), text(&second, "/why/cause")),
        (2, "wave_due")
    );
    // Whom the first wave told and who found nobody makes its cells less likely.
    let search = &second["searches"][0];
    assert!(
        search["after"].as_f64() < search["before"].as_f64(),
        "{search}"
    );
    assert_eq!(
        second["waves"][0]["cells"], first["waves"][0]["cells"],
        "what was released stays"
    );
    let states: Vec<_> = second["waves"]
        .as_array()
        .unwrap()
        .iter()
        .map(|wave| text(wave, "/state"))
        .collect();
    assert_eq!(states, ["released", "released", "waiting"]);
    let told = inbox.once(&alert, Kind::Issue);
    let counted = Rounds::of(&settled(&operator, &case).await).told();
    assert_eq!(told.len() as i64, counted);
    assert!(!second["waves"][1]["cells"].as_array().unwrap().is_empty());
}

async fn an_operators_hold_outlives_a_new_plan(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let second = house.operator("Ben").await;
    house.serve(&[]).await;
    let now = house.now().await;
    let case = agency.file(&filing(now, LAT, LON)).await;
    operator.verify(&case).await;
    let path = format!("/v1/cases/{case}");
    until("the first wave", async || {
        let first = dispatch(&operator, &case).await["waves"][0]["state"].clone();
        (first == "released").then_some(())
    })
    .await;
    operator
        .post(&format!("{path}/waves/2/hold"), &json!({}))
        .await
        .ok();
    let sighting = seen(&operator, &case, LAT + 0.013, LON, ago(now, 5)).await;
    operator
        .patch(&sighting, &json!({"state": "accepted"}))
        .await
        .ok();
    until("what is due to go out", async || {
        let waves = dispatch(&operator, &case).await["waves"].clone();
        let states: Vec<_> = waves
            .as_array()?
            .iter()
            .map(|wave| text(wave, "/state").to_owned())
            .collect();
        (states == ["released", "released", "held", "held"]).then_some(())
    })
    .await;
    let detail = happened(&operator, &case, "replanned").await.remove(0);
    assert_eq!(
        (
            detail["waves"][0]["held"].clone(),
            detail["waves"][1]["held"].clone()
        ),
        (json!(false), json!(true))
    );
    // Who approves what is no longer there approves nothing else.
    second
        .post(&format!("{path}/waves/2/approve"), &json!({}))
        .await
        .refused(404);
    // What comes of a search keeps a hold, too, and goes out no sooner.
    let before = dispatch(&operator, &case).await["waves"].clone();
    let far = json!({"searched_at": ago(now, 1), "detection": 0.5,
        "cells": [cell_at(LAT + 0.02, LON).to_string()]});
    agency.post(&format!("{path}/searches"), &far).await.ok();
    let waves = dispatch(&operator, &case).await["waves"].clone();
    let open: Vec<_> = waves
        .as_array()
        .unwrap()
        .iter()
        .filter(|wave| wave["state"] != "released")
        .collect();
    assert!(!open.is_empty());
    assert!(open.iter().all(|wave| wave["state"] == "held"), "{waves:#}");
    assert!(
        text(open[0], "/due_at") >= text(&before[2], "/due_at"),
        "{waves:#}"
    );
    let approve = format!("{path}/waves/{}/approve", number(open[0], "/number"));
    second.post(&approve, &json!({})).await.ok();
    let waves = dispatch(&operator, &case).await["waves"].clone();
    assert_eq!(waves[2]["state"], "waiting");
}

/// What the newest plan would send near the last known position instead was not let go by anybody.
async fn a_sighting_taken_back_sends_nothing_past_a_hold(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    house.serve(&[]).await;
    let now = house.now().await;
    let case = agency.file(&filing(now, LAT, LON)).await;
    let sighting = seen(&operator, &case, LAT + 0.013, LON, ago(now, 5)).await;
    let decide = async |decision: Value| operator.patch(&sighting, &decision).await.ok();
    decide(json!({"state": "accepted", "credibility": 0.95})).await;
    operator.verify(&case).await;
    let waves = async || dispatch(&operator, &case).await["waves"].clone();
    until("the first wave", async || {
        (waves().await[0]["state"] == "released").then_some(())
    })
    .await;
    let hold = format!("/v1/cases/{case}/waves/2/hold");
    operator.post(&hold, &json!({})).await.ok();
    decide(json!({"state": "rejected"})).await;
    let waves = waves().await;
    let open = &waves.as_array().unwrap()[1..];
    let first = plan(&operator, &case).await["waves"][0].clone();
    assert_eq!(first["number"], 1, "it has cells that have not gone out");
    assert!(open.iter().all(|wave| wave["state"] == "held"), "{waves:#}");
}

async fn a_pause_moves_the_waves_of_a_new_plan_too(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    house.serve(&[]).await;
    let now = house.now().await;
    let case = agency.file(&filing(now, LAT, LON)).await;
    operator.verify(&case).await;
    until("the first wave", async || {
        let first = dispatch(&operator, &case).await["waves"][0]["state"].clone();
        (first == "released").then_some(())
    })
    .await;
    agency.step(&case, "pause").await.ok();
    for (table, column) in [("cases", "paused_at"), ("alerts", "waves_from")] {
        house
            .age(table, column, SignedDuration::from_mins(10))
            .await;
    }
    let sighting = seen(&operator, &case, LAT + 0.013, LON, ago(now, 5)).await;
    operator
        .patch(&sighting, &json!({"state": "accepted"}))
        .await
        .ok();
    let waves = dispatch(&operator, &case).await["waves"].clone();
    assert_eq!(
        waves[1]["state"], "waiting",
        "nothing goes out while it is paused"
    );
    agency.step(&case, "resume").await.ok();
    let due = |wave: &Value| text(wave, "/due_at").parse::<jiff::Timestamp>().unwrap();
    let after = dispatch(&operator, &case).await["waves"].clone();
    let next = due(&after[2]).duration_since(house.now().await);
    let half = SignedDuration::from_mins(30);
    assert!(
        next <= half && next > half - SignedDuration::from_mins(1),
        "{next}"
    );
}

async fn a_budget_goes_to_the_likeliest(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let app = house.app("Nearby", 100_000).await;
    house.serve(&[]).await;
    let now = house.now().await;
    // As many everywhere whom one may tell, those farther off with the lower numbers; and where the person is
    // likeliest many more whom one may not.
    let here = cell_at(LAT, LON);
    let coarse = here.parent(Resolution::Eight);
    let people: Vec<Person> = disk(here, 6)
        .into_iter()
        .enumerate()
        .rev()
        .flat_map(|(n, cell)| {
            let likely = cell.parent(Resolution::Eight) == coarse;
            let name = if likely { "likely" } else { "round" };
            let out = if likely { 40 } else { 0 };
            let out = Person::many(&format!("out-{n}"), out, cell, now).into_iter();
            let mut people = Person::many(&format!("{name}-{n}"), 4, cell, now);
            people.extend(out.map(|person| person.with("opt_out", true)));
            people
        })
        .collect();
    let likely = |token: &&String| token.starts_with("likely-");
    let likeliest = people
        .iter()
        .filter(|person| likely(&&person.token))
        .count();
    app.register(&people).await;
    let inbox = Inbox::open(&app).await;
    let case = agency.file(&filing(now, LAT, LON)).await;
    let verified = operator.verify_with(&case, json!({ "budget": 40 })).await;
    let alert = text(&verified.ok(), "/alert/id").to_owned();
    let (told, reasons) = Rounds::of(&settled(&operator, &case).await).last_counts();
    assert_eq!(told, 40);
    assert!(reasons["budget"] >= 8, "{reasons:?}");
    let issued = inbox.once(&alert, Kind::Issue);
    assert_eq!(
        issued.iter().filter(likely).count(),
        likeliest,
        "first where the person is likeliest: {issued:?}"
    );
    // Nothing is left for a sweep or the next wave.
    house.wave_now(&operator, &case, 2).await;
    until("the second wave", async || {
        let rounds = Rounds::of(&dispatch(&operator, &case).await);
        (rounds.count() == 2).then_some(())
    })
    .await;
    let (told, reasons) = Rounds::of(&settled(&operator, &case).await).last_counts();
    assert!(
        told == 0 && reasons.contains_key("budget"),
        "{told} {reasons:?}"
    );
    assert_eq!(
        Rounds::of(&house.sweep(&operator, &case).await)
            .last_counts()
            .0,
        0
    );
}

async fn who_is_in_despair_is_for_volunteers(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let app = house.app("Nearby", 100_000).await;
    house.serve(&[]).await;
    let now = house.now().await;
    let here = cell_at(LAT, LON);
    app.register(&Person::many("p", 5, here, now)).await;
    let volunteers: Vec<Person> = Person::many("v", 3, here, now)
        .into_iter()
        .map(|person| person.with("volunteer", true))
        .collect();
    app.register(&volunteers).await;
    let inbox = Inbox::open(&app).await;
    let mut report = filing(now, LAT, LON);
    report["category"] = json!("despondent");
    let case = agency.file(&report).await;
    let verified = operator.verify(&case).await;
    assert_eq!(text(&verified, "/audience"), "volunteers");
    let alert = text(&verified, "/alert/id").to_owned();
    settled(&operator, &case).await;
    let told = inbox.once(&alert, Kind::Issue);
    assert_eq!(told.len(), 3);
    assert!(told.iter().all(|token| token.starts_with("v-")));
    let (_, reasons) = Rounds::of(&house.sweep(&operator, &case).await).last_counts();
    assert_eq!(reasons["volunteers_only"], 5);

    let path = format!("/v1/cases/{case}/audience");
    let everybody = json!({"audience": "everybody", "reason": "seen by the river, minutes ago"});
    agency.post(&path, &everybody).await.refused(403);
    let silent = json!({"audience": "everybody", "reason": " "});
    let refused = operator.post(&path, &silent).await.refused(422);
    assert_eq!(text(&refused, "/errors/0/field"), "reason");
    let opened = operator.post(&path, &everybody).await.ok();
    assert_eq!(text(&opened, "/audience"), "everybody");
    inbox.people(&alert, Kind::Issue, 8).await;
    assert_eq!(inbox.once(&alert, Kind::Issue).len(), 8);
    let said = happened(&operator, &case, "audience_changed").await;
    assert_eq!(text(&said[0], "/reason"), "seen by the river, minutes ago");
}
