//! The plain way: a case filed over HTTP reaches an app's consumer, wave by wave, at its rate.

use crate::consumer::{Consumer, Inbox};
use crate::db::Kind;
use crate::house::{BATCH_PEOPLE, House, SOON, until};
use crate::on_both_databases;
use crate::people::People;
use crate::rate::check_rate;
use crate::scene::Scene;

on_both_databases! {
    a_case_reaches_the_consumer_in_waves_at_the_agreed_rate
    a_consumer_stops_after_so_many_batches_and_what_it_left_waits
}

const RATE: u32 = 1_500;

async fn a_case_reaches_the_consumer_in_waves_at_the_agreed_rate(kind: Kind) {
    let house = House::new(kind, &[]).await;
    let scene = Scene::new(house, People::around(12_000, 12, 1), &[RATE]);
    let server = scene.house.server().await;
    let at = server.addresses;
    scene.register(at).await;
    let consumer = scene.consumer(at, 0);

    let case = scene.alert(at).await;
    for wave in 1..=3 {
        if wave > 1 {
            assert!(scene.next_wave().await);
        }
        scene.settle().await;
        let ledger = scene.check_issue(at, &case, wave).await;
        assert_eq!(
            ledger.repeats, 0,
            "nothing was lost, so nothing comes twice"
        );
    }
    scene.close_and_check(at, &case).await;
    check_rate(&scene, 0, RATE, BATCH_PEOPLE).await;

    consumer.stop().await;
    scene.house.remove().await;
}

async fn a_consumer_stops_after_so_many_batches_and_what_it_left_waits(kind: Kind) {
    let house = House::new(kind, &[]).await;
    let scene = Scene::new(house, People::around(3_000, 4, 1), &[10_000]);
    let server = scene.house.server().await;
    let at = server.addresses;
    scene.register(at).await;
    let case = scene.alert(at).await;

    let inbox = Inbox::default();
    let few = Consumer::start_with(at, &scene.apps[0], &inbox, &["--batches", "3"]);
    assert_eq!(few.ended().await, (Some(0), String::new()));
    let first: Vec<String> = inbox
        .all()
        .into_iter()
        .map(|handed| handed.batch_id)
        .collect();
    assert_eq!(first.len(), 3);

    let mut db = scene.house.connect().await;
    let left = until("the rest is in the queue", SOON, async || {
        let undone = "SELECT (SELECT count(*) FROM shards WHERE state = 'pending')
            + (SELECT count(*) FROM batches WHERE state IN ('pending', 'sending'))";
        let sent = "SELECT count(*) FROM batches WHERE state = 'sent'";
        let (undone, sent) = (db.number(undone).await, db.number(sent).await);
        (undone == 0 && sent > 0).then(|| sent.to_string())
    })
    .await;
    let rest = Consumer::start_with(at, &scene.apps[0], &scene.inbox, &["--batches", &left]);
    assert_eq!(rest.ended().await, (Some(0), String::new()));
    // Nothing is left, and that is the end.
    let idle = Consumer::start_with(at, &scene.apps[0], &scene.inbox, &["--idle", "1"]);
    assert_eq!(idle.ended().await, (Some(0), String::new()));
    let then = scene.inbox.ledger();
    assert_eq!(then.repeats, 0);
    assert!(
        first.iter().all(|id| !then.batches.contains_key(id)),
        "acknowledged, and came again"
    );

    for handed in inbox.all() {
        scene.inbox.push(handed);
    }
    scene.settle().await;
    scene.check_issue(at, &case, 1).await;

    let wrong = Consumer::start_with(at, "hw_app_00", &Inbox::default(), &[]);
    let (code, complaint) = wrong.ended().await;
    assert_eq!(code, Some(1), "a wrong key is no reason to try again");
    assert!(complaint.contains("the key is unknown"), "{complaint}");
    scene.house.remove().await;
}
