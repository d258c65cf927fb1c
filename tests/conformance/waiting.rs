//! A case whose batches all wait, for tests that move them by hand.

use std::collections::BTreeSet;

use homeward::alert::recipients;
use homeward::cases::Desk;
use homeward::cases::steps::{self, CloseRequest};
use homeward::model::{AlertId, AppId, BatchId, CaseId, Outcome, PersonNumber, Urgency};
use homeward::planning::Planner;
use homeward::store::sending::{self, Claimed};
use homeward::store::{Tx, lanes, told};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use uuid::Uuid;

use crate::common::{
    Caller, House, Person, Rounds, app_id, cell_at, dispatch, filing, text, until,
};

const LAT: f64 = 57.1497;
const LON: f64 = -2.0943;
/// How long a lane is held.
pub const LEASE: SignedDuration = SignedDuration::from_secs(4);

/// A case whose batches (of five people each) all wait, in a house whose server has stopped.
pub struct Waiting {
    pub agency: Caller,
    pub case: CaseId,
    pub alert: AlertId,
    pub app: AppId,
    pub batches: Vec<BatchId>,
    pub now: Timestamp,
}

impl Waiting {
    pub async fn build(house: &House, people: usize) -> Self {
        let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
        let caller = house.app("Nearby", 100_000).await;
        house.serve(&[("dispatch.batch_people", "5")]).await;
        operator.post("/v1/lanes/hold", &json!({})).await.ok();
        let now = house.now().await;
        caller
            .register(&Person::many("p", people, cell_at(LAT, LON), now))
            .await;
        let case = agency.file(&filing(now, LAT, LON)).await;
        let alert = text(&operator.verify(&case).await, "/alert/id")
            .parse()
            .unwrap();
        until("fan-out", async || {
            let alert = dispatch(&operator, &case).await;
            (Rounds::of(&alert).told() == people as i64).then_some(())
        })
        .await;
        operator.post("/v1/lanes/release", &json!({})).await.ok();
        operator.post("/v1/lanes/hold", &json!({})).await.ok();
        house.stop().await;
        house.database().execute("DELETE FROM switches").await;
        house.database().execute("DELETE FROM lanes").await;
        let reset = "UPDATE batches SET state = 'pending', sending_at = NULL, sent_at = NULL";
        house.database().execute(reset).await;
        let now = house.now().await;
        let app = app_id(&caller);
        let mut session = house.store().read().await.unwrap();
        let next = sending::next(&mut session, app, now, Urgency::Critical, 99, &[])
            .await
            .unwrap();
        let batches: Vec<BatchId> = next.into_iter().map(|(id, _)| id).collect();
        assert_eq!(batches.len(), people.div_ceil(5));
        let case = case.parse().unwrap();
        Self {
            agency,
            case,
            alert,
            app,
            batches,
            now,
        }
    }

    pub async fn lane(&self, house: &House, owner: Uuid, now: Timestamp) -> Option<i64> {
        let (mut tx, _) = house.begin().await;
        let fence = lanes::acquire(&mut tx, self.app, owner, now, LEASE)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        fence
    }

    pub async fn claim(
        &self,
        house: &House,
        owner: Uuid,
        fence: i64,
        ids: &[BatchId],
    ) -> Vec<Claimed> {
        self.claim_at(house, owner, fence, ids, self.now).await
    }

    pub async fn claim_at(
        &self,
        house: &House,
        owner: Uuid,
        fence: i64,
        ids: &[BatchId],
        now: Timestamp,
    ) -> Vec<Claimed> {
        let (mut tx, _) = house.begin().await;
        let claimed = sending::claim(&mut tx, (self.app, owner, fence), ids, &[], now)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        claimed
    }

    pub async fn close(&self, house: &House, now: Timestamp) {
        self.closing(house, now).await.commit().await.unwrap();
    }

    /// Closes the case in a transaction that is still open.
    pub async fn closing(&self, house: &House, now: Timestamp) -> Tx {
        let config = house.config(&[]);
        let desk = Desk {
            planner: Planner::of(&config).unwrap().into(),
            config: config.into(),
        };
        let holder = self.agency.holder.clone().unwrap();
        let caller = homeward::model::Caller {
            key: self.agency.key_id,
            holder,
        };
        let request = CloseRequest {
            outcome: Outcome::Returned,
            attribution: None,
            found: None,
        };
        let (mut tx, _) = house.begin().await;
        steps::close(&mut tx, &desk, &caller, self.case, None, &request, now)
            .await
            .unwrap();
        tx
    }

    /// Claims whatever may be sent, which must be recalls; gives how many people are in them.
    pub async fn recalled(&self, house: &House, owner: Uuid, fence: i64) -> usize {
        let sendable = self.sendable(house).await;
        let issues: Vec<_> = sendable
            .iter()
            .filter(|id| self.batches.contains(id))
            .collect();
        assert!(issues.is_empty(), "no issue after the close");
        let claimed = self.claim(house, owner, fence, &sendable).await;
        let persons = claimed
            .iter()
            .flat_map(|claimed| recipients::persons(&claimed.batch.recipients).unwrap());
        persons.collect::<BTreeSet<PersonNumber>>().len()
    }

    pub async fn told(&self, house: &House) -> u64 {
        told::count(&mut house.store().read().await.unwrap(), self.alert)
            .await
            .unwrap()
    }

    /// How many batches of a kind are in a state.
    pub async fn count(&self, house: &House, kind: &str, state: &str) -> i64 {
        let sql =
            format!("SELECT count(*) FROM batches WHERE kind = '{kind}' AND state = '{state}'");
        house.database().number(&sql).await
    }

    pub async fn sendable(&self, house: &House) -> Vec<BatchId> {
        let mut session = house.store().read().await.unwrap();
        let next = sending::next(&mut session, self.app, self.now, Urgency::Critical, 99, &[])
            .await
            .unwrap();
        next.into_iter().map(|(id, _)| id).collect()
    }
}
