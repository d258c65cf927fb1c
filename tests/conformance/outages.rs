//! A broker that goes away, freezes, or comes back with nothing: lanes and readers are told the truth,
//! and all goes on.

use std::time::Duration;

use homeward::model::{App, AppId, BatchId};
use homeward::queue::{AppQueue as _, Published, QueueError};
use lapin::BasicProperties;
use tokio::time::Instant;

use crate::common::broker::Bare;
use crate::common::queues::{DEAD, QUEUE, Rabbit, app, dead, messages, next, put, read};
use crate::common::until;

/// A rate at which no test fills its queue.
const FAST: i64 = 100_000;

rabbitmq! {
    nothing_is_said_to_be_put_while_the_broker_is_away,
    a_frozen_broker_holds_nobody_up_for_ever,
    a_reader_goes_on_over_another_connection,
    a_wiped_broker_is_set_up_again,
    what_all_apps_share_is_made_again_with_the_next_queue,
}

/// Until its queue can be opened: whoever is thrown out finds out a moment later.
async fn opened(rabbit: &Rabbit, app: &App) {
    until("the queue to be opened", async || {
        rabbit.queue.open(app).await.ok()
    })
    .await;
}

async fn nothing_is_said_to_be_put_while_the_broker_is_away(rabbit: Rabbit) {
    let app = app(FAST);
    let queue = &rabbit.queue;
    queue.open(&app).await.unwrap();
    rabbit.wire.cut();
    let published = queue.publish(&app, messages(2)).await;
    assert!(!published.contains(&Published::Confirmed), "{published:?}");
    rabbit.connected(false).await;
    assert_eq!(
        queue.publish(&app, messages(2)).await,
        [Published::NotTaken; 2]
    );
    assert_eq!(queue.room(&app).await, Err(QueueError::Away));
    assert_eq!(queue.is_lost(&app).await, Err(QueueError::Away));
    assert_eq!(queue.open(&app).await, Err(QueueError::Away));
    rabbit.wire.mend();
    rabbit.connected(true).await;
    queue.open(&app).await.unwrap();
    put(&**queue, &app, &messages(1)).await;
}

/// Two lanes ask a broker that answers nothing any more, one a little after the other.
async fn a_frozen_broker_holds_nobody_up_for_ever(rabbit: Rabbit) {
    let ours = app(FAST);
    let theirs = App {
        id: AppId(8),
        name: "nearby-too".into(),
        ..ours.clone()
    };
    let queue = &rabbit.queue;
    for app in [&ours, &theirs] {
        queue.open(app).await.unwrap();
    }
    rabbit.wire.freeze();
    let before = rabbit.wire.carried();
    let since = Instant::now();
    let later = async {
        tokio::time::sleep_until(since + Duration::from_secs(1)).await;
        queue.publish(&theirs, messages(2)).await
    };
    let mending = async {
        let published = queue.publish(&ours, messages(2)).await;
        rabbit.wire.mend();
        published
    };
    // Ten seconds of timers one after the other, which a busy machine delays as it does the lanes'.
    let ten_seconds = async {
        for seconds in [1, 5, 2, 2] {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
        }
        Instant::now()
    };
    let lanes = async {
        let published = tokio::join!(mending, later);
        (published, Instant::now())
    };
    let (((one, two), done), limit) = tokio::join!(lanes, ten_seconds);
    assert!(done < limit);
    assert_eq!(one, [Published::Unsure; 2]);
    assert_eq!(two, [Published::Unsure; 2]);
    rabbit.connected(true).await;
    for app in [&ours, &theirs] {
        opened(&rabbit, app).await;
        assert_eq!(
            queue.publish(app, messages(2)).await,
            [Published::Confirmed; 2]
        );
    }
    let reader = read(&**queue, 4);
    next(&*reader).await.ack();
    let made = rabbit.wire.carried() - before;
    assert_eq!(
        made, 3,
        "one connection to publish, one to consume, one to ask, not given up again"
    );
}

/// What the reader had when the connection broke comes again; what it says of the old delivery
/// changes nothing.
async fn a_reader_goes_on_over_another_connection(rabbit: Rabbit) {
    let app = app(FAST);
    rabbit.queue.open(&app).await.unwrap();
    let sent = messages(3);
    put(&*rabbit.queue, &app, &sent).await;
    let reader = read(&*rabbit.queue, 2);
    let [one, two] = [next(&*reader).await, next(&*reader).await];
    rabbit.reconnect().await;
    let again = next(&*reader).await;
    assert_eq!(again.id, sent[0].id);
    one.ack();
    two.reject();
    let second = next(&*reader).await;
    assert_eq!(second.id, sent[1].id);
    again.ack();
    second.ack();
    assert_eq!(next(&*reader).await.id, sent[2].id);
}

async fn a_wiped_broker_is_set_up_again(rabbit: Rabbit) {
    let app = app(FAST);
    rabbit.queue.open(&app).await.unwrap();
    put(&*rabbit.queue, &app, &messages(3)).await;
    let (reader, letters) = (read(&*rabbit.queue, 4), rabbit.queue.dead_letters());
    next(&*reader).await.ack();
    rabbit.vhost.wipe().await;
    let lost = until("the broker to answer", async || {
        rabbit.queue.is_lost(&app).await.ok()
    })
    .await;
    assert!(lost, "what was in it is gone");
    opened(&rabbit, &app).await;
    let sent = messages(3);
    put(&*rabbit.queue, &app, &sent).await;
    for sent in &sent {
        let got = next(&*reader).await;
        assert_eq!(
            got.id, sent.id,
            "the reader reads on, and nothing of before"
        );
        got.ack();
    }
    let bare = Bare::at(&rabbit.vhost.url()).await;
    let id = BatchId::fresh();
    let properties = BasicProperties::default().with_message_id(id.to_string().into());
    bare.put(DEAD, b"x", properties).await;
    assert_eq!(dead(&letters).await.0, Some(id));
}

async fn what_all_apps_share_is_made_again_with_the_next_queue(rabbit: Rabbit) {
    let app = app(FAST);
    rabbit.queue.open(&app).await.unwrap();
    for exchange in ["homeward.alerts", "homeward.dead"] {
        rabbit.vhost.delete_exchange(exchange).await;
    }
    rabbit.vhost.delete(DEAD).await;
    let published = rabbit.queue.publish(&app, messages(1)).await;
    assert!(!published.contains(&Published::Confirmed), "{published:?}");
    assert!(!rabbit.queue.is_open(app.id));
    rabbit.queue.open(&app).await.unwrap();
    put(&*rabbit.queue, &app, &messages(1)).await;
    let bare = Bare::at(&rabbit.vhost.url()).await;
    bare.put(QUEUE, b"not ours", BasicProperties::default())
        .await;
    let reader = read(&*rabbit.queue, 4);
    next(&*reader).await.ack();
    assert_eq!(
        dead(&rabbit.queue.dead_letters()).await,
        (None, "rejected".to_owned())
    );
}
