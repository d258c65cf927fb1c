//! A connection to the broker on which nothing is heard any more.

use std::net::SocketAddr;

use reqwest::Url;

use crate::broker::Vhost;
use crate::consumer::Consumer;
use crate::db::Kind;
use crate::house::{AMQP_URL, BATCH_PEOPLE, House, SOON, Server, until};
use crate::people::People;
use crate::proxy::Proxy;
use crate::rate::check_rate_with_breaks;
use crate::scene::{Scene, app_name};

const RATE: u32 = 1_500;

/// A server's connections to the broker; each silence is noticed on at least one of them.
const CONNECTIONS: [&str; 3] = [
    "homeward publishing",
    "homeward consuming",
    "homeward asking",
];

/// A connection that is silent is given up and made anew by itself, whether the old one dies or goes on
/// later with what was said meanwhile. A batch of which nobody said that it had arrived comes again, the same
/// as before, and everybody is told once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_connection_is_made_anew() {
    let host = Vhost::fresh().await;
    let mut url: Url = host.url.parse().unwrap();
    let broker = SocketAddr::from(([127, 0, 0, 1], url.port().unwrap()));
    let proxy = Proxy::to(broker).await;
    url.set_port(Some(proxy.address.port())).unwrap();
    let house = House::new(Kind::Postgres, &[(AMQP_URL, url.as_str())]).await;
    let scene = Scene::new(house, People::around(12_000, 12, 1), &[RATE]);
    let server = scene.house.server().await;
    let at = server.addresses;
    scene.register(at).await;
    // The app has a better way to the broker.
    let who = (app_name(0), scene.apps[0].as_str());
    let consumer = Consumer::over_amqp_with_receipts(&host.url, (&who.0, who.1), at, &scene.inbox);
    let case = scene.alert(at).await;

    silent_in_a_wave(&scene, &server, || proxy.fall_silent()).await;
    proxy.cut();
    proxy.go_on();
    scene.settle().await;
    scene.check_issue(at, &case, 2).await;

    // The app tells nobody what it has taken, and the broker's word for it is lost.
    let fall_silent = || {
        consumer.pause();
        proxy.keep_back_the_confirm();
    };
    silent_in_a_wave(&scene, &server, fall_silent).await;
    let mut db = scene.house.connect().await;
    let unsure = "SELECT count(*) FROM batches
        WHERE state = 'sending' OR (state = 'pending' AND sending_at IS NOT NULL)";
    assert!(db.number(unsure).await > 0, "nobody speaks of any batch");
    proxy.go_on();
    until("it has gone out again", SOON, async || {
        (db.number(unsure).await == 0).then_some(())
    })
    .await;
    consumer.go_on();
    scene.settle().await;
    let ledger = scene.check_issue(at, &case, 3).await;
    let (batches, repeats) = (ledger.batches.len(), ledger.repeats);
    println!("{batches} batches, {repeats} repeats");
    assert!(
        repeats > 0,
        "a batch that nobody spoke of did not come again"
    );
    for name in CONNECTIONS {
        let times = given_up_of(&server, name);
        assert!(times <= 2, "{name} was given up while it worked: {times}");
    }
    scene.close_and_check(at, &case).await;
    check_rate_with_breaks(&scene, 0, (RATE, BATCH_PEOPLE), 2).await;
    consumer.stop().await;
    scene.house.remove().await;
    host.remove().await;
}

/// The connection falls silent in the middle of another wave, and the server gives it up.
async fn silent_in_a_wave(scene: &Scene, server: &Server, fall_silent: impl FnOnce()) {
    let before = scene.inbox.len();
    assert!(scene.next_wave().await);
    until("batches come", SOON, async || {
        (scene.inbox.len() > before + 3).then_some(())
    })
    .await;
    let until_now = given_up(server);
    fall_silent();
    until("the silent connection is given up", SOON, async || {
        (given_up(server) > until_now).then_some(())
    })
    .await;
}

/// How often a server gave up a connection.
fn given_up(server: &Server) -> usize {
    CONNECTIONS
        .map(|name| given_up_of(server, name))
        .iter()
        .sum()
}

fn given_up_of(server: &Server, name: &str) -> usize {
    let log = server.log();
    let lines = log.lines().filter(|line| line.contains("why=\"given up\""));
    lines.filter(|line| line.contains(name)).count()
}
