//! Processes that neither work nor end: they keep their connections, and what they hold must not
//! keep the others waiting.

use std::time::{Duration, Instant};

use crate::db::Kind;
use crate::house::{House, LATE, SOON, until};
use crate::kills::in_hand;
use crate::people::People;
use crate::scene::Scene;

/// An app's consumer hangs with batches in its hands; the app starts another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_frozen_consumer_holds_goes_to_the_next() {
    let house = House::new(Kind::Sqlite, &[]).await;
    // So slow that the queue is no longer than what the consumer holds.
    let scene = Scene::new(house, People::around(3_000, 6, 1), &[500]);
    let server = scene.house.server().await;
    let at = server.addresses;
    scene.register(at).await;
    let frozen = scene.consumer(at, 0);
    let case = scene.alert(at).await;
    until("a batch comes", SOON, async || {
        (scene.inbox.len() > 0).then_some(())
    })
    .await;
    frozen.pause();
    // However much of the first wave it has acknowledged, the second finds it frozen.
    assert!(scene.next_wave().await);
    let mut db = scene.house.connect().await;
    until("it holds batches", SOON, async || {
        (db.number("SELECT count(*) FROM batches WHERE state = 'sent'")
            .await
            > 3)
        .then_some(())
    })
    .await;
    let next = scene.consumer(at, 0);
    let begun = Instant::now();
    scene.settle().await;
    println!("settled after {:?}", begun.elapsed());
    scene.check_issue(at, &case, 2).await;
    drop((frozen, next));
    scene.house.remove().await;
}

/// A server hangs in the middle of a transaction, as it does on a machine that is paused or cut off;
/// another takes over. When the first goes on, it has nothing to say any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_server_is_replaced_and_does_no_harm_when_it_thaws() {
    let house = House::new(
        Kind::Postgres,
        &[("HOMEWARD_DISPATCH__SHARD_PEOPLE", "100")],
    )
    .await;
    let scene = Scene::new(house, People::around(10_000, 10, 1), &[3_000]);
    let first = scene.house.server().await;
    let one = first.addresses;
    scene.register(one).await;
    let consumer_of_first = scene.consumer(one, 0);
    let case = scene.alert(one).await;
    until("batches come", SOON, async || {
        (scene.inbox.len() > 3).then_some(())
    })
    .await;

    let mut db = scene.house.connect().await;
    let in_hand = in_hand(Kind::Postgres, 0);
    assert!(scene.next_wave().await);
    until("it is in a transaction", LATE, async || {
        db.freeze("shards").await;
        let end = Instant::now() + Duration::from_millis(50);
        let mut found = false;
        while !found && Instant::now() < end {
            found = db.number_now(&in_hand).await > 0;
        }
        if found {
            first.pause();
        }
        db.thaw().await;
        if !found {
            // Should all be done by now, a sweep is something to do.
            scene.sweep().await;
        }
        found.then_some(())
    })
    .await;
    let frozen = Instant::now();
    let second = scene.house.server().await;
    let two = second.addresses;
    let consumer_of_second = scene.consumer(two, 0);
    scene.settle().await;
    println!(
        "the other server had done everything after {:?}",
        frozen.elapsed()
    );
    scene.check_issue(two, &case, 2).await;

    first.go_on();
    assert!(scene.next_wave().await);
    scene.settle().await;
    let ledger = scene.check_issue(two, &case, 3).await;
    println!("{} repeats", ledger.repeats);
    scene.close_and_check(two, &case).await;
    drop((consumer_of_first, consumer_of_second));
    scene.house.remove().await;
}
