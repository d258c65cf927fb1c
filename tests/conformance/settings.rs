//! Which servers may do what with and without a broker, and a house whose broker is away.

use homeward::alert::proto::v1::Kind;
use homeward::config::Config;
use serde_json::{Value, json};

use crate::common::{
    House, Inbox, Person, Rounds, cell_at, dispatch, filing, settled, text, until,
};

const LAT: f64 = 57.1497;
const LON: f64 = -2.0943;
/// Nobody listens there.
const NOWHERE: &str = "\"amqp://u:secret@127.0.0.1:1/x\"";

conformance! {
    without_a_broker_the_probe_names_none,
}

with_rabbitmq! {
    a_house_whose_broker_is_away_keeps_everything,
}

fn load(lines: &str) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("homeward.toml");
    std::fs::write(&file, lines).unwrap();
    Config::load(Some(&file)).map_err(|error| error.to_string())
}

/// Without a broker the queues between lanes and readers live in one process.
#[test]
fn lanes_and_readers_part_only_with_a_broker() {
    for (roles, alone) in [
        (r#"["api", "fanout", "lanes", "readers"]"#, true),
        (r#"["lanes", "readers"]"#, true),
        (r#"["api"]"#, true),
        (r#"["api", "fanout", "lanes"]"#, false),
        (r#"["readers"]"#, false),
    ] {
        let lines = format!("roles = {roles}\n");
        let refused = load(&lines).err();
        assert_eq!(refused.is_none(), alone, "{roles}: {refused:?}");
        assert!(refused.is_none_or(|why| why.contains("set amqp_url")));
        let with_broker = load(&format!("{lines}amqp_url = {NOWHERE}\n"));
        assert_eq!(with_broker.err(), None, "{roles}");
    }
    assert!(load("roles = [\"lane\"]").unwrap_err().contains("lane"));
}

#[test]
fn a_brokers_address_is_checked_and_its_password_not_shown() {
    for wrong in [
        "http://u:secret@host",
        "127.0.0.1:5672",
        "amqp://u:secret@host:port/v",
        "",
    ] {
        let why = load(&format!("amqp_url = \"{wrong}\"")).unwrap_err();
        assert!(
            why.contains("amqp_url") && why.contains("amqp://USER"),
            "{why}"
        );
        assert!(!why.contains("secret"), "{why}");
    }
}

async fn without_a_broker_the_probe_names_none(house: House) {
    house.serve(&[]).await;
    assert_eq!(house.probe("/readyz").await.ok()["broker"], Value::Null);
}

/// It takes cases and decides whom to tell as ever; what is to be sent waits until the broker is there.
async fn a_house_whose_broker_is_away_keeps_everything(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let app = house.app("Nearby", 100_000).await;
    house
        .serve(&[("amqp_url", NOWHERE), ("dispatch.batch_people", "5")])
        .await;
    assert_eq!(house.probe("/readyz").await.ok()["broker"], "away");
    let now = house.now().await;
    app.register(&Person::many("p", 20, cell_at(LAT, LON), now))
        .await;
    let case = agency.file(&filing(now, LAT, LON)).await;
    let alert = text(&operator.verify(&case).await, "/alert/id").to_owned();
    let closed = agency.file(&filing(now, LAT, LON)).await;
    operator.verify(&closed).await;
    for case in [&case, &closed] {
        until("fan-out", async || {
            (Rounds::of(&dispatch(&operator, case).await).told() == 20).then_some(())
        })
        .await;
    }
    let recall = agency.close(&closed).await["recall"].clone();
    assert_eq!(
        recall,
        json!({ "withdrawn": 4, "recalls": 0 }),
        "nobody was told"
    );
    let inbox = Inbox::open(&app).await;
    assert_eq!(
        text(&dispatch(&operator, &case).await, "/batches/0/state"),
        "pending"
    );
    drop(inbox);

    house.serve(&[]).await;
    until("the broker to be there", async || {
        (house.probe("/readyz").await.ok()["broker"] == "up").then_some(())
    })
    .await;
    let inbox = Inbox::open(&app).await;
    settled(&operator, &case).await;
    assert_eq!(inbox.once(&alert, Kind::Issue).len(), 20);
    assert_eq!(inbox.all().len(), 4, "nothing of the closed case");
}
