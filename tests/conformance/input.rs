//! Bad input: refused whole, with the field, the reason and what would be accepted.

use jiff::SignedDuration;
use reqwest::Method;
use serde_json::{Value, json};

use crate::common::{Answer, Caller, House, Inbox, Person, ago, cell_at, filing, settled, text};

const LAT: f64 = 57.1497;
const LON: f64 = -2.0943;

conformance! {
    every_field_of_a_filing_is_checked,
    bodies_that_are_no_filing,
    paths_and_queries_that_lead_nowhere,
    sightings_and_finds_are_checked,
}

async fn raw(caller: &Caller, body: impl Into<reqwest::Body>) -> Answer {
    let key = uuid::Uuid::now_v7().to_string();
    let headers = [("idempotency-key", key.as_str())];
    caller.send(Method::POST, "/v1/cases", &headers, body).await
}

async fn nothing_was_filed(agency: &Caller) {
    assert_eq!(agency.get("/v1/cases").await.ok()["items"], json!([]));
}

async fn every_field_of_a_filing_is_checked(house: House) {
    let agency = house.agency("Grampian").await;
    house.serve(&[]).await;
    let now = house.now().await;
    let future = (now + SignedDuration::from_mins(5)).to_string();
    let long_ago = ago(now, 31 * 24 * 60).to_string();
    let wrong: Vec<(&str, Value, &str)> = vec![
        ("/lkp/lat", json!(90.01), "lkp.lat"),
        ("/lkp/lat", json!(-91), "lkp.lat"),
        ("/lkp/lon", json!(180.5), "lkp.lon"),
        ("/lkp/lon", json!("east"), "lkp.lon"),
        ("/lkp/accuracy_m", json!(0), "lkp.accuracy_m"),
        ("/lkp/accuracy_m", json!(60_000), "lkp.accuracy_m"),
        ("/lkp/at", json!(future), "lkp.at"),
        ("/lkp/at", json!(long_ago), "lkp.at"),
        ("/lkp/at", json!("yesterday"), "lkp.at"),
        ("/lkp/datum", json!("mars"), "lkp.datum"),
        ("/lkp", json!({}), "lkp.lat"),
        ("/category", json!("dragon"), "category"),
        ("/category", json!("child_4_6"), "category"),
        ("/environment", json!("sea"), "environment"),
        ("/mobility", json!("winged"), "mobility"),
        ("/urgency", json!("extreme"), "urgency"),
        ("/languages", json!([]), "languages"),
        ("/languages", json!(["en", "xx"]), "languages[1]"),
        ("/time_zone", json!("Moon/Tycho"), "time_zone"),
        ("/person/name", json!("x".repeat(101)), "person.name"),
        ("/person/age", json!(121), "person.age"),
        ("/person/age", json!(-1), "person.age"),
        ("/person/shoe_size", json!(38), "person.shoe_size"),
        ("/contact/phone", json!("none"), "contact.phone"),
        ("/contact", Value::Null, "contact"),
        ("/consent/publish", json!([]), "consent.publish"),
        (
            "/consent/publish",
            json!(["name", "blood"]),
            "consent.publish[1]",
        ),
        (
            "/circumstances",
            json!("call 01224 496 0123"),
            "circumstances",
        ),
        ("/exercise", json!("maybe"), "exercise"),
    ];
    for (pointer, value, field) in wrong {
        let mut body = filing(now, LAT, LON);
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        body.pointer_mut(parent).unwrap()[name] = value.clone();
        let refused = agency.try_file(&body).await.refused(422);
        let error = &refused["errors"][0];
        assert_eq!(
            text(error, "/field"),
            field,
            "{pointer} {value}: {refused:#}"
        );
        for part in ["problem", "accepted"] {
            assert!(
                error[part].as_str().is_some_and(|text| !text.is_empty()),
                "{refused:#}"
            );
        }
        assert!(!text(&refused, "/detail").contains("Hall"), "{refused:#}");
    }
    // All at once, not one by one.
    let mut body = filing(now, LAT, LON);
    body["lkp"]["lat"] = 99.into();
    body["person"]["age"] = 121.into();
    body["time_zone"] = "nowhere".into();
    let refused = agency.try_file(&body).await.refused(422);
    assert_eq!(
        refused["errors"].as_array().unwrap().len(),
        3,
        "{refused:#}"
    );
    nothing_was_filed(&agency).await;
    agency.file(&filing(now, LAT, LON)).await;
}

async fn bodies_that_are_no_filing(house: House) {
    let agency = house.agency("Grampian").await;
    house.serve(&[]).await;
    let whole = filing(house.now().await, LAT, LON).to_string();
    let deep = "[".repeat(100_000);
    let broken: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b"{".to_vec(),
        b"null".to_vec(),
        b"[]".to_vec(),
        b"\"case\"".to_vec(),
        b"{\"person\": {\"name\": \"\xff\"}}".to_vec(),
        whole.as_bytes()[..whole.len() - 1].to_vec(),
        format!("{whole}{whole}").into_bytes(),
        whole.replace("57.1497", "1e999").into_bytes(),
        whole.replace("57.1497", "NaN").into_bytes(),
        deep.into_bytes(),
    ];
    for body in broken {
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        let answer = raw(&agency, body).await;
        assert_eq!(answer.status, 422, "{shown}: {}", answer.text);
        assert!(
            answer.refused(422)["errors"][0]["accepted"].is_string(),
            "{shown}"
        );
    }
    let mut large = filing(house.now().await, LAT, LON);
    large["circumstances"] = "x".repeat(300 * 1024).into();
    let refused = raw(&agency, large.to_string()).await.refused(413);
    assert_eq!(refused["status"], 413);
    nothing_was_filed(&agency).await;
}

async fn paths_and_queries_that_lead_nowhere(house: House) {
    let (operator, app) = (
        house.operator("Ann").await,
        house.app("Nearby", 1_000).await,
    );
    house.serve(&[]).await;
    operator.get("/v2/cases").await.refused(404);
    operator.get("/").await.refused(404);
    operator
        .send(Method::DELETE, "/v1/cases", &[], "")
        .await
        .refused(405);
    operator
        .get(&format!("/v1/cases/{}", uuid::Uuid::now_v7()))
        .await
        .refused(404);
    operator
        .get(&format!("/v1/sightings/{}", uuid::Uuid::now_v7()))
        .await
        .refused(404);
    operator.get("/v1/cases/seventeen").await.refused(400);
    operator
        .post("/v1/cases/seventeen/pause", &json!({}))
        .await
        .refused(400);
    operator.get("/v1/cases?state=lost").await.refused(400);
    operator
        .get("/v1/cases?cursor=seventeen")
        .await
        .refused(400);
    operator.get("/v1/cases?colour=red").await.refused(400);
    operator.get("/v1/outcomes?limit=many").await.refused(400);
    app.send(Method::PUT, "/v1/subscribers?atomic=perhaps", &[], "")
        .await
        .refused(400);
}

async fn sightings_and_finds_are_checked(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let app = house.app("Nearby", 100_000).await;
    let elsewhere = house.app("Elsewhere", 100_000).await;
    house.serve(&[]).await;
    let now = house.now().await;
    app.register(&[Person::new("p", cell_at(LAT, LON), now)])
        .await;
    let _inbox = Inbox::open(&app).await;
    let case = agency.file(&filing(now, LAT, LON)).await;
    let _inbox = Inbox::open(&app).await;
    let alert = text(&operator.verify(&case).await, "/alert/id").to_owned();
    settled(&operator, &case).await;
    settled(&operator, &case).await;
    let good = json!({ "lat": LAT, "lon": LON, "accuracy_m": 20.0, "seen_at": ago(now, 3) });
    let with = |field: &str, value: Value| {
        let mut sighting = good.clone();
        sighting[field] = value;
        sighting
    };
    let future = (now + SignedDuration::from_mins(5)).to_string();
    let path = format!("/v1/cases/{alert}/sightings");
    for (field, value) in [
        ("lat", json!(91)),
        ("accuracy_m", json!(0.5)),
        ("accuracy_m", json!(60_000)),
        ("seen_at", json!(future)),
        ("seen_at", json!(ago(now, 40).to_string())),
        ("text", json!("x".repeat(2_001))),
        ("source", json!("police")),
        ("credibility", json!(0.9)),
        ("state", json!("accepted")),
    ] {
        let refused = app
            .post(&path, &with(field, value.clone()))
            .await
            .refused(422);
        assert!(
            text(&refused, "/errors/0/field").contains(field),
            "{field} {value}: {refused:#}"
        );
    }
    // Only an app that was sent the alert knows of it.
    elsewhere.post(&path, &good).await.refused(404);
    // An app knows the alert, an agency the case, and neither the other.
    let by_case = format!("/v1/cases/{case}/sightings");
    app.post(&by_case, &good).await.refused(404);
    agency
        .post(&path, &with("source", json!("police")))
        .await
        .refused(404);
    agency.post(&by_case, &good).await.refused(422);
    let kept = app.post(&path, &good).await.ok();
    let sighting = format!("/v1/sightings/{}", text(&kept, "/id"));
    operator
        .patch(&sighting, &json!({ "credibility": 1.1 }))
        .await
        .refused(422);
    agency
        .patch(&sighting, &json!({ "state": "accepted" }))
        .await
        .refused(403);
    app.patch(&sighting, &json!({ "state": "withdrawn" }))
        .await
        .ok();

    let close = |found: Value| json!({ "outcome": "found_well", "found": found });
    let path = format!("/v1/cases/{case}/close");
    for (found, field) in [
        (json!({ "lat": 91, "lon": LON, "at": now }), "found"),
        (json!({ "lat": LAT, "lon": LON, "at": future }), "found.at"),
        (
            json!({ "lat": LAT, "lon": LON, "at": ago(now, 60) }),
            "found.at",
        ),
        (json!({ "lat": LAT }), "found.lon"),
    ] {
        let refused = agency.post(&path, &close(found.clone())).await.refused(422);
        assert_eq!(
            text(&refused, "/errors/0/field"),
            field,
            "{found}: {refused:#}"
        );
    }
    let unheard_of = json!({ "outcome": "eaten" });
    agency.post(&path, &unheard_of).await.refused(422);
    let after = agency.case(&case).await;
    assert_eq!(
        (text(&after, "/state"), &after["found_km"]),
        ("active", &Value::Null)
    );
}
