//! A crowd on the move, four overlapping cases, two servers on one PostgreSQL, and one of the two with a
//! clock that is five seconds ahead.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use h3o::{CellIndex, LatLng, Resolution};
use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

use crate::db::{Connection, Kind};
use crate::house::{Addresses, House, LATE, SOON, Server, until};
use crate::people::{CENTRE, People, number_of};
use crate::scene::{Alerted, Scene, app_name};

/// `cap.per_day` of the defaults.
const PER_DAY: usize = 2;
const PEOPLE: usize = 6_000;
/// How often everybody moves while the alerts go out.
const STEPS: i64 = 10;
const RATE: u32 = 20_000;

/// Where everybody is, step by step; every tenth has both apps.
struct Crowd {
    cells: Vec<CellIndex>,
    begun: Timestamp,
    chance: StdRng,
    /// Where each stands now, and since when.
    places: Vec<(CellIndex, Timestamp)>,
}

impl Crowd {
    fn new(now: Timestamp) -> Self {
        let centre = LatLng::new(CENTRE.0, CENTRE.1)
            .unwrap()
            .to_cell(Resolution::Nine);
        let begun = now - SignedDuration::from_mins(10);
        let cells: Vec<CellIndex> = centre.grid_disk(9);
        let places = vec![(cells[0], begun); PEOPLE];
        let chance = StdRng::seed_from_u64(20_261_121);
        Self {
            cells,
            begun,
            chance,
            places,
        }
    }

    /// Everybody is somewhere else.
    fn step(&mut self, step: i64) {
        let at = self.begun + SignedDuration::from_secs(step);
        for place in &mut self.places {
            *place = (
                self.cells[self.chance.random_range(0..self.cells.len())],
                at,
            );
        }
    }

    /// What an app uploads.
    fn upload(&self, app: usize) -> String {
        let theirs = (0..PEOPLE).filter(|number| number % 10 == 9 || number % 2 == app);
        let lines = theirs.map(|number| {
            let (cell, at) = self.places[number];
            let token = format!("{}-{number}", ["a", "b"][app]);
            let mut line = json!({ "token": token, "cell": cell.to_string(), "at": at });
            if number % 10 == 9 {
                line["person_keys"] = json!([format!("{number:032x}")]);
            }
            line.to_string()
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Those in an area.
    fn within(&self, area: &[CellIndex]) -> BTreeSet<usize> {
        let area: BTreeSet<CellIndex> = area.iter().copied().collect();
        let resolutions: BTreeSet<Resolution> = area.iter().map(|cell| cell.resolution()).collect();
        let inside = |cell: CellIndex| {
            resolutions
                .iter()
                .any(|resolution| area.contains(&cell.parent(*resolution).unwrap()))
        };
        (0..PEOPLE)
            .filter(|number| inside(self.places[*number].0))
            .collect()
    }
}

async fn put(scene: &Scene, at: Addresses, app: usize, lines: String) {
    let url = format!("http://{}/v1/subscribers", at.http);
    let put = scene
        .house
        .http
        .put(url)
        .bearer_auth(&scene.apps[app])
        .timeout(LATE);
    let report: Value = put.body(lines).send().await.unwrap().json().await.unwrap();
    assert_eq!(report["refused"], 0, "{report}");
}

/// A library that puts a process's clock ahead.
fn clock_ahead(folder: &tempfile::TempDir) -> PathBuf {
    let library = folder.path().join("clock_ahead.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/processes/clock_ahead.c");
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let built = Command::new(compiler)
        .args(["-shared", "-fPIC", "-o"])
        .args([library.as_os_str(), source.as_ref()])
        .status();
    assert!(built.unwrap().success());
    library
}

/// Waits until no sweep is due or put off for a moment, and everything has settled.
async fn rest(scene: &Scene, db: &mut Connection) {
    until("no sweep is due", LATE, async || {
        let soon = db.now_ms().await + 5_000;
        let due = format!(
            "SELECT count(*) FROM alerts WHERE closed_at IS NULL AND next_sweep_at < {soon}"
        );
        (db.number(&due).await == 0).then_some(())
    })
    .await;
    scene.settle().await;
}

/// Has one more sweep of every alert done.
async fn sweep_all(scene: &Scene, db: &mut Connection) {
    rest(scene, db).await;
    db.execute("UPDATE alerts SET next_sweep_at = 0 WHERE closed_at IS NULL")
        .await;
    rest(scene, db).await;
}

/// How often each person was told, over all alerts; nobody twice of one.
fn times(scene: &Scene, cases: &[Alerted]) -> BTreeMap<usize, usize> {
    let ledger = scene.inbox.ledger();
    let mut times = BTreeMap::new();
    for case in cases {
        for token in ledger.told(&case.alert, "issue") {
            *times.entry(number_of(&token)).or_default() += 1;
        }
    }
    times
}

/// Whoever is in the area of an alert that they were not told of has been told as often as they may.
fn check_everybody(scene: &Scene, crowd: &Crowd, cases: &[Alerted], days: usize) {
    let (ledger, times) = (scene.inbox.ledger(), times(scene, cases));
    assert!(times.values().all(|alerts| *alerts <= days * PER_DAY));
    for case in cases {
        let told = ledger.told(&case.alert, "issue");
        let told: BTreeSet<usize> = told.iter().map(|token| number_of(token)).collect();
        for number in crowd.within(&case.area(3)).difference(&told) {
            assert_eq!(
                times.get(number),
                Some(&(days * PER_DAY)),
                "person {number}"
            );
        }
    }
}

/// People by reason, app by app, that a server has counted.
fn counted(metrics: &str, sums: &mut BTreeMap<(String, String), i64>) {
    let lines = metrics
        .lines()
        .filter(|line| line.starts_with("homeward_audience_people_total{"));
    for line in lines {
        let label = |name: &str| {
            let (_, rest) = line.split_once(&format!("{name}=\"")).unwrap();
            rest.split_once('"').unwrap().0.to_owned()
        };
        let people: i64 = line.rsplit_once(' ').unwrap().1.parse().unwrap();
        *sums.entry((label("app"), label("reason"))).or_default() += people;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_told_twice_or_too_often_and_all_are_counted() {
    let settings = [("HOMEWARD_DISPATCH__SHARD_PEOPLE", "200")];
    let house = House::new(Kind::Postgres, &settings).await;
    let scene = Scene::new(house, People::around(0, 0, 0), &[RATE, RATE]);
    let mut db = scene.house.connect().await;
    let folder = tempfile::tempdir().unwrap();
    let library = clock_ahead(&folder);
    let first = scene.house.server().await;
    let mut second = scene
        .house
        .server_to_be(&[("LD_PRELOAD", library.to_str().unwrap())]);
    second.start(&scene.house).await;
    let servers = [first, second];
    let at = servers.each_ref().map(|server| server.addresses);
    check_ahead(&servers[1], &mut db).await;

    let mut crowd = Crowd::new(Timestamp::from_millisecond(db.now_ms().await).unwrap());
    crowd.step(0);
    for (app, at) in at.iter().enumerate() {
        put(&scene, *at, app, crowd.upload(app)).await;
    }
    let consumers =
        [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(server, app)| scene.consumer(at[server], app));
    let mut cases = Vec::new();
    for (name, server, north) in [
        ("Ann Reid", 0, 0.0),
        ("Bob Gray", 1, 0.002),
        ("Cem Aksoy", 0, 0.004),
        ("Dee Lowe", 1, 0.006),
    ] {
        cases.push(
            scene
                .alert_of(at[server], name, (CENTRE.0 + north, CENTRE.1))
                .await,
        );
    }
    let walking = async {
        for step in 1..=STEPS {
            crowd.step(step);
            let server = usize::try_from(step % 2).unwrap();
            tokio::join!(
                put(&scene, at[server], 0, crowd.upload(0)),
                put(&scene, at[1 - server], 1, crowd.upload(1)),
            );
        }
        crowd
    };
    let released = async {
        for _ in 0..4 {
            let done = "SELECT count(*) FROM shards WHERE state = 'done'";
            let mut db = scene.house.connect().await;
            let before = db.number(done).await;
            scene.more_work().await;
            until("fan-out goes on", SOON, async || {
                (db.number(done).await > before).then_some(())
            })
            .await;
        }
    };
    let (crowd, ()) = tokio::join!(walking, released);
    scene.all_waves().await;
    scene.settle().await;

    // They stand still. Whoever slipped through is found by a sweep, and the cap holds.
    sweep_all(&scene, &mut db).await;
    check_everybody(&scene, &crowd, &cases, 1);
    let held_back =
        "SELECT CAST(coalesce(sum(people), 0) AS BIGINT) FROM counts WHERE reason = 'cap'";
    assert!(
        db.number(held_back).await > 0,
        "the cap had nobody to hold back"
    );
    let on_the_first_day = times(&scene, &cases);
    // A day later those held back are told, by a sweep.
    db.execute("UPDATE told SET told_at = told_at - 25 * 3600000")
        .await;
    sweep_all(&scene, &mut db).await;
    check_everybody(&scene, &crowd, &cases, 2);
    let in_all = times(&scene, &cases);
    assert!(
        in_all
            .iter()
            .all(|(who, alerts)| { alerts - on_the_first_day.get(who).unwrap_or(&0) <= PER_DAY })
    );
    let later = in_all.values().sum::<usize>() - on_the_first_day.values().sum::<usize>();
    println!(
        "{} told on the first day, {later} more on the second",
        on_the_first_day.values().sum::<usize>()
    );
    assert!(later > 0);

    check_counts(&scene, &crowd, &cases, &servers).await;
    for case in &cases {
        scene.close_and_check(at[1], case).await;
    }
    drop(consumers);
    scene.house.remove().await;
}

/// That the server takes the time to be five seconds later than the database does.
async fn check_ahead(server: &Server, db: &mut Connection) {
    let log = server.log();
    let last = log
        .lines()
        .last()
        .unwrap()
        .split_whitespace()
        .next()
        .unwrap();
    let ahead = last.parse::<Timestamp>().unwrap().as_millisecond() - db.now_ms().await;
    assert!((1_000..=5_000).contains(&ahead), "{ahead} ms ahead: {log}");
}

/// Every round's counts add up, per app and per reason; the rounds' told are those whom the apps were
/// handed; and the servers' metrics say the same.
async fn check_counts(scene: &Scene, crowd: &Crowd, cases: &[Alerted], servers: &[Server; 2]) {
    let ledger = scene.inbox.ledger();
    let mut sums: BTreeMap<(String, String), i64> = BTreeMap::new();
    for case in cases {
        let path = format!("/v1/cases/{}/dispatch", case.case);
        let view = scene
            .house
            .get(servers[0].addresses, &scene.operator, &path)
            .await;
        let view = &view["alerts"][0];
        let mut told = 0;
        for round in view["rounds"].as_array().unwrap() {
            let mut of_apps = 0;
            for (app, counts) in round["by_app"].as_object().unwrap() {
                let mut add = |reason: &str, people: &Value| {
                    let people = people.as_i64().unwrap();
                    *sums.entry((app.clone(), reason.to_owned())).or_default() += people;
                    of_apps += people;
                };
                add("told", &counts["told"]);
                for (reason, people) in counts["not_told"].as_object().unwrap() {
                    add(reason, people);
                }
            }
            assert_eq!(round["in_area"], json!(of_apps), "{round}");
            told += round["told"].as_i64().unwrap();
        }
        let handed = ledger.told(&case.alert, "issue").len();
        assert_eq!(told, i64::try_from(handed).unwrap());
        assert_eq!(view["recipients"], json!(handed));
        // The last sweep found everybody where they stand.
        let last = view["rounds"].as_array().unwrap().last().unwrap();
        assert_eq!(
            last["in_area"],
            json!(crowd.within(&case.area(3)).len()),
            "{view:#}"
        );
    }
    sums.retain(|_, people| *people > 0);
    // A server counts just after it has written down what it did.
    until("the metrics say the same", SOON, async || {
        let mut in_metrics = BTreeMap::new();
        for server in servers {
            counted(&server.metrics(&scene.house).await, &mut in_metrics);
        }
        in_metrics.retain(|_, people| *people > 0);
        (in_metrics == sums).then_some(())
    })
    .await;
    let names: BTreeSet<&str> = sums.keys().map(|(app, _)| app.as_str()).collect();
    assert!(
        names
            .iter()
            .copied()
            .eq([app_name(0).as_str(), app_name(1).as_str()])
    );
}
