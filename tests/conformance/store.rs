//! What only the store can show, because time is an argument there: expiry, claims, erasure.

use std::collections::BTreeSet;

use homeward::alert::recipients;
use homeward::model::PersonNumber;
use homeward::store::idempotency::{self, Reservation};
use homeward::store::{batches, cases, handed, retention, rounds, sending, subscribers, told};
use jiff::SignedDuration;
use uuid::Uuid;

use crate::common::{House, Person, Rounds, cell_at, disk, dispatch, filing, until};
use crate::waiting::{LEASE, Waiting};

const LAT: f64 = 57.1497;
const LON: f64 = -2.0943;

conformance! {
    what_was_never_sent_leaves_the_told_list_when_it_expires,
    a_shard_is_finished_by_its_last_claim_only,
    answers_and_erasure_wait_for_their_time,
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
    handed::taken(&mut tx, waiting.app, &ids[..1], now)
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
        .flat_map(|bytes| recipients::persons(bytes).unwrap())
        .collect();
    told::take_off(&mut tx, persons.iter().map(|one| (waiting.alert, *one)))
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert_eq!(waiting.told(&house).await, 15);
    assert_eq!(waiting.count(&house, "issue", "taken").await, 1);
    assert_eq!(waiting.count(&house, "issue", "expired").await, 3);
    // Just those, and taking them off again changes nobody.
    let (mut tx, _) = house.begin().await;
    told::take_off(&mut tx, persons.iter().map(|one| (waiting.alert, *one)))
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
        handed::taken(&mut tx, waiting.app, &ids[3..], over)
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
}
