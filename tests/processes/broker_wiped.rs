//! A broker that comes back without its data.

use std::collections::BTreeSet;

use crate::broker::{Broker, Vhost};
use crate::db::{Connection, Kind};
use crate::house::{AMQP_URL, BATCH_PEOPLE, House, SOON, Server, until};
use crate::people::People;
use crate::rate::check_rate;
use crate::scene::{Scene, queue_of};

const RATE: u32 = 1_500;
/// Batches in the app's queue when the broker goes: there is room for 30, and the app has some in hand.
const WAITING: i64 = 20;

/// "When a broker has lost its data, batches not known to be taken and not expired are sent again with
/// the same ids", at the app's rate: once the broker comes back with nothing, and once with all its
/// queues set up again from definitions, empty, before Homeward sees it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_wiped_broker_lost_is_sent_again() {
    let broker = Broker::start().await;
    let house = House::new(Kind::Postgres, &[(AMQP_URL, &broker.host.url)]).await;
    let scene = Scene::new(house, People::around(12_000, 12, 1), &[RATE]);
    let server = scene.house.server().await;
    let at = server.addresses;
    scene.register(at).await;
    let consumer = scene.consumer(at, 0);
    let case = scene.alert(at).await;
    let mut db = scene.house.connect().await;

    until("batches come", SOON, async || {
        (scene.inbox.len() > 3).then_some(())
    })
    .await;
    consumer.pause();
    assert!(scene.next_wave().await);
    scene.until_sent(WAITING).await;
    let lost = not_taken(&mut db).await;
    broker.wipe().await;
    broker.up().await;
    consumer.go_on();
    check_came(&scene, &lost).await;
    scene.check_issue(at, &case, 2).await;

    consumer.pause();
    assert!(scene.next_wave().await);
    scene.until_sent(WAITING).await;
    let lost = not_taken(&mut db).await;
    let definitions = broker.host.definitions().await;
    // So that it does not see the broker before its queues are there again.
    server.pause();
    broker.wipe().await;
    broker.up().await;
    broker.host.define(&definitions).await;
    check_empty(&broker.host).await;
    server.go_on();
    consumer.go_on();
    check_came(&scene, &lost).await;
    let ledger = scene.check_issue(at, &case, 3).await;

    check_again(&scene, &server, lost.len()).await;
    scene.close_and_check(at, &case).await;
    // What goes out again draws on the same rate.
    check_rate(&scene, 0, RATE, BATCH_PEOPLE).await;
    let (batches, repeats) = (ledger.batches.len(), ledger.repeats);
    println!("{batches} batches, {repeats} repeats");
    consumer.stop().await;
    scene.house.remove().await;
}

/// What is in the queue, or in the app's hands.
async fn not_taken(db: &mut Connection) -> BTreeSet<String> {
    let sent = "SELECT CAST(id AS TEXT) FROM batches WHERE state IN ('sending', 'sent')";
    let sent = db.rows::<(String,)>(sent).await;
    sent.into_iter().map(|(id,)| id).collect()
}

/// Everything settles, and of what the broker lost each batch has come under its own id.
async fn check_came(scene: &Scene, lost: &BTreeSet<String>) {
    assert!(!lost.is_empty());
    scene.settle().await;
    let ledger = scene.inbox.ledger();
    let missing = lost.iter().filter(|id| !ledger.batches.contains_key(*id));
    assert_eq!(missing.count(), 0, "lost with the broker");
}

async fn check_empty(host: &Vhost) {
    let connection = host.connect().await;
    for queue in [&queue_of(0), "homeward.kept.app-0.v1"] {
        assert_eq!(host.waiting(&connection, queue).await, 0, "{queue}");
    }
}

async fn check_again(scene: &Scene, server: &Server, least: usize) {
    let name = "homeward_batches_sent_again_total";
    let again = server.metric(&scene.house, name).await;
    let least = f64::from(u32::try_from(least).unwrap());
    assert!(again >= least, "{again} counted as sent again, of {least}");
}
