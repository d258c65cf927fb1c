//! A broker that ends, in good order or not, and comes back with its data.

use crate::broker::Broker;
use crate::consumer::Consumer;
use crate::db::Kind;
use crate::house::{AMQP_URL, BATCH_PEOPLE, House, SOON, Server, until};
use crate::people::People;
use crate::rate::check_rate_with_breaks;
use crate::scene::{Alerted, Scene};

const RATE: u32 = 1_500;
/// Batches in the app's queue when the broker goes: there is room for 30, and the app has some in hand.
const WAITING: i64 = 20;

/// In the order in which they go.
struct Day {
    server: Server,
    consumer: Consumer,
    scene: Scene,
    broker: Broker,
    case: Alerted,
}

/// A wave on its way.
async fn begun() -> Day {
    let broker = Broker::start().await;
    let house = House::new(Kind::Postgres, &[(AMQP_URL, &broker.host.url)]).await;
    let scene = Scene::new(house, People::around(12_000, 12, 1), &[RATE]);
    let server = scene.house.server().await;
    let at = server.addresses;
    scene.register(at).await;
    let consumer = scene.consumer(at, 0);
    let case = scene.alert(at).await;
    Day {
        server,
        consumer,
        scene,
        broker,
        case,
    }
}

impl Day {
    /// Another wave, of which some batches have come.
    async fn under_way(&self) {
        let before = self.scene.inbox.len();
        assert!(self.scene.next_wave().await);
        until("batches come", SOON, async || {
            (self.scene.inbox.len() > before + 3).then_some(())
        })
        .await;
    }

    /// Another wave, which finds the app hanging.
    async fn full(&self) {
        self.consumer.pause();
        assert!(self.scene.next_wave().await);
        self.scene.until_sent(WAITING).await;
    }

    /// The broker is away: that is said, and cases are taken all the same.
    async fn check_away(&self) {
        let Self { scene, server, .. } = self;
        let path = format!("/v1/cases/{}", self.case.case);
        scene
            .house
            .get(server.addresses, &scene.operator, &path)
            .await;
        until("it is said that the broker is away", SOON, async || {
            let (_, ready) = server.ready(&scene.house).await;
            (ready["broker"] == "away").then_some(())
        })
        .await;
    }

    /// Everybody has been told once, also after the case is closed, at the app's rate.
    async fn check(self, waves: usize, breaks: u32) {
        let Self { scene, case, .. } = &self;
        let at = self.server.addresses;
        scene.settle().await;
        let ledger = scene.check_issue(at, case, waves).await;
        let (batches, repeats) = (ledger.batches.len(), ledger.repeats);
        println!("{batches} batches, {repeats} repeats");
        let log = self.server.log();
        assert!(!log.contains("panicked"), "{log}");
        scene.close_and_check(at, case).await;
        check_rate_with_breaks(scene, 0, (RATE, BATCH_PEOPLE), breaks).await;
        self.consumer.stop().await;
        self.scene.house.remove().await;
    }
}

/// A broker may be restarted at any time: what was claimed is delivered, nobody is told twice, and
/// nobody has to touch Homeward or the app. The first time the app is quick; the second time its queue
/// is full when the broker stops.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_is_restarted_twice_under_a_lane() {
    let day = begun().await;
    day.under_way().await;
    day.broker.down().await;
    day.check_away().await;
    day.broker.up().await;

    day.full().await;
    day.broker.down().await;
    day.consumer.go_on();
    day.broker.up().await;
    day.check(3, 2).await;
}

/// The same of a broker that is killed: what it confirmed it still has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_is_killed_under_a_lane() {
    let day = begun().await;
    until("batches come", SOON, async || {
        (day.scene.inbox.len() > 0).then_some(())
    })
    .await;
    day.broker.write_down_its_queues().await;
    day.under_way().await;
    day.broker.kill().await;
    day.check_away().await;
    day.broker.up().await;

    day.full().await;
    day.broker.kill().await;
    day.consumer.go_on();
    day.broker.up().await;
    day.check(3, 2).await;
}
