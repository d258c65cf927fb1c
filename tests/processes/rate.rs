//! How many people an app is sent in any window of time.

use crate::consumer::{Handed, PREFETCH};
use crate::people::app_of;
use crate::scene::{Scene, app_name};

/// No window of time may hold more of an app's people than the burst and what the rate allows in it.
pub async fn check_rate(scene: &Scene, app: usize, rate: u32, batch_people: u32) {
    check_rate_with_breaks(scene, app, (rate, batch_people), 0).await;
}

/// The same where the broker went away so often: each time it may hand over once more what the app
/// had in hand.
pub async fn check_rate_with_breaks(
    scene: &Scene,
    app: usize,
    (rate, batch_people): (u32, u32),
    breaks: u32,
) {
    let (rate, batch) = (f64::from(rate), f64::from(batch_people));
    let burst = rate.max(batch);
    let mut db = scene.house.connect().await;
    let sent = format!(
        "SELECT sending_at, made_at, people FROM batches WHERE sending_at IS NOT NULL
             AND app_id = (SELECT id FROM apps WHERE name = '{}') ORDER BY 1",
        app_name(app)
    );
    let sent = db.rows::<(i64, i64, i64)>(&sent).await;
    let since = |ms: i64| f64::from(i32::try_from(ms - sent[0].1).unwrap()) / 1e3;
    // The lane asks its limiter and then claims, which may take a moment: it asked after the claim before, and
    // after the batch was made.
    let moment_ms = 1_000;
    let mut claims = (i64::MIN, i64::MIN);
    let sent: Vec<_> = sent
        .iter()
        .map(|(at, made_at, people)| {
            if *at > claims.1 {
                claims = (claims.1, *at);
            }
            let asked = claims.0.max(*made_at).max(at - moment_ms);
            (since(asked), since(*at), *people)
        })
        .collect();
    check_windows("sent", &sent, rate, burst);

    let handed = scene.inbox.all();
    let of_app = |one: &&Handed| one.tokens.iter().any(|token| app_of(token) == app);
    let handed: Vec<&Handed> = handed.iter().filter(of_app).collect();
    let event = |one: &&Handed| (one.at, one.at, i64::try_from(one.people).unwrap());
    // A consumer that was held up finds as much more in its queue as that holds, and from a broker what
    // it had in hand already.
    let broker = scene.house.amqp_url().is_some();
    let in_hand = if broker {
        f64::from(PREFETCH) * batch
    } else {
        0.0
    };
    let queue = (2.0 * rate).max(4.0 * batch) + in_hand;
    let mut seen = std::collections::BTreeSet::new();
    let mut first = handed.clone();
    first.retain(|one| seen.insert(&one.batch_id));
    let first: Vec<_> = first.iter().map(event).collect();
    check_windows("handed over first", &first, rate, burst + queue);
    let again = f64::from(breaks * PREFETCH) * batch;
    let all: Vec<_> = handed.iter().map(event).collect();
    check_windows("handed over", &all, rate, burst + queue + again);
}

/// `events`: from when and until when it may have been, and how many, in order of time.
fn check_windows(what: &str, events: &[(f64, f64, i64)], rate: f64, burst: f64) {
    for (first, (from, ..)) in events.iter().enumerate() {
        let mut people = 0.0;
        for (_, to, more) in &events[first..] {
            people += f64::from(i32::try_from(*more).unwrap());
            let (allowed, time) = (burst + rate * (to - from), to - from);
            assert!(
                people <= allowed,
                "{what}: {people} people in {time:.3} s, at most {allowed}"
            );
        }
    }
}
