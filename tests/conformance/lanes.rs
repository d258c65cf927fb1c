//! What leaves the house and how fast: pause, hold, rate, urgency.

use std::time::{Duration, Instant};

use homeward::alert::proto::v1::Kind;
use homeward::model::Actor;
use homeward::store::lanes;
use jiff::Timestamp;
use serde_json::json;

use crate::common::{
    House, Inbox, Person, Rounds, Stream, cell_at, dispatch, filing, settled, text, tokens_of,
    until,
};

const LAT: f64 = 57.1497;
const LON: f64 = -2.0943;

conformance! {
    a_paused_case_stands_still_and_goes_on,
    what_an_operator_paused_no_agency_resumes,
    what_was_decided_by_day_is_not_sent_at_night,
    all_lanes_are_held_with_one_act,
    a_server_can_start_held,
    an_apps_rate_is_never_exceeded,
    the_more_urgent_overtakes_and_nothing_starves,
    a_long_backlog_goes_out_whole_and_once,
}

with_rabbitmq! {
    a_paused_case_stands_still_and_goes_on,
    what_was_decided_by_day_is_not_sent_at_night,
    all_lanes_are_held_with_one_act,
    an_apps_rate_is_never_exceeded,
    the_more_urgent_overtakes_and_nothing_starves,
    a_long_backlog_goes_out_whole_and_once,
}

async fn a_paused_case_stands_still_and_goes_on(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let app = house.app("Nearby", 100).await;
    house.serve(&[("dispatch.batch_people", "5")]).await;
    let now = house.now().await;
    app.register(&Person::many("p", 300, cell_at(LAT, LON), now))
        .await;
    app.register(&Person::many("q", 5, cell_at(48.0, 11.0), now))
        .await;
    // What is not acknowledged keeps the queue full, so most of it waits however long a pause takes.
    let mut stream = Stream::open(&app, 3).await;
    let case = agency.file(&filing(now, LAT, LON)).await;
    let alert = text(&operator.verify(&case).await, "/alert/id").to_owned();
    for _ in 0..3 {
        stream.next().await;
    }
    let second_due = async || -> Timestamp {
        let waves = dispatch(&operator, &case).await["waves"].clone();
        text(&waves, "/1/due_at").parse().unwrap()
    };
    let due = second_due().await;

    let paused = agency.step(&case, "pause").await.ok();
    assert_eq!(text(&paused, "/state"), "paused");
    let sent = format!(
        "SELECT count(*) FROM batches WHERE sending_at IS NOT NULL AND alert_id = {}",
        house.database().id(&alert)
    );
    let at_pause = house.database().number(&sent).await;
    drop(stream);
    let inbox = Inbox::open(&app).await;
    // Somebody else's case goes out meanwhile, past everything that waits.
    let other = agency.file(&filing(now, 48.0, 11.0)).await;
    operator.verify(&other).await;
    settled(&operator, &other).await;
    assert_eq!(
        house.database().number(&sent).await,
        at_pause,
        "nothing of the paused case"
    );
    assert!(at_pause < 60, "something must have been left");
    agency.step(&case, "pause").await.refused(409);
    assert!(
        inbox.told(&alert, Kind::Recall).is_empty(),
        "a pause recalls nothing"
    );

    let paused_at: Timestamp = text(&paused, "/paused_at").parse().unwrap();
    let before = house.now().await.duration_since(paused_at);
    agency.step(&case, "resume").await.ok();
    let moved = second_due().await.duration_since(due);
    let after = house.now().await.duration_since(paused_at);
    assert!(before <= moved && moved <= after, "{moved:?}");
    let rest = settled(&operator, &case).await;
    assert_eq!(Rounds::of(&rest).told(), 300);
    assert_eq!(inbox.once(&alert, Kind::Issue).len(), 300);
}

async fn what_an_operator_paused_no_agency_resumes(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    house.serve(&[]).await;
    let case = agency.file(&filing(house.now().await, LAT, LON)).await;
    operator.verify(&case).await;
    operator.step(&case, "pause").await.ok();
    agency.step(&case, "resume").await.refused(403);
    operator.step(&case, "resume").await.ok();
    agency.step(&case, "pause").await.ok();
    agency.step(&case, "resume").await.ok();
    operator.step(&case, "pause").await.ok();
    // Recalling it is always the agency's own.
    agency.close(&case).await;
}

async fn what_was_decided_by_day_is_not_sent_at_night(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let app = house.app("Nearby", 100_000).await;
    let night = [
        ("quiet_hours.from", "\"00:00:00\""),
        ("quiet_hours.to", "\"23:59:59.999999999\""),
    ];
    house.serve(&[]).await;
    operator.post("/v1/lanes/hold", &json!({})).await.ok();
    let now = house.now().await;
    app.register(&Person::many("p", 5, cell_at(LAT, LON), now))
        .await;
    let mut alerts = Vec::new();
    for urgency in ["normal", "critical"] {
        let case = agency.file(&filing(now, LAT, LON)).await;
        let verified = operator
            .verify_with(&case, json!({ "urgency": urgency }))
            .await
            .ok();
        let alert = text(&verified, "/alert/id").to_owned();
        until("fan-out", async || {
            let rounds = Rounds::of(&dispatch(&operator, &case).await);
            (rounds.told() == 5).then_some(())
        })
        .await;
        alerts.push((case, alert));
    }
    house.serve(&night).await;
    let inbox = Inbox::open(&app).await;
    operator.post("/v1/lanes/release", &json!({})).await.ok();
    inbox.people(&alerts[1].1, Kind::Issue, 5).await;
    let waiting = dispatch(&operator, &alerts[0].0).await;
    assert_eq!(text(&waiting, "/batches/0/state"), "pending");
    assert_eq!(inbox.all().len(), 1);

    drop(inbox);
    house.serve(&[]).await;
    let inbox = Inbox::open(&app).await;
    settled(&operator, &alerts[0].0).await;
    assert_eq!(inbox.once(&alerts[0].1, Kind::Issue).len(), 5);
}

async fn all_lanes_are_held_with_one_act(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let apps = [
        house.app("One", 100_000).await,
        house.app("Two", 100_000).await,
    ];
    house.serve(&[]).await;
    let now = house.now().await;
    let mut inboxes = Vec::new();
    for app in &apps {
        app.register(&Person::many("p", 5, cell_at(LAT, LON), now))
            .await;
        inboxes.push(Inbox::open(app).await);
    }
    for caller in [&agency, &apps[0]] {
        caller.post("/v1/lanes/hold", &json!({})).await.refused(403);
    }
    operator.post("/v1/lanes/hold", &json!({})).await.ok();
    assert_eq!(house.probe("/readyz").await.ok()["lanes_held"], true);
    let case = agency.file(&filing(now, LAT, LON)).await;
    operator.verify(&case).await;
    let batches = until("fan-out", async || {
        let batches = dispatch(&operator, &case).await["batches"].clone();
        (batches.as_array().unwrap().len() == 2).then_some(batches)
    })
    .await;
    assert!(
        batches
            .as_array()
            .unwrap()
            .iter()
            .all(|batch| batch["state"] == "pending")
    );
    // The lanes have turned many times by now.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let after = dispatch(&operator, &case).await["batches"].clone();
    assert_eq!(after, batches);

    operator.post("/v1/lanes/release", &json!({})).await.ok();
    settled(&operator, &case).await;
    assert!(inboxes.iter().all(|inbox| inbox.all().len() == 1));
    assert_eq!(house.probe("/readyz").await.ok()["lanes_held"], false);
}

async fn a_server_can_start_held(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let app = house.app("Nearby", 100_000).await;
    house.serve(&[]).await;
    let now = house.now().await;
    app.register(&Person::many("p", 5, cell_at(LAT, LON), now))
        .await;
    let mut stream = Stream::open(&app, 1).await;
    let case = agency.file(&filing(now, LAT, LON)).await;
    operator.verify(&case).await;
    let first = stream.next().await;
    house.stop().await;
    // As `homeward serve --held` does.
    let (mut tx, now) = house.begin().await;
    lanes::set_hold(&mut tx, true, &Actor::Homeward, now)
        .await
        .unwrap();
    tx.commit().await.unwrap();

    house.serve(&[]).await;
    let inbox = Inbox::open(&app).await;
    until("the lane to take up what was lost", async || {
        let batches = dispatch(&operator, &case).await["batches"].clone();
        (batches[0]["state"] == "pending").then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(inbox.all().is_empty());
    operator.post("/v1/lanes/release", &json!({})).await.ok();
    settled(&operator, &case).await;
    assert_eq!(inbox.all(), [first]);
}

async fn an_apps_rate_is_never_exceeded(house: House) {
    const RATE: usize = 400;
    const BATCH: usize = 20;
    // What may come at once after a quiet time, and how much may be held up on its way here.
    const BURST: usize = RATE;
    const HELD_UP: usize = RATE / 2;
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let app = house.app("Nearby", RATE as i64).await;
    house.serve(&[("dispatch.batch_people", "20")]).await;
    let now = house.now().await;
    let people = 1_600;
    app.register(&Person::many("p", people, cell_at(LAT, LON), now))
        .await;
    let mut stream = Stream::open(&app, 100).await;
    let case = agency.file(&filing(now, LAT, LON)).await;
    operator.verify(&case).await;
    let (mut arrivals, mut people_so_far) = (Vec::new(), 0);
    while people_so_far < people {
        let batch = stream.next().await;
        people_so_far += batch.tokens.len();
        arrivals.push((Instant::now(), people_so_far));
        stream.ack(&batch).await;
    }
    for (n, (start, before)) in arrivals.iter().enumerate() {
        for (end, until) in &arrivals[n..] {
            let seconds = end.duration_since(*start).as_secs_f64();
            let most = (BURST + HELD_UP + BATCH) as f64 + RATE as f64 * seconds;
            let then = until + BATCH - before;
            assert!(then as f64 <= most, "{then} people within {seconds:.3} s");
        }
    }
    let took = arrivals.last().unwrap().0.duration_since(arrivals[0].0);
    let least = Duration::from_secs_f64((people - BURST - HELD_UP) as f64 / RATE as f64);
    assert!(took >= least, "{took:?} is less than {least:?}");
    assert!(
        took < least * 4,
        "{took:?}: the lane must keep near its rate, too"
    );
}

async fn the_more_urgent_overtakes_and_nothing_starves(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let app = house.app("Nearby", 200).await;
    house.serve(&[("dispatch.batch_people", "10")]).await;
    let now = house.now().await;
    app.register(&Person::many("many", 900, cell_at(LAT, LON), now))
        .await;
    app.register(&Person::many("few", 200, cell_at(48.0, 11.0), now))
        .await;
    let usual = agency.file(&filing(now, LAT, LON)).await;
    let urgent = agency.file(&filing(now, 48.0, 11.0)).await;
    let mut stream = Stream::open(&app, 10).await;
    operator.verify(&usual).await;
    // Until the urgent ones are there the queue, two seconds of the rate, and what the stream holds are all that
    // goes out, however long that takes.
    let mut batch = stream.next().await;
    operator
        .verify_with(&urgent, json!({ "urgency": "critical" }))
        .await
        .ok();
    until("the urgent case is fanned out", async || {
        let urgent = dispatch(&operator, &urgent).await;
        (Rounds::of(&urgent).told() == 200).then_some(())
    })
    .await;
    let mut order = Vec::new();
    while order.iter().filter(|urgent| **urgent).count() < 20 {
        stream.ack(&batch).await;
        order.push(tokens_of(&batch).first().unwrap().starts_with("few"));
        batch = stream.next().await;
    }
    let usual_before = order.len() - 20;
    assert!(
        usual_before < 60,
        "{usual_before} of 90 usual batches came before the last urgent one"
    );
    let first = order.iter().position(|urgent| *urgent).unwrap();
    let between = order[first..].iter().filter(|urgent| !**urgent).count();
    assert!(
        (1..=5).contains(&between),
        "a tenth is kept for the lowest: {between}"
    );
}

/// More batches than are claimed together, or looked at together.
async fn a_long_backlog_goes_out_whole_and_once(house: House) {
    const PEOPLE: usize = 1_500;
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let app = house.app("Nearby", 100_000).await;
    house.serve(&[("dispatch.batch_people", "1")]).await;
    let now = house.now().await;
    app.register(&Person::many("p", PEOPLE, cell_at(LAT, LON), now))
        .await;
    operator.post("/v1/lanes/hold", &json!({})).await.ok();
    let case = agency.file(&filing(now, LAT, LON)).await;
    let verified = operator.verify(&case).await;
    let alert = text(&verified, "/alert/id");
    until("the backlog", async || {
        let batches = dispatch(&operator, &case).await["batches"].clone();
        (batches[0]["batches"] == PEOPLE).then_some(())
    })
    .await;
    let inbox = Inbox::open(&app).await;
    operator.post("/v1/lanes/release", &json!({})).await.ok();
    settled(&operator, &case).await;
    assert_eq!(inbox.once(alert, Kind::Issue).len(), PEOPLE);
}
