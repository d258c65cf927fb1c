//! A case is closed while its alert is still going out.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::db::Kind;
use crate::house::{Addresses, House, SOON, until};
use crate::on_both_databases;
use crate::people::{CENTRE, People, number_of};
use crate::scene::{Alerted, Scene};

on_both_databases! {
    closed_in_the_middle_of_a_wave
}

/// `MAX_IN_FLIGHT` of the consumer.
const IN_FLIGHT: i64 = 16;

/// The second time the server is killed while it closes the case.
async fn closed_in_the_middle_of_a_wave(kind: Kind) {
    let mut chance = StdRng::seed_from_u64(11);
    let house = House::new(kind, &[]).await;
    // So slow that the queue and the app's hands are full long before everybody is told.
    let scene = Scene::new(house, People::around(12_000, 12, 1), &[1_100]);
    let mut server = scene.house.server().await;
    let at = server.addresses;
    scene.register(at).await;
    let consumer = scene.consumer(at, 0);

    let one = scene.alert_of(at, "Ann Reid", CENTRE).await;
    scene.settle().await;
    // It has acknowledged everything, so more is soon on its way than it takes at a time.
    consumer.pause();
    assert!(scene.next_wave().await);
    scene.until_sent(IN_FLIGHT + 4).await;
    scene.until_fanned_out().await;
    let closed = scene.close(at, &one).await;
    consumer.go_on();
    let figure = |name: &str| closed["recall"][name].as_i64().unwrap();
    assert!(figure("withdrawn") > 0 && figure("recalls") > 0, "{closed}");
    let told_of_one = check_closed(&scene, &one).await;
    let mut db = scene.house.connect().await;
    let held_back = "SELECT count(*) FROM batches WHERE reason = 'held_back'";
    assert!(
        db.number(held_back).await > 0,
        "handed on although the case is closed"
    );

    let two = under_way(&scene, at, "Bob Gray").await;
    let killing = async {
        for _ in 0..2 {
            tokio::time::sleep(Duration::from_micros(chance.random_range(0..50_000))).await;
            server.kill_and_start(&scene.house).await;
        }
    };
    tokio::join!(scene.close(at, &two), killing);
    let told_of_two = check_closed(&scene, &two).await;

    // Whose batch was withdrawn has not been told, so it costs them none of their two alerts a day.
    let three = scene.alert_of(at, "Cem Aksoy", CENTRE).await;
    assert!(scene.next_wave().await);
    scene.settle().await;
    let numbers = |tokens: &BTreeSet<String>| -> BTreeSet<usize> {
        tokens.iter().map(|token| number_of(token)).collect()
    };
    let twice = &numbers(&told_of_one) & &numbers(&told_of_two);
    let eligible = scene.people.eligible(&three.area(2));
    let told_of_three = scene.inbox.ledger().told(&three.alert, "issue");
    assert!(!twice.is_empty());
    assert_eq!(numbers(&told_of_three), &eligible - &twice);
    drop(consumer);
    scene.house.remove().await;
}

/// Two waves of a new case, some of whose batches have come.
async fn under_way(scene: &Scene, at: Addresses, name: &str) -> Alerted {
    let before = scene.inbox.len();
    let case = scene.alert_of(at, name, CENTRE).await;
    assert!(scene.next_wave().await);
    let mut db = scene.house.connect().await;
    until("the second wave goes out", SOON, async || {
        let sent = "SELECT count(*) FROM batches b JOIN alerts a ON a.id = b.alert_id
             WHERE a.closed_at IS NULL AND b.wave = 2 AND b.sending_at IS NOT NULL";
        (db.number(sent).await > 0 && scene.inbox.len() > before + 4).then_some(())
    })
    .await;
    case
}

/// Checks that the recall went to everybody who had or may have had the issue, and to nobody else,
/// and that no issue came after it. Gives the tokens that got it.
pub async fn check_closed(scene: &Scene, case: &Alerted) -> BTreeSet<String> {
    scene.settle().await;
    let ledger = scene.inbox.ledger();
    let issued = ledger.told(&case.alert, "issue");
    let recalled = ledger.told(&case.alert, "recall");
    assert!(
        !issued.is_empty() && issued.is_subset(&recalled),
        "told and not recalled"
    );
    let eligible = scene.people.eligible(&case.area(2));
    assert!(
        recalled.len() < eligible.len(),
        "it was closed too late to show anything"
    );
    // What may have been sent counts as told; the queue held some of it back.
    scene.check_told_list(case, &recalled).await;
    let mut over = BTreeSet::new();
    for handed in scene
        .inbox
        .all()
        .iter()
        .filter(|handed| handed.alert_id == case.alert)
    {
        for token in &handed.tokens {
            match handed.kind.as_str() {
                "recall" => drop(over.insert(token.clone())),
                kind => assert!(
                    !over.contains(token),
                    "{token} got an {kind} after the recall"
                ),
            }
        }
    }
    let (told, of) = (issued.len(), eligible.len());
    println!("closed: {told} of {of} told, {} recalled", recalled.len());
    recalled
}
