//! Lanes over RabbitMQ: each app at its rate, the best first, whoever sends.

use std::time::{Duration, Instant};

use crate::broker::Vhost;
use crate::consumer::Handed;
use crate::db::Kind;
use crate::house::{AMQP_URL, BATCH_PEOPLE, House, LATE, SOON, Stalls, until};
use crate::people::{CENTRE, People, app_of};
use crate::rate::check_rate;
use crate::scene::{Scene, app_name, queue_of};

/// An app that takes nothing keeps no other waiting; its queue holds about two seconds of its rate and
/// the rest waits in the database, so that a critical case overtakes it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_is_down_slows_nobody_and_a_critical_case_overtakes_its_backlog() {
    const RATE: u32 = 1_000;
    /// Two seconds of the rate, in batches.
    const QUEUE: u32 = 2 * RATE / BATCH_PEOPLE;
    let host = Vhost::fresh().await;
    let settings = [
        (AMQP_URL, host.url.as_str()),
        // Nobody else waits for a lane here.
        ("HOMEWARD_DISPATCH__LANE_LEASE_S", "60"),
    ];
    let house = House::new(Kind::Postgres, &settings).await;
    let scene = Scene::new(house, People::around(20_000, 12, 2), &[RATE, RATE]);
    let server = scene.house.server().await;
    let at = server.addresses;
    scene.register(at).await;
    let consumers = [scene.consumer(at, 0), scene.consumer(at, 1)];
    let of_app = |app| -> Vec<Handed> {
        let mut all = scene.inbox.all();
        all.retain(|one| app_of(&one.tokens[0]) == app);
        all
    };

    let one = scene.alert(at).await;
    scene.all_waves().await;
    until("the first app has a batch", SOON, async || {
        (!of_app(0).is_empty()).then_some(())
    })
    .await;
    consumers[0].pause();

    let waiting = |app| {
        format!(
            "SELECT count(*) FROM batches b JOIN apps a ON a.id = b.app_id
             WHERE a.name = '{}' AND b.state IN ('pending', 'sending', 'sent')",
            app_name(app)
        )
    };
    let connection = host.connect().await;
    let (mut db, mut longest) = (scene.house.connect().await, 0);
    until("the other app has everything", LATE, async || {
        let long = host.waiting(&connection, &queue_of(0)).await;
        assert!(long <= QUEUE, "{long} batches in the queue");
        longest = longest.max(long);
        let shards = "SELECT count(*) FROM shards WHERE state = 'pending'";
        let left = db.number(&waiting(1)).await + db.number(shards).await;
        (left == 0).then_some(())
    })
    .await;
    assert_eq!(longest, QUEUE, "it was never full");
    let others = of_app(1);
    let people: usize = others.iter().map(|one| one.people).sum();
    let people = f64::from(u32::try_from(people).unwrap());
    let took = others.last().unwrap().at - others[0].at;
    println!("the other app: {people} people in {took:.1} s");
    assert!(people / took > 0.8 * f64::from(RATE), "slowed down");
    let backlog = db.number(&waiting(0)).await;
    let ahead = usize::try_from(QUEUE + crate::consumer::PREFETCH).unwrap();
    assert!(usize::try_from(backlog).unwrap() > ahead + 20, "{backlog}");

    let two = scene
        .urgent_alert_of(at, "Bob Gray", CENTRE, "critical")
        .await;
    until("the critical case is fanned out", SOON, async || {
        let undone = "SELECT (SELECT count(*) FROM shards WHERE state = 'pending')
             + (SELECT count(*) FROM waves WHERE state = 'waiting' AND due_at <= 0)";
        let made = format!(
            "SELECT count(*) FROM batches WHERE alert_id = {}",
            db.id(&two.alert)
        );
        (db.number(&made).await > 0 && db.number(undone).await == 0).then_some(())
    })
    .await;
    let before = of_app(0).len();
    consumers[0].go_on();
    scene.settle().await;
    let after = of_app(0).split_off(before);
    let place = after.iter().position(|one| one.alert_id == two.alert);
    let place = place.unwrap();
    println!("{place} batches of {backlog} came before the critical case");
    // What was in the queue and in the app's hands already, and what the lane may have had in hand.
    assert!(place <= ahead + 1, "{place} of {backlog}");
    scene.check_issue(at, &one, 3).await;
    scene.check_issue(at, &two, 1).await;
    for app in [0, 1] {
        check_rate(&scene, app, RATE, BATCH_PEOPLE).await;
    }
    for consumer in consumers {
        consumer.stop().await;
    }
    scene.house.remove().await;
    host.remove().await;
}

/// "The app's rate holds through a failover", which takes no longer than a lease: the server that sends is
/// killed in the middle of a wave, and another one takes the lane.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lane_of_a_killed_server_moves_at_the_agreed_rate() {
    const RATE: u32 = 1_500;
    let host = Vhost::fresh().await;
    // As it is by default.
    let settings = [
        (AMQP_URL, host.url.as_str()),
        ("HOMEWARD_DISPATCH__LANE_LEASE_S", "4"),
    ];
    let house = House::new(Kind::Postgres, &settings).await;
    let scene = Scene::new(house, People::around(12_000, 12, 1), &[RATE]);
    let mut owner = scene.house.server().await;
    let mut db = scene.house.connect().await;
    let fence = "SELECT CAST(coalesce(max(fence), 0) AS BIGINT) FROM lanes";
    until("the first owns the lane", SOON, async || {
        (db.number(fence).await == 1).then_some(())
    })
    .await;
    let other = scene.house.server().await;
    let at = other.addresses;
    scene.register(at).await;
    let consumer = scene.consumer(at, 0);
    let case = scene.alert(at).await;
    assert!(scene.next_wave().await);
    until("batches come", SOON, async || {
        (scene.inbox.len() > 5).then_some(())
    })
    .await;

    let stalls = Stalls::watch();
    owner.kill();
    let killed = Instant::now();
    until("the other owns the lane", SOON, async || {
        (db.number(fence).await > 1).then_some(())
    })
    .await;
    let moved = killed.elapsed().saturating_sub(stalls.total());
    println!("the lane moved in {moved:?}");
    assert!(moved < Duration::from_secs(5), "{moved:?}");
    assert!(scene.next_wave().await);
    scene.settle().await;
    let ledger = scene.check_issue(at, &case, 3).await;
    println!("{} repeats", ledger.repeats);
    scene.close_and_check(at, &case).await;
    check_rate(&scene, 0, RATE, BATCH_PEOPLE).await;
    consumer.stop().await;
    scene.house.remove().await;
    host.remove().await;
}
