//! The commands as somebody types them: what they print, and how they end.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::db::Kind;
use crate::house::{House, SOON, Server, signal, until};
use crate::on_both_databases;
use crate::people::People;
use crate::scene::Scene;

on_both_databases! {
    tail_shows_what_is_sent_and_consumes_nothing
    keys_are_made_listed_and_expired
    the_schema_is_made_once
}

/// Exit code, stdout and stderr.
fn ended(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (
        output.status.code().unwrap(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// A command that must fail with 1 and say this.
fn check_fails(mut command: Command, wanted: &str) {
    let (code, out, err) = ended(&command.output().unwrap());
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    assert!(
        err.starts_with("homeward: ") && err.contains(wanted),
        "wanted '{wanted}': {err}"
    );
    assert!(!err.contains("panicked"), "{err}");
}

/// A command typed wrongly: 2, and how it is typed.
fn check_usage(house: &House, arguments: &[&str]) {
    let (code, out, err) = ended(&house.run(arguments));
    assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}: {err}");
    assert!(err.contains("--help"), "{arguments:?}: {err}");
}

async fn tail_shows_what_is_sent_and_consumes_nothing(kind: Kind) {
    let house = House::new(kind, &[]).await;
    let scene = Scene::new(house, People::around(5_000, 5, 1), &[20_000]);
    let server = scene.house.server().await;
    let at = server.addresses;
    scene.register(at).await;

    let tail = |arguments: &[&str]| {
        let mut command = scene.house.command(arguments);
        command.env("HOMEWARD_GRPC_ADDR", at.grpc.to_string());
        command
    };
    let watching = || tail(&["tail", "--app", "app-0"]);
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut child = watching().stdout(file.reopen().unwrap()).spawn().unwrap();
    let shown = || std::fs::read_to_string(file.path()).unwrap();
    let test = json!({ "tokens": ["a-10"] });
    until("tail watches", SOON, async || {
        scene
            .house
            .post(at, &scene.apps[0], "/v1/apps/me/test-alert", &test)
            .await;
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        (!shown().is_empty()).then_some(())
    })
    .await;

    let case = scene.alert(at).await;
    let mut db = scene.house.connect().await;
    until("everything is in the app's queue", SOON, async || {
        let sent = db
            .number("SELECT count(*) FROM batches WHERE state = 'sent'")
            .await;
        let others = db
            .number("SELECT count(*) FROM batches WHERE state <> 'sent'")
            .await;
        let shards = db
            .number("SELECT count(*) FROM shards WHERE state = 'pending'")
            .await;
        (sent > 0 && others + shards == 0).then_some(())
    })
    .await;
    let consumer = scene.consumer(at, 0);
    scene.settle().await;
    let ledger = scene.check_issue(at, &case, 1).await;
    assert_eq!(ledger.repeats, 0);

    let issues = || -> Vec<String> {
        let issue = |line: &&str| line.contains("  issue r1  ");
        shown().lines().filter(issue).map(str::to_owned).collect()
    };
    let want = ledger
        .batches
        .values()
        .filter(|batch| batch.kind == "issue")
        .count();
    until("tail has shown it", SOON, async || {
        (issues().len() >= want).then_some(())
    })
    .await;
    signal("TERM", child.id());
    let status = until("tail ends", SOON, async || child.try_wait().unwrap()).await;
    assert_eq!(status.code(), Some(0));
    let mut ids = BTreeSet::new();
    for line in issues() {
        let id = line.split("  ").next().unwrap();
        let people = ledger.batches[id].people;
        let says = format!("{id}  issue r1  {people} people  ");
        assert!(
            line.starts_with(&says) && line.contains("Margaret Hall"),
            "{line}"
        );
        assert!(ids.insert(id.to_owned()), "shown twice: {line}");
    }
    assert_eq!(ids.len(), want);

    check_fails(
        tail(&["tail", "--app", "nobody"]),
        "there is no app 'nobody'",
    );
    drop((server, consumer));
    check_fails(watching(), "no server at http://127.0.0.1:");
    check_usage(&scene.house, &["tail"]);
    scene.house.remove().await;
}

async fn keys_are_made_listed_and_expired(kind: Kind) {
    let house = House::new(kind, &[]).await;
    let agency = house.admin(&["agency", "Coastguard", "--trusted", "--retention-days", "7"]);
    assert!(agency.starts_with("agency Coastguard ("), "{agency}");
    house.admin(&["app", "Transit", "--rate-per-s", "500", "--drills"]);
    let (one, two) = (
        house.admin(&["key", "app", "Transit"]),
        house.admin(&["key", "app", "Transit"]),
    );
    assert!(one.starts_with("hw_app_") && two.starts_with("hw_app_") && one != two);
    assert!(house.admin(&["key", "admin"]).starts_with("hw_admin_"));
    let listed = house.admin(&["keys"]);
    assert_eq!(listed.lines().count(), 3);
    assert!(
        !listed.contains(&one) && listed.contains("app Transit"),
        "{listed}"
    );

    let server = house.server().await;
    let status = async |key: &str| {
        let url = format!("http://{}/v1/apps/me", server.addresses.http);
        house
            .http
            .get(url)
            .bearer_auth(key)
            .send()
            .await
            .unwrap()
            .status()
            .as_u16()
    };
    assert_eq!((status(&one).await, status(&two).await), (200, 200));
    let id = listed.lines().next().unwrap().split_once("  ").unwrap().0;
    house.admin(&["expire-key", id]);
    assert_eq!(
        (status(&one).await, status(&two).await),
        (401, 200),
        "both are worked with"
    );
    drop(server);

    let admin = |arguments: &[&str]| house.command(&[&["admin"], arguments].concat());
    check_fails(
        admin(&["app", "Transit", "--rate-per-s", "5"]),
        "the name is taken",
    );
    check_fails(admin(&["app", "Zero", "--rate-per-s", "0"]), "rate_per_s");
    check_fails(
        admin(&["agency", "X", "--time-zone", "Mars/Base"]),
        "Europe/London",
    );
    check_fails(admin(&["key", "operator", "Nobody"]), "holder is not known");
    check_fails(admin(&["key", "app"]), "holder");
    check_fails(admin(&["expire-key", id]), "no such key that still works");
    for wrong in [
        &["admin"][..],
        &["admin", "app", "NoRate"],
        &["admin", "key", "king"],
        &["admin", "expire-key", "17"],
        &["admin", "throne"],
        &["serve", "--hold"],
        &["plan", "--category", "dementia"],
        &[],
    ] {
        check_usage(&house, wrong);
    }
    house.remove().await;
}

async fn the_schema_is_made_once(kind: Kind) {
    let house = House::new(kind, &[]).await;
    for _ in 0..2 {
        let (code, out, err) = ended(&house.run(&["migrate"]));
        assert_eq!(code, 0, "{err}");
        assert!(out.starts_with("the schema is up to date"), "{out}");
    }
    let mut db = house.connect().await;
    assert_eq!(db.number("SELECT count(*) FROM cases").await, 0);
    house.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn healthcheck_and_serve_say_what_is_wrong() {
    let house = House::new(Kind::Sqlite, &[]).await;
    let mut server = house.server().await;
    let with = |arguments: &[&str], server: &Server| {
        let mut command = house.command(arguments);
        command.env("HOMEWARD_ADMIN_ADDR", server.addresses.admin.to_string());
        command
    };
    let (code, out, err) = ended(&with(&["healthcheck"], &server).output().unwrap());
    assert_eq!(code, 0, "{err}");
    let said: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        said,
        json!({ "ready": true, "lanes_held": false, "oldest_untaken_batch_s": 0, "broker": null })
    );
    server.kill();
    check_fails(
        with(&["healthcheck"], &server),
        "no answer from http://127.0.0.1:",
    );

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = with(&["serve"], &server);
    command.env(
        "HOMEWARD_HTTP_ADDR",
        taken.local_addr().unwrap().to_string(),
    );
    let (code, _, err) = ended(&command.output().unwrap());
    assert_eq!(code, 1);
    assert!(
        err.contains("http_addr") && err.contains("choose another"),
        "{err}"
    );
    for (name, value, wanted) in [
        (
            "HOMEWARD_DATABASE_URL",
            "mysql://x",
            "postgres:// or sqlite://",
        ),
        (
            "HOMEWARD_DATABASE_URL",
            "postgres://nobody@127.0.0.1:1/x",
            "cannot open the database",
        ),
        ("HOMEWARD_DATABASE_ULR", "sqlite://x.db", "database_ulr"),
        (
            "HOMEWARD_DISPATCH__BATCH_PEOPLE",
            "501",
            "dispatch.batch_people is 501",
        ),
        ("HOMEWARD_HTTP_ADDR", "nowhere", "HTTP_ADDR"),
    ] {
        let mut command = with(&["migrate"], &server);
        command.env(name, value);
        check_fails(command, wanted);
    }
    let mut command = house.command(&["migrate"]);
    command.args(["--config", "missing.toml"]);
    assert_ne!(
        command.output().unwrap().status.code(),
        Some(0),
        "named twice, or missing"
    );
}

#[tokio::test]
async fn plan_answers_in_three_forms() {
    let house = House::new(Kind::Sqlite, &[]).await;
    let plan = |more: &[&str]| {
        let usual = ["plan", "--category", "dementia", "--environment", "urban"];
        let place = ["--at", "57.1497,-2.0943", "--elapsed", "2h"];
        ended(&house.run(&[&usual[..], &place, more].concat()))
    };
    let (code, text, _) = plan(&[]);
    assert_eq!(code, 0);
    assert!(
        text.starts_with("within ") && text.contains("wave 3"),
        "{text}"
    );

    let (code, json, _) = plan(&["--format", "json", "--accuracy", "100m", "--lead", "15m"]);
    assert_eq!(code, 0);
    let json: Value = serde_json::from_str(&json).unwrap();
    for key in ["radii_km", "resolution", "waves", "rest", "assumptions"] {
        assert!(json.get(key).is_some(), "{key}");
    }
    let radius = |name: &str| json["radii_km"][name].as_f64().unwrap();
    assert!(0.0 < radius("r25") && radius("r25") < radius("r50") && radius("r75") < radius("r95"));
    let waves = json["waves"].as_array().unwrap();
    let mass: f64 = waves
        .iter()
        .map(|wave| wave["mass"].as_f64().unwrap())
        .sum();
    assert!((0.95..1.0).contains(&mass), "{mass}");
    assert!(
        waves[0]["cells"][0].is_string(),
        "cells are text: JavaScript rounds such numbers"
    );

    let (code, geojson, _) = plan(&["--format", "geojson"]);
    assert_eq!(code, 0);
    let geojson: Value = serde_json::from_str(&geojson).unwrap();
    assert_eq!(geojson["type"], "FeatureCollection");

    let (code, _, err) = plan(&["--lead", "soon"]);
    assert_eq!(code, 2, "{err}");
}

/// Takes no setting, no key and no other server.
#[tokio::test]
async fn the_demo_tells_and_recalls() {
    let house = House::new(Kind::Sqlite, &[]).await;
    let mut command = house.command(&["demo", "--once"]);
    command.env_remove("HOMEWARD_DATABASE_URL");
    let (code, out, err) = ended(&command.output().unwrap());
    assert_eq!(code, 0, "{out}\n{err}");
    let last: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    let figure = |name: &str| {
        last[name]
            .as_i64()
            .unwrap_or_else(|| panic!("{name}: {last}"))
    };
    assert!(
        figure("told") > 0 && figure("batches") > 0 && figure("first_push_ms") > 0,
        "{last}"
    );
    assert_eq!(figure("told"), figure("recalled"), "{last}");
    assert!(last.get("not_told").is_some(), "{last}");
    println!("{last}");
}
