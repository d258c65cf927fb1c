//! Who may do what, and how often.

use reqwest::Method;
use serde_json::{Value, json};

use crate::common::{House, Person, Stream, cell_at, filing, text};

const LAT: f64 = 57.1497;
const LON: f64 = -2.0943;

conformance! {
    every_route_takes_its_own_scopes_only,
    nobody_without_a_key,
    keys_are_rotated_with_an_overlap,
    a_key_used_too_often_is_told_to_wait,
    an_agency_knows_of_its_own_cases_only,
}

/// Which scopes a route takes.
const ROUTES: &[(&str, &str, &[&str])] = &[
    ("POST", "/v1/cases", &["agency"]),
    ("GET", "/v1/cases", &["agency", "operator"]),
    ("GET", "/v1/cases/{case}", &["agency", "operator"]),
    ("GET", "/v1/cases/{case}/plan", &["agency", "operator"]),
    ("POST", "/v1/cases/{case}/replan", &["operator"]),
    ("POST", "/v1/cases/{case}/audience", &["operator"]),
    ("GET", "/v1/cases/{case}/dispatch", &["agency", "operator"]),
    ("GET", "/v1/cases/{case}/timeline", &["agency", "operator"]),
    ("GET", "/v1/cases/{case}/alert", &["agency", "operator"]),
    ("GET", "/v1/cases/{case}/sightings", &["agency", "operator"]),
    ("GET", "/v1/cases/{case}/searches", &["agency", "operator"]),
    (
        "POST",
        "/v1/cases/{case}/searches/1/withdraw",
        &["agency", "operator"],
    ),
    ("PATCH", "/v1/cases/{case}", &["agency", "operator"]),
    ("POST", "/v1/cases/{case}/verify", &["operator"]),
    ("POST", "/v1/cases/{case}/reject", &["operator"]),
    ("POST", "/v1/cases/{case}/pause", &["agency", "operator"]),
    ("POST", "/v1/cases/{case}/resume", &["agency", "operator"]),
    ("POST", "/v1/cases/{case}/close", &["agency", "operator"]),
    ("POST", "/v1/cases/{case}/reopen", &["agency", "operator"]),
    ("POST", "/v1/cases/{case}/proposal/accept", &["operator"]),
    ("POST", "/v1/cases/{case}/proposal/decline", &["operator"]),
    ("POST", "/v1/cases/{case}/waves/1/approve", &["operator"]),
    (
        "POST",
        "/v1/cases/{case}/waves/1/hold",
        &["agency", "operator"],
    ),
    ("PUT", "/v1/subscribers", &["app"]),
    ("POST", "/v1/receipts", &["app"]),
    ("GET", "/v1/apps/me", &["app"]),
    ("POST", "/v1/apps/me/test-alert", &["app"]),
    ("POST", "/v1/lanes/hold", &["operator"]),
    ("POST", "/v1/lanes/release", &["operator"]),
    ("GET", "/v1/dead-letters", &["app", "operator", "admin"]),
    ("POST", "/v1/dead-letters/{other}/replay", &["operator"]),
    ("GET", "/v1/outcomes", &["agency", "operator", "admin"]),
    ("POST", "/v1/agencies", &["admin"]),
    ("GET", "/v1/agencies", &["admin"]),
    ("POST", "/v1/apps", &["admin"]),
    ("GET", "/v1/apps", &["admin"]),
    ("PATCH", "/v1/apps/1", &["admin"]),
    ("POST", "/v1/operators", &["admin"]),
    ("GET", "/v1/operators", &["admin"]),
    ("POST", "/v1/keys", &["admin"]),
    ("GET", "/v1/keys", &["admin"]),
    ("POST", "/v1/keys/{other}/expire", &["admin"]),
];

async fn every_route_takes_its_own_scopes_only(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let (app, admin) = (house.app("Nearby", 1_000).await, house.admin().await);
    house.serve(&[]).await;
    let case = agency.file(&filing(house.now().await, LAT, LON)).await;
    let callers = [
        ("agency", agency),
        ("operator", operator),
        ("app", app),
        ("admin", admin),
    ];
    let nobody = uuid::Uuid::now_v7().to_string();
    for (method, path, scopes) in ROUTES {
        let path = path.replace("{case}", &case).replace("{other}", &nobody);
        for (scope, caller) in &callers {
            let method: Method = method.parse().unwrap();
            let body = match path.rsplit('/').next() {
                Some("close") => json!({ "outcome": "returned" }),
                _ if method == Method::PATCH => json!({ "clothing": "hat" }),
                _ => json!({}),
            };
            let answer = caller
                .send(method.clone(), &path, &[], body.to_string())
                .await;
            let allowed = scopes.contains(scope);
            assert_eq!(
                answer.status != 403,
                allowed,
                "{method} {path} by {scope}: {}",
                answer.text
            );
            if !allowed {
                answer.refused(403);
            }
        }
    }
}

async fn nobody_without_a_key(house: House) {
    let agency = house.agency("Grampian").await;
    house.serve(&[]).await;
    for key in [
        "",
        "nonsense",
        "hw_agency_00",
        &agency.key[..agency.key.len() - 1],
    ] {
        let stranger = house.stranger(key);
        let answer = stranger.get("/v1/cases").await;
        assert_eq!(answer.header("www-authenticate"), "Bearer");
        answer.refused(401);
        stranger
            .try_file(&filing(house.now().await, LAT, LON))
            .await
            .refused(401);
    }
    let basic = house.stranger("");
    let headers = [("authorization", "Basic YTpi")];
    basic
        .send(Method::GET, "/v1/cases", &headers, "")
        .await
        .refused(401);
    assert_eq!(agency.get("/v1/cases").await.ok()["items"], json!([]));
}

async fn keys_are_rotated_with_an_overlap(house: House) {
    let (agency, admin) = (house.agency("Grampian").await, house.admin().await);
    house.serve(&[]).await;
    let made = admin
        .post(
            "/v1/keys",
            &json!({ "scope": "agency", "holder": "Grampian" }),
        )
        .await
        .ok();
    let fresh = house.stranger(text(&made, "/key"));
    let body = filing(house.now().await, LAT, LON).to_string();
    let key = [("idempotency-key", "rotated")];
    let filed = agency
        .send(Method::POST, "/v1/cases", &key, body.clone())
        .await;

    let expire = format!("/v1/keys/{}/expire", agency.key_id);
    admin.post(&expire, &json!({ "overlap_h": 2 })).await.ok();
    agency.get("/v1/cases").await.ok();
    // The repeat of a request is known by its holder, whichever key it comes with.
    let again = fresh.send(Method::POST, "/v1/cases", &key, body).await;
    assert_eq!((again.status, &again.text), (filed.status, &filed.text));

    admin.post(&expire, &json!({})).await.ok();
    agency.get("/v1/cases").await.refused(401);
    assert_eq!(
        fresh.get("/v1/cases").await.ok()["items"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    admin
        .post(&expire, &json!({ "overlap_h": 2 }))
        .await
        .refused(404);
    agency.get("/v1/cases").await.refused(401);

    let listed = admin.get("/v1/keys").await;
    assert!(!listed.text.contains(&fresh.key) && !listed.text.contains(&agency.key));
    assert_eq!(listed.ok()["items"].as_array().unwrap().len(), 3);
    admin
        .post(
            "/v1/keys",
            &json!({ "scope": "agency", "holder": "Nobody" }),
        )
        .await
        .refused(422);
    admin
        .post("/v1/agencies", &json!({ "name": "Grampian" }))
        .await
        .refused(409);
}

async fn a_key_used_too_often_is_told_to_wait(house: House) {
    let (one, two) = (house.agency("One").await, house.agency("Two").await);
    let app = house.app("Nearby", 1_000).await;
    house
        .serve(&[("requests_per_s", "1"), ("requests_burst", "3")])
        .await;
    let mut refused = None;
    for _ in 0..5 {
        let answer = one.get("/v1/cases").await;
        if answer.status == 429 {
            refused = Some(answer);
        }
    }
    let refused = refused.expect("the fifth request within a second or so is too many");
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=2).contains(&wait), "{wait}");
    refused.refused(429);
    two.get("/v1/cases").await.ok();
    // gRPC draws on the same limit.
    let mut codes = Vec::new();
    for _ in 0..8 {
        let stream = Stream::try_open(&app, 1).await;
        codes.extend(stream.err().map(|status| status.code()));
    }
    assert!(codes.contains(&tonic::Code::ResourceExhausted), "{codes:?}");
}

async fn an_agency_knows_of_its_own_cases_only(house: House) {
    let (one, two) = (house.agency("One").await, house.agency("Two").await);
    let (operator, app) = (
        house.operator("Ann").await,
        house.app("Nearby", 100_000).await,
    );
    house.serve(&[]).await;
    let now = house.now().await;
    app.register(&[Person::new("p", cell_at(LAT, LON), now)])
        .await;
    let case = one.file(&filing(now, LAT, LON)).await;
    operator.verify(&case).await;
    let sighting = json!({
        "lat": LAT, "lon": LON, "accuracy_m": 10.0, "seen_at": now, "source": "police",
    });
    let kept = one
        .post(&format!("/v1/cases/{case}/sightings"), &sighting)
        .await
        .ok();
    let kept = format!("/v1/sightings/{}", text(&kept, "/id"));

    // The same person, filed by another agency: each hears of a likeness, and no more.
    let twin = two.file(&filing(now, LAT, LON)).await;
    let hints = two.case(&twin).await["duplicates"].clone();
    assert_eq!(
        (hints.as_array().unwrap().len(), &hints[0]["case"]),
        (1, &Value::Null)
    );
    assert_eq!(operator.case(&twin).await["duplicates"][0]["case"], case);
    one.close(&case).await;

    let path = |rest: &str| format!("/v1/cases/{case}{rest}");
    for rest in [
        "",
        "/plan",
        "/dispatch",
        "/timeline",
        "/alert",
        "/sightings",
        "/searches",
    ] {
        two.get(&path(rest)).await.refused(404);
    }
    two.get(&kept).await.refused(404);
    two.patch(&kept, &json!({ "state": "withdrawn" }))
        .await
        .refused(404);
    two.patch(&path(""), &json!({ "clothing": "hat" }))
        .await
        .refused(404);
    for step in [
        "/pause",
        "/resume",
        "/reopen",
        "/waves/1/hold",
        "/searches/1/withdraw",
    ] {
        two.post(&path(step), &json!({})).await.refused(404);
    }
    two.post(&path("/close"), &json!({ "outcome": "returned" }))
        .await
        .refused(404);
    two.post(&path("/sightings"), &sighting).await.refused(404);
    assert_eq!(two.get("/v1/outcomes").await.ok()["items"], json!([]));
    let list = two.get("/v1/cases").await;
    for answer in [list, two.get(&format!("/v1/cases/{twin}")).await, {
        two.get(&format!("/v1/cases/{twin}/timeline")).await
    }] {
        assert!(
            !answer.text.contains(&case),
            "another agency's case is named: {}",
            answer.text
        );
    }
}
