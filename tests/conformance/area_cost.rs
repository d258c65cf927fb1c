//! What a wave costs is known before it goes, and who lets more people in.

use homeward::alert::proto::v1::Kind;
use serde_json::json;

use super::area::{crowd, happened, plan};
use super::volunteers::{cells, volunteers};
use crate::common::{
    House, Inbox, Person, Rounds, cell_at, dispatch, filing, number, settled, text, until,
};

const LAT: f64 = 57.1497;
const LON: f64 = -2.0943;

conformance! {
    the_cost_of_a_wave_is_known_before_it_goes,
    only_volunteers_cost_where_only_they_are_told,
    who_verified_lets_in_no_more_than_one_wave_may_reach,
    what_was_approved_for_volunteers_is_asked_anew_for_everybody,
}

async fn the_cost_of_a_wave_is_known_before_it_goes(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let (one, two) = (
        house.app("One", 100_000).await,
        house.app("Two", 100_000).await,
    );
    house.serve(&[]).await;
    let now = house.now().await;
    crowd(&one, LAT, LON, now).await;
    two.register(&Person::many("two", 3, cell_at(LAT, LON), now))
        .await;
    let _inboxes = [Inbox::open(&one).await, Inbox::open(&two).await];
    let case = agency.file(&filing(now, LAT, LON)).await;
    operator.verify(&case).await;
    let alert = settled(&operator, &case).await;
    assert!(alert["waves"][0]["cost"].is_null(), "it has gone");
    let cost = alert["waves"][1]["cost"].clone();
    let expected = number(&cost, "/subscribers");
    assert!(expected > 0 && cost["by_app"]["One"] == expected, "{cost}");
    assert!(alert["waves"][1]["mass"].as_f64() > Some(0.1));
    house.wave_now(&operator, &case, 2).await;
    until("the second wave", async || {
        let rounds = Rounds::of(&dispatch(&operator, &case).await);
        (rounds.count() == 2).then_some(())
    })
    .await;
    let round = Rounds::of(&settled(&operator, &case).await).last().clone();
    assert_eq!(number(&round, "/in_area"), expected);
}

async fn only_volunteers_cost_where_only_they_are_told(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let app = house.app("Nearby", 100_000).await;
    house.serve(&[("approval.recipients", "20")]).await;
    let now = house.now().await;
    let here = cell_at(LAT, LON);
    app.register(&Person::many("p", 30, here, now)).await;
    app.register(&volunteers("v", 20, here, now)).await;
    let mut report = filing(now, LAT, LON);
    report["category"] = json!("despondent");
    let _inbox = Inbox::open(&app).await;
    // Of fifty there twenty may hear of it, so nobody is asked.
    let case = agency.file(&report).await;
    operator.verify(&case).await;
    assert_eq!(Rounds::of(&settled(&operator, &case).await).told(), 20);
    // One more, and a second operator sees how many, before cap and where to see how many after it.
    app.register(&volunteers("v", 21, here, now)).await;
    let case = agency.file(&report).await;
    operator.verify(&case).await;
    let wave = until("the wave to be stopped", async || {
        let wave = dispatch(&operator, &case).await["waves"][0].clone();
        (wave["state"] == "approval").then_some(wave)
    })
    .await;
    let cost = &wave["cost"];
    assert_eq!(
        wave["approval"]["at_least"], false,
        "they are counted in full"
    );
    assert_eq!(number(&wave, "/approval/subscribers"), 21);
    assert_eq!(
        (number(cost, "/subscribers"), number(cost, "/by_app/Nearby")),
        (21, 21)
    );
    assert_eq!(cost["volunteers_only"], true);
    let after_cap = text(cost, "/after_cap").strip_prefix("POST ").unwrap();
    let plan = plan(&operator, &case).await;
    assert_eq!(plan["cost_of_waves"]["after_cap"], cost["after_cap"]);
    let foreseen = operator.post(after_cap, &json!({})).await.ok();
    let told = |round: &serde_json::Value| number(round, "/told");
    let rounds = foreseen["rounds"].as_array().unwrap();
    assert_eq!(rounds.iter().map(told).sum::<i64>(), 21);
    // Once everybody may hear of it, everybody counts.
    let everybody = json!({"audience": "everybody", "reason": "seen by the river, minutes ago"});
    let audience = format!("/v1/cases/{case}/audience");
    operator.post(&audience, &everybody).await.ok();
    let cost = dispatch(&operator, &case).await["waves"][0]["cost"].clone();
    assert_eq!(number(&cost, "/subscribers"), 51);
}

async fn who_verified_lets_in_no_more_than_one_wave_may_reach(house: House) {
    let (agency, ann) = (house.agency("Grampian").await, house.operator("Ann").await);
    let bob = house.operator("Bob").await;
    let app = house.app("Nearby", 100_000).await;
    house.serve(&[("approval.recipients", "20")]).await;
    let (now, here) = (house.now().await, cell_at(LAT, LON));
    app.register(&Person::many("p", 18, here, now)).await;
    app.register(&volunteers("v", 5, here, now)).await;
    let inbox = Inbox::open(&app).await;
    let mut report = filing(now, LAT, LON);
    report["category"] = json!("despondent");
    let case = agency.file(&report).await;
    let alert = text(&ann.verify(&case).await, "/alert/id").to_owned();
    assert_eq!(Rounds::of(&settled(&ann, &case).await).told(), 5);
    let everybody = json!({"audience": "everybody", "reason": "seen by the river, minutes ago"});
    let audience = format!("/v1/cases/{case}/audience");
    let refused = ann.post(&audience, &everybody).await.refused(403);
    let why = text(&refused, "/detail");
    assert!(why.contains("another operator") && why.contains("more than 20 subscribers"));
    assert_eq!(ann.case(&case).await["audience"], "volunteers");
    house.sweep(&ann, &case).await;
    assert_eq!(inbox.once(&alert, Kind::Issue).len(), 5);
    bob.post(&audience, &everybody).await.ok();
    inbox.people(&alert, Kind::Issue, 23).await;
}

async fn what_was_approved_for_volunteers_is_asked_anew_for_everybody(house: House) {
    let (agency, ann) = (house.agency("Grampian").await, house.operator("Ann").await);
    let bob = house.operator("Bob").await;
    let app = house.app("Nearby", 100_000).await;
    house.serve(&[("approval.recipients", "20")]).await;
    let now = house.now().await;
    let mut report = filing(now, LAT, LON);
    report["category"] = json!("despondent");
    let cells = cells(&agency, &ann, &report).await;
    app.register(&Person::many("p", 30, cells[1], now)).await;
    app.register(&volunteers("v", 2, cells[1], now)).await;
    let inbox = Inbox::open(&app).await;
    let case = agency.file(&report).await;
    let alert = text(&ann.verify(&case).await, "/alert/id").to_owned();
    settled(&ann, &case).await;
    let approve = format!("/v1/cases/{case}/waves/2/approve");
    bob.post(&approve, &json!({})).await.ok();
    // Nobody but volunteers heard of it, and few live there: she may let everybody in from here on.
    let everybody = json!({"audience": "everybody", "reason": "seen by the river, minutes ago"});
    let audience = format!("/v1/cases/{case}/audience");
    ann.post(&audience, &everybody).await.ok();
    let said = happened(&ann, &case, "audience_changed").await;
    assert_eq!(number(&said[0], "/waves_asked_anew"), 1);
    house.wave_now(&ann, &case, 2).await;
    let wave = until("the wave to be stopped or to go", async || {
        let wave = dispatch(&ann, &case).await["waves"][1].clone();
        (wave["state"] != "waiting").then_some(wave)
    })
    .await;
    assert_eq!(text(&wave, "/state"), "approval");
    assert_eq!(number(&wave, "/cost/subscribers"), 32);
    ann.post(&approve, &json!({})).await.refused(403);
    bob.post(&approve, &json!({})).await.ok();
    inbox.people(&alert, Kind::Issue, 32).await;
}
