//! What only the store can show, because time is an argument there: leases, fences, expiry.

use std::collections::BTreeSet;
use std::time::Duration;

use homeward::alert::recipients;
use homeward::area::{DistanceTable, Settings};
use homeward::cases::Desk;
use homeward::cases::steps::{self, CloseRequest};
use homeward::model::{AlertId, AppId, BatchId, CaseId, Outcome, PersonNumber};
use homeward::store::Tx;
use homeward::store::idempotency::{self, Reservation};
use homeward::store::sending::{self, Claimed, Order};
use homeward::store::{batches, cases, lanes, retention, rounds, subscribers, told};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use uuid::Uuid;

use crate::common::{
    Caller, House, Person, Rounds, app_id, cell_at, disk, dispatch, filing, text, until,
};

const LAT: f64 = 57.1497;
const LON: f64 = -2.0943;
const LEASE: SignedDuration = SignedDuration::from_secs(4);

conformance! {
    a_lane_has_one_owner_at_a_time,
    only_the_owner_claims_and_finishes,
    what_is_given_back_after_the_close_holds_up_no_recall,
    what_is_given_back_during_the_close_holds_up_no_recall,
    what_is_taken_up_during_the_close_holds_up_no_recall,
    what_was_never_sent_leaves_the_told_list_when_it_expires,
    a_shard_is_finished_by_its_last_claim_only,
    answers_and_erasure_wait_for_their_time,
}

/// A case whose batches (of five people each) all wait, in a house whose server has stopped.
struct Waiting {
    agency: Caller,
    operator: Caller,
    case: CaseId,
    alert: AlertId,
    app: AppId,
    batches: Vec<BatchId>,
    now: Timestamp,
}

impl Waiting {
    async fn build(house: &House, people: usize) -> Self {
        let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
        let caller = house.app("Nearby", 100_000).await;
        house.serve(&[("dispatch.batch_people", "5")]).await;
        operator.post("/v1/lanes/hold", &json!({})).await.ok();
        let now = house.now().await;
        caller
            .register(&Person::many("p", people, cell_at(LAT, LON), now))
            .await;
        let case = agency.file(&filing(now, LAT, LON)).await;
        let alert = text(&operator.verify(&case).await, "/alert/id")
            .parse()
            .unwrap();
        until("fan-out", async || {
            let alert = dispatch(&operator, &case).await;
            (Rounds::of(&alert).told() == people as i64).then_some(())
        })
        .await;
        operator.post("/v1/lanes/release", &json!({})).await.ok();
        operator.post("/v1/lanes/hold", &json!({})).await.ok();
        house.stop().await;
        house.database().execute("DELETE FROM switches").await;
        house.database().execute("DELETE FROM lanes").await;
        let reset = "UPDATE batches SET state = 'pending', sending_at = NULL, sent_at = NULL";
        house.database().execute(reset).await;
        let now = house.now().await;
        let app = app_id(&caller);
        let mut session = house.store().read().await.unwrap();
        let next = sending::next(&mut session, app, now, Order::Best, 99)
            .await
            .unwrap();
        let batches: Vec<BatchId> = next.into_iter().map(|(id, _)| id).collect();
        assert_eq!(batches.len(), people.div_ceil(5));
        let case = case.parse().unwrap();
        Self {
            agency,
            operator,
            case,
            alert,
            app,
            batches,
            now,
        }
    }

    async fn lane(&self, house: &House, owner: Uuid, now: Timestamp) -> Option<i64> {
        let (mut tx, _) = house.begin().await;
        let fence = lanes::acquire(&mut tx, self.app, owner, now, LEASE)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        fence
    }

    async fn claim(&self, house: &House, owner: Uuid, fence: i64, ids: &[BatchId]) -> Vec<Claimed> {
        self.claim_at(house, owner, fence, ids, self.now).await
    }

    async fn claim_at(
        &self,
        house: &House,
        owner: Uuid,
        fence: i64,
        ids: &[BatchId],
        now: Timestamp,
    ) -> Vec<Claimed> {
        let (mut tx, _) = house.begin().await;
        let claimed = sending::claim(&mut tx, self.app, owner, fence, ids, now)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        claimed
    }

    async fn close(&self, house: &House, now: Timestamp) {
        self.closing(house, now).await.commit().await.unwrap();
    }

    /// Closes the case in a transaction that is still open.
    async fn closing(&self, house: &House, now: Timestamp) -> Tx {
        let desk = Desk {
            config: house.config(&[]).into(),
            table: DistanceTable::shipped().unwrap().into(),
            settings: Settings::default(),
        };
        let holder = self.agency.holder.clone().unwrap();
        let caller = homeward::model::Caller {
            key: self.agency.key_id,
            holder,
        };
        let request = CloseRequest {
            outcome: Outcome::Returned,
            attribution: None,
            found: None,
        };
        let (mut tx, _) = house.begin().await;
        steps::close(&mut tx, &desk, &caller, self.case, None, &request, now)
            .await
            .unwrap();
        tx
    }

    /// Claims whatever may be sent, which must be recalls; gives how many people are in them.
    async fn recalled(&self, house: &House, owner: Uuid, fence: i64) -> usize {
        let sendable = self.sendable(house).await;
        let issues: Vec<_> = sendable
            .iter()
            .filter(|id| self.batches.contains(id))
            .collect();
        assert!(issues.is_empty(), "no issue after the close");
        let claimed = self.claim(house, owner, fence, &sendable).await;
        let persons = claimed.iter().flat_map(|claimed| {
            recipients::decode(&claimed.batch.recipients)
                .unwrap()
                .persons
        });
        persons.collect::<BTreeSet<PersonNumber>>().len()
    }

    async fn told(&self, house: &House) -> u64 {
        told::count(&mut house.store().read().await.unwrap(), self.alert)
            .await
            .unwrap()
    }

    /// How many batches of a kind are in a state.
    async fn count(&self, house: &House, kind: &str, state: &str) -> i64 {
        let sql =
            format!("SELECT count(*) FROM batches WHERE kind = '{kind}' AND state = '{state}'");
        house.database().number(&sql).await
    }

    async fn sendable(&self, house: &House) -> Vec<BatchId> {
        let mut session = house.store().read().await.unwrap();
        let next = sending::next(&mut session, self.app, self.now, Order::Best, 99)
            .await
            .unwrap();
        next.into_iter().map(|(id, _)| id).collect()
    }
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
    let claimed = sending::claim(&mut tx, other_app, old, fence, &ids, now)
        .await
        .unwrap();
    assert!(claimed.is_empty(), "not the app");
    drop(tx);
    let (mut tx, _) = house.begin().await;
    let by = homeward::model::Actor::Homeward;
    lanes::set_hold(&mut tx, true, &by, now).await.unwrap();
    assert!(
        sending::claim(&mut tx, waiting.app, old, fence, &ids, now)
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
    let recovered = sending::recover(&mut tx, waiting.app, false, now)
        .await
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
        let recovered = sending::recover(&mut tx, waiting.app, queue_lost, now)
            .await
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
            let unsent = sending::give_back(&mut tx, app, fence, &ids[2..], true)
                .await
                .unwrap();
            for (alert, bytes) in unsent {
                let persons = recipients::decode(&bytes).unwrap().persons;
                told::take_off(&mut tx, alert, persons).await.unwrap();
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
            sending::recover(&mut tx, app, true, now).await.unwrap();
            tx.commit().await.unwrap();
        }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    closing.commit().await.unwrap();
    recovering.await.unwrap();
    assert_eq!(waiting.recalled(&house, owner, fence).await, 10);
    assert_eq!(waiting.told(&house).await, 10);
}

async fn what_was_never_sent_leaves_the_told_list_when_it_expires(house: House) {
    let waiting = Waiting::build(&house, 20).await;
    let (owner, now, ids) = (Uuid::now_v7(), waiting.now, waiting.batches.clone());
    let fence = waiting.lane(&house, owner, now).await.unwrap();
    waiting.claim(&house, owner, fence, &ids[..3]).await;
    let (mut tx, _) = house.begin().await;
    sending::sent(&mut tx, waiting.app, fence, &ids[..1], now)
        .await
        .unwrap();
    sending::taken(&mut tx, waiting.app, &ids[..1], now)
        .await
        .unwrap();
    sending::sent(&mut tx, waiting.app, fence, &ids[1..2], now)
        .await
        .unwrap();
    tx.commit().await.unwrap();

    let day = SignedDuration::from_hours(24);
    let mut session = house.store().read().await.unwrap();
    let early = batches::with_expired(&mut session, now).await.unwrap();
    assert!(early.is_empty());
    let over = now + day;
    let expired = batches::with_expired(&mut session, over).await.unwrap();
    assert_eq!(expired, [(waiting.alert, waiting.case)]);
    drop(session);
    let (mut tx, _) = house.begin().await;
    let expired = batches::expire(&mut tx, waiting.alert, over).await.unwrap();
    assert_eq!((expired.batches, expired.unsent.len()), (3, 1));
    let persons: Vec<PersonNumber> = expired
        .unsent
        .iter()
        .flat_map(|bytes| recipients::decode(bytes).unwrap().persons)
        .collect();
    told::take_off(&mut tx, waiting.alert, persons.clone())
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert_eq!(waiting.told(&house).await, 15);
    assert_eq!(waiting.count(&house, "issue", "taken").await, 1);
    assert_eq!(waiting.count(&house, "issue", "expired").await, 3);
    // Just those, and taking them off again changes nobody.
    let (mut tx, _) = house.begin().await;
    told::take_off(&mut tx, waiting.alert, persons.clone())
        .await
        .unwrap();
    let block = persons[0].block();
    let lists = told::read(&mut tx, &[block], waiting.alert, now)
        .await
        .unwrap();
    let listed = lists.iter().flat_map(|list| &list.people);
    let listed: Vec<PersonNumber> = listed
        .map(|place| PersonNumber::of(block, u16::try_from(place).unwrap()))
        .collect();
    assert_eq!(listed.len(), 15);
    assert!(persons.iter().all(|person| !listed.contains(person)));
    drop(tx);

    // An app that took it late is believed, but what never left is not.
    let (mut tx, _) = house.begin().await;
    assert_eq!(
        sending::taken(&mut tx, waiting.app, &ids[3..], over)
            .await
            .unwrap(),
        0
    );
}

async fn a_shard_is_finished_by_its_last_claim_only(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let app = house.app("Nearby", 100_000).await;
    house
        .serve(&[
            ("dispatch.batch_people", "5"),
            ("dispatch.shard_people", "5"),
        ])
        .await;
    let now = house.now().await;
    for (n, cell) in disk(cell_at(LAT, LON), 1).into_iter().enumerate() {
        app.register(&Person::many(&format!("{n}"), 5, cell, now))
            .await;
    }
    let case = agency.file(&filing(now, LAT, LON)).await;
    operator.verify(&case).await;
    until("fan-out", async || {
        let rounds = Rounds::of(&dispatch(&operator, &case).await);
        (rounds.count() == 1 && rounds.told() == 35).then_some(())
    })
    .await;
    house.stop().await;
    house
        .database()
        .execute("UPDATE shards SET state = 'pending', lease_until = 0")
        .await;

    let claim = async |now| {
        let (mut tx, _) = house.begin().await;
        let shard = rounds::claim_shard(&mut tx, now, LEASE).await.unwrap();
        tx.commit().await.unwrap();
        shard
    };
    let mut seen = BTreeSet::new();
    let mut last = None;
    while let Some(shard) = claim(now).await {
        assert!(seen.insert(shard.id), "nobody claims what is claimed");
        last = Some(shard);
    }
    let shards = "SELECT count(*) FROM shards";
    assert_eq!(seen.len() as i64, house.database().number(shards).await);
    let stale = last.unwrap();
    let later = now + LEASE;
    let mut fresh = claim(later).await.unwrap();
    while fresh.id != stale.id {
        fresh = claim(later).await.unwrap();
    }
    let (mut tx, _) = house.begin().await;
    rounds::hand_back(&mut tx, &stale, now).await.unwrap();
    assert!(!rounds::finish_shard(&mut tx, &stale, later).await.unwrap());
    assert!(rounds::finish_shard(&mut tx, &fresh, later).await.unwrap());
    assert!(!rounds::finish_shard(&mut tx, &fresh, later).await.unwrap());
    tx.commit().await.unwrap();
    assert!(
        claim(later).await.is_none(),
        "the stale claim handed nothing back"
    );
}

async fn answers_and_erasure_wait_for_their_time(house: House) {
    let waiting = Waiting::build(&house, 5).await;
    let now = waiting.now;
    let (mut tx, _) = house.begin().await;
    let reserve = Reservation::Fresh;
    assert_eq!(
        idempotency::reserve(&mut tx, "h", "k", b"a", now)
            .await
            .unwrap(),
        reserve
    );
    idempotency::keep(&mut tx, "h", "k", 201, "{}")
        .await
        .unwrap();
    idempotency::forget(&mut tx, now).await.unwrap();
    let answered = Reservation::Answered(201, "{}".into());
    assert_eq!(
        idempotency::reserve(&mut tx, "h", "k", b"a", now)
            .await
            .unwrap(),
        answered
    );
    let other = idempotency::reserve(&mut tx, "h", "k", b"b", now)
        .await
        .unwrap();
    assert_eq!(other, Reservation::OtherRequest);
    idempotency::forget(&mut tx, now + SignedDuration::from_millis(1))
        .await
        .unwrap();
    assert_eq!(
        idempotency::reserve(&mut tx, "h", "k", b"b", now)
            .await
            .unwrap(),
        reserve
    );
    tx.commit().await.unwrap();

    waiting.close(&house, now).await;
    let due = now + SignedDuration::from_hours(30 * 24);
    let early = due - SignedDuration::from_millis(1);
    let (mut tx, _) = house.begin().await;
    assert!(retention::due(&mut tx, early).await.unwrap().is_empty());
    assert!(
        !retention::erase(&mut tx, waiting.case, early)
            .await
            .unwrap()
    );
    assert!(
        cases::get(&mut tx, waiting.case)
            .await
            .unwrap()
            .unwrap()
            .report
            .is_some()
    );
    assert_eq!(retention::due(&mut tx, due).await.unwrap(), [waiting.case]);
    assert!(retention::erase(&mut tx, waiting.case, due).await.unwrap());
    assert!(
        !retention::erase(&mut tx, waiting.case, due).await.unwrap(),
        "once is enough"
    );
    let case = cases::get(&mut tx, waiting.case).await.unwrap().unwrap();
    assert!(case.report.is_none() && case.erased_at == Some(due) && case.outcome.is_some());

    // Deleted tokens remember their number until they are purged.
    let token = [b"p-00000".to_vec()];
    subscribers::delete(&mut tx, waiting.app, &token, now)
        .await
        .unwrap();
    assert_eq!(subscribers::purge_deleted(&mut tx, now).await.unwrap(), 0);
    let later = now + SignedDuration::from_millis(1);
    assert_eq!(subscribers::purge_deleted(&mut tx, later).await.unwrap(), 1);
    assert_eq!(
        waiting.operator.house.database().kind(),
        house.database().kind()
    );
}
