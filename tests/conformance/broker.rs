//! What the app queues in RabbitMQ promise besides: what they know of loss, what they say of what
//! they could not put, and what the broker puts aside.

use std::collections::BTreeSet;
use std::time::Duration;

use homeward::model::{App, BatchId};
use homeward::queue::{AppQueue as _, Published, QueueError};
use lapin::BasicProperties;
use lapin::options::{BasicRejectOptions, QueueDeclareOptions};
use lapin::types::FieldTable;

use crate::common::broker::{Bare, next_of};
use crate::common::queues::{
    DEAD, KEPT, LONG, QUEUE, Rabbit, app, dead, message, messages, next, put, read,
};
use crate::common::{PATIENCE, until};

/// A rate at which no test fills its queue.
const FAST: i64 = 100_000;

rabbitmq! {
    a_queue_is_lost_until_it_is_opened_and_kept_from_then_on,
    a_queue_made_again_without_what_it_held_is_lost,
    a_queue_that_is_gone_takes_nothing_and_is_not_open,
    a_full_queue_confirms_only_what_it_keeps,
    a_queue_of_other_making_is_named_with_what_mends_it,
    a_reader_has_so_many_in_hand_and_no_more,
    what_is_no_longer_worth_delivering_is_not_delivered,
    a_life_may_be_as_long_as_the_settings_allow,
    what_is_not_ours_is_put_aside,
    what_a_consumer_rejects_stays_a_dead_letter_until_it_is_recorded,
}

async fn is_lost(rabbit: &Rabbit, app: &App) -> bool {
    rabbit.queue.is_lost(app).await.unwrap()
}

/// Only a lane that knows that nothing was lost may leave alone what it sent.
async fn a_queue_is_lost_until_it_is_opened_and_kept_from_then_on(rabbit: Rabbit) {
    let app = app(FAST);
    for _ in 0..2 {
        assert!(is_lost(&rabbit, &app).await, "until it is opened");
    }
    rabbit.queue.open(&app).await.unwrap();
    let sent = messages(3);
    put(&*rabbit.queue, &app, &sent).await;
    assert!(!is_lost(&rabbit, &app).await);

    rabbit.reconnect().await;
    assert!(!rabbit.queue.is_open(app.id), "its channel is gone");
    assert!(!is_lost(&rabbit, &app).await, "the broker kept it");
    rabbit.queue.open(&app).await.unwrap();
    assert!(!is_lost(&rabbit, &app).await);
    let other = rabbit.another().await;
    assert!(!is_lost(&other, &app).await, "another server sees the same");
    let reader = read(&*other.queue, 3);
    for sent in &sent {
        let got = next(&*reader).await;
        assert_eq!((got.id, &got.body), (sent.id, &sent.body));
        got.ack();
    }
}

async fn a_queue_made_again_without_what_it_held_is_lost(rabbit: Rabbit) {
    let app = app(FAST);
    let vhost = &rabbit.vhost;
    rabbit.queue.open(&app).await.unwrap();
    for loss in ["deleted", "mark deleted", "mark purged"] {
        match loss {
            "deleted" => vhost.delete(QUEUE).await,
            "mark deleted" => vhost.delete(KEPT).await,
            // As a broker whose queues came back from definitions has it.
            _ => vhost.purge(KEPT).await,
        }
        for _ in 0..2 {
            assert!(is_lost(&rabbit, &app).await, "{loss}, until it is opened");
        }
        rabbit.queue.open(&app).await.unwrap();
        assert!(!is_lost(&rabbit, &app).await, "{loss}, and opened");
        put(&*rabbit.queue, &app, &messages(1)).await;
    }
}

async fn a_queue_that_is_gone_takes_nothing_and_is_not_open(rabbit: Rabbit) {
    let app = app(FAST);
    let queue = &rabbit.queue;
    assert!(!queue.is_open(app.id));
    assert_eq!(
        queue.publish(&app, messages(2)).await,
        [Published::NotTaken; 2]
    );
    queue.open(&app).await.unwrap();
    assert!(queue.is_open(app.id));
    rabbit.vhost.delete(QUEUE).await;
    assert_eq!(
        queue.publish(&app, messages(2)).await,
        [Published::NotTaken; 2]
    );
    assert!(!queue.is_open(app.id), "it has to be opened anew");
    queue.open(&app).await.unwrap();
    put(&**queue, &app, &messages(1)).await;

    rabbit.vhost.delete(QUEUE).await;
    assert_eq!(queue.room(&app).await, Err(QueueError::Away));
    assert!(!queue.is_open(app.id), "asking for room finds it out, too");
    queue.open(&app).await.unwrap();
    put(&**queue, &app, &messages(1)).await;
}

async fn a_full_queue_confirms_only_what_it_keeps(rabbit: Rabbit) {
    let app = app(FAST);
    let queue = &rabbit.queue;
    queue.open(&app).await.unwrap();
    rabbit.vhost.limit(QUEUE, 3).await;
    let (mut confirmed, mut refused) = (Vec::new(), BTreeSet::new());
    // The broker tells publishers of a full queue a little late.
    for _ in 0..100 {
        let sent = messages(4);
        for (sent, published) in sent.iter().zip(queue.publish(&app, sent.clone()).await) {
            match published {
                Published::Confirmed => confirmed.push(sent.id),
                Published::Unsure => drop(refused.insert(sent.id)),
                Published::NotTaken => panic!("it is there, only full"),
            }
        }
        if !refused.is_empty() {
            break;
        }
    }
    assert!(!refused.is_empty(), "it never was full");
    assert!(queue.is_open(app.id), "a full queue is open still");
    let reader = read(&**queue, 4);
    for id in confirmed {
        let got = next(&*reader).await;
        assert_eq!(got.id, id, "nothing that was confirmed is lost");
        got.ack();
    }
    let last = until("the queue to take messages again", async || {
        let last = message(9);
        let published = queue.publish(&app, vec![last.clone()]).await;
        (published == [Published::Confirmed]).then_some(last.id)
    })
    .await;
    // What was refused may have gone in all the same, but nothing came twice.
    loop {
        let got = next(&*reader).await;
        if got.id == last {
            break;
        }
        assert!(refused.remove(&got.id) || got.body == [9, 0, 255, b'\n']);
        got.ack();
    }
}

async fn a_queue_of_other_making_is_named_with_what_mends_it(rabbit: Rabbit) {
    let app = app(FAST);
    let bare = Bare::at(&rabbit.vhost.url()).await;
    let (durable, arguments) = (QueueDeclareOptions::durable(), FieldTable::default());
    let declaring = bare.channel.queue_declare(QUEUE.into(), durable, arguments);
    declaring.await.unwrap();
    assert!(is_lost(&rabbit, &app).await);
    let refused = rabbit.queue.open(&app).await.unwrap_err().to_string();
    assert!(
        refused.contains(&format!("rabbitmqctl delete_queue {QUEUE}")),
        "{refused}"
    );
    assert!(!rabbit.queue.is_open(app.id));
    rabbit.vhost.delete(QUEUE).await;
    rabbit.queue.open(&app).await.unwrap();
    put(&*rabbit.queue, &app, &messages(1)).await;
}

async fn a_reader_has_so_many_in_hand_and_no_more(rabbit: Rabbit) {
    let app = app(FAST);
    rabbit.queue.open(&app).await.unwrap();
    let sent = messages(5);
    put(&*rabbit.queue, &app, &sent).await;
    let greedy = read(&*rabbit.queue, 2);
    let held = [next(&*greedy).await, next(&*greedy).await];
    let other = read(&*rabbit.queue, 10);
    for sent in &sent[2..] {
        let got = next(&*other).await;
        assert_eq!(
            got.id, sent.id,
            "what the first has no room for is another's"
        );
        got.ack();
    }
    drop(held);
}

async fn what_is_no_longer_worth_delivering_is_not_delivered(rabbit: Rabbit) {
    let app = app(FAST);
    rabbit.queue.open(&app).await.unwrap();
    let (mut brief, lasting) = (message(1), message(2));
    brief.life = Duration::from_millis(20);
    put(&*rabbit.queue, &app, &[brief.clone(), lasting.clone()]).await;
    rabbit.waiting(QUEUE, 1).await;
    let reader = read(&*rabbit.queue, 2);
    assert_eq!(next(&*reader).await.id, lasting.id);
    let letter = dead(&rabbit.queue.dead_letters()).await;
    assert_eq!(letter, (Some(brief.id), "expired".to_owned()));
}

async fn a_life_may_be_as_long_as_the_settings_allow(rabbit: Rabbit) {
    let app = app(FAST);
    rabbit.queue.open(&app).await.unwrap();
    let mut year = message(1);
    year.life = LONG * 8_760;
    put(&*rabbit.queue, &app, std::slice::from_ref(&year)).await;
    let reader = read(&*rabbit.queue, 1);
    assert_eq!(next(&*reader).await.id, year.id);
}

async fn what_is_not_ours_is_put_aside(rabbit: Rabbit) {
    let app = app(FAST);
    rabbit.queue.open(&app).await.unwrap();
    let letters = rabbit.queue.dead_letters();
    let bare = Bare::at(&rabbit.vhost.url()).await;
    let named = |id: &str| BasicProperties::default().with_message_id(id.into());
    let (id, ours) = (BatchId::fresh(), message(1));
    // No id, no batch's id, and a batch's id on what no batch looks like.
    for (properties, expected) in [
        (BasicProperties::default(), None),
        (named("nonsense"), None),
        (named(&id.to_string()), Some(id)),
    ] {
        bare.put(QUEUE, b"hello", properties).await;
        put(&*rabbit.queue, &app, std::slice::from_ref(&ours)).await;
        let reader = read(&*rabbit.queue, 1);
        let got = next(&*reader).await;
        assert_eq!(got.id, ours.id, "it is not handed out");
        got.ack();
        assert_eq!(dead(&letters).await, (expected, "rejected".to_owned()));
    }
}

async fn what_a_consumer_rejects_stays_a_dead_letter_until_it_is_recorded(rabbit: Rabbit) {
    let app = app(FAST);
    rabbit.queue.open(&app).await.unwrap();
    let sent = message(1);
    put(&*rabbit.queue, &app, std::slice::from_ref(&sent)).await;
    let letters = rabbit.queue.dead_letters();
    {
        let bare = Bare::at(&rabbit.vhost.url()).await;
        let mut consumer = bare.consume(QUEUE, 1).await;
        let message = next_of(&mut consumer).await;
        let for_good = BasicRejectOptions { requeue: false };
        assert!(message.acker.reject(for_good).await.unwrap());
    }
    let letter = tokio::time::timeout(PATIENCE, letters.next())
        .await
        .unwrap();
    assert_eq!(
        (letter.id, letter.reason.as_str()),
        (Some(sent.id), "rejected")
    );
    drop(letter);
    rabbit.reconnect().await;
    let again = dead(&letters).await;
    assert_eq!(again, (Some(sent.id), "rejected".to_owned()));
    // Recorded, it is gone: only what came later comes to whoever looks next.
    let bare = Bare::at(&rabbit.vhost.url()).await;
    let (one, two) = (BatchId::fresh(), BatchId::fresh());
    let named = |id: BatchId| BasicProperties::default().with_message_id(id.to_string().into());
    bare.put(DEAD, b"one", named(one)).await;
    assert_eq!(dead(&letters).await.0, Some(one));
    bare.put(DEAD, b"two", named(two)).await;
    let other = rabbit.another().await;
    drop((letters, rabbit));
    let letters = other.queue.dead_letters();
    loop {
        let (id, _) = dead(&letters).await;
        assert_ne!(id, Some(sent.id));
        if id == Some(two) {
            break;
        }
    }
}
