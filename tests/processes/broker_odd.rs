//! Odd things in an app's queue on the broker, or in its place.

use lapin::BasicProperties;
use lapin::options::{BasicPublishOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use serde_json::json;

use crate::broker::Vhost;
use crate::db::Kind;
use crate::house::{AMQP_URL, House, LATE, SOON, until};
use crate::people::{People, app_of};
use crate::scene::{Scene, app_name, queue_of};

/// A queue of the right name and the wrong kind stands in one app's way: the log names it and says what
/// to do, and the other app does not notice. Once it is deleted everything goes on by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_of_the_wrong_kind_is_named_and_hurts_one_app_only() {
    let host = Vhost::fresh().await;
    let connection = host.connect().await;
    let channel = connection.create_channel().await.unwrap();
    let (queue, classic) = (queue_of(0), QueueDeclareOptions::durable());
    channel
        .queue_declare(queue.as_str().into(), classic, FieldTable::default())
        .await
        .unwrap();
    // A lane that is taken anew says anew what is wrong with its queue.
    let settings = [
        (AMQP_URL, host.url.as_str()),
        ("HOMEWARD_DISPATCH__LANE_LEASE_S", "60"),
    ];
    let house = House::new(Kind::Postgres, &settings).await;
    let scene = Scene::new(house, People::around(4_000, 6, 2), &[20_000, 20_000]);
    let server = scene.house.server().await;
    let at = server.addresses;
    scene.register(at).await;
    let consumers = [scene.consumer(at, 0), scene.consumer(at, 1)];
    let case = scene.alert(at).await;

    let mut db = scene.house.connect().await;
    until("the other app has everything", LATE, async || {
        let state = |states, app| {
            format!(
                "SELECT count(*) FROM batches b JOIN apps a ON a.id = b.app_id
                 WHERE a.name = '{}' AND b.state IN ({states})",
                app_name(app)
            )
        };
        let taken = db.number(&state("'taken'", 1)).await;
        let open = db.number(&state("'pending', 'sending', 'sent'", 1)).await;
        let waits = db.number(&state("'pending'", 0)).await;
        (taken > 0 && open == 0 && waits > 0).then_some(())
    })
    .await;
    assert!(
        scene
            .inbox
            .all()
            .iter()
            .all(|one| app_of(&one.tokens[0]) == 1),
        "something came through the wrong queue"
    );
    let log = server.log();
    let lines = log.lines().filter(|line| line.contains("cannot be opened"));
    let lines: Vec<&str> = lines.filter(|line| line.contains(&queue)).collect();
    assert_eq!(lines.len(), 1, "said once: {log}");
    let mend = format!("rabbitmqctl delete_queue {queue}");
    assert!(lines[0].contains(&mend), "{}", lines[0]);

    host.delete_queue(&queue).await;
    scene.settle().await;
    scene.check_issue(at, &case, 1).await;
    scene.close_and_check(at, &case).await;
    drop(consumers);
    scene.house.remove().await;
    host.remove().await;
}

/// Somebody deletes an app's queue while nothing more is to be sent: it is made anew, and what was in it
/// is sent again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_is_deleted_under_an_idle_lane_is_made_anew() {
    let host = Vhost::fresh().await;
    let house = House::new(Kind::Postgres, &[(AMQP_URL, &host.url)]).await;
    let scene = Scene::new(house, People::around(1_000, 6, 1), &[20_000]);
    let server = scene.house.server().await;
    let at = server.addresses;
    scene.register(at).await;
    let case = scene.alert(at).await;
    let mut db = scene.house.connect().await;
    until("everything is in the queue", SOON, async || {
        let left = "SELECT (SELECT count(*) FROM shards WHERE state = 'pending')
             + (SELECT count(*) FROM batches WHERE state IN ('pending', 'sending'))";
        let sent = "SELECT count(*) FROM batches WHERE state = 'sent'";
        (db.number(left).await == 0 && db.number(sent).await > 0).then_some(())
    })
    .await;
    host.delete_queue(&queue_of(0)).await;
    let consumer = scene.consumer(at, 0);
    scene.settle().await;
    scene.check_issue(at, &case, 1).await;
    consumer.stop().await;
    scene.house.remove().await;
    host.remove().await;
}

/// What an app refuses for good stands among the dead letters with its reason, and a replay sends it
/// again under the same id. What is not Homeward's is counted, and nobody loses anything by it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_batches_are_dead_letters_and_foreign_messages_are_counted() {
    const REFUSED: usize = 2;
    let host = Vhost::fresh().await;
    let house = House::new(Kind::Postgres, &[(AMQP_URL, &host.url)]).await;
    let scene = Scene::new(house, People::around(4_000, 6, 1), &[20_000]);
    let server = scene.house.server().await;
    let at = server.addresses;
    scene.register(at).await;
    let case = scene.alert(at).await;
    scene.until_sent(3).await;
    let queue = queue_of(0);
    let refused = host.refuse(&queue, REFUSED).await;
    let id = |one: &serde_json::Value| {
        let id = &one["properties"]["message_id"];
        id.as_str().unwrap().to_owned()
    };
    let mut refused: Vec<String> = refused.iter().map(id).collect();
    refused.sort();
    assert_eq!(refused.len(), REFUSED);

    let letters = async || {
        let listed = scene
            .house
            .get(at, &scene.apps[0], "/v1/dead-letters")
            .await;
        listed["items"].as_array().unwrap().clone()
    };
    let mut db = scene.house.connect().await;
    until("they are dead letters", SOON, async || {
        let dead = "SELECT count(*) FROM batches WHERE state = 'dead'";
        (db.number(dead).await >= i64::try_from(REFUSED).unwrap()).then_some(())
    })
    .await;
    let listed = letters().await;
    let ids = listed.iter().map(|one| one["id"].as_str().unwrap());
    let mut ids: Vec<&str> = ids.collect();
    ids.sort_unstable();
    assert_eq!(ids, refused);
    for letter in listed {
        assert_eq!(letter["reason"], "rejected by the app", "{letter}");
    }

    // Somebody else's.
    let connection = host.connect().await;
    let channel = connection.create_channel().await.unwrap();
    for key in ["app-0.advertising", "app-0.issue"] {
        channel
            .basic_publish(
                "homeward.alerts".into(),
                key.into(),
                BasicPublishOptions::default(),
                b"advertising",
                BasicProperties::default().with_content_type("text/plain".into()),
            )
            .await
            .unwrap();
    }
    let consumer = scene.consumer(at, 0);
    until("both are counted", SOON, async || {
        let name = "homeward_foreign_messages_total";
        let foreign = server.metric(&scene.house, name).await;
        (foreign >= 2.0).then_some(())
    })
    .await;

    until("the rest is taken", LATE, async || {
        let open = "SELECT (SELECT count(*) FROM shards WHERE state = 'pending')
             + (SELECT count(*) FROM batches WHERE state IN ('pending', 'sending', 'sent'))";
        (db.number(open).await == 0).then_some(())
    })
    .await;
    assert!(
        refused
            .iter()
            .all(|id| !scene.inbox.ledger().batches.contains_key(id))
    );
    for id in &refused {
        let path = format!("/v1/dead-letters/{id}/replay");
        scene
            .house
            .post(at, &scene.operator, &path, &json!({}))
            .await;
    }
    scene.settle().await;
    let ledger = scene.check_issue(at, &case, 1).await;
    assert!(
        refused.iter().all(|id| ledger.batches.contains_key(id)),
        "not the same ids"
    );
    assert_eq!(ledger.repeats, 0);
    assert!(letters().await.is_empty());
    scene.close_and_check(at, &case).await;
    consumer.stop().await;
    scene.house.remove().await;
    host.remove().await;
}
