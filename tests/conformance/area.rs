//! What is learnt of a case moves its area: each plan says why it was made and what it changed, what was
//! released stays, and nobody is told twice.

use std::collections::BTreeMap;

use homeward::alert::proto::v1::Kind;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::common::{
    Caller, House, Inbox, Person, ago, cell_at, disk, dispatch, filing, number, settled, text,
    until,
};

const LAT: f64 = 57.1497;
const LON: f64 = -2.0943;

conformance! {
    every_sighting_makes_a_plan_that_says_why,
    a_searched_area_moves_the_probability_elsewhere,
    what_a_report_says_shapes_the_area,
    a_plan_is_shown_in_four_forms,
}

/// Somebody in every cell for some km round a place.
pub async fn crowd(app: &Caller, lat: f64, lon: f64, now: Timestamp) {
    let people: Vec<Person> = disk(cell_at(lat, lon), 14)
        .into_iter()
        .map(|cell| Person::new(format!("in-{cell}"), cell, now))
        .collect();
    app.register(&people).await;
}

/// The newest plan of a case.
pub async fn plan(caller: &Caller, case: &str) -> Value {
    caller.get(&format!("/v1/cases/{case}/plan")).await.ok()
}

/// Reports that the person was seen; gives the sighting's path.
pub async fn seen(caller: &Caller, case: &str, lat: f64, lon: f64, at: Timestamp) -> String {
    let filing = json!({
        "lat": lat, "lon": lon, "accuracy_m": 30.0, "seen_at": at, "source": "known_person",
    });
    let path = format!("/v1/cases/{case}/sightings");
    let kept = caller.post(&path, &filing).await.ok();
    format!("/v1/sightings/{}", text(&kept, "/id"))
}

/// The details of what happened under a name, in order.
pub async fn happened(caller: &Caller, case: &str, what: &str) -> Vec<Value> {
    let timeline = caller.get(&format!("/v1/cases/{case}/timeline")).await.ok();
    let items = timeline["items"].as_array().unwrap();
    items
        .iter()
        .filter(|item| item["what"] == what)
        .map(|item| item["detail"].clone())
        .collect()
}

/// The cells of the released waves, by number.
fn released(plan: &Value) -> BTreeMap<i64, Value> {
    plan["waves"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|wave| wave["state"] == "released")
        .map(|wave| (number(wave, "/number"), wave["cells"].clone()))
        .collect()
}

fn share(value: &Value, pointer: &str) -> f64 {
    value
        .pointer(pointer)
        .and_then(Value::as_f64)
        .unwrap_or_else(|| panic!("{pointer} is no number in {value:#}"))
}

async fn every_sighting_makes_a_plan_that_says_why(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let app = house.app("Nearby", 100_000).await;
    house.serve(&[]).await;
    let now = house.now().await;
    crowd(&app, LAT, LON, now).await;
    let inbox = Inbox::open(&app).await;
    let mut report = filing(now, LAT, LON);
    report["lkp"]["at"] = json!(ago(now, 90));
    let case = agency.file(&report).await;
    let alert = text(&operator.verify(&case).await, "/alert/id").to_owned();
    settled(&operator, &case).await;
    let mut plans = vec![plan(&operator, &case).await];
    assert_eq!(
        (number(&plans[0], "/version"), text(&plans[0], "/why/cause")),
        (1, "verified")
    );

    // One that is true, one that is false, one that is taken back.
    let yes = seen(&operator, &case, LAT + 0.013, LON, ago(now, 10)).await;
    let no = seen(&operator, &case, LAT - 0.012, LON, ago(now, 8)).await;
    let back = seen(&agency, &case, LAT, LON + 0.02, ago(now, 6)).await;
    assert_eq!(
        number(&plan(&operator, &case).await, "/version"),
        1,
        "nobody checked them yet"
    );
    let decisions = [
        (
            &operator,
            &yes,
            json!({"state": "accepted", "credibility": 0.9}),
            "sighting_accepted",
            1,
        ),
        (
            &operator,
            &no,
            json!({"state": "accepted"}),
            "sighting_accepted",
            2,
        ),
        (
            &operator,
            &no,
            json!({"credibility": 0.2}),
            "credibility_changed",
            2,
        ),
        (
            &operator,
            &no,
            json!({"state": "rejected"}),
            "sighting_rejected",
            1,
        ),
        (
            &operator,
            &back,
            json!({"state": "accepted"}),
            "sighting_accepted",
            2,
        ),
        (
            &agency,
            &back,
            json!({"state": "withdrawn"}),
            "sighting_withdrawn",
            2,
        ),
    ];
    for (caller, sighting, decision, cause, count) in decisions {
        caller.patch(sighting, &decision).await.ok();
        settled(&operator, &case).await;
        let (before, after) = (plans.last().unwrap(), plan(&operator, &case).await);
        assert_eq!(
            number(&after, "/version"),
            number(before, "/version") + 1,
            "{decision}"
        );
        assert_eq!(text(&after, "/why/cause"), cause);
        assert_eq!(
            format!("/v1/sightings/{}", text(&after, "/why/sighting")),
            *sighting
        );
        assert_eq!(
            after["inputs"]["sightings"].as_array().unwrap().len(),
            count,
            "{decision}"
        );
        let moved = share(&after, "/change/mass_moved");
        assert!((0.001..1.0).contains(&moved), "{decision}: {moved}");
        // What was released stays as it was.
        let (old, new) = (released(before), released(&after));
        assert!(
            old.iter()
                .all(|(number, cells)| new.get(number) == Some(cells)),
            "{decision}"
        );
        plans.push(after);
    }
    // To the true one the area moved, and most of it back from the others.
    let [_, second, .., last] = &plans[..] else {
        panic!("{}", plans.len())
    };
    assert!(share(second, "/sightings/0/weight") > 0.9);
    assert_eq!(
        last["sightings"].as_array().unwrap().len(),
        1,
        "only the true one counts"
    );
    assert_eq!(last["inputs"]["sightings"][1]["withdrawn"], true);
    let (there, back) = (
        share(second, "/change/mass_moved"),
        share(last, "/change/mass_moved"),
    );
    assert!(there > 0.3 && back < there, "{there} {back}");
    // All are decided about, so what was due goes out, to where she was seen.
    let where_seen = format!("in-{}", cell_at(LAT + 0.013, LON));
    inbox
        .until("those there to be told", |inbox| {
            inbox.told(&alert, Kind::Issue).contains_key(&where_seen)
        })
        .await;
    until("whatever is due to go out", async || {
        let (alert, now) = (dispatch(&operator, &case).await, house.now().await);
        let is_due = |wave: &Value| {
            let due_at: Timestamp = text(wave, "/due_at").parse().unwrap();
            wave["state"] == "waiting" && due_at <= now
        };
        (!alert["waves"].as_array()?.iter().any(is_due)).then_some(())
    })
    .await;
    settled(&operator, &case).await;
    let held = released(&plans[4]).len();
    let gone = released(&plan(&operator, &case).await).len();
    assert!(
        held == 1 && gone >= 2,
        "{held} while one was new, then {gone}"
    );
    // Nobody twice, whatever the plans.
    let told = inbox.once(&alert, Kind::Issue);
    assert_eq!(
        number(&settled(&operator, &case).await, "/recipients"),
        told.len() as i64
    );

    let replanned = happened(&operator, &case, "replanned").await;
    let change = |at: usize| &replanned[at]["change"];
    assert_eq!(replanned.len(), 6);
    for (detail, plan) in replanned.iter().zip(&plans[1..]) {
        assert_eq!(
            (&detail["change"], &detail["why"]),
            (&plan["change"], &plan["why"])
        );
        let counts = ["cells_gained", "cells_lost", "cells_kept"];
        assert!(
            counts.iter().all(|count| detail["change"][count].is_u64()),
            "{detail}"
        );
    }
    assert!(number(change(0), "/cells_lost") > 0 && number(change(0), "/cells_kept") > 0);
    let history = plans.last().unwrap()["history"].as_array().unwrap();
    assert_eq!(history.len(), 7);
    let words = operator
        .get(&format!("/v1/cases/{case}/plan?format=text&version=2"))
        .await;
    for part in [
        "plan 2 of ",
        "made because a sighting was accepted (",
        ": known_person, credible to 90 %)",
        "% of the probability is elsewhere than in the plan before",
        "credible to 90 %",
    ] {
        assert!(words.text.contains(part), "{part} is not in {}", words.text);
    }
    let words = operator
        .get(&format!("/v1/cases/{case}/plan?format=text"))
        .await
        .text;
    let why = "made because a sighting that had counted was withdrawn or is being checked again (";
    assert!(
        words.contains(why) && words.contains("1 withdrawn"),
        "{words}"
    );
    assert!(words.contains("people were alerted"), "{words}");
    // Nothing moves any more once it is over.
    agency.close(&case).await;
    operator
        .patch(&no, &json!({"state": "accepted"}))
        .await
        .ok();
    assert_eq!(number(&plan(&operator, &case).await, "/version"), 7);
}

async fn a_searched_area_moves_the_probability_elsewhere(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let (other, app) = (
        house.agency("Fife").await,
        house.app("Nearby", 100_000).await,
    );
    house.serve(&[]).await;
    let now = house.now().await;
    let case = agency.file(&filing(now, LAT, LON)).await;
    operator.verify(&case).await;
    let searches = format!("/v1/cases/{case}/searches");
    let (d, at) = (0.008, now);
    let ring = [[-d, -d], [d, -d], [d, d], [-d, d], [-d, -d]].map(|[x, y]| [LON + x, LAT + y]);
    let square = json!({"type": "Polygon", "coordinates": [ring]});
    let square_searched = json!({"searched_at": at, "detection": 0.9, "area": square});
    for wrong in [
        json!({"searched_at": at, "detection": 1.0, "area": square}),
        json!({"searched_at": at, "detection": 0.9}),
        json!({"searched_at": ago(now, 90), "detection": 0.9, "area": square}),
        json!({"searched_at": at, "detection": 0.9, "area": {"type": "Point", "coordinates": [0, 0]}}),
    ] {
        agency.post(&searches, &wrong).await.refused(422);
    }
    app.post(&searches, &square_searched).await.refused(403);
    other.post(&searches, &square_searched).await.refused(404);
    assert_eq!(
        number(&plan(&operator, &case).await, "/version"),
        1,
        "a refusal changes nothing"
    );

    let kept = agency.post(&searches, &square_searched).await.ok();
    assert_eq!(number(&kept, "/number"), 1);
    let after = plan(&operator, &case).await;
    assert_eq!(
        (number(&after, "/version"), text(&after, "/why/cause")),
        (2, "area_searched")
    );
    assert_eq!(number(&after, "/why/search"), 1);
    let (was, is) = (
        share(&after, "/searches/0/before"),
        share(&after, "/searches/0/after"),
    );
    assert!(was > 0.3 && is < 0.7 * was, "{was} {is}");
    // By cells, too, and nowhere else: most of the rest is where it was.
    let cells = json!({"searched_at": at, "detection": 0.5, "cells": [cell_at(LAT + 0.03, LON).to_string()]});
    operator.post(&searches, &cells).await.ok();
    assert!(share(&plan(&operator, &case).await, "/change/mass_moved") < 0.02);
    assert_eq!(other.get(&searches).await.status, 404);
    let listed = agency.get(&searches).await.ok();
    assert_eq!(listed["items"].as_array().unwrap().len(), 2);

    let withdraw = format!("{searches}/1/withdraw");
    other.post(&withdraw, &json!({})).await.refused(404);
    agency.post(&withdraw, &json!({})).await.ok();
    agency.post(&withdraw, &json!({})).await.refused(404);
    let last = plan(&operator, &case).await;
    assert_eq!(
        (number(&last, "/version"), text(&last, "/why/cause")),
        (4, "search_withdrawn")
    );
    assert_eq!(last["searches"].as_array().unwrap().len(), 1);
    assert!(share(&last, "/change/mass_moved") > 0.1);
    agency.close(&case).await;
    agency.post(&searches, &square_searched).await.refused(409);
}

async fn what_a_report_says_shapes_the_area(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    house.serve(&[]).await;
    let now = house.now().await;
    let mut report = filing(now, LAT, LON);
    report["clues"] = json!({
        "transport": "sign_of_vehicle", "heading_deg": 90.0,
        "known_places": [{"kind": "former_home", "weight": 0.5,
            "position": {"lat": LAT + 0.01, "lon": LON, "datum": "wgs84"}}],
    });
    for (pointer, value, field) in [
        ("/clues/heading_deg", json!(361), "clues.heading_deg"),
        ("/clues/transport", json!("by balloon"), "clues.transport"),
        (
            "/clues/known_places/0/weight",
            json!(1.5),
            "clues.known_places[0].weight",
        ),
        (
            "/clues/known_places/0/position/lat",
            json!(91),
            "clues.known_places[0].position",
        ),
    ] {
        let mut wrong = report.clone();
        *wrong.pointer_mut(pointer).unwrap() = value;
        let refused = agency.try_file(&wrong).await.refused(422);
        assert_eq!(text(&refused, "/errors/0/field"), field);
    }
    let case = agency.file(&report).await;
    let path = format!("/v1/cases/{case}");
    operator.verify(&case).await;
    let first = plan(&operator, &case).await;
    assert_eq!(first["inputs"]["heading_deg"], 90.0);
    let about = |plan: &Value| -> Vec<String> {
        let reasons = plan["explanation"].as_array().unwrap().iter();
        reasons
            .map(|reason| text(reason, "/about").to_owned())
            .collect()
    };
    for clue in ["transport", "direction", "known places"] {
        assert!(
            about(&first).contains(&clue.to_owned()),
            "{clue}: {:?}",
            about(&first)
        );
    }

    // An agency proposes, an operator's yes makes the plan.
    let on_foot = json!({"clues": {"transport": "on_foot"}});
    agency.patch(&path, &on_foot).await.ok();
    assert_eq!(number(&plan(&operator, &case).await, "/version"), 1);
    operator.step(&case, "proposal/accept").await.ok();
    let second = plan(&operator, &case).await;
    assert_eq!(
        (number(&second, "/version"), text(&second, "/why/cause")),
        (2, "case_changed")
    );
    assert_eq!(
        about(&second).len() + 3,
        about(&first).len(),
        "{:?}",
        about(&second)
    );

    // Another last known position: the waves begin anew there, what was released stays.
    let wrong = json!({"lkp": {"lat": 95, "lon": LON, "accuracy_m": 20, "at": now}});
    let refused = operator.patch(&path, &wrong).await.refused(422);
    assert_eq!(text(&refused, "/errors/0/field"), "lkp.lat");
    let moved =
        json!({"lkp": {"lat": LAT + 0.05, "lon": LON, "accuracy_m": 20, "at": ago(now, 20)}});
    operator.patch(&path, &moved).await.ok();
    let third = plan(&operator, &case).await;
    assert_eq!(third["inputs"]["lkp"]["lat"], LAT + 0.05);
    assert!(share(&third, "/change/mass_moved") > 0.5);
    let case_now = operator.case(&case).await;
    assert_eq!(text(&case_now, "/last_seen_at"), ago(now, 20).to_string());
    // What nobody could walk to does not count, and what changes no area makes no plan.
    operator
        .patch(&path, &json!({"clothing": "blue coat"}))
        .await
        .ok();
    assert_eq!(number(&plan(&operator, &case).await, "/version"), 3);
    let again = operator
        .post(&format!("{path}/replan"), &json!({"reason": "to be sure"}))
        .await
        .ok();
    assert_eq!(number(&again, "/plan"), 4);
    assert_eq!(
        text(&plan(&operator, &case).await, "/why/cause"),
        "requested"
    );
    let history = plan(&operator, &case).await["history"].clone();
    let details = |at: usize| history[at]["why"]["detail"].clone();
    assert_eq!([details(1), details(2)], ["clues", "lkp"]);
    // What an operator writes is in the timeline only.
    assert!(details(3).is_null());
    let asked = happened(&operator, &case, "replan_requested").await;
    assert_eq!(text(&asked[0], "/reason"), "to be sure");
    agency
        .post(&format!("{path}/replan"), &json!({}))
        .await
        .refused(403);
}

async fn a_plan_is_shown_in_four_forms(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    house.serve(&[]).await;
    let now = house.now().await;
    let case = agency.file(&filing(now, LAT, LON)).await;
    let path = format!("/v1/cases/{case}/plan");
    agency.get(&path).await.refused(404);
    operator.verify(&case).await;
    let method = reqwest::Method::GET;
    for (kind, format, begins) in [
        ("application/geo+json", "geojson", "{\"features\":"),
        ("image/svg+xml", "svg", "<svg "),
        ("text/plain", "text", "plan 1 of "),
        ("application/json", "json", "{\"assumptions\":"),
    ] {
        let by_header = [("accept", kind)];
        let accepted = agency
            .send(method.clone(), &path, &by_header, String::new())
            .await;
        let asked = agency.get(&format!("{path}?format={format}")).await;
        for answer in [accepted, asked] {
            assert!(answer.header("content-type").starts_with(kind), "{format}");
            assert!(
                answer.text.starts_with(begins),
                "{format}: {:.60}",
                answer.text
            );
        }
    }
    let map = agency.get(&format!("{path}?format=geojson")).await.ok();
    let features = map["features"].as_array().unwrap();
    let kinds: Vec<&str> = features
        .iter()
        .map(|one| text(one, "/properties/kind"))
        .collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "radius").count(), 4);
    let cell = features
        .iter()
        .find(|one| one["properties"]["kind"] == "cell")
        .unwrap();
    assert!(cell["properties"]["p"].is_f64() && cell["properties"]["wave"] == 1);
    agency.get(&format!("{path}?version=2")).await.refused(404);
    agency.get(&format!("{path}?format=pdf")).await.refused(400);
}
