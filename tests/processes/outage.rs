//! PostgreSQL goes away while a wave goes out, and comes back.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::db::{Db, Kind};
use crate::house::{Addresses, House, LATE, SOON, Server, signal, until};
use crate::kills::in_hand;
use crate::people::People;
use crate::scene::Scene;

/// A PostgreSQL of this test's own, gone with it.
struct Postgres(TempDir);

impl Postgres {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // `ops/services` runs the server as another user where the tests run as root.
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let open = std::fs::Permissions::from_mode(0o711);
            std::fs::set_permissions(folder.path(), open).unwrap();
        }
        Self(folder)
    }

    fn services(&self, arguments: &[&str]) -> String {
        let services = concat!(env!("CARGO_MANIFEST_DIR"), "/ops/services");
        let mut command = Command::new(services);
        command
            .args(arguments)
            .arg("--dir")
            .arg(self.0.path().join("services"));
        let output = command.stdin(Stdio::null()).output().unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "ops/services {arguments:?}: {complaint}"
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Starts it; gives its URL.
    fn up(&self) -> String {
        let setting = self.services(&["up", "postgres"]);
        setting
            .trim()
            .strip_prefix("HOMEWARD_TEST_POSTGRES_URL=")
            .unwrap()
            .to_owned()
    }

    /// Stops it as an administrator would: clients are cut off, transactions rolled back.
    fn down(&self) {
        self.services(&["down", "postgres"]);
    }

    /// Ends it as a power cut would.
    async fn crash(&self) {
        let file = self.0.path().join("services/postgres/data/postmaster.pid");
        let text = std::fs::read_to_string(&file).unwrap();
        let process = text.lines().next().unwrap();
        signal("KILL", process.parse().unwrap());
        let proc = Path::new("/proc").join(process);
        until("PostgreSQL is gone", SOON, async || {
            (!proc.exists()).then_some(())
        })
        .await;
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let services = concat!(env!("CARGO_MANIFEST_DIR"), "/ops/services");
        let mut command = Command::new(services);
        command
            .args(["down", "--wipe", "--dir"])
            .arg(self.0.path().join("services"));
        let _ = command.stderr(Stdio::null()).status();
    }
}

/// What a client gets that asks, and one that files, while there is no database.
async fn check_unavailable(scene: &Scene, server: &Server, at: Addresses) {
    let (http, key) = (&scene.house.http, &scene.apps[0]);
    let url = |path: &str| format!("http://{}{path}", at.http);
    let get = http.get(url("/v1/apps/me")).bearer_auth(key).send();
    let post = http
        .post(url("/v1/cases"))
        .bearer_auth(key)
        .json(&json!({}))
        .send();
    let begun = Instant::now();
    let (get, post, ready) = tokio::join!(get, post, server.ready(&scene.house));
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "answered after {:?}",
        begun.elapsed()
    );
    for answer in [get.unwrap(), post.unwrap()] {
        assert_eq!(answer.status(), 503);
        let seconds: u32 = answer.headers()["retry-after"]
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        assert!((1..60).contains(&seconds));
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        let text = answer.text().await.unwrap();
        assert!(text.contains("the database is not available"), "{text}");
    }
    assert_eq!((ready.0, &ready.1["ready"]), (503, &json!(false)));
}

/// Several clients ask all the time, also while the database goes and comes, until told to stop.
/// Counts the answers by status.
async fn keep_asking(
    http: reqwest::Client,
    url: String,
    key: String,
    stop: CancellationToken,
) -> BTreeMap<u16, usize> {
    let answers = Mutex::default();
    let ask = async || {
        while !stop.is_cancelled() {
            let answer = http.get(&url).bearer_auth(&key).send().await.unwrap();
            let status = answer.status().as_u16();
            *BTreeMap::entry(&mut answers.lock().unwrap(), status).or_default() += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::join!(ask(), ask(), ask(), ask());
    answers.into_inner().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_goes_away_and_comes_back() {
    let postgres = Postgres::new();
    let url = postgres.up();
    let settings = [
        ("HOMEWARD_DISPATCH__SHARD_PEOPLE", "200"),
        ("HOMEWARD_REQUESTS_PER_S", "10000"),
        ("HOMEWARD_REQUESTS_BURST", "10000"),
    ];
    let house = House::over(Db::at(url.clone()), &settings);
    let scene = Scene::new(house, People::around(12_000, 12, 1), &[800]);
    let mut server = scene.house.server().await;
    let at = server.addresses;
    scene.register(at).await;
    let consumer = scene.consumer(at, 0);
    let case = scene.alert(at).await;

    let stop = CancellationToken::new();
    let key = scene.house.admin(&["key", "operator", "Ada"]);
    let shown = format!("http://{}/v1/cases/{}", at.http, case.case);
    let asking = tokio::spawn(keep_asking(
        scene.house.http.clone(),
        shown,
        key,
        stop.clone(),
    ));
    assert!(scene.next_wave().await);
    for outage in 0..3 {
        if outage == 2 {
            assert!(scene.next_wave().await);
        }
        let handed = scene.inbox.len();
        until("batches come", SOON, async || {
            (scene.inbox.len() > handed + 4).then_some(())
        })
        .await;
        match outage {
            // Back before anybody's lease or patience has run out.
            0 => postgres.down(),
            1 => {
                postgres.down();
                check_unavailable(&scene, &server, at).await;
            }
            _ => {
                postgres.crash().await;
                check_unavailable(&scene, &server, at).await;
            }
        }
        // Without a database nothing more is handed on.
        let handed = scene.inbox.len();
        assert_eq!(postgres.up(), url);
        let begun = Instant::now();
        until("the server is ready again", SOON, async || {
            (server.ready(&scene.house).await.0 == 200).then_some(())
        })
        .await;
        until("work goes on", SOON, async || {
            (scene.inbox.len() > handed).then_some(())
        })
        .await;
        println!(
            "work went on {:?} after PostgreSQL was back",
            begun.elapsed()
        );
    }
    stop.cancel();
    let answers = asking.await.unwrap();
    assert!(answers.keys().eq(&[200, 503]), "{answers:?}");

    // Told to stop while there is no database, it still comes to an end.
    postgres.down();
    server.terminate();
    assert_eq!(server.ended(SOON).await.code(), Some(0), "{}", server.log());
    assert_eq!(postgres.up(), url);
    server.start(&scene.house).await;
    scene.settle().await;
    let ledger = scene.check_issue(at, &case, 3).await;
    println!("3 outages, {} repeats, answers {answers:?}", ledger.repeats);
    scene.close_and_check(at, &case).await;
    drop(consumer);
}

/// Cuts all connections of the servers to the database, each in the middle of what it is doing.
const CUT: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'homeward'";

/// A lease that nobody waits for.
const LEASE: Duration = Duration::from_mins(1);

/// The lane does not lose its lease over it, so nobody comes to take up what it had claimed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_cut_while_a_lane_records() {
    let settings = [
        (
            "HOMEWARD_DISPATCH__LANE_LEASE_S",
            &*LEASE.as_secs().to_string(),
        ),
        ("HOMEWARD_DISPATCH__BATCH_PEOPLE", "50"),
    ];
    let house = House::new(Kind::Postgres, &settings).await;
    let scene = Scene::new(house, People::around(4_000, 6, 1), &[400]);
    let server = scene.house.server().await;
    let at = server.addresses;
    scene.register(at).await;
    let case = scene.alert(at).await;
    scene.all_waves().await;
    let mut db = scene.house.connect().await;

    let consumer = scene.consumer(at, 0);
    for _ in 0..4 {
        let claimed = "SELECT count(*) FROM batches WHERE state = 'sending'";
        until("a batch is claimed", LATE, async || {
            db.freeze("batches").await;
            // Just after the last cut it has no connection yet.
            let found = db.number(claimed).await > 0 && db.number(CUT).await > 0;
            db.thaw().await;
            found.then_some(())
        })
        .await;
    }
    let cut = Instant::now();
    scene.settle().await;
    assert!(
        cut.elapsed() < LEASE / 2,
        "waited for the lease: {:?}",
        cut.elapsed()
    );
    let ledger = scene.check_issue(at, &case, 3).await;
    println!("4 cuts, {} repeats", ledger.repeats);
    scene.close_and_check(at, &case).await;
    drop(consumer);
    scene.house.remove().await;
}

/// Restarted and killed while a worker has all but finished a shard: nothing of that shard is there, and
/// it is done again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_is_restarted_in_the_middle_of_a_fan_out() {
    let postgres = Postgres::new();
    let url = postgres.up();
    let settings = [("HOMEWARD_DISPATCH__SHARD_PEOPLE", "100")];
    let house = House::over(Db::at(url.clone()), &settings);
    let scene = Scene::new(house, People::around(12_000, 12, 1), &[20_000]);
    let server = scene.house.server().await;
    let at = server.addresses;
    scene.register(at).await;
    let case = scene.alert(at).await;
    scene.all_waves().await;
    let in_hand = in_hand(Kind::Postgres, 0);
    for crash in [false, true, false, true] {
        let mut db = scene.house.connect().await;
        until("a shard is in hand", LATE, async || {
            db.freeze("shards").await;
            let end = Instant::now() + Duration::from_millis(50);
            let mut found = false;
            while !found && Instant::now() < end {
                found = db.number_now(&in_hand).await > 0;
            }
            if !found {
                db.thaw().await;
                scene.more_work().await;
            }
            found.then_some(())
        })
        .await;
        if crash {
            postgres.crash().await;
        } else {
            postgres.down();
        }
        assert_eq!(postgres.up(), url);
        // All of a shard or nothing of it is there.
        let mut db = scene.house.connect().await;
        db.freeze("shards").await;
        let told =
            "SELECT CAST(coalesce(sum(people), 0) AS BIGINT) FROM counts WHERE reason = 'told'";
        let batches = "SELECT CAST(coalesce(sum(people), 0) AS BIGINT) FROM batches";
        let (told, in_batches) = (db.number(told).await, db.number(batches).await);
        let listed = i64::try_from(scene.told_list(&case.alert).await.len()).unwrap();
        assert_eq!((told, told), (in_batches, listed));
        db.thaw().await;
    }
    let consumer = scene.consumer(at, 0);
    scene.settle().await;
    scene.check_issue(at, &case, 3).await;
    scene.close_and_check(at, &case).await;
    drop(consumer);
}
