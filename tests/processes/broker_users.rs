//! Apps' credentials on the broker, and the way to it.

use std::process::Command;

use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions,
    QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};
use reqwest::Url;

use crate::broker::Broker;
use crate::consumer::Consumer;
use crate::db::Kind;
use crate::house::{AMQP_URL, House, SOON, until};
use crate::people::People;
use crate::scene::{Scene, app_name, queue_of};

const MANAGEMENT_URL: &str = "HOMEWARD_AMQP_MANAGEMENT_URL";

/// What `homeward admin amqp-user add` printed: the user's URL of the broker, and its name.
fn printed(broker: &Broker, said: &str) -> (String, String) {
    let word = |name: &str| {
        let mut lines = said.lines();
        let line = lines.find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().to_owned()
    };
    as_user(broker, &word("user "), &word("password "))
}

fn as_user(broker: &Broker, name: &str, password: &str) -> (String, String) {
    let mut url: Url = broker.host.url.parse().unwrap();
    url.set_username(name).unwrap();
    url.set_password(Some(password)).unwrap();
    (url.to_string(), name.to_owned())
}

async fn connect(url: &str) -> lapin::Result<Connection> {
    Connection::connect(url, ConnectionProperties::default()).await
}

async fn channel(connection: &Connection) -> Channel {
    connection.create_channel().await.unwrap()
}

/// Runs until the broker refuses, as it must; a refusal closes the channel.
fn check_refused<T>(what: &str, answer: Result<T, lapin::Error>) {
    let error = answer.err().map(|error| error.to_string());
    let refused = error
        .as_ref()
        .is_some_and(|error| error.contains("ACCESS_REFUSED"));
    assert!(refused, "{what}: {error:?}");
}

async fn may_read(connection: &Connection, queue: &str) -> Result<(), lapin::Error> {
    let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
    let channel = channel(connection).await;
    let consuming = channel.basic_consume(queue.into(), "".into(), options, none);
    consuming.await.map(drop)
}

/// The user may take its app's batches, and nothing else.
async fn check_rights(url: &str) {
    let connection = connect(url).await.unwrap();
    may_read(&connection, &queue_of(0)).await.unwrap();
    for other in [&queue_of(1), "homeward.dead.v1", "homeward.kept.app-0.v1"] {
        check_refused(other, may_read(&connection, other).await);
    }
    for (exchange, key) in [("homeward.alerts", "app-0.issue"), ("", &queue_of(0))] {
        let channel = channel(&connection).await;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .unwrap();
        let publishing = async {
            let sent = channel.basic_publish(
                exchange.into(),
                key.into(),
                BasicPublishOptions::default(),
                b"false alarm",
                BasicProperties::default(),
            );
            sent.await?.await
        };
        check_refused("publishing", publishing.await);
    }
    let (queue, none) = (QueueDeclareOptions::durable(), FieldTable::default());
    let declaring = channel(&connection).await;
    let declared = declaring.queue_declare("mine".into(), queue, none.clone());
    check_refused("declaring a queue", declared.await);
    let declaring = channel(&connection).await;
    let (topic, options) = (ExchangeKind::Topic, ExchangeDeclareOptions::default());
    let declared = declaring.exchange_declare("mine".into(), topic, options, none);
    check_refused("declaring an exchange", declared.await);
}

/// An app's user can take that app's batches and do nothing else; removing it ends its connection.
/// Where Homeward cannot reach the management API, the commands that it prints do the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_apps_user_may_read_its_queue_and_nothing_else() {
    let broker = Broker::start().await;
    let settings = [
        (AMQP_URL, broker.host.url.as_str()),
        (MANAGEMENT_URL, &broker.host.management_url),
    ];
    let house = House::new(Kind::Postgres, &settings).await;
    let scene = Scene::new(house, People::around(4_000, 6, 2), &[20_000, 20_000]);
    let server = scene.house.server().await;
    let at = server.addresses;
    scene.register(at).await;
    let admin = |arguments: &[&str]| scene.house.admin(&[&["amqp-user"], arguments].concat());

    let (one, name) = printed(&broker, &admin(&["add", "app-0"]));
    let (_, second) = printed(&broker, &admin(&["add", "app-0"]));
    let (two, _) = printed(&broker, &admin(&["add", "app-1"]));
    let listed = admin(&["list"]);
    assert_eq!(listed.lines().count(), 3, "{listed}");
    assert!(listed.contains(&name) && listed.contains(&second) && name != second);

    let mut command = scene.house.command(&["admin", "amqp-user", "add", "app-0"]);
    let output = command.env_remove(MANAGEMENT_URL).output().unwrap();
    let commands = String::from_utf8(output.stdout).unwrap();
    let by_hand = by_commands(&broker, &commands).await;

    let queue = queue_of(0);
    let connection = broker.host.connect().await;
    until("the apps' queues are there", SOON, async || {
        let passive = QueueDeclareOptions::durable().passive();
        let channel = channel(&connection).await;
        let asking = channel.queue_declare(queue.as_str().into(), passive, FieldTable::default());
        asking.await.ok()
    })
    .await;
    check_rights(&one).await;
    check_rights(&by_hand).await;

    let start = |url: &str, app: usize| {
        let who = (app_name(app), scene.apps[app].as_str());
        Consumer::over_amqp_with_receipts(url, (&who.0, who.1), at, &scene.inbox)
    };
    let consumers = [start(&one, 0), start(&two, 1)];
    let case = scene.alert(at).await;
    scene.settle().await;
    scene.check_issue(at, &case, 1).await;

    let mine = connect(&one).await.unwrap();
    assert_eq!(admin(&["remove", &name]), format!("user {name} is gone"));
    until("its connections end", SOON, async || {
        (!mine.status().connected()).then_some(())
    })
    .await;
    assert!(connect(&one).await.is_err(), "let in again");
    assert!(!admin(&["list"]).contains(&name));
    let output = scene
        .house
        .run(&["admin", "amqp-user", "remove", "homeward"]);
    assert_eq!(output.status.code(), Some(1), "that is no app's user");

    // Rotated: the app goes on with another user.
    let [gone, other] = consumers;
    drop(gone);
    let next = start(&by_hand, 0);
    scene.close_and_check(at, &case).await;
    for consumer in [next, other] {
        consumer.stop().await;
    }
    scene.house.remove().await;
}

/// Runs the commands that were printed on the broker; gives the user's URL.
async fn by_commands(broker: &Broker, commands: &str) -> String {
    let mut user = None;
    // `add_user` asks for it.
    let password = commands
        .lines()
        .find_map(|line| line.strip_prefix("# password: "));
    let password = password.expect("the password");
    for line in commands.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line
            .split(' ')
            .map(|word| word.trim_matches('\''))
            .collect();
        assert_eq!(words[0], "rabbitmqctl", "{line}");
        if words[1] == "add_user" {
            broker.ctl(&[words[1], words[2], password]).await;
            user = Some(as_user(broker, words[2], password).0);
        } else {
            broker.ctl(&words[1..]).await;
        }
    }
    user.unwrap()
}

/// `amqps://` with a certificate of a private authority, which `SSL_CERT_FILE` names; without it there is
/// no connection, and the log says why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_to_the_broker_is_checked() {
    const CA_FILE: &str = "SSL_CERT_FILE";
    let host = crate::broker::Vhost::fresh().await;
    let (tls_url, ca) = host.tls();
    let house = House::new(Kind::Postgres, &[(AMQP_URL, &tls_url)]).await;
    let scene = Scene::new(house, People::around(2_000, 6, 1), &[20_000]);
    let folder = tempfile::tempdir().unwrap();
    let wrong = folder.path().join("wrong.pem");
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt"])
        .args([
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            "/CN=Another CA",
        ])
        .arg("-keyout")
        .arg(folder.path().join("key.pem"))
        .arg("-out")
        .arg(&wrong)
        .output();
    assert!(made.unwrap().status.success());

    let wrong = wrong.to_str().unwrap();
    let mut server = scene.house.server_to_be(&[(CA_FILE, wrong)]);
    server.start(&scene.house).await;
    until("the wrong authority is refused", SOON, async || {
        let log = server.log();
        let said = log
            .lines()
            .find(|line| line.contains("no connection to the broker"))?;
        assert!(
            said.contains("certificate") || said.contains("UnknownIssuer"),
            "{said}"
        );
        Some(())
    })
    .await;
    let (_, ready) = server.ready(&scene.house).await;
    assert_eq!(ready["broker"], "away");
    drop(server);

    let mut server = scene.house.server_to_be(&[(CA_FILE, &ca)]);
    server.start(&scene.house).await;
    let at = server.addresses;
    scene.register(at).await;
    let who = (app_name(0), scene.apps[0].as_str());
    let consumer = Consumer::over_amqp_with_receipts(&host.url, (&who.0, who.1), at, &scene.inbox);
    let case = scene.alert(at).await;
    scene.settle().await;
    scene.check_issue(at, &case, 1).await;
    scene.close_and_check(at, &case).await;
    consumer.stop().await;
    scene.house.remove().await;
    host.remove().await;
}
