//! What the in-process form of the app queues promises besides: it never holds more than it should,
//! and whoever takes over a lane is told that it knows nothing.

use homeward::queue::Published;

use crate::common::queues::{app, in_process, message, messages, next, put, read};

#[tokio::test]
async fn a_full_queue_surely_takes_no_more() {
    in_process(async |queue| {
        let app = app(1);
        queue.open(&app).await.unwrap();
        let published = queue.publish(&app, messages(6)).await;
        let (taken, left) = published.split_at(4);
        assert_eq!(taken, [Published::Confirmed; 4]);
        assert_eq!(left, [Published::NotTaken; 2]);
        let reader = read(&*queue, 4);
        let held = next(&*reader).await;
        assert_eq!(queue.room(&app).await, Ok(0), "what a reader holds counts");
        held.ack();
        assert_eq!(queue.room(&app).await, Ok(1));
    })
    .await;
}

#[tokio::test]
async fn a_new_owner_of_the_lane_begins_with_an_empty_queue() {
    in_process(async |queue| {
        let app = app(100);
        queue.open(&app).await.unwrap();
        put(&*queue, &app, &messages(3)).await;
        let reader = read(&*queue, 4);
        let held = next(&*reader).await;
        assert_eq!(queue.is_lost(&app).await, Ok(true));
        queue.open(&app).await.unwrap();
        let sent = message(9);
        put(&*queue, &app, std::slice::from_ref(&sent)).await;
        drop(held);
        assert_eq!(
            next(&*reader).await.id,
            sent.id,
            "the earlier ones are gone"
        );
        assert_eq!(queue.broker(), None);
    })
    .await;
}
