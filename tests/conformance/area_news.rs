//! What is learnt of a case counts from when it was learnt, and no longer than it is believed.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::area::{happened, plan, seen};
use crate::common::{
    Caller, House, Inbox, Person, ago, cell_at, dispatch, filing, number, settled, text, until,
};

const LAT: f64 = 57.1497;
const LON: f64 = -2.0943;

conformance! {
    a_sighting_that_counts_no_more_holds_no_wave_back,
    what_turns_out_to_be_overdue_waits_for_what_is_being_checked,
    a_correction_holds_no_wave_back,
    who_was_told_by_a_sweep_counts_from_then_on,
}

/// Lets minutes pass for the waves of a case.
async fn pass(house: &House, minutes: i64) {
    for (table, column) in [
        ("plans", "made_at"),
        ("alerts", "opened_at"),
        ("alerts", "waves_from"),
        ("sightings", "believed_since"),
        ("waves", "released_at"),
        ("waves", "due_at"),
    ] {
        house
            .age(table, column, SignedDuration::from_mins(minutes))
            .await;
    }
}

/// In how many minutes the waves are due that wait for their time, after those that do not have gone out.
pub async fn ahead(house: &House, operator: &Caller, case: &str) -> Vec<i64> {
    until("what is due to go out", async || {
        let (waves, now) = (
            dispatch(operator, case).await["waves"].clone(),
            house.now().await,
        );
        let waits = |wave: &&Value| wave["state"] == "waiting";
        let ahead_ms = |wave: &Value| {
            let due_at: Timestamp = text(wave, "/due_at").parse().unwrap();
            due_at.as_millisecond() - now.as_millisecond()
        };
        let ahead: Vec<i64> = waves
            .as_array()?
            .iter()
            .filter(waits)
            .map(ahead_ms)
            .collect();
        let minutes = |ms: &i64| (ms + 59_999) / 60_000;
        ahead
            .iter()
            .all(|ms| *ms > 0)
            .then(|| ahead.iter().map(minutes).collect())
    })
    .await
}

async fn a_sighting_that_counts_no_more_holds_no_wave_back(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    house.serve(&[]).await;
    let now = house.now().await;
    let mut report = filing(now, LAT, LON);
    report["lkp"]["at"] = json!(ago(now, 90));
    let case = agency.file(&report).await;
    operator.verify(&case).await;
    assert_eq!(ahead(&house, &operator, &case).await, [30, 120]);
    pass(&house, 10).await;
    let path = seen(&operator, &case, LAT + 0.013, LON, ago(now, 10)).await;
    let decide = async |decision: Value| {
        operator.patch(&path, &decision).await.ok();
        ahead(&house, &operator, &case).await
    };
    let accepted = json!({"state": "accepted", "credibility": 0.9});
    assert_eq!(
        decide(accepted.clone()).await,
        [30, 120],
        "from when it was accepted"
    );
    pass(&house, 10).await;
    let rejected = json!({"state": "rejected"});
    assert_eq!(decide(rejected).await, [10, 100], "as if it had never come");
    let replanned = happened(&operator, &case, "replanned").await;
    let from = |at: usize| {
        text(&replanned[at], "/delays_count_from")
            .parse::<Timestamp>()
            .unwrap()
    };
    assert!(from(0) > from(1), "{replanned:#?}");

    assert_eq!(decide(accepted).await, [30, 120]);
    pass(&house, 10).await;
    let less = json!({"credibility": 0.7});
    assert_eq!(decide(less).await, [20, 110], "it is believed as before");
    let hardly = json!({"credibility": 0.01});
    // The second wave would have gone out just now.
    assert_eq!(decide(hardly).await, [90]);
    pass(&house, 10).await;
    let surely = json!({"credibility": 0.95});
    // What is near it went out before.
    assert_eq!(decide(surely).await, [120], "from when it is believed");
    // One from before it that comes later delays nothing.
    pass(&house, 10).await;
    let earlier = seen(&operator, &case, LAT, LON, ago(now, 60)).await;
    let accepted = json!({"state": "accepted"});
    operator.patch(&earlier, &accepted).await.ok();
    assert_eq!(ahead(&house, &operator, &case).await, [110]);
    // While the case is paused no time passes.
    agency.step(&case, "pause").await.ok();
    house
        .age("cases", "paused_at", SignedDuration::from_mins(10))
        .await;
    agency.step(&case, "resume").await.ok();
    assert_eq!(ahead(&house, &operator, &case).await, [120]);
    let replan = format!("/v1/cases/{case}/replan");
    operator.post(&replan, &json!({})).await.ok();
    assert_eq!(ahead(&house, &operator, &case).await, [120]);
}

async fn what_turns_out_to_be_overdue_waits_for_what_is_being_checked(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    house.serve(&[]).await;
    let now = house.now().await;
    let mut report = filing(now, LAT, LON);
    report["lkp"]["at"] = json!(ago(now, 90));
    let case = agency.file(&report).await;
    operator.verify(&case).await;
    assert_eq!(ahead(&house, &operator, &case).await, [30, 120]);
    pass(&house, 25).await;
    let path = seen(&operator, &case, LAT + 0.013, LON, ago(now, 10)).await;
    let accepted = json!({"state": "accepted", "credibility": 0.9});
    operator.patch(&path, &accepted).await.ok();
    assert_eq!(ahead(&house, &operator, &case).await, [30, 120]);
    pass(&house, 25).await;
    seen(&agency, &case, LAT + 0.02, LON, ago(now, 1)).await;
    // Without the first sighting the second wave would have gone out twenty minutes ago.
    let rejected = json!({"state": "rejected"});
    operator.patch(&path, &rejected).await.ok();
    until("a wave that waits for the other", async || {
        let waves = dispatch(&operator, &case).await["waves"].clone();
        let waits = |wave: &Value| wave["waits_for_sightings"]["sightings"] == 1;
        waves.as_array()?.iter().any(waits).then_some(())
    })
    .await;
}

async fn a_correction_holds_no_wave_back(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    house.serve(&[]).await;
    let now = house.now().await;
    let case = agency.file(&filing(now, LAT, LON)).await;
    operator.verify(&case).await;
    assert_eq!(ahead(&house, &operator, &case).await, [30, 120]);
    pass(&house, 10).await;
    let path = format!("/v1/cases/{case}");
    operator
        .patch(&path, &json!({"mobility": "reduced"}))
        .await
        .ok();
    assert_eq!(ahead(&house, &operator, &case).await, [20, 110]);
    // Another last known position is where the search begins.
    let moved =
        json!({"lkp": {"lat": LAT + 0.05, "lon": LON, "accuracy_m": 20, "at": ago(now, 20)}});
    operator.patch(&path, &moved).await.ok();
    assert_eq!(ahead(&house, &operator, &case).await, [30, 120]);
    let causes = happened(&operator, &case, "replanned").await;
    let causes: Vec<&str> = causes
        .iter()
        .map(|detail| text(detail, "/why/cause"))
        .collect();
    assert_eq!(causes, ["case_changed", "lkp_corrected"]);
}

async fn who_was_told_by_a_sweep_counts_from_then_on(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let app = house.app("Nearby", 100_000).await;
    house.serve(&[]).await;
    let now = house.now().await;
    let _inbox = Inbox::open(&app).await;
    let mut report = filing(now, LAT, LON);
    report["lkp"]["at"] = json!(ago(now, 90));
    let case = agency.file(&report).await;
    operator.verify(&case).await;
    settled(&operator, &case).await;
    // The wave found nobody an hour ago; they come now, and a sweep tells them.
    for (table, column) in [("waves", "released_at"), ("rounds", "released_at")] {
        house
            .age(table, column, SignedDuration::from_hours(1))
            .await;
    }
    app.register(&Person::many("p", 10, cell_at(LAT, LON), now))
        .await;
    house.sweep(&operator, &case).await;
    operator
        .post(&format!("/v1/cases/{case}/replan"), &json!({}))
        .await
        .ok();
    let looked_for = plan(&operator, &case).await["inputs"]["looked_for"].clone();
    assert_eq!(text(&looked_for, "/0/name"), "wave 1");
    let after_s = looked_for[0]["after_s"].as_f64().unwrap();
    assert!(
        (after_s - 90.0 * 60.0).abs() < 300.0,
        "{after_s} s after she was last seen"
    );
    let told = looked_for[0]["by"]["alert"].as_array().unwrap();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(number(&dispatch(&operator, &case).await, "/recipients"), 10);
}
