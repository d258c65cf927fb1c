//! Lanes that change hands: a predecessor changes nothing any more, and no recall is held up.

use std::time::Duration;

use homeward::alert::recipients;
use homeward::model::{Actor, AppId, BatchId};
use homeward::store::{lanes, sending, told};
use jiff::SignedDuration;
use uuid::Uuid;

use crate::common::{House, app_id};
use crate::waiting::{LEASE, Waiting};

conformance! {
    a_lane_has_one_owner_at_a_time,
    only_the_owner_claims_and_finishes,
    what_is_given_back_after_the_close_holds_up_no_recall,
    what_is_given_back_during_the_close_holds_up_no_recall,
    what_is_taken_up_during_the_close_holds_up_no_recall,
}

async fn a_lane_has_one_owner_at_a_time(house: House) {
    let app = app_id(&house.app("Nearby", 1_000).await);
    let (one, two) = (Uuid::now_v7(), Uuid::now_v7());
    let (mut tx, now) = house.begin().await;
    let at = |ms| now + SignedDuration::from_millis(ms);
    assert_eq!(
        lanes::acquire(&mut tx, app, one, at(0), LEASE)
            .await
            .unwrap(),
        Some(1)
    );
    assert_eq!(
        lanes::acquire(&mut tx, app, two, at(3_999), LEASE)
            .await
            .unwrap(),
        None
    );
    assert_eq!(
        lanes::acquire(&mut tx, app, one, at(3_999), LEASE)
            .await
            .unwrap(),
        None
    );
    assert!(
        lanes::renew(&mut tx, app, one, 1, at(3_999), LEASE)
            .await
            .unwrap()
    );
    assert!(
        !lanes::renew(&mut tx, app, two, 1, at(3_999), LEASE)
            .await
            .unwrap()
    );
    assert!(
        !lanes::renew(&mut tx, app, one, 2, at(3_999), LEASE)
            .await
            .unwrap()
    );
    assert_eq!(
        lanes::acquire(&mut tx, app, two, at(7_998), LEASE)
            .await
            .unwrap(),
        None
    );
    // Over is over, though nobody else has taken it.
    assert!(
        !lanes::renew(&mut tx, app, one, 1, at(7_999), LEASE)
            .await
            .unwrap()
    );
    assert_eq!(
        lanes::acquire(&mut tx, app, two, at(7_999), LEASE)
            .await
            .unwrap(),
        Some(2)
    );
    lanes::release(&mut tx, app, one, 1).await.unwrap();
    assert_eq!(
        lanes::acquire(&mut tx, app, one, at(8_000), LEASE)
            .await
            .unwrap(),
        None
    );
    lanes::release(&mut tx, app, two, 2).await.unwrap();
    assert_eq!(
        lanes::acquire(&mut tx, app, one, at(8_000), LEASE)
            .await
            .unwrap(),
        Some(3)
    );
}

async fn only_the_owner_claims_and_finishes(house: House) {
    let waiting = Waiting::build(&house, 20).await;
    let (old, new) = (Uuid::now_v7(), Uuid::now_v7());
    let (now, ids) = (waiting.now, waiting.batches.clone());
    let fence = waiting.lane(&house, old, now).await.unwrap();
    assert!(
        waiting.claim(&house, new, fence, &ids).await.is_empty(),
        "not the owner"
    );
    assert!(
        waiting.claim(&house, old, fence + 1, &ids).await.is_empty(),
        "not the fence"
    );
    let late = now + LEASE;
    assert!(
        waiting
            .claim_at(&house, old, fence, &ids, late)
            .await
            .is_empty(),
        "lease over"
    );
    let (mut tx, _) = house.begin().await;
    let other_app = AppId(waiting.app.0 + 1);
    let claimed = sending::claim(&mut tx, (other_app, old, fence), &ids, &[], now)
        .await
        .unwrap();
    assert!(claimed.is_empty(), "not the app");
    drop(tx);
    let (mut tx, _) = house.begin().await;
    let by = Actor::Homeward;
    lanes::set_hold(&mut tx, true, &by, now).await.unwrap();
    assert!(
        sending::claim(&mut tx, (waiting.app, old, fence), &ids, &[], now)
            .await
            .unwrap()
            .is_empty()
    );
    drop(tx);

    let claimed = waiting.claim(&house, old, fence, &ids[..2]).await;
    let got: Vec<BatchId> = claimed.iter().map(|claimed| claimed.batch.id).collect();
    assert_eq!(got, ids[..2], "best first");
    assert!(claimed.iter().all(|claimed| claimed.first));
    assert!(
        waiting
            .claim(&house, old, fence, &ids[..2])
            .await
            .is_empty(),
        "claimed already"
    );

    // A successor takes the lane up; its predecessor changes nothing any more.
    let fence_two = waiting.lane(&house, new, now + LEASE).await.unwrap();
    let (mut tx, _) = house.begin().await;
    let stale = sending::recover(&mut tx, (waiting.app, old, fence), false, now + LEASE).await;
    assert_eq!(stale.unwrap(), None, "it is not its lane any more");
    let owned = (waiting.app, new, fence_two);
    let recovered = sending::recover(&mut tx, owned, false, now + LEASE)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((recovered.requeued, recovered.recalled), (2, 0));
    tx.commit().await.unwrap();
    let again = waiting
        .claim_at(&house, new, fence_two, &ids[..2], now + LEASE)
        .await;
    assert!(
        again.iter().all(|claimed| !claimed.first),
        "it may have gone out before"
    );
    let (mut tx, _) = house.begin().await;
    assert_eq!(
        sending::sent(&mut tx, waiting.app, fence, &ids, now)
            .await
            .unwrap(),
        0
    );
    let back = sending::give_back(&mut tx, waiting.app, fence, &ids, true);
    assert!(back.await.unwrap().is_empty());
    assert_eq!(
        sending::sent(&mut tx, waiting.app, fence_two, &ids[..1], now)
            .await
            .unwrap(),
        1
    );
    tx.commit().await.unwrap();
    // A queue outside this process keeps what is sent; a lost one does not.
    for (queue_lost, requeued) in [(false, 1), (true, 1)] {
        let (mut tx, _) = house.begin().await;
        let recovered = sending::recover(&mut tx, owned, queue_lost, now + LEASE)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(recovered.requeued, requeued, "queue lost: {queue_lost}");
        tx.commit().await.unwrap();
    }
    assert_eq!(waiting.sendable(&house).await.len(), 4);
}

async fn what_is_given_back_after_the_close_holds_up_no_recall(house: House) {
    given_back(&house, false).await;
}

async fn what_is_given_back_during_the_close_holds_up_no_recall(house: House) {
    given_back(&house, true).await;
}

/// The lane claims, the case is closed, and then (or at the same moment) the lane finds the queue
/// full.
async fn given_back(house: &House, at_the_same_moment: bool) {
    let waiting = Waiting::build(house, 15).await;
    let (owner, now, ids) = (Uuid::now_v7(), waiting.now, waiting.batches.clone());
    let (app, fence) = (waiting.app, waiting.lane(house, owner, now).await.unwrap());
    assert_eq!(waiting.claim(house, owner, fence, &ids).await.len(), 3);
    let closing = waiting.closing(house, now).await;
    let recording = {
        let (house, ids) = (house.clone(), ids.clone());
        async move {
            // One was sent, one may have gone out under an earlier lane, one surely not.
            let (mut tx, _) = house.begin().await;
            sending::sent(&mut tx, app, fence, &ids[..1], now)
                .await
                .unwrap();
            let all: Vec<_> = ids.iter().map(|id| id.0).collect();
            sending::share_cases(&mut tx, &all).await.unwrap();
            let unsent = sending::give_back(&mut tx, app, fence, &ids[2..], true)
                .await
                .unwrap();
            for (alert, bytes) in unsent {
                let persons = recipients::persons(&bytes).unwrap();
                let people = persons.into_iter().map(|one| (alert, one));
                told::take_off(&mut tx, people).await.unwrap();
            }
            sending::give_back(&mut tx, app, fence, &ids[1..2], false)
                .await
                .unwrap();
            tx.commit().await.unwrap();
        }
    };
    if at_the_same_moment {
        let recording = tokio::spawn(recording);
        tokio::time::sleep(Duration::from_millis(200)).await;
        closing.commit().await.unwrap();
        recording.await.unwrap();
    } else {
        closing.commit().await.unwrap();
        assert!(
            waiting.sendable(house).await.is_empty(),
            "recalls wait for what is in flight"
        );
        recording.await;
    }
    assert_eq!(waiting.recalled(house, owner, fence).await, 10);
    assert_eq!(
        waiting.told(house).await,
        10,
        "who surely was not told leaves the told-list"
    );
    assert_eq!(waiting.count(house, "issue", "pending").await, 0);
    assert_eq!(waiting.count(house, "recall", "pending").await, 0);
}

/// A case is closed while a new owner of the lane takes up what its predecessor was sending.
async fn what_is_taken_up_during_the_close_holds_up_no_recall(house: House) {
    let waiting = Waiting::build(&house, 15).await;
    let (owner, now, ids) = (Uuid::now_v7(), waiting.now, waiting.batches.clone());
    let (app, fence) = (waiting.app, waiting.lane(&house, owner, now).await.unwrap());
    waiting.claim(&house, owner, fence, &ids[..2]).await;
    let closing = waiting.closing(&house, now).await;
    let recovering = tokio::spawn({
        let house = house.clone();
        async move {
            let (mut tx, _) = house.begin().await;
            let lane = (app, owner, fence);
            let recovered = sending::recover(&mut tx, lane, true, now).await.unwrap();
            assert!(recovered.is_some());
            tx.commit().await.unwrap();
        }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    closing.commit().await.unwrap();
    recovering.await.unwrap();
    assert_eq!(waiting.recalled(&house, owner, fence).await, 10);
    assert_eq!(waiting.told(&house).await, 10);
}
