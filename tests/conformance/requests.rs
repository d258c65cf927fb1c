//! Requests that are repeated, come too late, or come when they may not.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::json;

use crate::common::{Answer, Caller, House, filing, number, text};

const LAT: f64 = 57.1497;
const LON: f64 = -2.0943;

conformance! {
    a_repeated_request_is_answered_and_not_done_again,
    a_change_to_another_version_is_refused,
    a_step_that_is_not_possible_says_which_are,
    pages_follow_each_other,
}

async fn post(caller: &Caller, path: &str, key: &str, body: &str) -> Answer {
    let headers = [("idempotency-key", key)];
    caller
        .send(Method::POST, path, &headers, body.to_owned())
        .await
}

async fn cases(caller: &Caller) -> usize {
    caller.get("/v1/cases").await.ok()["items"]
        .as_array()
        .unwrap()
        .len()
}

async fn a_repeated_request_is_answered_and_not_done_again(house: House) {
    let (agency, other) = (
        house.agency("Grampian").await,
        house.agency("Tayside").await,
    );
    let operator = house.operator("Ann").await;
    house.serve(&[]).await;
    let body = filing(house.now().await, LAT, LON);
    let (path, text_of) = ("/v1/cases", body.to_string());

    let without = agency.post(path, &body).await;
    assert!(text(&without.refused(400), "/detail").contains("Idempotency-Key"));
    for key in ["", &"x".repeat(201)] {
        post(&agency, path, key, &text_of).await.refused(400);
    }
    // Ten at once, of which one is done.
    let repeats = (0..10).map(|_| post(&agency, path, "k1", &text_of));
    let answers = futures_util::future::join_all(repeats).await;
    assert_eq!(answers[0].status, 201, "{}", answers[0].text);
    assert!(
        answers
            .iter()
            .all(|one| (one.status, &one.text) == (201, &answers[0].text))
    );
    let replays = answers
        .iter()
        .filter(|one| one.header("idempotent-replay") == "true")
        .count();
    assert_eq!((replays, cases(&agency).await), (9, 1));

    let mut another = body.clone();
    another["person"]["name"] = "Somebody Else".into();
    post(&agency, path, "k1", &another.to_string())
        .await
        .refused(422);
    // Keys are each holder's own.
    assert_eq!(post(&other, path, "k1", &text_of).await.status, 201);
    // What was refused has not used up its key.
    another["lkp"]["lat"] = 99.into();
    post(&agency, path, "k2", &another.to_string())
        .await
        .refused(422);
    another["lkp"]["lat"] = LAT.into();
    assert_eq!(
        post(&agency, path, "k2", &another.to_string()).await.status,
        201
    );
    assert_eq!(cases(&agency).await, 2);

    // Every other request honours a key, too.
    let case = text(&answers[0].body, "/id").to_owned();
    let close = format!("/v1/cases/{case}/close");
    let returned = json!({ "outcome": "returned" }).to_string();
    let closed = post(&agency, &close, "k3", &returned).await;
    let again = post(&agency, &close, "k3", &returned).await;
    assert_eq!((closed.status, &closed.text), (again.status, &again.text));
    post(&agency, &close, "k4", &returned).await.refused(409);
    post(&operator, &close, "k3", &returned).await.refused(409);
    // The same key for another request, though the body is the same.
    post(
        &agency,
        &format!("/v1/cases/{case}/reopen"),
        "k3",
        &returned,
    )
    .await
    .refused(422);
}

async fn a_change_to_another_version_is_refused(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    house.serve(&[]).await;
    let case = agency.file(&filing(house.now().await, LAT, LON)).await;
    let path = format!("/v1/cases/{case}");
    let read = agency.get(&path).await;
    let etag = read.header("etag").to_owned();
    assert_eq!(etag, format!("\"{}\"", number(&read.body, "/version")));
    let change = async |caller: &Caller, tag: &str, clothing: &str| {
        let body = json!({ "clothing": clothing }).to_string();
        caller
            .send(Method::PATCH, &path, &[("if-match", tag)], body)
            .await
    };
    let changed = change(&agency, &etag, "blue").await;
    let newer = changed.header("etag").to_owned();
    assert_ne!(newer, etag);
    changed.ok();
    let stale = change(&operator, &etag, "grey").await.refused(412);
    assert_eq!(format!("\"{}\"", number(&stale, "/version")), newer);
    change(&agency, "not a version", "grey").await.refused(400);
    let now = agency.get(&path).await;
    assert_eq!(text(&now.body, "/report/person/clothing"), "blue");
    assert_eq!(now.header("etag"), newer);

    let stale = [("if-match", etag.as_str())];
    let verify = json!({ "checks": crate::common::CHECKS }).to_string();
    operator
        .send(Method::POST, &format!("{path}/verify"), &stale, verify)
        .await
        .refused(412);
    let close = json!({ "outcome": "returned" }).to_string();
    agency
        .send(Method::POST, &format!("{path}/close"), &stale, close)
        .await
        .refused(412);
    assert_eq!(text(&agency.case(&case).await, "/state"), "submitted");
}

async fn a_step_that_is_not_possible_says_which_are(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    house.serve(&[]).await;
    let case = agency.file(&filing(house.now().await, LAT, LON)).await;
    let take = async |step: &str| match step {
        "verify" => operator.verify_with(&case, json!({})).await,
        "close" => {
            let body = json!({ "outcome": "returned" });
            operator
                .post(&format!("/v1/cases/{case}/close"), &body)
                .await
        }
        step => operator.step(&case, step).await,
    };
    let steps = ["verify", "reject", "pause", "resume", "close", "reopen"];
    for (step, state, possible) in [
        ("", "submitted", ["close", "reject", "verify"].as_slice()),
        ("verify", "active", &["close", "pause"]),
        ("pause", "paused", &["close", "resume"]),
        ("resume", "active", &["close", "pause"]),
        ("close", "closed", &["reopen"]),
        ("reopen", "submitted", &["close", "reject", "verify"]),
        ("reject", "rejected", &["reopen"]),
    ] {
        if !step.is_empty() {
            take(step).await.ok();
        }
        let case = operator.case(&case).await;
        assert_eq!(text(&case, "/state"), state);
        let shown: BTreeSet<&str> = case["possible_steps"]
            .as_array()
            .unwrap()
            .iter()
            .map(|s| s.as_str().unwrap())
            .collect();
        assert_eq!(shown.into_iter().collect::<Vec<_>>(), possible);
        for step in steps.iter().filter(|step| !possible.contains(*step)) {
            let refused = take(step).await.refused(409);
            assert_eq!(text(&refused, "/state"), state);
            let listed: Vec<&str> = refused["possible"]
                .as_array()
                .unwrap()
                .iter()
                .map(|s| s.as_str().unwrap())
                .collect();
            assert!(
                possible.iter().all(|step| listed.contains(step)),
                "{refused:#}"
            );
        }
        assert_eq!(
            operator.case(text(&case, "/id")).await["version"],
            case["version"]
        );
    }
}

async fn pages_follow_each_other(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    house.serve(&[]).await;
    let now = house.now().await;
    let mut filed = Vec::new();
    for _ in 0..5 {
        filed.push(agency.file(&filing(now, LAT, LON)).await);
    }
    let read = async |caller: &Caller, path: &str| {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = caller.get(&format!("{path}?limit=2{cursor}")).await.ok();
            let items = page["items"].as_array().unwrap();
            assert!(items.len() <= 2);
            seen.extend(items.clone());
            match &page["next"] {
                serde_json::Value::Null => return seen,
                next => {
                    let next = next
                        .as_str()
                        .map_or_else(|| next.to_string(), ToOwned::to_owned);
                    cursor = format!("&cursor={next}");
                }
            }
        }
    };
    let ids = |items: &[serde_json::Value], field: &str| -> Vec<String> {
        items
            .iter()
            .map(|item| text(item, field).to_owned())
            .collect()
    };
    filed.reverse();
    assert_eq!(
        ids(&read(&agency, "/v1/cases").await, "/id"),
        filed,
        "newest first"
    );
    for case in &filed[1..] {
        operator.close(case).await;
    }
    assert_eq!(
        ids(&read(&operator, "/v1/outcomes").await, "/case"),
        filed[1..]
    );
    let open = operator.get("/v1/cases?state=submitted").await.ok();
    assert_eq!(ids(open["items"].as_array().unwrap(), "/id"), filed[..1]);
    let timeline = format!("/v1/cases/{}/timeline", filed[1]);
    let events = read(&operator, &timeline).await;
    assert_eq!(events.first().unwrap()["what"], "filed");
    assert_eq!(events.last().unwrap()["what"], "closed");
}
