//! The plain way: a case filed over HTTP reaches an app's consumer, wave by wave, at its rate.

use crate::consumer::{Consumer, Inbox};
use crate::db::Kind;
use crate::house::{BATCH_PEOPLE, House};
use crate::on_both_databases;
use crate::people::People;
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
    check_rate(&scene, RATE, BATCH_PEOPLE).await;

    consumer.stop().await;
    scene.house.remove().await;
}

/// No window of time may hold more people than the burst and what the rate allows in it.
pub async fn check_rate(scene: &Scene, rate: u32, batch_people: u32) {
    let (rate, batch) = (f64::from(rate), f64::from(batch_people));
    let burst = rate.max(batch);
    let mut db = scene.house.connect().await;
    let sent = "SELECT sending_at, people FROM batches WHERE sending_at IS NOT NULL ORDER BY 1";
    let sent = db.rows::<(i64, i64)>(sent).await;
    let since = |ms: i64| f64::from(i32::try_from(ms - sent[0].0).unwrap()) / 1e3;
    let sent: Vec<_> = sent
        .iter()
        .map(|(ms, people)| (since(*ms), *people))
        .collect();
    // The lane reads the time of a batch from the database a moment before it asks its limiter.
    let moment_s = 0.5;
    check_windows(&sent, rate, burst + rate * moment_s);
    let handed = scene.inbox.all();
    let handed = handed
        .iter()
        .map(|one| (one.at, i64::try_from(one.people).unwrap()));
    // A consumer that was held up finds as much more in its queue as that holds.
    let queue = (2.0 * rate).max(4.0 * batch);
    check_windows(&handed.collect::<Vec<_>>(), rate, burst + queue);
}

/// `events`: when and how many, in order of time.
fn check_windows(events: &[(f64, i64)], rate: f64, burst: f64) {
    for (first, (from, _)) in events.iter().enumerate() {
        let mut people = 0.0;
        for (to, more) in &events[first..] {
            people += f64::from(i32::try_from(*more).unwrap());
            let (allowed, time) = (burst + rate * (to - from), to - from);
            assert!(
                people <= allowed,
                "{people} people in {time:.3} s, at most {allowed}"
            );
        }
    }
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

    let rest = Consumer::start_with(at, &scene.apps[0], &scene.inbox, &["--idle", "2"]);
    assert_eq!(rest.ended().await, (Some(0), String::new()));
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
