//! Two workers that have the same shard.

use crate::db::Kind;
use crate::house::{House, LATE, SOON, until};
use crate::people::People;
use crate::scene::Scene;

/// A worker that is slower than its lease, and those who took the shard up after it, all at work on it
/// at the same time: only the last one's decision counts, and nothing of the others' is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_workers_on_the_same_shard_one_decides() {
    let settings = [
        ("HOMEWARD_DISPATCH__SHARD_LEASE_S", "1"),
        ("HOMEWARD_DISPATCH__SHARD_PEOPLE", "100000"),
    ];
    let house = House::new(Kind::Postgres, &settings).await;
    let scene = Scene::new(house, People::around(4_000, 9, 1), &[20_000]);
    let servers = [scene.house.server().await, scene.house.server().await];
    let at = servers[0].addresses;
    scene.register(at).await;
    let consumers = servers
        .each_ref()
        .map(|server| scene.consumer(server.addresses, 0));
    let mut db = scene.house.connect().await;

    // Whoever has read who is there waits for their numbers. (PostgreSQL shows the activity of others
    // as it was when a transaction first asked, so that is looked at from outside.)
    let mut holds = scene.house.connect().await;
    holds.execute("BEGIN").await;
    holds
        .execute("SELECT 1 FROM person_blocks FOR UPDATE")
        .await;
    let case = scene.alert(at).await;
    until(
        "three workers have the same shard in hand",
        SOON,
        async || {
            let waiting = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock'
              AND query LIKE '%person_blocks%FOR UPDATE%'";
            let shards = "SELECT count(*) FROM shards WHERE state = 'pending' AND attempt >= 3";
            (db.number(waiting).await >= 3 && db.number(shards).await == 1).then_some(())
        },
    )
    .await;
    holds.thaw().await;
    until("the shard is done", LATE, async || {
        (db.number("SELECT count(*) FROM shards WHERE state = 'done'")
            .await
            > 0)
        .then_some(())
    })
    .await;
    scene.all_waves().await;
    scene.settle().await;
    scene.check_issue(at, &case, 3).await;
    scene.close_and_check(at, &case).await;
    drop(consumers);
    scene.house.remove().await;
}
