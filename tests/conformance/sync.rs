//! Keeping the registry in step: good lines are taken, bad ones named, order does not matter.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use homeward::alert::proto::v1::Kind;
use homeward::audience::sync::CHUNK_LINES;
use jiff::SignedDuration;
use reqwest::Method;
use serde_json::{Value, json};

use crate::common::{
    Answer, Caller, House, Inbox, Person, Rounds, ago, cell_at, disk, filing, number, settled, text,
};

const LAT: f64 = 57.1497;
const LON: f64 = -2.0943;

conformance! {
    bad_lines_are_named_and_good_ones_taken,
    all_or_none,
    lines_come_in_any_form_of_a_stream,
    order_and_repeats_do_not_matter,
    what_is_said_twice_far_apart_in_an_upload_is_said_in_order,
    what_is_said_last_counts_even_if_it_was_known_before,
    who_is_not_among_everybody_is_deleted,
    uploads_side_by_side_give_everybody_a_number,
}

async fn put(app: &Caller, query: &str, body: impl Into<reqwest::Body>) -> Answer {
    app.send(Method::PUT, &format!("/v1/subscribers{query}"), &[], body)
        .await
}

async fn registered(app: &Caller) -> i64 {
    number(&app.get("/v1/apps/me").await.ok(), "/registered")
}

/// Lines of which every second is bad in another way, and the numbers of those.
fn mixed(house_now: jiff::Timestamp) -> (String, Vec<i64>) {
    let here = cell_at(LAT, LON);
    let good = |n: usize| Person::new(format!("good-{n}"), here, house_now).line();
    let with = |field: &str, value: Value| {
        let mut line = Person::new("bad", here, house_now).line();
        line[field] = value;
        line.to_string()
    };
    let coarse = here.parent(h3o::Resolution::Eight).unwrap().to_string();
    let fine = here.center_child(h3o::Resolution::Ten).unwrap().to_string();
    let future = (house_now + SignedDuration::from_mins(6)).to_string();
    let bad = [
        "nonsense".to_owned(),
        "{}".to_owned(),
        with("cell", json!(coarse)),
        with("cell", json!(fine)),
        with("cell", json!("ffffffffffffffff")),
        with("cell", json!(613_362_115_209_854_975_u64)),
        with("cell", Value::Null),
        with("at", json!(future)),
        with("at", json!("noon")),
        with("token", json!("")),
        with("token", json!("x".repeat(65))),
        with("person_keys", json!(["abc"])),
        with("opt_out_of", json!(["weather"])),
        with("nickname", json!("Jo")),
        format!("{}{}", with("token", json!("bad")), "x".repeat(5_000)),
        "{\"token\":\"\u{0}".to_owned(),
    ];
    let (mut body, mut numbers) = (String::new(), Vec::new());
    for (n, bad) in bad.iter().enumerate() {
        writeln!(body, "{}\n{bad}", good(n)).unwrap();
        numbers.push(2 * n as i64 + 2);
    }
    (body, numbers)
}

async fn bad_lines_are_named_and_good_ones_taken(house: House) {
    let app = house.app("Nearby", 1_000).await;
    house.serve(&[]).await;
    let (body, bad) = mixed(house.now().await);
    let report = put(&app, "", body).await.ok();
    let lines = 2 * bad.len() as i64;
    assert_eq!(
        (number(&report, "/lines"), number(&report, "/refused")),
        (lines, lines / 2)
    );
    assert_eq!(number(&report, "/changed"), lines / 2);
    let errors = report["errors"].as_array().unwrap();
    let named: Vec<i64> = errors.iter().map(|error| number(error, "/line")).collect();
    assert_eq!(named, bad);
    assert!(
        errors
            .iter()
            .all(|error| !text(error, "/problem").is_empty())
    );
    assert!(
        text(&errors[2], "/problem").contains("resolution 9"),
        "{report:#}"
    );
    assert_eq!(registered(&app).await, lines / 2);

    // Nothing good at all is a refusal.
    let refused = put(&app, "", "nonsense\n{}").await.refused(422);
    assert_eq!(number(&refused, "/errors/1/line"), 2);
    assert_eq!(registered(&app).await, lines / 2);
}

async fn all_or_none(house: House) {
    let app = house.app("Nearby", 1_000).await;
    house.serve(&[]).await;
    let now = house.now().await;
    let (body, bad) = mixed(now);
    let refused = put(&app, "?atomic=true", body).await.refused(422);
    assert_eq!(refused["errors"].as_array().unwrap().len(), bad.len());
    assert_eq!(registered(&app).await, 0);
    // One bad line at the very end of more than a chunk.
    let many = CHUNK_LINES as i64 + 1;
    let people = Person::many("p", CHUNK_LINES + 1, cell_at(LAT, LON), now);
    let lines: Vec<String> = people.iter().map(|one| one.line().to_string()).collect();
    let body = lines.join("\n");
    let refused = put(&app, "?atomic=true", format!("{body}\nnonsense"))
        .await
        .refused(422);
    assert_eq!(number(&refused, "/errors/0/line"), many + 1);
    assert_eq!(registered(&app).await, 0);
    assert_eq!(
        number(&put(&app, "?atomic=true", body).await.ok(), "/changed"),
        many
    );
    assert_eq!(registered(&app).await, many);
}

async fn lines_come_in_any_form_of_a_stream(house: House) {
    let app = house.app("Nearby", 1_000).await;
    house.serve(&[]).await;
    let now = house.now().await;
    let many = CHUNK_LINES as i64 + 1;
    let lines: Vec<String> = Person::many("p", CHUNK_LINES + 1, cell_at(LAT, LON), now)
        .iter()
        .map(|person| person.line().to_string())
        .collect();
    let body = format!("\n\r\n{}\r\n\n", lines.join("\r\n"));
    // In pieces that end anywhere.
    let pieces: Vec<Result<Vec<u8>, std::io::Error>> = body
        .as_bytes()
        .chunks(997)
        .map(|piece| Ok(piece.to_vec()))
        .collect();
    let stream = reqwest::Body::wrap_stream(tokio_stream::iter(pieces));
    let report = put(&app, "", stream).await.ok();
    assert_eq!(
        (number(&report, "/lines"), number(&report, "/refused")),
        (many, 0)
    );
    assert_eq!(registered(&app).await, many);
    let nothing = put(&app, "", "").await.ok();
    assert_eq!(
        (number(&nothing, "/lines"), number(&nothing, "/changed")),
        (0, 0)
    );
    // Bytes that are no text.
    let odd = [
        lines[0].as_bytes(),
        b"\n{\"token\":\"\xff\xfe\"}\n",
        b"\xc3\x28",
    ]
    .concat();
    let report = put(&app, "", odd).await.ok();
    assert_eq!(
        (number(&report, "/lines"), number(&report, "/refused")),
        (3, 2)
    );
}

async fn order_and_repeats_do_not_matter(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let app = house.app("Nearby", 100_000).await;
    house.serve(&[]).await;
    let now = house.now().await;
    let (here, there) = (cell_at(LAT, LON), cell_at(LAT + 1.0, LON));
    let at = |minutes| ago(now, minutes);
    let delete =
        |token: &str, minutes| json!({ "token": token, "at": at(minutes), "delete": true });
    let seen = |token: &str, cell, minutes| Person::new(token, cell, at(minutes)).line();
    let uploads: Vec<Vec<Value>> = vec![
        vec![
            seen("came", here, 5),
            seen("left", there, 5),
            seen("gone", here, 9),
        ],
        // Older news about them.
        vec![
            seen("came", there, 20),
            seen("left", here, 20),
            delete("came", 30),
        ],
        // Deleted before it was known, and again after.
        vec![
            delete("gone", 4),
            delete("never there", 8),
            delete("back", 8),
        ],
        vec![seen("never there", here, 10), seen("back", here, 3)],
        // Twice in one upload, the newer first.
        vec![
            seen("twice", here, 2),
            seen("twice", there, 6),
            seen("gone", here, 6),
        ],
        // The same once more, and what was muted since is not unmuted by old news.
        vec![seen("came", here, 5), seen("back", here, 3)],
    ];
    let mut changed = Vec::new();
    for upload in uploads {
        changed.push(number(&app.put(upload).await.ok(), "/changed"));
    }
    assert_eq!(changed, [3, 0, 3, 1, 1, 0]);
    assert_eq!(registered(&app).await, 4);
    // Of two of the same time the later one counts: no opt-out is lost to a coarse clock.
    let opted_out = Person::new("twice", here, at(2)).with("opt_out", true);
    assert_eq!(
        number(&app.put([opted_out.line()]).await.ok(), "/changed"),
        1
    );
    let inbox = Inbox::open(&app).await;
    let case = agency.file(&filing(now, LAT, LON)).await;
    let alert = text(&operator.verify(&case).await, "/alert/id").to_owned();
    settled(&operator, &case).await;
    let expected: BTreeSet<String> = ["back", "came"].map(String::from).into();
    assert_eq!(inbox.once(&alert, Kind::Issue), expected);
}

/// What is said again is looked up while the first is still being written.
async fn what_is_said_twice_far_apart_in_an_upload_is_said_in_order(house: House) {
    let app = house.app("Nearby", 1_000).await;
    house.serve(&[]).await;
    let now = house.now().await;
    let (here, there) = (cell_at(LAT, LON), cell_at(LAT + 1.0, LON));
    let mut lines = vec![
        Person::new("gone", here, ago(now, 9)).known_as(1).line(),
        Person::new("moved", here, ago(now, 9)).line(),
        Person::new("stayed", here, ago(now, 2)).line(),
    ];
    let others = Person::many("p", CHUNK_LINES, here, ago(now, 5));
    lines.extend(others.iter().map(Person::line));
    lines.extend([
        json!({ "token": "gone", "at": ago(now, 4), "delete": true }),
        Person::new("moved", there, ago(now, 4)).line(),
        Person::new("stayed", there, ago(now, 4)).line(),
    ]);
    let report = app.put(lines.clone()).await.ok();
    assert_eq!(number(&report, "/refused"), 0);
    let many = CHUNK_LINES as i64;
    let cell = |cell: h3o::CellIndex| i64::try_from(u64::from(cell)).unwrap();
    for (people, which) in [
        (many + 3, "person <> 0".to_owned()),
        // Deleted, and still known to have come with a person key.
        (1, "flags & 3 = 3".to_owned()),
        (1, format!("cell = {}", cell(there))),
        (many + 1, format!("cell = {}", cell(here))),
    ] {
        let sql = format!("SELECT count(DISTINCT person) FROM subscribers WHERE {which}");
        assert_eq!(house.database().number(&sql).await, people, "{which}");
    }
    assert_eq!(number(&app.put(lines).await.ok(), "/changed"), 0);
}

/// The first part of each upload takes long to write, and the second changes what it says at once.
async fn what_is_said_last_counts_even_if_it_was_known_before(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let app = house.app("Nearby", 100_000).await;
    let other = house.app("Other", 100_000).await;
    house.serve(&[]).await;
    let now = house.now().await;
    let (here, there) = (cell_at(LAT, LON), cell_at(LAT + 1.0, LON));
    let seen = |token: &str, minutes| Person::new(token, here, ago(now, minutes));
    app.register(&[seen("passed on", 9)]).await;
    for minutes in [7, 6] {
        let mut people = vec![seen("silent", 8), seen("passed on", 8).known_as(1)];
        people.extend(Person::many("p", CHUNK_LINES, there, ago(now, minutes)));
        people.extend([
            seen("silent", 8).with("opt_out", true),
            seen("passed on", 7).known_as(2),
            seen("loud", 8),
        ]);
        app.register(&people).await;
    }
    // Whose token it was and whose it is are two persons.
    other
        .register(&[seen("one", 5).known_as(1), seen("two", 5).known_as(2)])
        .await;

    let (inbox, others) = (Inbox::open(&app).await, Inbox::open(&other).await);
    let case = agency.file(&filing(now, LAT, LON)).await;
    let alert = text(&operator.verify(&case).await, "/alert/id").to_owned();
    settled(&operator, &case).await;
    assert_eq!(
        inbox.once(&alert, Kind::Issue),
        BTreeSet::from(["loud".to_owned()])
    );
    let both: BTreeSet<String> = ["one", "two"].map(String::from).into();
    assert_eq!(others.once(&alert, Kind::Issue), both);
}

async fn who_is_not_among_everybody_is_deleted(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let (app, other) = (
        house.app("Nearby", 100_000).await,
        house.app("Other", 100_000).await,
    );
    house.serve(&[]).await;
    let now = house.now().await;
    let here = cell_at(LAT, LON);
    let body = |people: &[Person]| {
        let lines: Vec<String> = people.iter().map(|one| one.line().to_string()).collect();
        lines.join("\n")
    };
    let people = Person::many("p", 30, here, ago(now, 5));
    app.put(people.iter().map(Person::line)).await.ok();
    let others = Person::many("o", 3, here, ago(now, 5));
    other.put(others.iter().map(Person::line)).await.ok();
    // Seen by their app after the upload of everybody began.
    let late = Person::new("late", here, now + SignedDuration::from_mins(4));
    app.put([late.line()]).await.ok();

    // A bad line may be about anybody, and an upload of nobody is a mistake.
    let broken = format!("{}\nnonsense", body(&people[..10]));
    let report = put(&app, "?full=true", broken).await.ok();
    assert_eq!(
        (number(&report, "/refused"), number(&report, "/deleted")),
        (1, 0)
    );
    put(&app, "?full=true", "").await.refused(409);
    assert_eq!(registered(&app).await, 31);

    for (query, kept, deleted) in [("?full=true", 20, 10), ("?full=true&atomic=true", 12, 8)] {
        for again in [false, true] {
            let report = put(&app, query, body(&people[..kept])).await.ok();
            let expected = if again { 0 } else { deleted };
            assert_eq!(number(&report, "/deleted"), expected, "{query}");
            assert_eq!(number(&report, "/changed"), 0, "{query}");
        }
        assert_eq!(registered(&app).await, kept as i64 + 1);
    }
    assert_eq!(registered(&other).await, 3);
    let left = "SELECT count(*) FROM named_tokens";
    assert_eq!(
        house.database().number(left).await,
        10,
        "of the upload with the bad line"
    );

    let (inbox, _others) = (Inbox::open(&app).await, Inbox::open(&other).await);
    let case = agency.file(&filing(now, LAT, LON)).await;
    let alert = text(&operator.verify(&case).await, "/alert/id").to_owned();
    settled(&operator, &case).await;
    let mut expected: BTreeSet<String> = people[..12].iter().map(|one| one.token.clone()).collect();
    expected.insert("late".to_owned());
    assert_eq!(inbox.once(&alert, Kind::Issue), expected);
}

async fn uploads_side_by_side_give_everybody_a_number(house: House) {
    let (agency, operator) = (house.agency("Grampian").await, house.operator("Ann").await);
    let apps = [
        house.app("One", 100_000).await,
        house.app("Two", 100_000).await,
    ];
    house.serve(&[]).await;
    let now = house.now().await;
    let cells = disk(cell_at(LAT, LON), 1);
    // Every upload names half of the tokens of its neighbours; both apps share sixty persons.
    let at = |part: usize| ago(now, 60) + SignedDuration::from_secs(part as i64);
    let upload = |part: usize| -> Vec<Value> {
        let people = (part * 200..part * 200 + 400).map(|n| {
            let one = Person::new(format!("p{n}"), cells[n % cells.len()], at(part));
            if n < 60 {
                one.known_as(u8::try_from(n).unwrap())
            } else {
                one
            }
        });
        people.map(|one| one.line()).collect()
    };
    // The newest first, so that older ones come after them.
    let uploads = (0..5)
        .rev()
        .flat_map(|part| apps.iter().map(move |app| (part, app)));
    let uploads = uploads.map(|(part, app)| app.put(upload(part)));
    for answer in futures_util::future::join_all(uploads).await {
        assert_eq!(number(&answer.ok(), "/refused"), 0);
    }
    for (part, people) in [200, 200, 200, 200, 400].into_iter().enumerate() {
        let newest = at(part).as_millisecond();
        let sql = format!("SELECT count(*) FROM subscribers WHERE seen_at = {newest}");
        assert_eq!(
            house.database().number(&sql).await,
            2 * people,
            "part {part}"
        );
    }
    let numbers = "SELECT count(DISTINCT person) FROM subscribers WHERE person <> 0";
    assert_eq!(house.database().number(numbers).await, 2 * 1_200 - 60);

    let inboxes = [Inbox::open(&apps[0]).await, Inbox::open(&apps[1]).await];
    let mut vague = filing(now, LAT, LON);
    vague["lkp"]["accuracy_m"] = 600.into();
    let case = agency.file(&vague).await;
    let alert = text(&operator.verify(&case).await, "/alert/id").to_owned();
    let (told, reasons) = Rounds::of(&settled(&operator, &case).await).last_counts();
    assert_eq!((told, reasons.len()), (2 * 1_200 - 60, 0));
    let each = inboxes.map(|inbox| inbox.once(&alert, Kind::Issue).len() as i64);
    assert_eq!(each.iter().sum::<i64>(), told);
}
