//! A correction always corrects the plan; who is told of what stays as it was decided.

use homeward::alert::proto::v1::Kind;
use serde_json::{Value, json};

use super::area::{happened, plan};
use super::area_news::ahead;
use super::volunteers::volunteers;
use crate::common::{
    House, Inbox, Person, Rounds, ago, cell_at, dispatch, filing, number, settled, text, until,
};

const LAT: f64 = 57.1497;
const LON: f64 = -2.0943;

conformance! {
    a_correction_makes_a_plan_when_no_update_is_left,
    another_category_lets_nobody_in_by_itself,
    a_correction_to_despair_takes_back_what_waits_for_others,
}

async fn a_correction_makes_a_plan_when_no_update_is_left(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let app = house.app("Nearby", 100_000).await;
    house.serve(&[("approval.updates", "1")]).await;
    let (now, here) = (house.now().await, cell_at(LAT, LON));
    app.register(&Person::many("p", 10, here, now)).await;
    let inbox = Inbox::open(&app).await;
    let mut report = filing(now, LAT, LON);
    report["consent"]["publish"] = json!(["name", "clothing", "last_seen"]);
    let case = agency.file(&report).await;
    let alert = text(&operator.verify(&case).await, "/alert/id").to_owned();
    settled(&operator, &case).await;
    let path = format!("/v1/cases/{case}");
    let lkp = |place: &str, lat: f64| json!({"lkp": {"lat": lat, "lon": LON, "accuracy_m": 20, "at": ago(now, 20), "place": place}});
    let first = operator
        .patch(&path, &lkp("Mill Lane", LAT + 0.01))
        .await
        .ok();
    assert!(number(&first, "/update/batches") > 0, "{}", first["update"]);
    settled(&operator, &case).await;
    assert_eq!(inbox.once(&alert, Kind::Update).len(), 10);

    // By an agency's proposal, too.
    agency
        .patch(&path, &lkp("Quay Street", LAT + 0.05))
        .await
        .ok();
    let second = operator.step(&case, "proposal/accept").await.ok();
    assert_eq!(text(&second, "/report/lkp/place"), "Quay Street");
    assert_eq!(
        (
            number(&second, "/update/batches"),
            number(&second, "/updates")
        ),
        (0, 1)
    );
    let why = text(&second, "/update/none_because");
    assert!(why.contains("limit of updates for a case, 1,"), "{why}");
    let after = plan(&operator, &case).await;
    assert_eq!(
        (number(&after, "/version"), text(&after, "/why/cause")),
        (3, "lkp_corrected")
    );
    assert_eq!(after["inputs"]["lkp"]["lat"], LAT + 0.05);
    // Who hears of it now reads where she was last seen, and nobody hears twice.
    app.register(&[Person::new("newcomer", here, now)]).await;
    house.sweep(&operator, &case).await;
    let fresh = inbox.of(&alert, Kind::Issue).pop().unwrap();
    assert!(fresh.alert.unwrap().texts[0].body.contains("Quay Street"));
    assert_eq!(inbox.once(&alert, Kind::Update).len(), 10);
    let said: Vec<Value> = happened(&operator, &case, "changed").await;
    assert_eq!(text(&said[1], "/update/none_because"), why);
}

async fn another_category_lets_nobody_in_by_itself(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let app = house.app("Nearby", 100_000).await;
    house.serve(&[]).await;
    let (now, here) = (house.now().await, cell_at(LAT, LON));
    app.register(&Person::many("p", 5, here, now)).await;
    let inbox = Inbox::open(&app).await;
    let mut report = filing(now, LAT, LON);
    report["category"] = json!("despondent");
    let case = agency.file(&report).await;
    let alert = text(&operator.verify(&case).await, "/alert/id").to_owned();
    settled(&operator, &case).await;
    let path = format!("/v1/cases/{case}");
    let changed = operator
        .patch(&path, &json!({"category": "dementia"}))
        .await
        .ok();
    assert_eq!(
        (text(&changed, "/category"), text(&changed, "/audience")),
        ("dementia", "volunteers")
    );
    let said = happened(&operator, &case, "changed").await;
    assert_eq!(text(&said[0], "/audience_stays"), "volunteers");
    ahead(&house, &operator, &case).await;
    let shown = house.sweep(&operator, &case).await;
    let rounds = shown["rounds"].as_array().unwrap();
    let sweep = rounds
        .iter()
        .find(|round| round["kind"] == "sweep")
        .unwrap();
    assert_eq!(
        (
            number(sweep, "/told"),
            number(sweep, "/not_told/volunteers_only")
        ),
        (0, 5)
    );
    // Nor does filing it anew.
    agency.close(&case).await;
    let reopened = agency.step(&case, "reopen").await.ok();
    assert_eq!(text(&reopened, "/audience"), "volunteers");
    assert!(inbox.of(&alert, Kind::Issue).is_empty());
    operator.verify(&case).await;
    settled(&operator, &case).await;
    // Who says why does.
    let why = json!({"audience": "everybody", "reason": "it was an error in the form"});
    operator.post(&format!("{path}/audience"), &why).await.ok();
    inbox
        .people(&operator.alert_of(&case).await, Kind::Issue, 5)
        .await;
}

async fn a_correction_to_despair_takes_back_what_waits_for_others(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let app = house.app("Nearby", 100_000).await;
    house.serve(&[]).await;
    let (now, here) = (house.now().await, cell_at(LAT, LON));
    app.register(&Person::many("p", 5, here, now)).await;
    app.register(&volunteers("v", 2, here, now)).await;
    let inbox = Inbox::open(&app).await;
    operator.post("/v1/lanes/hold", &json!({})).await.ok();
    let case = agency.file(&filing(now, LAT, LON)).await;
    let path = format!("/v1/cases/{case}");
    let alert = text(&operator.verify(&case).await, "/alert/id").to_owned();
    // That everybody may hear of it is said of a case of dementia.
    let why = json!({"audience": "everybody", "reason": "she is known here"});
    operator.post(&format!("{path}/audience"), &why).await.ok();
    until("all to wait for the lanes", async || {
        let told = Rounds::of(&dispatch(&operator, &case).await).told();
        (told == 7).then_some(())
    })
    .await;
    let changed = operator
        .patch(&path, &json!({"category": "despondent"}))
        .await
        .ok();
    assert_eq!(text(&changed, "/audience"), "volunteers");
    let said = happened(&operator, &case, "changed").await;
    assert_eq!(text(&said[0], "/audience_becomes"), "volunteers");
    operator.post("/v1/lanes/release", &json!({})).await.ok();
    inbox.people(&alert, Kind::Issue, 2).await;
    let shown = settled(&operator, &case).await;
    assert_eq!(Rounds::of(&shown).last_counts().1["volunteers_only"], 5);
    let told: Vec<String> = inbox.once(&alert, Kind::Issue).into_iter().collect();
    assert_eq!(told, ["v-00000", "v-00001"]);
}
