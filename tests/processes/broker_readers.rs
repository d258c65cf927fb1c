//! Whoever takes batches from RabbitMQ: our gRPC stream for an app, or the app itself, each with servers
//! that do one thing only.

use crate::broker::Vhost;
use crate::consumer::Consumer;
use crate::db::Kind;
use crate::house::{AMQP_URL, Addresses, BATCH_PEOPLE, House, LATE, SOON, until};
use crate::people::People;
use crate::rate::{check_rate, check_rate_with_breaks};
use crate::scene::{Scene, app_name};

const RATE: u32 = 1_500;

/// A gRPC stream carries an app's queue from the broker, also through a server that does not own the
/// lane: whichever of the two servers is killed, nothing is lost and nobody is told twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grpc_stream_over_the_broker_survives_killed_servers() {
    let host = Vhost::fresh().await;
    let house = House::new(Kind::Postgres, &[(AMQP_URL, &host.url)]).await;
    let scene = Scene::new(house, People::around(12_000, 12, 1), &[RATE]);
    let mut owner = scene.house.server().await;
    let mut db = scene.house.connect().await;
    until("the first owns the lane", SOON, async || {
        let held = "SELECT count(*) FROM lanes WHERE lease_until > 0";
        (db.number(held).await == 1).then_some(())
    })
    .await;
    let mut other = scene.house.server().await;
    let at = other.addresses;
    scene.register(at).await;
    let consumer = scene.grpc_consumer(at, 0);
    let case = scene.alert(at).await;
    for killed in [&mut other, &mut owner] {
        let before = scene.inbox.len();
        assert!(scene.next_wave().await);
        until("batches come", SOON, async || {
            (scene.inbox.len() > before + 3).then_some(())
        })
        .await;
        killed.kill_and_start(&scene.house).await;
    }
    scene.settle().await;
    let ledger = scene.check_issue(at, &case, 3).await;
    println!("{} repeats", ledger.repeats);
    scene.close_and_check(at, &case).await;
    check_rate_with_breaks(&scene, 0, (RATE, BATCH_PEOPLE), 1).await;
    consumer.stop().await;
    scene.house.remove().await;
    host.remove().await;
}

/// Servers that each have one role, over one database and one broker, do together what one does alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_with_one_role_each_share_the_work() {
    let host = Vhost::fresh().await;
    let house = House::new(Kind::Postgres, &[(AMQP_URL, &host.url)]).await;
    let scene = Scene::new(house, People::around(8_000, 8, 2), &[RATE, RATE]);
    let mut servers = Vec::new();
    for role in ["api", "fanout", "lanes", "readers"] {
        let roles = format!("[\"{role}\"]");
        let mut server = scene.house.server_to_be(&[("HOMEWARD_ROLES", &roles)]);
        server.start(&scene.house).await;
        servers.push(server);
    }
    let (api, readers) = (servers[0].addresses, servers[3].addresses);
    check_only(api, true, false).await;
    check_only(servers[1].addresses, false, false).await;
    check_only(servers[2].addresses, false, false).await;
    check_only(readers, false, true).await;

    scene.register(api).await;
    let consumers = [scene.consumer(api, 0), scene.grpc_consumer(readers, 1)];
    let case = scene.alert(api).await;
    scene.settle().await;
    scene.check_issue(api, &case, 1).await;
    assert!(scene.next_wave().await);
    scene.settle().await;
    let ledger = scene.check_issue(api, &case, 2).await;
    assert_eq!(
        ledger.repeats, 0,
        "nothing was lost, so nothing comes twice"
    );
    scene.close_and_check(api, &case).await;
    for app in [0, 1] {
        check_rate(&scene, app, RATE, BATCH_PEOPLE).await;
    }
    for consumer in consumers {
        consumer.stop().await;
    }
    scene.house.remove().await;
    host.remove().await;
}

/// Whether a server listens for apps and agencies (`http`) and for streams (`grpc`).
async fn check_only(at: Addresses, http: bool, grpc: bool) {
    let listens = async |address| tokio::net::TcpStream::connect(address).await.is_ok();
    assert_eq!(
        (listens(at.http).await, listens(at.grpc).await),
        (http, grpc)
    );
}

/// An app that sends no receipts and wants JSON gets everything all the same, the recall too; what it
/// has is known as sent, and comes once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_without_receipts_that_reads_json_gets_everything() {
    let host = Vhost::fresh().await;
    let house = House::new(Kind::Postgres, &[(AMQP_URL, &host.url)]).await;
    let scene = Scene::new(house, People::around(4_000, 6, 1), &[20_000]);
    let json = "UPDATE apps SET format = 'json'";
    assert_eq!(scene.house.connect().await.execute(json).await, 1);
    let mut server = scene.house.server().await;
    let at = server.addresses;
    scene.register(at).await;
    let consumer = Consumer::over_amqp(&host.url, &app_name(0), &scene.inbox);
    let case = scene.alert(at).await;
    all_sent(&scene).await;
    // What was sent is sent: a new owner of the lane has nothing to send again.
    server.kill_and_start(&scene.house).await;
    assert!(scene.next_wave().await);
    all_sent(&scene).await;
    let ledger = scene.check_issue(at, &case, 2).await;
    let told = ledger.told(&case.alert, "issue");
    scene.close(at, &case).await;
    all_sent(&scene).await;
    let ledger = scene.inbox.ledger();
    assert_eq!(ledger.told(&case.alert, "recall"), told);
    assert_eq!(ledger.repeats, 0);
    consumer.stop().await;
    scene.house.remove().await;
    host.remove().await;
}

/// Waits until everything is in the app's queue and has come out of it.
async fn all_sent(scene: &Scene) {
    let mut db = scene.house.connect().await;
    until("everything is sent and has come", LATE, async || {
        let now = db.now_ms().await;
        let left = format!(
            "SELECT (SELECT count(*) FROM waves WHERE state = 'waiting' AND due_at <= {now})
                 + (SELECT count(*) FROM shards WHERE state = 'pending')
                 + (SELECT count(*) FROM batches WHERE state IN ('pending', 'sending'))"
        );
        let sent = "SELECT count(*) FROM batches WHERE state = 'sent'";
        let (left, sent) = (db.number(&left).await, db.number(sent).await);
        let came = scene.inbox.ledger().batches.len();
        (left == 0 && usize::try_from(sent).unwrap() == came).then_some(())
    })
    .await;
}
