//! What every test begins and ends with: apps with their people, cases, and what must hold when
//! everything has settled.

use std::collections::{BTreeMap, BTreeSet};

use h3o::CellIndex;
use jiff::{SignedDuration, Timestamp};
use roaring::RoaringBitmap;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::consumer::{Consumer, Inbox, Ledger};
use crate::db::{Connection, Kind};
use crate::house::{Addresses, House, LATE, SOON, until};
use crate::people::{CENTRE, People, number_of};

/// Keys and people of a house. It outlives its servers.
pub struct Scene {
    pub house: House,
    pub people: People,
    pub inbox: Inbox,
    /// Each app's key.
    pub apps: Vec<String>,
    agency: String,
    pub operator: String,
}

/// What an app is called.
pub fn app_name(app: usize) -> String {
    format!("app-{app}")
}

/// An app's queue on the broker.
pub fn queue_of(app: usize) -> String {
    format!("homeward.alerts.{}.v1", app_name(app))
}

/// A case whose alert goes out.
#[derive(Debug, Clone)]
pub struct Alerted {
    pub case: String,
    pub alert: String,
    /// The cells of each wave.
    waves: Vec<Vec<CellIndex>>,
}

impl Alerted {
    /// The cells of the first so many waves.
    pub fn area(&self, waves: usize) -> Vec<CellIndex> {
        self.waves[..waves].concat()
    }
}

impl Scene {
    /// Makes keys as whoever runs the service would, one app for each rate.
    pub fn new(house: House, people: People, rates: &[u32]) -> Self {
        house.admin(&[
            "agency",
            "Search and Rescue",
            "--time-zone",
            "Europe/London",
        ]);
        house.admin(&["operator", "Ada"]);
        let apps = rates.iter().enumerate().map(|(number, rate)| {
            let name = app_name(number);
            house.admin(&["app", &name, "--rate-per-s", &rate.to_string()]);
            house.admin(&["key", "app", &name])
        });
        let apps = apps.collect();
        let agency = house.admin(&["key", "agency", "Search and Rescue"]);
        let operator = house.admin(&["key", "operator", "Ada"]);
        Self {
            house,
            people,
            inbox: Inbox::default(),
            apps,
            agency,
            operator,
        }
    }

    /// Waits until so many batches are in an app's queue or in its hands, as far as the server knows.
    pub async fn until_sent(&self, count: i64) {
        let mut db = self.house.connect().await;
        until("batches that nobody acknowledges", SOON, async || {
            let sent = "SELECT count(*) FROM batches WHERE state = 'sent'";
            (db.number(sent).await >= count).then_some(())
        })
        .await;
    }

    /// Waits until no shard is left to decide.
    pub async fn until_fanned_out(&self) {
        let mut db = self.house.connect().await;
        until("the fan-out is done", SOON, async || {
            let left = "SELECT count(*) FROM shards WHERE state = 'pending'";
            (db.number(left).await == 0).then_some(())
        })
        .await;
    }

    /// The database's time: the tests have no clock of their own.
    pub async fn now(&self) -> Timestamp {
        let now = self.house.connect().await.now_ms().await;
        Timestamp::from_millisecond(now).unwrap()
    }

    /// Every app uploads its subscribers.
    pub async fn register(&self, at: Addresses) {
        let now = self.now().await;
        for (app, key) in self.apps.iter().enumerate() {
            let url = format!("http://{}/v1/subscribers", at.http);
            let upload = self.house.http.put(url).bearer_auth(key).timeout(LATE);
            let lines = self.people.upload(app, now);
            let count = lines.lines().count();
            let answer = upload.body(lines).send().await.unwrap();
            let report: Value = answer.json().await.unwrap();
            assert_eq!(report["changed"], json!(count), "{report}");
        }
    }

    /// An app's consumer: from the broker if there is one, and then with receipts.
    pub fn consumer(&self, at: Addresses, app: usize) -> Consumer {
        let Some(url) = self.house.amqp_url() else {
            return self.grpc_consumer(at, app);
        };
        let who = (app_name(app), &self.apps[app]);
        Consumer::over_amqp_with_receipts(url, (&who.0, who.1), at, &self.inbox)
    }

    /// An app's consumer over gRPC.
    pub fn grpc_consumer(&self, at: Addresses, app: usize) -> Consumer {
        Consumer::start(at, &self.apps[app], &self.inbox)
    }

    /// Files a case of somebody last seen at the centre and has an operator verify it.
    pub async fn alert(&self, at: Addresses) -> Alerted {
        self.alert_of(at, "Margaret Hall", CENTRE).await
    }

    pub async fn alert_of(&self, at: Addresses, name: &str, place: (f64, f64)) -> Alerted {
        self.urgent_alert_of(at, name, place, "normal").await
    }

    pub async fn urgent_alert_of(
        &self,
        at: Addresses,
        name: &str,
        place: (f64, f64),
        urgency: &str,
    ) -> Alerted {
        let seen_at = self.now().await - SignedDuration::from_hours(2);
        let filing = json!({
            "person": { "name": name, "age": 82, "clothing": "red coat, brown boots" },
            "category": "dementia",
            "environment": "urban",
            "lkp": { "lat": place.0, "lon": place.1, "accuracy_m": 50.0, "at": seen_at },
            "contact": { "name": "Jane Hall", "phone": "+44 1224 496 0123" },
            "consent": { "given_by": "Jane Hall", "publish": ["name", "age", "clothing"] },
        });
        let case = self
            .house
            .post(at, &self.agency, "/v1/cases", &filing)
            .await;
        assert_eq!(case["state"], "submitted");
        let case = case["id"].as_str().unwrap().to_owned();
        let verify = json!({ "urgency": urgency, "checks": [
            "reporter_called_back", "identity_confirmed", "last_seen_confirmed",
            "consent_confirmed", "duplicates_checked",
        ]});
        let path = format!("/v1/cases/{case}/verify");
        let verified = self.house.post(at, &self.operator, &path, &verify).await;
        let plan = self
            .house
            .get(at, &self.operator, &format!("/v1/cases/{case}/plan"))
            .await;
        let cells = |wave: &Value| serde_json::from_value::<Vec<String>>(wave["cells"].clone());
        let parsed = |wave| {
            cells(wave)
                .unwrap()
                .iter()
                .map(|cell| cell.parse().unwrap())
                .collect()
        };
        Alerted {
            alert: verified["alert"]["id"].as_str().unwrap().to_owned(),
            waves: plan["waves"]
                .as_array()
                .unwrap()
                .iter()
                .map(parsed)
                .collect(),
            case,
        }
    }

    /// Lets the next wave of every alert be due now; says whether any waits. It would be in half an
    /// hour or two, and no setting changes that, since the delays are part of the model.
    ///
    /// A plan of more than a minute ago would be made anew first. How long a test has taken so far must not
    /// decide about that, so its plans count as made a moment ago from now on.
    pub async fn next_wave(&self) -> bool {
        let mut db = self.house.connect().await;
        let now = db.now_ms().await;
        db.execute(&format!("UPDATE plans SET made_at = {now} + 600000"))
            .await;
        let waiting = format!("state = 'waiting' AND due_at > {now}");
        let next = format!(
            "UPDATE waves SET due_at = 0 WHERE {waiting} AND number =
                 (SELECT min(number) FROM waves w WHERE w.alert_id = waves.alert_id AND {waiting})"
        );
        db.execute(&next).await > 0
    }

    /// Lets all waves be due now.
    pub async fn all_waves(&self) {
        while self.next_wave().await {}
    }

    /// Lets something be due now: a wave, or if none waits, a sweep before its ten minutes are over.
    pub async fn more_work(&self) {
        if !self.next_wave().await {
            self.sweep().await;
        }
    }

    /// Lets the next sweep of every alert be due now.
    pub async fn sweep(&self) {
        let sweep = "UPDATE alerts SET next_sweep_at = 0 WHERE closed_at IS NULL";
        self.house.connect().await.execute(sweep).await;
    }

    /// Waits until nothing is due, nothing is on its way, and the consumers have printed what they
    /// acknowledged.
    pub async fn settle(&self) {
        let mut db = self.house.connect().await;
        until("everything has settled", LATE, async || {
            let now = db.now_ms().await;
            let undone = format!(
                "SELECT (SELECT count(*) FROM waves WHERE state = 'waiting' AND due_at <= {now})
                     + (SELECT count(*) FROM shards WHERE state = 'pending')
                     + (SELECT count(*) FROM batches WHERE state IN ('pending', 'sending', 'sent'))"
            );
            (db.number(&undone).await == 0).then_some(())
        })
        .await;
        let taken = self.taken(&mut db).await;
        until("the consumers have printed everything", SOON, async || {
            let ledger = self.inbox.ledger();
            let printed = |id: &String| ledger.batches.contains_key(id);
            taken.iter().all(printed).then_some(())
        })
        .await;
    }

    /// The batches that are recorded as taken.
    pub async fn taken(&self, db: &mut Connection) -> BTreeSet<String> {
        let taken = match self.house.db.kind {
            Kind::Postgres => "SELECT CAST(id AS TEXT) FROM batches WHERE state = 'taken'",
            Kind::Sqlite => "SELECT hex(id) FROM batches WHERE state = 'taken'",
        };
        let taken = db.rows::<(String,)>(taken).await;
        let id = |(id,): &(String,)| id.parse::<Uuid>().unwrap().to_string();
        taken.iter().map(id).collect()
    }

    /// Checks all that must hold of an alert that has gone out in so many waves, with an audience
    /// that no cap held back. Gives what was handed to the apps.
    pub async fn check_issue(&self, at: Addresses, alerted: &Alerted, waves: usize) -> Ledger {
        let ledger = self.inbox.ledger();
        let told = ledger.told(&alerted.alert, "issue");
        let numbers: BTreeSet<usize> = told.iter().map(|token| number_of(token)).collect();
        assert!(!numbers.is_empty());
        let eligible = self.people.eligible(&alerted.area(waves));
        assert_eq!(
            numbers.len(),
            eligible.len(),
            "people told, people who should be"
        );
        assert_eq!(numbers, eligible);
        self.check_told_list(alerted, &told).await;

        let path = format!("/v1/cases/{}/dispatch", alerted.case);
        let view = self.house.get(at, &self.operator, &path).await["alerts"][0].clone();
        assert_eq!(view["recipients"], json!(told.len()));
        let mut sum = 0;
        for round in view["rounds"].as_array().unwrap() {
            sum += round["told"].as_i64().unwrap();
            let reasons: BTreeMap<String, i64> =
                serde_json::from_value(round["not_told"].clone()).unwrap();
            let in_area = round["told"].as_i64().unwrap() + reasons.values().sum::<i64>();
            assert_eq!(
                round["in_area"],
                json!(in_area),
                "told and reasons add up: {round}"
            );
            if round["kind"] == "wave" {
                let wave = usize::try_from(round["wave"].as_i64().unwrap()).unwrap();
                let area = &alerted.waves[wave - 1];
                assert_eq!(
                    in_area,
                    i64::try_from(self.people.within(area).count()).unwrap()
                );
                assert_eq!(round["not_told"], self.people.refused(area), "wave {wave}");
            }
        }
        assert_eq!(
            sum,
            i64::try_from(told.len()).unwrap(),
            "the counts are of those told"
        );
        ledger
    }

    /// The told-list names just those whose tokens these are.
    pub async fn check_told_list(&self, alerted: &Alerted, told: &BTreeSet<String>) {
        let mut db = self.house.connect().await;
        let persons = db
            .rows::<(Vec<u8>, i64)>("SELECT token, person FROM subscribers")
            .await;
        let persons: BTreeMap<Vec<u8>, i64> = persons.into_iter().collect();
        let told: BTreeSet<i64> = told.iter().map(|token| persons[token.as_bytes()]).collect();
        let listed = self.told_list(&alerted.alert).await;
        let (more, fewer) = (&listed - &told, &told - &listed);
        assert!(
            more.is_empty() && fewer.is_empty(),
            "on the told-list and not told: {more:?}; told and not on it: {fewer:?}"
        );
    }

    /// The person numbers on an alert's told-list.
    pub async fn told_list(&self, alert: &str) -> BTreeSet<i64> {
        let mut db = self.house.connect().await;
        let sql = format!(
            "SELECT block, people FROM told WHERE alert_id = {}",
            db.id(alert)
        );
        let mut numbers = BTreeSet::new();
        for (block, people) in db.rows::<(i64, Vec<u8>)>(&sql).await {
            let people = RoaringBitmap::deserialize_from(&people[..]).unwrap();
            numbers.extend(people.iter().map(|place| block * 65_536 + i64::from(place)));
        }
        numbers
    }

    /// Closes a case: the person was found.
    pub async fn close(&self, at: Addresses, alerted: &Alerted) -> Value {
        let path = format!("/v1/cases/{}/close", alerted.case);
        let found = json!({ "outcome": "found_well" });
        self.house.post(at, &self.agency, &path, &found).await
    }

    /// Closes a case that has gone out, and checks that the recall goes to just those who were told.
    pub async fn close_and_check(&self, at: Addresses, alerted: &Alerted) {
        let told = self.inbox.ledger().told(&alerted.alert, "issue");
        self.close(at, alerted).await;
        self.settle().await;
        let ledger = self.inbox.ledger();
        assert_eq!(ledger.told(&alerted.alert, "recall"), told);
        assert_eq!(
            ledger.told(&alerted.alert, "issue"),
            told,
            "issued after the recall"
        );
    }
}
