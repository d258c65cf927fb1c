//! What every form of the app queues promises to lanes and readers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use homeward::queue::{AppQueue, Published};

use crate::common::queues::{
    DELIVERY_LIMIT, app, in_process, in_rabbitmq, message, messages, next, next_dead, put, read,
};
use crate::common::until;

/// A rate at which no test fills its queue.
const FAST: i64 = 100_000;

type Queue = Arc<dyn AppQueue>;

/// Runs tests on both forms.
macro_rules! promises {
    ($($name:ident),* $(,)?) => {
        mod local {
            $(#[tokio::test]
            async fn $name() {
                super::in_process(super::$name).await;
            })*
        }
        mod rabbitmq {
            $(#[tokio::test]
            async fn $name() {
                super::in_rabbitmq(async |rabbit| super::$name(rabbit.queue.clone()).await).await;
            })*
        }
    };
}

promises! {
    it_holds_two_seconds_of_the_rate_and_at_least_four,
    what_is_put_comes_out_in_order_byte_for_byte,
    what_a_reader_drops_comes_again_first,
    what_a_lost_reader_had_comes_again_first,
    a_reader_that_goes_away_at_any_moment_keeps_nothing,
    what_is_rejected_comes_again_later_and_holds_up_nothing,
    what_is_rejected_too_often_is_dead_until_it_is_recorded,
    a_waiting_reader_gets_what_arrives,
    two_readers_share,
    apps_do_not_see_each_others_batches,
}

/// `room` says how many more messages a queue takes, after the rate the app has now.
async fn it_holds_two_seconds_of_the_rate_and_at_least_four(queue: Queue) {
    let room = async |rate| queue.room(&app(rate)).await.unwrap();
    let usual = app(30);
    queue.open(&usual).await.unwrap();
    assert!(queue.is_open(usual.id));
    assert_eq!(
        [room(1).await, room(30).await, room(60).await],
        [4, 6, 12],
        "batches of ten for two seconds"
    );
    put(&*queue, &usual, &messages(6)).await;
    assert_eq!(
        [room(1).await, room(30).await, room(60).await],
        [0, 0, 6],
        "a new rate holds at once"
    );
    let reader = read(&*queue, 4);
    for _ in 0..6 {
        next(&*reader).await.ack();
    }
    until("what was taken to make room", async || {
        ([room(1).await, room(30).await] == [4, 6]).then_some(())
    })
    .await;
}

async fn what_is_put_comes_out_in_order_byte_for_byte(queue: Queue) {
    let app = app(FAST);
    queue.open(&app).await.unwrap();
    let sent = messages(250);
    put(&*queue, &app, &sent[..10]).await;
    put(&*queue, &app, &sent[10..]).await;
    let reader = read(&*queue, 3);
    for sent in &sent {
        let got = next(&*reader).await;
        assert_eq!((got.id, &got.body), (sent.id, &sent.body));
        got.ack();
    }
}

async fn what_a_reader_drops_comes_again_first(queue: Queue) {
    let app = app(FAST);
    queue.open(&app).await.unwrap();
    let sent = messages(3);
    put(&*queue, &app, &sent).await;
    let reader = read(&*queue, 3);
    // More often than the delivery limit: that a reader goes away is not the batch's fault.
    for _ in 0..=DELIVERY_LIMIT {
        let got = next(&*reader).await;
        assert_eq!((got.id, &got.body), (sent[0].id, &sent[0].body));
    }
}

async fn what_a_lost_reader_had_comes_again_first(queue: Queue) {
    let app = app(FAST);
    queue.open(&app).await.unwrap();
    let sent = messages(5);
    let room = queue.room(&app).await.unwrap();
    put(&*queue, &app, &sent).await;
    // The broker hears a moment later that a reader is gone.
    let all_back = async || {
        until("all to be back", async || {
            (queue.room(&app).await.unwrap() == room - sent.len()).then_some(())
        })
        .await;
    };
    for round in 0..=DELIVERY_LIMIT {
        all_back().await;
        let reader = read(&*queue, 3);
        let held = [next(&*reader).await, next(&*reader).await];
        assert_eq!(held.each_ref().map(|got| got.id), [sent[0].id, sent[1].id]);
        // Whichever goes first.
        if round % 2 == 0 {
            drop(reader);
        }
        let [one, two] = held;
        drop(two);
        drop(one);
    }
    all_back().await;
    let reader = read(&*queue, 3);
    for sent in &sent {
        let got = next(&*reader).await;
        assert_eq!(got.id, sent.id);
        got.ack();
    }
}

async fn a_reader_that_goes_away_at_any_moment_keeps_nothing(queue: Queue) {
    let app = app(FAST);
    queue.open(&app).await.unwrap();
    let sent = messages(3);
    put(&*queue, &app, &sent).await;
    for moment in 0..40 {
        let reader = read(&*queue, 3);
        tokio::time::sleep(Duration::from_micros(250 * moment)).await;
        drop(reader);
    }
    let reader = read(&*queue, 3);
    let held = [
        next(&*reader).await,
        next(&*reader).await,
        next(&*reader).await,
    ];
    let ids: BTreeSet<_> = held.iter().map(|got| got.id).collect();
    assert_eq!(ids, sent.iter().map(|sent| sent.id).collect());
}

async fn what_is_rejected_comes_again_later_and_holds_up_nothing(queue: Queue) {
    let app = app(FAST);
    queue.open(&app).await.unwrap();
    let sent = messages(3);
    put(&*queue, &app, &sent[..1]).await;
    let reader = read(&*queue, 3);
    let mut rejected = next(&*reader).await;
    for (wait, behind) in [(200, &sent[1]), (400, &sent[2])] {
        put(&*queue, &app, std::slice::from_ref(behind)).await;
        // It is here, and goes back to its place.
        drop(next(&*reader).await);
        let since = Instant::now();
        rejected.reject();
        let other = next(&*reader).await;
        assert_eq!(other.id, behind.id, "it does not hold up the one behind");
        other.ack();
        rejected = next(&*reader).await;
        assert_eq!((rejected.id, &rejected.body), (sent[0].id, &sent[0].body));
        let waited = since.elapsed();
        assert!(waited >= Duration::from_millis(wait), "{waited:?}");
    }
}

async fn what_is_rejected_too_often_is_dead_until_it_is_recorded(queue: Queue) {
    let app = app(FAST);
    queue.open(&app).await.unwrap();
    let (bad, good) = (message(1), message(2));
    put(&*queue, &app, std::slice::from_ref(&bad)).await;
    let reader = read(&*queue, 4);
    for _ in 0..DELIVERY_LIMIT {
        let got = next(&*reader).await;
        assert_eq!(got.id, bad.id);
        got.reject();
    }
    for _ in 0..2 {
        let dead = next_dead(&*reader).await;
        assert_eq!((dead.id, &dead.body), (bad.id, &bad.body), "not recorded");
    }
    next_dead(&*reader).await.ack();
    put(&*queue, &app, std::slice::from_ref(&good)).await;
    let got = next(&*reader).await;
    assert_eq!(got.id, good.id, "the dead one is gone");
    got.ack();
    until("the queue to be empty", async || {
        (queue.room(&self::app(1)).await.unwrap() == 4).then_some(())
    })
    .await;
}

async fn a_waiting_reader_gets_what_arrives(queue: Queue) {
    let app = app(FAST);
    queue.open(&app).await.unwrap();
    let reader = read(&*queue, 1);
    for number in 0..3 {
        let sent = message(number);
        let waiting = next(&*reader);
        let putting = async {
            // The reader waits by now: it was looked at first.
            put(&*queue, &app, std::slice::from_ref(&sent)).await;
        };
        let (got, ()) = tokio::join!(biased; waiting, putting);
        assert_eq!(got.id, sent.id);
        got.ack();
    }
}

async fn two_readers_share(queue: Queue) {
    let app = app(FAST);
    queue.open(&app).await.unwrap();
    let (one, two) = (read(&*queue, 1), read(&*queue, 1));
    let sent = messages(20);
    put(&*queue, &app, &sent).await;
    let mut got = Vec::new();
    for _ in 0..10 {
        // Both hold one at the same time.
        for delivery in [next(&*one).await, next(&*two).await] {
            got.push(delivery.id);
            delivery.ack();
        }
    }
    let sent: BTreeSet<_> = sent.iter().map(|message| message.id).collect();
    assert_eq!(got.iter().copied().collect::<BTreeSet<_>>(), sent);
    assert_eq!(got.len(), sent.len(), "each to one of them");
}

async fn apps_do_not_see_each_others_batches(queue: Queue) {
    let ours = app(FAST);
    let theirs = homeward::model::App {
        id: homeward::model::AppId(8),
        name: "nearby-too".into(),
        ..ours.clone()
    };
    for app in [&ours, &theirs] {
        queue.open(app).await.unwrap();
    }
    let (one, two) = (message(1), message(2));
    let published = queue.publish(&theirs, vec![two.clone()]).await;
    assert_eq!(published, [Published::Confirmed]);
    put(&*queue, &ours, std::slice::from_ref(&one)).await;
    let (our_reader, their_reader) = (
        read(&*queue, 2),
        queue.subscribe(theirs.id, &theirs.name, 2),
    );
    assert_eq!(next(&*our_reader).await.id, one.id);
    assert_eq!(next(&*their_reader).await.id, two.id);
}
