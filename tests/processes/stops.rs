//! SIGTERM, and a server that starts held.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::consumer::Consumer;
use crate::db::Kind;
use crate::house::{Addresses, House, SOON, until};
use crate::on_both_databases;
use crate::people::People;
use crate::scene::{Alerted, Scene};

on_both_databases! {
    a_stopping_server_hands_back_what_it_has
    a_second_sigterm_ends_a_server_that_waits
    a_held_server_sends_nothing_until_released
}

/// `shutdown_deadline_s` of the defaults.
const DEADLINE: Duration = Duration::from_secs(20);

/// A wave on its way to a consumer, with fan-out going on.
async fn under_way(scene: &Scene, at: Addresses) -> (Consumer, Alerted) {
    let consumer = scene.consumer(at, 0);
    let case = scene.alert(at).await;
    assert!(scene.next_wave().await);
    let mut db = scene.house.connect().await;
    until("the second wave goes out", SOON, async || {
        let told = db
            .number("SELECT count(*) FROM batches WHERE wave = 2")
            .await;
        (told > 0 && scene.inbox.len() > 3).then_some(())
    })
    .await;
    (consumer, case)
}

fn endless_upload(scene: &Scene, at: Addresses) -> TcpStream {
    let mut upload = TcpStream::connect(at.http).unwrap();
    let head = format!(
        "PUT /v1/subscribers HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\
         Transfer-Encoding: chunked\r\n\r\n2\r\n\n\n\r\n",
        at.http, scene.apps[0]
    );
    upload.write_all(head.as_bytes()).unwrap();
    upload
}

async fn a_stopping_server_hands_back_what_it_has(kind: Kind) {
    let settings = [
        ("HOMEWARD_DISPATCH__SHARD_PEOPLE", "100"),
        // So long that it does not lapse by itself meanwhile.
        ("HOMEWARD_DISPATCH__LANE_LEASE_S", "60"),
    ];
    let house = House::new(kind, &settings).await;
    let scene = Scene::new(house, People::around(16_000, 12, 1), &[1_500]);
    let mut server = scene.house.server().await;
    let at = server.addresses;
    scene.register(at).await;
    let (consumer, case) = under_way(&scene, at).await;
    let mut db = scene.house.connect().await;

    for wave in [2, 3] {
        if wave == 3 {
            assert!(scene.next_wave().await);
        }
        // A client that never comes to an end must not keep the server from its own.
        let upload = (wave == 2).then(|| endless_upload(&scene, at));
        let begun = Instant::now();
        server.terminate();
        let status = server.ended(DEADLINE).await;
        drop(upload);
        println!("stopped within {:?}", begun.elapsed());
        assert_eq!(status.code(), Some(0), "{}", server.log());
        assert!(server.log().contains("stopped"));
        let (now, lease) = (db.now_ms().await, "lease_until");
        let open = format!(
            "SELECT (SELECT count(*) FROM batches WHERE state = 'sending')
                  + (SELECT count(*) FROM lanes WHERE {lease} > {now})
                  + (SELECT count(*) FROM shards WHERE state = 'pending' AND {lease} > {now})"
        );
        assert_eq!(db.number(&open).await, 0, "claimed and not handed back");
        let waits = "SELECT count(*) FROM batches WHERE state IN ('pending', 'sent')";
        assert!(db.number(waits).await > 0, "there was work in hand");

        let handed = scene.inbox.len();
        let begun = Instant::now();
        server.start(&scene.house).await;
        until("the rest comes", SOON, async || {
            (scene.inbox.len() > handed).then_some(())
        })
        .await;
        println!("went on after {:?}", begun.elapsed());
    }
    scene.settle().await;
    scene.check_issue(at, &case, 3).await;
    scene.close_and_check(at, &case).await;
    drop(consumer);
    scene.house.remove().await;
}

async fn a_second_sigterm_ends_a_server_that_waits(kind: Kind) {
    let house = House::new(kind, &[]).await;
    let scene = Scene::new(house, People::around(8_000, 12, 1), &[1_000]);
    let mut server = scene.house.server().await;
    let at = server.addresses;
    scene.register(at).await;
    let (consumer, case) = under_way(&scene, at).await;

    // While the database answers nobody, work in hand cannot be handed back.
    let mut db = scene.house.connect().await;
    db.freeze("batches").await;
    if kind == Kind::Postgres {
        until("it waits for the database", SOON, async || {
            let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                AND application_name = 'homeward' AND wait_event_type = 'Lock'";
            (db.number_now(waits).await > 0).then_some(())
        })
        .await;
    }
    server.terminate();
    let early = Duration::from_secs(1);
    assert!(
        tokio::time::timeout(early, server.ended(SOON))
            .await
            .is_err(),
        "ended with work in hand"
    );
    server.terminate();
    let status = server.ended(SOON).await;
    assert_eq!(status.code(), Some(1));
    assert!(server.log().contains("stopping at once"));
    db.thaw().await;

    server.start(&scene.house).await;
    scene.settle().await;
    scene.check_issue(at, &case, 2).await;
    drop(consumer);
    scene.house.remove().await;
}

async fn a_held_server_sends_nothing_until_released(kind: Kind) {
    let house = House::new(kind, &[]).await;
    let scene = Scene::new(house, People::around(4_000, 6, 1), &[10_000]);
    let mut server = scene.house.server_with(&["--held"]).await;
    let at = server.addresses;
    scene.register(at).await;
    let consumer = scene.consumer(at, 0);
    let case = scene.alert(at).await;
    let mut db = scene.house.connect().await;
    let fanned_out = "SELECT (SELECT count(*) FROM batches) *
        (SELECT CASE WHEN count(*) = 0 THEN 1 ELSE 0 END FROM shards WHERE state = 'pending')";
    until("the fan-out is done", SOON, async || {
        (db.number(fanned_out).await > 0).then_some(())
    })
    .await;

    // The hold outlives the server: another one, not told to be held, does not send either.
    let sent = "SELECT count(*) FROM batches WHERE sending_at IS NOT NULL";
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!((db.number(sent).await, scene.inbox.len()), (0, 0));
        let (status, ready) = server.ready(&scene.house).await;
        assert_eq!((status, &ready["lanes_held"]), (200, &json!(true)));
        server.kill();
        server = scene.house.server().await;
    }
    drop(consumer);
    let at = server.addresses;
    let consumer = scene.consumer(at, 0);
    let released = scene
        .house
        .post(at, &scene.operator, "/v1/lanes/release", &json!({}))
        .await;
    assert_eq!(released, json!({ "held": false }));
    scene.settle().await;
    scene.check_issue(at, &case, 1).await;
    drop(consumer);
    scene.house.remove().await;
}
