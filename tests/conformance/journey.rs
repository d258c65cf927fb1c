//! The whole way: from a filed case to the phones and back.

use std::collections::BTreeSet;

use homeward::alert::proto::v1::{Intrusion, Kind, Urgency};
use serde_json::json;

use crate::common::{House, Inbox, Person, Rounds, ago, cell_at, disk, filing, settled, text};

const LAT: f64 = 57.1497;
const LON: f64 = -2.0943;

conformance! {
    from_filed_to_home,
}

with_rabbitmq! {
    from_filed_to_home,
}

async fn from_filed_to_home(house: House) {
    let agency = house.agency("Grampian").await;
    let operator = house.operator("Ann").await;
    let app = house.app("Nearby", 100_000).await;
    let other = house.app("Elsewhere", 100_000).await;
    house.serve(&[("dispatch.batch_people", "10")]).await;
    let now = house.now().await;

    // Some live where the person was last seen, some far away.
    let here = Person::many("here", 25, cell_at(LAT, LON), now);
    let there = Person::many("there", 25, cell_at(LAT + 1.0, LON), now);
    app.register(&here).await;
    app.register(&there).await;
    other
        .register(&Person::many("other", 5, cell_at(LAT, LON), now))
        .await;
    let (inbox, others) = (Inbox::open(&app).await, Inbox::open(&other).await);

    let case = agency.file(&filing(now, LAT, LON)).await;
    assert_eq!(text(&agency.case(&case).await, "/state"), "submitted");
    let verified = operator.verify(&case).await;
    assert_eq!(text(&verified, "/state"), "active");
    let alert = text(&verified, "/alert/id").to_owned();

    let dispatch = settled(&operator, &case).await;
    let everybody: BTreeSet<String> = here.iter().map(|one| one.token.clone()).collect();
    assert_eq!(inbox.once(&alert, Kind::Issue), everybody);
    assert_eq!(others.once(&alert, Kind::Issue).len(), 5);
    let taken = |batches: &serde_json::Value| batches["state"] == "taken";
    assert!(
        dispatch["batches"].as_array().unwrap().iter().all(taken),
        "{dispatch:#}"
    );
    assert_eq!(dispatch["recipients"], 30);
    let (told, reasons) = Rounds::of(&dispatch).last_counts();
    assert_eq!((told, reasons.len()), (30, 0));

    // What people read, and where it holds.
    for batch in inbox.of(&alert, Kind::Issue) {
        let inside = batch.alert.unwrap();
        assert_eq!((inside.revision, inside.urgency()), (1, Urgency::Normal));
        assert_eq!(inside.intrusion(), Intrusion::Normal);
        assert_eq!(inside.collapse_key, alert);
        assert!(
            inside.texts[0].body.contains("red coat"),
            "{:?}",
            inside.texts
        );
        assert!(
            !inside.texts[0].body.contains("496"),
            "the contact's number is never published"
        );
        let area = inside.area.unwrap();
        let covers = |cell: u64| {
            let cell = h3o::CellIndex::try_from(cell).unwrap();
            cell_at(LAT, LON).parent(cell.resolution()) == Some(cell)
        };
        assert!(area.cells.into_iter().any(covers));
        assert!(batch.tokens.len() <= 10);
    }

    // A sighting is kept and changes nothing by itself.
    let sighting = json!({
        "lat": LAT, "lon": LON + 0.001, "accuracy_m": 30.0, "seen_at": ago(now, 1),
        "text": "at the bus stop",
    });
    let kept = app
        .post(&format!("/v1/cases/{alert}/sightings"), &sighting)
        .await
        .ok();
    assert_eq!(
        (text(&kept, "/state"), text(&kept, "/source")),
        ("new", "app")
    );
    let decided = json!({ "state": "accepted", "credibility": 0.9 });
    let path = format!("/v1/sightings/{}", text(&kept, "/id"));
    operator.patch(&path, &decided).await.ok();
    assert_eq!(text(&agency.case(&case).await, "/state"), "active");

    // Home: everybody who was told, and nobody else, gets the recall.
    let close = json!({
        "outcome": "found_well",
        "attribution": { "through": "alert", "wave": 1, "sighting": text(&kept, "/id") },
        "found": { "lat": LAT, "lon": LON + 0.002, "at": house.now().await },
    });
    let closed = agency
        .post(&format!("/v1/cases/{case}/close"), &close)
        .await
        .ok();
    assert_eq!(
        (text(&closed, "/state"), text(&closed, "/outcome")),
        ("closed", "found_well")
    );
    settled(&operator, &case).await;
    assert_eq!(inbox.once(&alert, Kind::Recall), everybody);
    assert_eq!(
        others.once(&alert, Kind::Recall),
        others.once(&alert, Kind::Issue)
    );
    for batch in inbox.of(&alert, Kind::Recall) {
        let inside = batch.alert.unwrap();
        assert_eq!((inside.revision, inside.area.is_none()), (2, true));
        assert_eq!(inside.intrusion(), Intrusion::Silent);
    }

    let outcomes = agency.get("/v1/outcomes").await.ok();
    let outcome = &outcomes["items"][0];
    assert_eq!(
        (text(outcome, "/case"), text(outcome, "/outcome")),
        (case.as_str(), "found_well")
    );
    assert_eq!(text(outcome, "/attribution/through"), "alert");
    assert_eq!(
        (&outcome["told"], &outcome["sightings"]),
        (&json!(30), &json!(1))
    );
    let km = outcome["found_km"].as_f64().unwrap();
    assert!((0.11..0.13).contains(&km), "{km}");

    let steps = [
        "filed",
        "verified",
        "planned",
        "wave_released",
        "sighting_reported",
        "sighting_decided",
        "replanned",
        "closed",
    ];
    assert_eq!(agency.timeline(&case).await, steps);
    let area = operator.get(&format!("/v1/cases/{case}/plan")).await.ok();
    assert!(
        area["waves"][0]["cells"].as_array().unwrap().len() <= disk(cell_at(LAT, LON), 30).len()
    );
}
