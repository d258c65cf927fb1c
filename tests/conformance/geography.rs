//! Places where maps break: a pentagon, the poles, the other side of the date line.

use std::collections::BTreeSet;

use h3o::{CellIndex, LatLng, Resolution};
use homeward::alert::proto::v1::Kind;
use serde_json::Value;

use crate::common::{House, Inbox, Person, disk, filing, number, settled, text};

conformance! {
    nobody_is_missed_and_nobody_far_away_is_told,
}

/// Name, latitude, longitude.
fn places() -> Vec<(&'static str, f64, f64)> {
    let on_land = |pentagon: &CellIndex| LatLng::from(*pentagon).lat() > 60.0;
    let pentagon = Resolution::Nine.pentagons().find(on_land).unwrap();
    let pentagon = LatLng::from(pentagon);
    vec![
        ("pentagon", pentagon.lat(), pentagon.lng()),
        ("north pole", 89.999, 20.0),
        ("south pole", -90.0, 0.0),
        ("date line", -16.8, 179.9999),
        ("date line, other side", 65.0, -180.0),
        ("where both lines cross", 0.0, 0.0),
    ]
}

/// Great-circle distance in km, by the haversine formula.
fn km(a: LatLng, b: LatLng) -> f64 {
    let (dlat, dlon) = (
        b.lat_radians() - a.lat_radians(),
        b.lng_radians() - a.lng_radians(),
    );
    let h = (dlat / 2.0).sin().powi(2)
        + a.lat_radians().cos() * b.lat_radians().cos() * (dlon / 2.0).sin().powi(2);
    2.0 * 6_371.007 * h.sqrt().asin()
}

/// Whether a cell lies in an area of coarser cells.
fn inside(cell: CellIndex, area: &BTreeSet<CellIndex>) -> bool {
    Resolution::range(Resolution::Zero, Resolution::Nine)
        .filter_map(|resolution| cell.parent(resolution))
        .any(|cell| area.contains(&cell))
}

async fn nobody_is_missed_and_nobody_far_away_is_told(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let app = house.app("Nearby", 100_000).await;
    house.serve(&[]).await;
    let now = house.now().await;
    let inbox = Inbox::open(&app).await;
    for (place, lat, lon) in places() {
        let here = LatLng::new(lat, lon).unwrap();
        let cells = disk(here.to_cell(Resolution::Nine), 14);
        let token = |cell: &CellIndex| format!("{place}-{cell}");
        let people: Vec<Person> = cells
            .iter()
            .map(|cell| Person::new(token(cell), *cell, now))
            .collect();
        app.register(&people).await;
        let case = agency.file(&filing(now, lat, lon)).await;
        let alert = text(&operator.verify(&case).await, "/alert/id").to_owned();
        let rest = settled(&operator, &case).await;
        let told = inbox.once(&alert, Kind::Issue);

        let plan = operator.get(&format!("/v1/cases/{case}/plan")).await.ok();
        let first = plan["waves"][0]["cells"].as_array().unwrap();
        let area: BTreeSet<CellIndex> = first
            .iter()
            .map(|cell: &Value| cell.as_str().unwrap().parse().unwrap())
            .collect();
        let expected: BTreeSet<String> = cells
            .iter()
            .filter(|cell| inside(**cell, &area))
            .map(token)
            .collect();
        assert_eq!(told, expected, "{place}");
        assert_eq!(
            number(&rest, "/rounds/0/in_area"),
            expected.len() as i64,
            "{place}"
        );

        // By the map alone: near is told, far is not.
        let radius = |name: &str| plan["radii_km"][name].as_f64().unwrap();
        let (near, far) = (0.6 * radius("r25"), 1.5 * radius("r75"));
        let mut sides = BTreeSet::new();
        for cell in &cells {
            let centre = LatLng::from(*cell);
            let distance = km(here, centre);
            if told.contains(&token(cell)) {
                sides.insert(centre.lng() > 0.0);
            }
            if distance < near {
                assert!(
                    told.contains(&token(cell)),
                    "{place}: {distance} km away and not told"
                );
            } else if distance > far {
                assert!(
                    !told.contains(&token(cell)),
                    "{place}: {distance} km away and told"
                );
            }
        }
        assert!(
            place == "pentagon" || sides.len() == 2,
            "{place}: both sides of the line"
        );
        assert!(
            cells.iter().any(|cell| km(here, LatLng::from(*cell)) > far),
            "{place}"
        );
    }
}
