//! The area model as a search manager types it: the published figures, the words, the picture, and what
//! closed cases say of it.

use std::process::Output;

use serde_json::{Value, json};

use crate::db::Kind;
use crate::house::House;
use crate::on_both_databases;
use crate::people::{CENTRE, People};
use crate::scene::Scene;

on_both_databases! {
    closed_cases_in_the_database_calibrate_the_model
}

fn done(output: &Output) -> String {
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn failed(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Category, environment, and r50, r75 and r95 in km after half an hour, 1, 2, 6 and 24 hours: the golden
/// values of the model.
type Golden = (&'static str, &'static str, [[f64; 3]; 5]);

#[rustfmt::skip]
#[expect(clippy::approx_constant, reason = "2.718 km")]
const GOLDEN: [Golden; 8] = [
    ("dementia", "urban", [[0.647, 1.981, 2.250], [0.815, 2.430, 4.500], [0.967, 2.820, 9.000], [1.103, 3.161, 12.365], [1.127, 3.219, 12.553]]),
    ("dementia", "default", [[0.556, 1.581, 2.250], [0.699, 1.906, 4.500], [0.829, 2.171, 9.000], [0.946, 2.382, 12.518], [0.966, 2.414, 12.714]]),
    ("child_1_3", "urban", [[0.184, 0.351, 0.762], [0.251, 0.479, 0.893], [0.331, 0.603, 0.994], [0.447, 0.758, 1.100], [0.483, 0.805, 1.127]]),
    ("child_4_6", "urban", [[0.183, 0.481, 1.748], [0.249, 0.629, 2.233], [0.329, 0.777, 2.718], [0.445, 0.934, 3.257], [0.483, 0.966, 3.380]]),
    ("child_10_12", "urban", [[0.554, 1.305, 3.000], [0.756, 1.743, 4.106], [0.995, 2.198, 4.829], [1.340, 2.753, 5.610], [1.448, 2.897, 5.794]]),
    ("autism", "urban", [[0.450, 1.509, 3.000], [0.600, 2.041, 5.658], [0.758, 2.661, 6.681], [0.931, 3.558, 7.787], [0.966, 3.862, 8.047]]),
    ("despondent", "urban", [[0.209, 0.826, 3.000], [0.267, 0.993, 6.000], [0.328, 1.149, 10.122], [0.415, 1.336, 11.856], [0.474, 1.435, 12.881]]),
    ("hiker", "temperate_mountain", [[0.757, 1.721, 3.000], [1.069, 2.406, 6.000], [1.485, 3.296, 10.598], [2.326, 4.821, 15.117], [3.030, 5.766, 18.086]]),
];

const ELAPSED: [&str; 5] = ["30m", "1h", "2h", "6h", "24h"];

#[tokio::test]
async fn plan_gives_the_golden_values() {
    let house = House::new(Kind::Sqlite, &[]).await;
    for (category, environment, rows) in GOLDEN {
        for (elapsed, wanted) in ELAPSED.into_iter().zip(rows) {
            let output = house.run(&[
                "plan",
                "--category",
                category,
                "--environment",
                environment,
                "--at",
                "57.1497,-2.0943",
                "--elapsed",
                elapsed,
                "--format",
                "json",
            ]);
            let plan: Value = serde_json::from_str(&done(&output)).unwrap();
            for (name, km) in ["r50", "r75", "r95"].into_iter().zip(wanted) {
                let got = plan["radii_km"][name].as_f64().unwrap();
                // Published to three digits.
                assert!(
                    (got - km).abs() < 5.1e-4,
                    "{category} {environment} {elapsed} {name}: {got}"
                );
            }
        }
    }
}

/// Time, distance in km and the probability of being within it; time, percent and the distance that holds
/// so many; metres of accuracy and r50, r75 and r95 in km: more golden values, of dementia urban. A hundred
/// years are as good as for ever.
const LIKELY: [(&str, f64, f64); 13] = [
    ("36500d", 0.025, 0.025),
    ("36500d", 0.1, 0.145_580),
    ("36500d", 0.5, 0.330_931),
    ("36500d", 1.126_541, 0.5),
    ("36500d", 5.0, 0.838_555),
    ("36500d", 20.0, 0.975_976),
    ("36500d", 50.0, 0.995_734),
    ("1h", 0.5, 0.393_723),
    ("1h", 1.0, 0.546_251),
    ("1h", 2.0, 0.708_465),
    ("2h", 1.0, 0.507_540),
    ("2h", 3.0, 0.762_669),
    ("6h", 5.0, 0.841_337),
];
const HOLDING: [(&str, f64); 7] = [
    ("5", 0.035_36),
    ("20", 0.192_77),
    ("40", 0.703_70),
    ("60", 1.671_09),
    ("80", 4.068_94),
    ("90", 7.541_37),
    ("99", 32.647_72),
];
const ACCURACY: [(&str, [f64; 3]); 3] = [
    ("100m", [1.129_2, 3.220_6, 12.553_9]),
    ("500m", [1.192_1, 3.265_6, 12.579]),
    ("1000m", [1.370_2, 3.402_4, 12.657_2]),
];

#[tokio::test]
async fn plan_says_how_far_such_people_are() {
    let house = House::new(Kind::Sqlite, &[]).await;
    let plan = |elapsed: &str, more: &[&str]| -> Value {
        let case = ["plan", "--category", "dementia", "--environment", "urban"];
        let when = [
            "--at",
            "57.1497,-2.0943",
            "--format",
            "json",
            "--elapsed",
            elapsed,
        ];
        let output = house.run(&[&case[..], &when[..], more].concat());
        serde_json::from_str(&done(&output)).unwrap()
    };
    let near = |got: &Value, wanted: f64, by: f64| {
        let off = (got.as_f64().unwrap() - wanted).abs();
        assert!(off <= by, "{got} is not {wanted}");
    };
    for (elapsed, km, probability) in LIKELY {
        let got = plan(elapsed, &["--within", &format!("{km}km")]);
        near(&got["within"][0]["probability"], probability, 1e-5);
    }
    for (percent, km) in HOLDING {
        let got = plan("36500d", &["--holding", percent]);
        near(&got["holding"][0]["km"], km, 1e-5);
    }
    for (accuracy, radii) in ACCURACY {
        let got = plan("36500d", &["--accuracy", accuracy]);
        for (name, km) in ["r50", "r75", "r95"].into_iter().zip(radii) {
            near(&got["radii_km"][name], km, 1e-4);
        }
    }
    let wrong = house.run(&["plan", "--holding", "100"]);
    assert!(failed(&wrong, 2).contains("above 0 and below 100"));
}

const CASE: &str = r#"{
    "profile": {"category": "dementia", "age": 82, "mobility": "normal", "environment": "urban"},
    "lkp": {"lat": 57.1497, "lon": -2.0943}, "accuracy_m": 100, "elapsed_s": 7200,
    "sightings": [
        {"name": "A", "position": {"lat": 57.162, "lon": -2.094}, "after_s": 3600, "accuracy_m": 50, "credibility": 0.8},
        {"name": "B", "position": {"lat": 58.5, "lon": -2.094}, "after_s": 3600, "credibility": 0.8},
        {"name": "C", "position": {"lat": 57.14, "lon": -2.094}, "after_s": 3600, "credibility": 0.8, "withdrawn": true}],
    "looked_for": [
        {"name": "wave 1", "after_s": 1800, "by": {"alert": [["881976bb67fffff", 1200]]}},
        {"name": "1", "after_s": 5400, "by": {"ground": {"cells": ["881976bb67fffff"], "detection": 0.7}}}]
}"#;

#[tokio::test]
async fn a_plan_is_explained_and_drawn() {
    let house = House::new(Kind::Sqlite, &[]).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), CASE).unwrap();
    let case = file.path().to_str().unwrap();
    let words = done(&house.run(&["plan", "--case", case, "--explain"]));
    for part in [
        "half within 1.13 km",
        "right to 100 m",
        "sighting A: Reported 60 min after the person was last seen, 1.37 km from the last known position, and credible to 80 %",
        "sighting B: Reported 60 min after the person was last seen, 150 km from the last known",
        "so it changes nothing",
        "1 withdrawn",
        "alert wave 1: 1200 people were alerted",
        "search 1: A search on the ground",
        "[Koester 2008",
    ] {
        assert!(words.contains(part), "{part} is not in\n{words}");
    }
    // The same words and cells every time.
    assert_eq!(
        words,
        done(&house.run(&["plan", "--case", case, "--explain"]))
    );
    let svg = done(&house.run(&["plan", "--case", case, "--format", "svg"]));
    assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"));
    assert_eq!(svg.matches("class=\"wave\"").count(), 3);
    // One of the three was taken back.
    assert_eq!(
        svg.matches("class=\"sighting\"").count(),
        2 + 2,
        "on the map and in the legend"
    );
    assert!(
        !svg.contains("http://") || svg.matches("http://").count() == 1,
        "no map server"
    );

    // An operator's own assumptions and rows go over the shipped ones.
    let rows = tempfile::NamedTempFile::new().unwrap();
    let own = "category,environment,r25_km,r50_km,r75_km,r95_km,source\ndementia,urban,0.2,0.9,2,7,own cases\n";
    std::fs::write(rows.path(), own).unwrap();
    let plan = || {
        let mut command = house.command(&["plan", "--case", case, "--format", "json"]);
        command.env("HOMEWARD_AREA__OWN_ROWS", rows.path());
        command.output().unwrap()
    };
    let with_rows: Value = serde_json::from_str(&done(&plan())).unwrap();
    assert_eq!(with_rows["basis"]["source"], "own cases");
    std::fs::write(rows.path(), own.replace("0.9", "0.1")).unwrap();
    let wrong = failed(&plan(), 1);
    assert!(
        wrong.contains("own rows") && wrong.contains("line 2 (dementia,urban)"),
        "{wrong}"
    );
    let mut command = house.command(&["plan", "--case", case]);
    command.env("HOMEWARD_AREA__SETTINGS__ALERT_EFFORT", "9");
    let wrong = failed(&command.output().unwrap(), 1);
    assert!(
        wrong.contains("alert_effort must be 0 to 5, not 9"),
        "{wrong}"
    );
}

async fn closed_cases_in_the_database_calibrate_the_model(kind: Kind) {
    let house = House::new(kind, &[]).await;
    let scene = Scene::new(house, People::around(10, 5, 1), &[1_000]);
    let none = failed(&scene.house.run(&["calibrate", "--database"]), 1);
    assert!(
        none.contains("no closed case whose find is known"),
        "{none}"
    );
    let server = scene.house.server().await;
    let at = server.addresses;
    for north in [0.004, 0.01, 0.03] {
        let alerted = scene.alert(at).await;
        let now = scene.now().await;
        let close = json!({
            "outcome": "found_well",
            "found": {"lat": CENTRE.0 + north, "lon": CENTRE.1, "at": now},
        });
        let path = format!("/v1/cases/{}/close", alerted.case);
        scene.house.post(at, &scene.operator, &path, &close).await;
    }
    let alerted = scene.alert(at).await;
    let path = format!("/v1/cases/{}/close", alerted.case);
    let unknown = json!({ "outcome": "returned" });
    scene.house.post(at, &scene.operator, &path, &unknown).await;
    drop(server);
    let calibrated = done(
        &scene
            .house
            .run(&["calibrate", "--database", "--format", "json"]),
    );
    let calibrated: Value = serde_json::from_str(&calibrated).unwrap();
    assert_eq!(
        calibrated["cases"], 3,
        "the one whose find nobody knows is left out"
    );
    let inside: Vec<f64> = calibrated["coverage"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["inside"].as_f64().unwrap())
        .collect();
    #[expect(clippy::cast_possible_truncation, reason = "0 to 3")]
    // At 0.44, 1.1 and 3.3 km, after 2 hours: r25 is 0.25, r50 0.97, r75 2.8, r95 9 km.
    let thirds: Vec<i64> = inside
        .iter()
        .map(|share| (share * 3.0).round() as i64)
        .collect();
    assert_eq!(thirds, [0, 1, 2, 3]);
    assert!(
        calibrated["rossmo"]["mean"].as_f64().unwrap() > 0.7,
        "{calibrated}"
    );
    let words = done(&scene.house.run(&["calibrate", "--database"]));
    assert!(words.starts_with("3 closed cases"), "{words}");
    failed(&scene.house.run(&["calibrate"]), 2);
    failed(&scene.house.run(&["calibrate", "--database", "x.csv"]), 2);
    scene.house.remove().await;
}

#[tokio::test]
async fn a_table_of_closed_cases_calibrates_the_model() {
    let house = House::new(Kind::Sqlite, &[]).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let header = "lkp_lat,lkp_lon,find_lat,find_lon,hours,category,environment\n";
    let rows = |found: &str| format!("{header}57.1,-2.1,{found},-2.1,6,dementia,urban\n");
    let name = file.path().to_str().unwrap();
    std::fs::write(file.path(), rows("57.11")).unwrap();
    let words = done(&house.run(&["calibrate", name]));
    for part in [
        "1 closed cases",
        "promised  found inside",
        "Rossmo's R",
        "largest gap",
    ] {
        assert!(words.contains(part), "{part} is not in\n{words}");
    }
    std::fs::write(file.path(), rows("north")).unwrap();
    let wrong = failed(&house.run(&["calibrate", name]), 1);
    assert!(
        wrong.contains("line 2: find_lat must be a number"),
        "{wrong}"
    );
}
