//! Everybody in the area is told, or counted under the one reason why not.

use std::collections::{BTreeMap, BTreeSet};

use h3o::CellIndex;
use homeward::alert::proto::v1::Kind;
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::common::{
    Caller, House, Inbox, Person, Rounds, ago, app_id, cell_at, disk, filing, number, settled, text,
};

const LAT: f64 = 57.1497;
const LON: f64 = -2.0943;

conformance! {
    told_and_reasons_are_those_in_the_area,
    an_exercise_reaches_volunteers_for_drills_only,
    a_paused_app_tells_nobody,
    a_dry_run_shares_out_a_budget_as_the_waves_do,
}

/// The cells of the waves that have gone out, as the plan shows them.
async fn released(caller: &Caller, case: &str) -> BTreeSet<CellIndex> {
    let plan = caller.get(&format!("/v1/cases/{case}/plan")).await.ok();
    let waves = plan["waves"].as_array().unwrap();
    let out = waves.iter().filter(|wave| wave["state"] == "released");
    let cells = out.flat_map(|wave| wave["cells"].as_array().unwrap().clone());
    cells
        .map(|cell| cell.as_str().unwrap().parse().unwrap())
        .collect()
}

/// Whether a subscriber's cell is one of these or inside one of them.
fn inside(cell: CellIndex, area: &BTreeSet<CellIndex>) -> bool {
    (0..=9_u8).any(|resolution| {
        let resolution = resolution.try_into().unwrap();
        cell.parent(resolution)
            .is_some_and(|cell| area.contains(&cell))
    })
}

/// Somebody and the reason they are not told, empty if they are.
struct Known {
    app: usize,
    person: Person,
    reason: &'static str,
}

async fn told_and_reasons_are_those_in_the_area(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let apps = [
        house.app("One", 100_000).await,
        house.app("Two", 100_000).await,
    ];
    let settings = [
        ("dispatch.batch_people", "6"),
        ("dispatch.shard_people", "15"),
    ];
    house.serve(&settings).await;
    let now = house.now().await;

    // Every ninth of them allows or is something else.
    let cells = disk(cell_at(LAT, LON), 9);
    let later = now + SignedDuration::from_hours(1);
    let mut known = Vec::new();
    for (place, cell) in cells.iter().enumerate() {
        for n in 0..(place * 5 % 4) {
            let token = format!("{place}-{n}");
            let person = Person::new(token, *cell, ago(now, 20));
            let (person, reason) = match (place * 3 + n) % 9 {
                0 => (person.with("opt_out", true), "opted_out"),
                1 => (person.with("muted_until", later.to_string()), "muted"),
                2 => (person.seen(ago(now, 26 * 60)), "stale_position"),
                3 => (person.with("muted_until", ago(now, 1).to_string()), ""),
                // The case is one of dementia.
                5 => (
                    person.with("opt_out_of", json!(["child", "dementia"])),
                    "opted_out",
                ),
                6 => (person.with("opt_out_of", json!(["child"])), ""),
                4 => (person.with("drills", true), ""),
                _ => (person, ""),
            };
            known.push(Known {
                app: (place + n) % 2,
                person,
                reason,
            });
        }
    }
    for (n, app) in apps.iter().enumerate() {
        let those = known.iter().filter(|one| one.app == n);
        let people: Vec<Person> = those.map(|one| one.person.clone()).collect();
        app.register(&people).await;
    }
    // One was there and is deleted, one is far away.
    apps[0]
        .register(&[Person::new("gone", cells[0], ago(now, 9))])
        .await;
    apps[0]
        .put([json!({ "token": "gone", "at": ago(now, 8), "delete": true })])
        .await
        .ok();
    apps[1]
        .register(&[Person::new("far", cell_at(LAT + 1.0, LON), now)])
        .await;
    let inboxes = [Inbox::open(&apps[0]).await, Inbox::open(&apps[1]).await];

    let case = agency.file(&filing(now, LAT, LON)).await;
    let alert = text(&operator.verify(&case).await, "/alert/id").to_owned();
    for round in 1..=3_usize {
        let rest = match round {
            1 => settled(&operator, &case).await,
            2 => {
                house.wave_now(&operator, &case, 2).await;
                crate::common::until("the second wave", async || {
                    let alert = crate::common::dispatch(&operator, &case).await;
                    (Rounds::of(&alert).count() == 2).then_some(())
                })
                .await;
                settled(&operator, &case).await
            }
            _ => house.sweep(&operator, &case).await,
        };
        let rounds = Rounds::of(&rest);
        assert_eq!(rounds.count(), round);
        // A wave's round covers its own cells, a sweep's all.
        let area = match round {
            1 | 3 => released(&operator, &case).await,
            _ => wave_cells(&operator, &case, 2).await,
        };
        let there: Vec<&Known> = known
            .iter()
            .filter(|one| inside(one.person.cell, &area))
            .collect();
        assert!(there.len() > 20, "the test must have somebody to count");
        let (told, reasons) = rounds.last_counts();
        assert_eq!(number(rounds.last(), "/in_area"), there.len() as i64);
        let mut expected: BTreeMap<String, i64> = BTreeMap::new();
        for one in &there {
            let reason = match (round, one.reason) {
                (3, "") => "told_already",
                (_, reason) => reason,
            };
            *expected.entry(reason.to_owned()).or_default() += 1;
        }
        assert_eq!(told, expected.remove("").unwrap_or(0), "round {round}");
        assert_eq!(reasons, expected, "round {round}");
    }
    // By name, app by app.
    let area = released(&operator, &case).await;
    for (n, inbox) in inboxes.iter().enumerate() {
        let these = known
            .iter()
            .filter(|one| one.app == n && one.reason.is_empty());
        let expected: BTreeSet<String> = these
            .filter(|one| inside(one.person.cell, &area))
            .map(|one| one.person.token.clone())
            .collect();
        assert_eq!(inbox.once(&alert, Kind::Issue), expected);
    }
}

async fn wave_cells(caller: &Caller, case: &str, wave: usize) -> BTreeSet<CellIndex> {
    let plan = caller.get(&format!("/v1/cases/{case}/plan")).await.ok();
    let cells = plan["waves"][wave - 1]["cells"].as_array().unwrap().clone();
    cells
        .iter()
        .map(|cell: &Value| cell.as_str().unwrap().parse().unwrap())
        .collect()
}

async fn an_exercise_reaches_volunteers_for_drills_only(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let app = house.app("Nearby", 100_000).await;
    let serious = house.app_without_drills("Serious").await;
    house.serve(&[]).await;
    let (now, here) = (house.now().await, cell_at(LAT, LON));
    let drills = |prefix: &str, count| -> Vec<Person> {
        let people = Person::many(prefix, count, here, now);
        people
            .into_iter()
            .map(|one| one.with("drills", true))
            .collect()
    };
    app.register(&drills("drill", 3)).await;
    app.register(&Person::many("others", 4, here, now)).await;
    serious.register(&drills("drill", 5)).await;
    let (inbox, silent) = (Inbox::open(&app).await, Inbox::open(&serious).await);
    let mut exercise = filing(now, LAT, LON);
    exercise["exercise"] = true.into();
    // More of them than a day's cap, which they do not count towards.
    for round in 0..3 {
        let case = agency.file(&exercise).await;
        let alert = text(&operator.verify(&case).await, "/alert/id").to_owned();
        let (told, reasons) = Rounds::of(&settled(&operator, &case).await).last_counts();
        if round == 2 {
            assert_eq!((told, reasons["cap"], reasons["opted_out"]), (0, 3, 9));
            continue;
        }
        assert_eq!((told, reasons["opted_out"], reasons.len()), (3, 9, 1));
        let batch = &inbox.of(&alert, Kind::Issue)[0];
        let inside = batch.alert.as_ref().unwrap();
        assert!(inside.exercise && inside.texts.iter().all(|text| !text.title.is_empty()));
        assert_eq!(inbox.once(&alert, Kind::Issue).len(), 3);
    }
    assert!(silent.all().is_empty());
    let case = agency.file(&filing(now, LAT, LON)).await;
    operator.verify(&case).await;
    let (told, _) = Rounds::of(&settled(&operator, &case).await).last_counts();
    assert_eq!(told, 12, "drills leave the ordinary allowance alone");
}

async fn a_paused_app_tells_nobody(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let (one, two) = (
        house.app("One", 100_000).await,
        house.app("Two", 100_000).await,
    );
    let admin = house.admin().await;
    house.serve(&[]).await;
    let (now, here) = (house.now().await, cell_at(LAT, LON));
    one.register(&Person::many("one", 3, here, now)).await;
    two.register(&Person::many("two", 4, here, now)).await;
    let (first, second) = (Inbox::open(&one).await, Inbox::open(&two).await);
    let path = format!("/v1/apps/{}", app_id(&one).0);
    admin.patch(&path, &json!({ "paused": true })).await.ok();
    let case = agency.file(&filing(now, LAT, LON)).await;
    let alert = text(&operator.verify(&case).await, "/alert/id").to_owned();
    let rest = settled(&operator, &case).await;
    let (told, reasons) = Rounds::of(&rest).last_counts();
    assert_eq!((told, reasons["app_paused"]), (4, 3));
    assert_eq!(
        rest["rounds"][0]["by_app"]["One"]["not_told"]["app_paused"],
        3
    );
    assert_eq!(rest["rounds"][0]["by_app"]["Two"]["told"], 4);

    admin.patch(&path, &json!({ "paused": false })).await.ok();
    assert_eq!(
        Rounds::of(&house.sweep(&operator, &case).await)
            .last_counts()
            .0,
        3
    );
    assert_eq!(first.once(&alert, Kind::Issue).len(), 3);
    assert_eq!(second.once(&alert, Kind::Issue).len(), 4);
}

async fn a_dry_run_shares_out_a_budget_as_the_waves_do(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let app = house.app("Nearby", 100_000).await;
    let settings = [("dispatch.workers", "1"), ("dispatch.shard_people", "500")];
    house.serve(&settings).await;
    let now = house.now().await;
    let inbox = Inbox::open(&app).await;
    let case = agency.file(&filing(now, LAT, LON)).await;
    let budget = json!({ "budget": 260 });
    operator.verify_with(&case, budget).await.ok();
    settled(&operator, &case).await;
    let plan = operator.get(&format!("/v1/cases/{case}/plan")).await.ok();
    let cells = |wave: usize, count: usize| -> Vec<CellIndex> {
        let cells = plan["waves"][wave - 1]["cells"].as_array().unwrap();
        let cells = cells.iter().take(count).map(|cell| {
            let cell: CellIndex = cell.as_str().unwrap().parse().unwrap();
            cell.center_child(h3o::Resolution::Nine).unwrap()
        });
        cells.collect()
    };
    // A crowd in the second wave, of whom not all are needed, and a few in each cell of the third: some of
    // the budget is kept for them. Volunteers of both hear first.
    let crowd = cells(2, 1)[0];
    let volunteers = |prefix: &str, count, cell| -> Vec<Person> {
        let people = Person::many(prefix, count, cell, now).into_iter();
        people.map(|one| one.with("volunteer", true)).collect()
    };
    app.register(&Person::many("crowd", 300, crowd, now)).await;
    app.register(&volunteers("first", 4, crowd)).await;
    for (n, cell) in cells(3, 10).into_iter().enumerate() {
        app.register(&[Person::new(format!("few-{n}"), cell, now)])
            .await;
        app.register(&volunteers(&format!("early-{n}"), 1, cell))
            .await;
    }
    let path = format!("/v1/cases/{case}/replan?dry_run=true");
    let foreseen = operator.post(&path, &json!({})).await.ok();
    let replan = format!("/v1/cases/{case}/replan");
    operator.post(&replan, &json!({})).await.ok();
    for wave in 4..=5 {
        house.wave_now(&operator, &case, wave).await;
        crate::common::until("the wave", async || {
            let shown = crate::common::dispatch(&operator, &case).await;
            let rounds = shown["rounds"].as_array().unwrap().clone();
            let is_it = |round: &Value| round["kind"] == "wave" && round["wave"] == wave;
            rounds.iter().any(is_it).then_some(())
        })
        .await;
        settled(&operator, &case).await;
    }
    let happened = settled(&operator, &case).await["rounds"].clone();
    let happened = &happened.as_array().unwrap()[1..];
    let told = |rounds: &[Value]| -> Vec<i64> {
        rounds.iter().map(|round| number(round, "/told")).collect()
    };
    let foreseen = &foreseen["rounds"].as_array().unwrap()[..happened.len()];
    assert_eq!(told(foreseen), told(happened), "{happened:#?}");
    for (foreseen, happened) in foreseen.iter().zip(happened) {
        for field in ["kind", "wave", "in_area", "not_told", "by_app"] {
            assert_eq!(foreseen[field], happened[field], "{field} of {happened:#}");
        }
    }
    let alert = operator.alert_of(&case).await;
    let issued = inbox.once(&alert, Kind::Issue).len();
    assert_eq!(told(happened).iter().sum::<i64>(), issued as i64);
    assert!(issued <= 260, "{issued}");
    // Some of the crowd were not told, because something was kept for the third wave.
    assert!(number(&happened[1], "/not_told/budget") > 40);
    assert!(number(happened.last().unwrap(), "/told") > 0);
}
