//! However wide a wave is, the server stays small: people are read and written a shard at a time.

use h3o::{CellIndex, LatLng, Resolution};

use crate::db::Kind;
use crate::house::{House, LATE, until};
use crate::people::{CENTRE, People};
use crate::scene::Scene;

/// Everybody round the place, far more than are read together.
const PEOPLE: i64 = 300_000;
/// What the design allows for any wave.
const LIMIT_MIB: u64 = 256;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wide_wave_is_never_held_as_a_whole() {
    let wide = PEOPLE.to_string();
    let settings = [
        ("HOMEWARD_DISPATCH__SHARD_PEOPLE", "20000"),
        ("HOMEWARD_DISPATCH__BATCH_PEOPLE", "500"),
        ("HOMEWARD_APPROVAL__RECIPIENTS", &wide),
        ("HOMEWARD_APPROVAL__RECIPIENTS_PER_POINT", &wide),
    ];
    let house = House::new(Kind::Postgres, &settings).await;
    // Nobody takes what is sent, so that all that can be in the server's hands is.
    let scene = Scene::new(house, People::around(0, 0, 0), &[100_000]);
    let server = scene.house.server().await;
    let mut db = scene.house.connect().await;
    let centre = LatLng::new(CENTRE.0, CENTRE.1).unwrap();
    let cells: Vec<CellIndex> = centre.to_cell(Resolution::Nine).grid_disk(1);
    let cells: Vec<String> = cells
        .into_iter()
        .map(|cell| u64::from(cell).to_string())
        .collect();
    db.execute(&format!(
        "INSERT INTO person_blocks (region) SELECT 0 FROM generate_series(0, {PEOPLE} / 65536)"
    ))
    .await;
    let now = db.now_ms().await;
    db.execute(&format!(
        "INSERT INTO subscribers (app_id, token, cell, person, seen_at, seen_hour, flags, muted_until)
         SELECT (SELECT id FROM apps), decode(lpad(to_hex(n), 32, '0'), 'hex'),
             ('{{{}}}'::bigint[])[n % {} + 1], 65536 + n, {now}, {now} / 3600000, 0, 0
         FROM generate_series(0, {PEOPLE} - 1) AS n",
        cells.join(","),
        cells.len()
    ))
    .await;
    db.execute("ANALYZE subscribers").await;
    let before = server.peak_memory_mib();
    let alerted = scene.alert(server.addresses).await;
    until("the wave is fanned out", LATE, async || {
        let open = "SELECT (SELECT count(*) FROM waves WHERE state = 'waiting' AND number = 1)
                        + (SELECT count(*) FROM shards WHERE state = 'pending')";
        (db.number(open).await == 0).then_some(())
    })
    .await;
    let told = "SELECT CAST(coalesce(sum(people), 0) AS BIGINT) FROM counts WHERE reason = 'told'";
    assert_eq!(db.number(told).await, PEOPLE);
    let fanned_out = server.peak_memory_mib();
    println!("{before} MiB, at the end of the wave {fanned_out} MiB");
    assert!(fanned_out < LIMIT_MIB, "{fanned_out} MiB");
    scene.close(server.addresses, &alerted).await;
    let closed = server.peak_memory_mib();
    println!("once it was taken back {closed} MiB");
    assert!(closed < LIMIT_MIB, "{closed} MiB");
    scene.house.remove().await;
}
