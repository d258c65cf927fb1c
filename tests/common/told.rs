//! What the house says of who was told and who was not.

use std::collections::BTreeMap;

use homeward::model::{AlertId, WaveState};
use homeward::store::{alerts, plans};
use serde_json::Value;

use super::rest::Caller;
use super::{House, number, until};

/// The newest alert in a case's dispatch.
pub async fn dispatch(caller: &Caller, case: &str) -> Value {
    let dispatch = caller.get(&format!("/v1/cases/{case}/dispatch")).await.ok();
    dispatch["alerts"]
        .as_array()
        .unwrap()
        .last()
        .cloned()
        .unwrap_or_default()
}

/// Waits until it is recorded that an app has a batch of the newest alert.
pub async fn taken_by(caller: &Caller, case: &str, app: &str) {
    until("a batch to be recorded as taken", async || {
        let batches = dispatch(caller, case).await["batches"].clone();
        let taken = |batch: &Value| batch["app"] == app && batch["state"] == "taken";
        batches.as_array()?.iter().any(taken).then_some(())
    })
    .await;
}

/// Waits until all rounds released so far are fanned out and all their batches have come to rest;
/// gives the newest alert's dispatch.
pub async fn settled(caller: &Caller, case: &str) -> Value {
    let on_its_way = ["pending", "sending", "sent"];
    until("fan-out and delivery come to rest", async || {
        let alert = dispatch(caller, case).await;
        let rounds = alert["rounds"].as_array()?;
        let done = |round: &Value| round["shards"] == round["shards_done"];
        let resting = |batches: &Value| !on_its_way.contains(&batches["state"].as_str().unwrap());
        let batches = alert["batches"].as_array()?;
        let whole = !rounds.is_empty() && rounds.iter().all(done) && batches.iter().all(resting);
        whole.then_some(alert)
    })
    .await
}

/// What rounds counted.
pub struct Rounds(Vec<Value>);

impl Rounds {
    /// Of an alert's dispatch.
    pub fn of(alert: &Value) -> Self {
        Self(alert["rounds"].as_array().unwrap().clone())
    }

    /// The last round.
    pub fn last(&self) -> &Value {
        self.0.last().expect("a round")
    }

    /// How many rounds there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// All told in all rounds.
    pub fn told(&self) -> i64 {
        self.0.iter().map(|round| number(round, "/told")).sum()
    }

    /// Told, in area and by reason in the last round, whose sum must be right.
    #[track_caller]
    pub fn last_counts(&self) -> (i64, BTreeMap<String, i64>) {
        let round = self.last();
        let (told, in_area) = (number(round, "/told"), number(round, "/in_area"));
        let reasons = round["not_told"].as_object().unwrap();
        let reasons: BTreeMap<String, i64> = reasons
            .iter()
            .map(|(name, n)| (name.clone(), n.as_i64().unwrap()))
            .collect();
        assert_eq!(told + reasons.values().sum::<i64>(), in_area, "{round:#}");
        (told, reasons)
    }
}

impl House {
    /// Has the next sweep of an alert done now; gives the alert's dispatch once it has come to rest.
    pub async fn sweep(&self, caller: &Caller, case: &str) -> Value {
        let before = Rounds::of(&settled(caller, case).await).count();
        let alert: AlertId = caller.alert_of(case).await.parse().unwrap();
        let (mut tx, now) = self.begin().await;
        alerts::sweep_at(&mut tx, alert, Some(now)).await.unwrap();
        tx.commit().await.unwrap();
        until("a sweep", async || {
            let alert = dispatch(caller, case).await;
            (Rounds::of(&alert).count() > before).then_some(())
        })
        .await;
        settled(caller, case).await
    }

    /// Has a wave that waits go out now.
    pub async fn wave_now(&self, caller: &Caller, case: &str, wave: i64) {
        let alert: AlertId = caller.alert_of(case).await.parse().unwrap();
        // As it was planned, however long the test has taken so far.
        let fresh = format!(
            "UPDATE plans SET made_at = {}",
            self.now().await.as_millisecond()
        );
        self.database().execute(&fresh).await;
        let (mut tx, now) = self.begin().await;
        let mut wave = plans::lock_wave(&mut tx, alert, wave)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(wave.state, WaveState::Waiting);
        wave.due_at = now;
        plans::change_wave(&mut tx, &wave).await.unwrap();
        tx.commit().await.unwrap();
    }
}
