//! Two servers on one PostgreSQL.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::db::Kind;
use crate::house::{BATCH_PEOPLE, House, SOON, Stalls, until};
use crate::people::{CENTRE, People, number_of};
use crate::rate::check_rate;
use crate::scene::Scene;

const RATE: u32 = 2_000;
/// `lane_lease_s` of these tests' settings.
const LEASE: Duration = Duration::from_secs(2);
/// `cap.per_day` of the defaults.
const PER_DAY: usize = 2;

/// Four cases a few hundred metres apart, so that most people are in the area of several. Each
/// server has an in-process queue, so the app has to consume from whichever owns its lane; only the
/// fan-out is shared.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_share_the_work_and_one_is_killed() {
    let house = House::new(
        Kind::Postgres,
        &[("HOMEWARD_DISPATCH__SHARD_PEOPLE", "100")],
    )
    .await;
    let scene = Scene::new(house, People::around(10_000, 9, 1), &[RATE]);
    let mut owner = scene.house.server().await;
    let mut db = scene.house.connect().await;
    let held = "SELECT count(*) FROM lanes WHERE lease_until > 0";
    until("the first owns the lane", SOON, async || {
        (db.number(held).await == 1).then_some(())
    })
    .await;
    let other = scene.house.server().await;
    let (one, two) = (owner.addresses, other.addresses);
    scene.register(one).await;
    let consumers = [scene.consumer(one, 0), scene.consumer(two, 0)];

    let mut cases = Vec::new();
    // Each with one server or the other, some degrees north of the centre.
    for (name, at, north) in [
        ("Ann Reid", one, 0.0),
        ("Bob Gray", two, 0.002),
        ("Cem Aksoy", one, 0.004),
        ("Dee Lowe", two, 0.006),
    ] {
        cases.push(scene.alert_of(at, name, (CENTRE.0 + north, CENTRE.1)).await);
    }
    assert!(scene.next_wave().await);
    until("both have fanned out", SOON, async || {
        let people = "homeward_audience_people_total";
        let (first, second) = (
            owner.metric(&scene.house, people).await,
            other.metric(&scene.house, people).await,
        );
        (first > 0.0 && second > 0.0).then_some(())
    })
    .await;

    let handed = scene.inbox.len();
    until("batches come", SOON, async || {
        (scene.inbox.len() > handed + 5).then_some(())
    })
    .await;
    let stalls = Stalls::watch();
    owner.kill();
    let killed = Instant::now();
    let handed = scene.inbox.len();
    until("the other's consumer gets batches", SOON, async || {
        (scene.inbox.len() > handed + 1).then_some(())
    })
    .await;
    let moved = killed.elapsed().saturating_sub(stalls.total());
    println!("the lane moved in {moved:?}");
    // The lease, an eighth of it to notice, and the bucket that begins empty.
    assert!(
        moved < LEASE + LEASE / 8 + Duration::from_secs(2),
        "{moved:?}"
    );
    assert!(scene.next_wave().await);
    scene.settle().await;

    let ledger = scene.inbox.ledger();
    println!(
        "{} batches, {} repeats",
        ledger.batches.len(),
        ledger.repeats
    );
    let mut times: BTreeMap<usize, usize> = BTreeMap::new();
    for case in &cases {
        let told = ledger.told(&case.alert, "issue");
        assert!(!told.is_empty());
        scene.check_told_list(case, &told).await;
        for token in &told {
            *times.entry(number_of(token)).or_default() += 1;
        }
    }
    // Everybody in the areas of several cases is told of as many as the cap allows, and no more.
    let mut wanted: BTreeMap<usize, usize> = BTreeMap::new();
    for case in &cases {
        for number in scene.people.eligible(&case.area(3)) {
            let alerts = wanted.entry(number).or_default();
            *alerts = (*alerts + 1).min(PER_DAY);
        }
    }
    assert!(wanted.values().any(|alerts| *alerts == PER_DAY));
    assert_eq!(times, wanted);
    check_rate(&scene, 0, RATE, BATCH_PEOPLE).await;
    for case in &cases {
        scene.close_and_check(two, case).await;
    }
    drop(consumers);
    scene.house.remove().await;
}

/// The limiter of a server that ends is gone with it: its successor must not begin with a full one,
/// even where it need not wait for the lease to run out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_that_is_handed_over_keeps_the_rate() {
    const RATE: u32 = 200;
    let settings = [("HOMEWARD_DISPATCH__BATCH_PEOPLE", "500")];
    let house = House::new(Kind::Postgres, &settings).await;
    let scene = Scene::new(house, People::around(5_000, 6, 1), &[RATE]);
    let mut owner = scene.house.server().await;
    let (one, mut db) = (owner.addresses, scene.house.connect().await);
    let held = "SELECT count(*) FROM lanes WHERE lease_until > 0";
    until("the first owns the lane", SOON, async || {
        (db.number(held).await == 1).then_some(())
    })
    .await;
    let other = scene.house.server().await;
    scene.register(one).await;
    let consumers = [scene.consumer(one, 0), scene.consumer(other.addresses, 0)];
    let case = scene.alert(one).await;
    until("a burst", SOON, async || {
        (scene.inbox.len() > 0).then_some(())
    })
    .await;
    owner.terminate();
    assert_eq!(owner.ended(SOON).await.code(), Some(0));
    scene.settle().await;
    scene.check_issue(other.addresses, &case, 1).await;
    check_rate(&scene, 0, RATE, 500).await;
    drop(consumers);
    scene.house.remove().await;
}
