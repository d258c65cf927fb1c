//! A broker that takes nothing for now: its memory alarm is raised.

use std::time::Duration;

use crate::broker::Broker;
use crate::closing::check_closed;
use crate::db::Kind;
use crate::house::{AMQP_URL, BATCH_PEOPLE, House, SOON, Server, until};
use crate::people::{CENTRE, People};
use crate::rate::check_rate;
use crate::scene::Scene;

const RATE: u32 = 500;
/// How long the alarm stays: longer than the broker may take to answer while it does not block.
const RAISED: Duration = Duration::from_secs(7);

/// How long a server may take to stop: well within `shutdown_deadline_s`.
const STOPPED: Duration = Duration::from_secs(10);

/// "Broker blocked: cases are still taken and batches wait; lanes resume by themselves." A wave is to go
/// out while the alarm is raised. One case is closed meanwhile and another filed: the recall goes to just those
/// who had the issue, after it, and the other case's people are all told once. A server that is stopped
/// meanwhile stops.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_case_is_closed_and_another_filed_while_the_broker_is_full() {
    let broker = Broker::start().await;
    let house = House::new(Kind::Postgres, &[(AMQP_URL, &broker.host.url)]).await;
    let scene = Scene::new(house, People::around(12_000, 12, 1), &[RATE]);
    let mut server = scene.house.server().await;
    let at = server.addresses;
    scene.register(at).await;
    let consumer = scene.consumer(at, 0);
    let one = scene.alert(at).await;
    until("batches come", SOON, async || {
        (scene.inbox.len() > 5).then_some(())
    })
    .await;

    fill(&broker, &scene, &server).await;
    let before = scene.inbox.len();
    let raised = tokio::time::sleep(RAISED);
    scene.until_fanned_out().await;
    let closed = scene.close(at, &one).await;
    assert!(
        closed["recall"]["withdrawn"].as_i64().unwrap() > 0,
        "closed too late to show anything: {closed}"
    );
    let two = scene.alert_of(at, "Bob Gray", CENTRE).await;
    raised.await;
    let came = scene.inbox.len() - before;
    assert!(
        came <= 1 + usize::try_from(RATE / BATCH_PEOPLE).unwrap(),
        "it was not full: {came}"
    );
    assert!(
        !server.log().contains("does not answer, connecting anew"),
        "given up"
    );
    broker.alarm(false).await;

    let recalled = check_closed(&scene, &one).await;
    let ledger = scene.inbox.ledger();
    assert_eq!(
        ledger.told(&one.alert, "issue"),
        recalled,
        "recalled and not told"
    );
    scene.check_issue(at, &two, 1).await;
    assert_eq!(
        ledger.repeats, 0,
        "nothing was lost, so nothing comes twice"
    );

    // Stopping does not wait for a broker that blocks.
    fill(&broker, &scene, &server).await;
    server.terminate();
    let status = server.ended(STOPPED).await;
    assert_eq!(status.code(), Some(0), "{}", server.log());
    broker.alarm(false).await;
    server.start(&scene.house).await;
    scene.settle().await;
    scene.check_issue(at, &two, 2).await;
    check_rate(&scene, 0, RATE, BATCH_PEOPLE).await;
    consumer.stop().await;
    scene.house.remove().await;
}

/// Raises the alarm, and has the next wave go out under it.
async fn fill(broker: &Broker, scene: &Scene, server: &Server) {
    broker.alarm(true).await;
    assert!(scene.next_wave().await);
    until("the broker blocks the server", SOON, async || {
        let (_, ready) = server.ready(&scene.house).await;
        (ready["broker"] == "away").then_some(())
    })
    .await;
}
