//! SIGKILL, at every kind of moment, and the same database afterwards.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::consumer::Handed;
use crate::db::{Connection, Kind};
use crate::house::{House, LATE, SHARD_LEASE_MS, SOON, until};
use crate::on_both_databases;
use crate::people::People;
use crate::scene::Scene;

on_both_databases! {
    killed_in_the_middle_of_the_fan_out
    killed_between_claim_and_record
    killed_again_and_again_at_any_moment
}

/// Shards that nobody has finished, and waves that are due.
const LEFT: &str = "SELECT (SELECT count(*) FROM shards WHERE state = 'pending')
    + (SELECT count(*) FROM waves WHERE state = 'waiting' AND due_at = 0)";

/// Holds the world still while the server does what `sql` counts (0: it does not). Gives what was
/// counted. If the server runs out of work before, there is more.
async fn hold_while(scene: &Scene, db: &mut Connection, table: &str, sql: &str) -> i64 {
    // On PostgreSQL the server goes on as far as the lock; on SQLite nothing moves. There nobody
    // queues for the lock either, so the server needs longer until it has it again.
    let (look, go_on) = match db {
        Connection::Postgres(_) => (Duration::from_millis(30), Duration::from_millis(5)),
        Connection::Sqlite(_) => (Duration::ZERO, Duration::from_millis(30)),
    };
    until(sql, LATE, async || {
        db.freeze(table).await;
        let end = Instant::now() + look;
        let mut counted = db.number_now(sql).await;
        while counted == 0 && Instant::now() < end {
            counted = db.number_now(sql).await;
        }
        if counted == 0 {
            let left = db.number(LEFT).await;
            db.thaw().await;
            if left == 0 {
                scene.more_work().await;
            }
            tokio::time::sleep(go_on).await;
        }
        (counted > 0).then_some(counted)
    })
    .await
}

/// Shards that the server has in hand: on PostgreSQL its worker has written all but the last
/// statement of its transaction and waits there; on SQLite, where nobody waits inside a transaction,
/// it has claimed the shard (`since` the server before it was killed) and waits to begin.
pub fn in_hand(kind: Kind, since: i64) -> String {
    match kind {
        Kind::Postgres => "SELECT count(*) FROM pg_stat_activity
             WHERE datname = current_database() AND wait_event_type = 'Lock'
               AND query LIKE 'UPDATE shards SET state = ''done''%'"
            .to_owned(),
        Kind::Sqlite => format!(
            "SELECT count(*) FROM shards
             WHERE state = 'pending' AND lease_until > {since} + {SHARD_LEASE_MS}"
        ),
    }
}

async fn killed_in_the_middle_of_the_fan_out(kind: Kind) {
    const KILLS: i64 = 8;
    let house = House::new(kind, &[("HOMEWARD_DISPATCH__SHARD_PEOPLE", "100")]).await;
    let scene = Scene::new(house, People::around(24_000, 12, 2), &[20_000, 20_000]);
    let mut server = scene.house.server().await;
    let at = server.addresses;
    scene.register(at).await;
    let case = scene.alert(at).await;
    let mut db = scene.house.connect().await;

    let mut in_hand_when_killed = 0;
    for _ in 0..KILLS {
        let in_hand = in_hand(kind, db.now_ms().await);
        in_hand_when_killed += hold_while(&scene, &mut db, "shards", &in_hand).await;
        server.kill();
        db.thaw().await;
        // All of a shard or nothing of it is there.
        let told =
            "SELECT CAST(coalesce(sum(people), 0) AS BIGINT) FROM counts WHERE reason = 'told'";
        let told = db.number(told).await;
        let in_batches = "SELECT CAST(coalesce(sum(people), 0) AS BIGINT) FROM batches";
        let in_batches = db.number(in_batches).await;
        let listed = scene.told_list(&case.alert).await.len();
        assert_eq!((told, told), (in_batches, i64::try_from(listed).unwrap()));

        let done = "SELECT count(*) FROM shards WHERE state = 'done'";
        let before = db.number(done).await;
        server.start(&scene.house).await;
        until("fan-out goes on", SOON, async || {
            (db.number(done).await > before).then_some(())
        })
        .await;
    }
    scene.all_waves().await;
    let consumers = [scene.consumer(at, 0), scene.consumer(at, 1)];
    scene.settle().await;
    scene.check_issue(at, &case, 3).await;
    let again = db
        .number("SELECT count(*) FROM shards WHERE attempt > 1")
        .await;
    println!("{KILLS} kills, {in_hand_when_killed} shards in hand, {again} taken up again");
    assert!(again > 0);
    scene.close_and_check(at, &case).await;
    drop(consumers);
    scene.house.remove().await;
}

async fn killed_between_claim_and_record(kind: Kind) {
    const KILLS: usize = 6;
    // Small batches, so that one is nearly always being claimed.
    let house = House::new(kind, &[("HOMEWARD_DISPATCH__BATCH_PEOPLE", "25")]).await;
    let scene = Scene::new(house, People::around(16_000, 12, 1), &[1_500]);
    let mut server = scene.house.server().await;
    let at = server.addresses;
    scene.register(at).await;
    let consumer = scene.consumer(at, 0);
    let case = scene.alert(at).await;
    scene.all_waves().await;
    let mut db = scene.house.connect().await;

    until("the consumer is there", SOON, async || {
        (scene.inbox.len() > 0).then_some(())
    })
    .await;

    let mut sending = 0;
    for _ in 0..KILLS {
        let claimed = "SELECT count(*) FROM batches WHERE state = 'sending'";
        sending += hold_while(&scene, &mut db, "batches", claimed).await;
        until(
            "a batch is handed over and not recorded",
            SOON,
            async || {
                let taken = scene.taken(&mut db).await;
                let handed = scene.inbox.all();
                let recorded = |one: &Handed| taken.contains(&one.batch_id);
                handed.iter().any(|one| !recorded(one)).then_some(())
            },
        )
        .await;
        server.kill();
        db.thaw().await;
        server.start(&scene.house).await;
        let before = scene.inbox.len();
        until("the consumer goes on", SOON, async || {
            (scene.inbox.len() > before + 4).then_some(())
        })
        .await;
    }
    scene.settle().await;
    let ledger = scene.check_issue(at, &case, 3).await;
    println!(
        "{KILLS} kills, {sending} batches claimed, {} repeats",
        ledger.repeats
    );
    assert!(
        ledger.repeats > 0,
        "some batch was handed over and not recorded"
    );
    scene.close_and_check(at, &case).await;
    consumer.stop().await;
    scene.house.remove().await;
}

async fn killed_again_and_again_at_any_moment(kind: Kind) {
    const KILLS: usize = 10;
    let mut chance = StdRng::seed_from_u64(20_261_121);
    let house = House::new(kind, &[]).await;
    let scene = Scene::new(house, People::around(24_000, 12, 2), &[3_000, 2_000]);
    let mut server = scene.house.server().await;
    let at = server.addresses;
    scene.register(at).await;
    let mut consumers = [scene.consumer(at, 0), scene.consumer(at, 1)];
    let case = scene.alert(at).await;
    let mut db = scene.house.connect().await;

    for kill in 0..KILLS {
        if kill % 2 == 0 {
            scene.more_work().await;
        }
        // As soon as so much more has been seen: shards decided, or batches handed over.
        let (shards, batches) = (chance.random_range(0..6), chance.random_range(0..12));
        let done = "SELECT count(*) FROM shards WHERE state = 'done'";
        let (done_before, handed_before) = (db.number(done).await, scene.inbox.len());
        let idle = Instant::now() + Duration::from_secs(5);
        until("some progress", SOON, async || {
            let decided = db.number(done).await - done_before;
            let handed = scene.inbox.len() - handed_before;
            (decided > shards || handed > batches || Instant::now() > idle).then_some(())
        })
        .await;
        tokio::time::sleep(Duration::from_micros(chance.random_range(0..20_000))).await;
        server.kill();
        if kill % 3 == 1 {
            let [one, two] = consumers;
            one.kill().await;
            consumers = [scene.consumer(at, 0), two];
        }
        server.start(&scene.house).await;
    }
    scene.settle().await;
    // One more look at everybody finds nobody who has not been told.
    scene.more_work().await;
    until("a whole sweep", SOON, async || {
        let sweeps = "SELECT count(*) FROM rounds r WHERE kind = 'sweep' AND NOT EXISTS (
            SELECT 1 FROM shards s WHERE s.alert_id = r.alert_id AND s.round = r.number
                AND s.state <> 'done')";
        (db.number(sweeps).await > 0).then_some(())
    })
    .await;
    scene.settle().await;
    let ledger = scene.check_issue(at, &case, 3).await;

    // Killed while the case is being closed, and while the recall goes out.
    let told = ledger.told(&case.alert, "issue");
    let closing = scene.close(at, &case);
    let killing = async {
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_micros(chance.random_range(0..300_000))).await;
            server.kill_and_start(&scene.house).await;
        }
    };
    tokio::join!(closing, killing);
    scene.settle().await;
    let ledger = scene.inbox.ledger();
    assert_eq!(ledger.told(&case.alert, "recall"), told);
    assert_eq!(
        ledger.told(&case.alert, "issue"),
        told,
        "issued after the recall"
    );
    println!("{} kills, {} repeats", KILLS + 3, ledger.repeats);
    drop(consumers);
    scene.house.remove().await;
}
