//! Wave 1 on its way: who is told and why others are not, the pushes, and the recall.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use indicatif::HumanCount;
use serde::Deserialize;

use super::apps::Gathered;
use super::city::APPS;
use super::screen::row;
use super::story::{Story, text};
use crate::alert::proto::v1::Kind;
use crate::model::Reason;

/// How often the server is asked whether something has happened.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// How long it may take to happen.
const PATIENCE: Duration = Duration::from_mins(1);

/// What the server says of one alert.
#[derive(Debug, Deserialize)]
struct Dispatch {
    rounds: Vec<Round>,
    batches: Vec<Tally>,
}

/// A wave or sweep.
#[derive(Debug, Deserialize)]
pub(super) struct Round {
    shards: u64,
    shards_done: u64,
    in_area: u64,
    told: u64,
    pub(super) not_told: BTreeMap<String, u64>,
    by_app: BTreeMap<String, OfApp>,
}

#[derive(Debug, Deserialize)]
struct OfApp {
    told: u64,
}

#[derive(Debug, Deserialize)]
struct Tally {
    kind: String,
    state: String,
    people: u64,
}

impl Story<'_> {
    /// Wave 1 goes out: who is told, and how it reaches the apps.
    pub(super) async fn push(
        &mut self,
        case: &str,
        asked: Instant,
    ) -> anyhow::Result<(Round, Gathered)> {
        let round = self.fanned_out(case).await?;
        self.show_audience(&round)?;
        let owed: [u64; APPS.len()] =
            std::array::from_fn(|app| round.by_app.get(APPS[app].0).map_or(0, |of| of.told));
        ensure!(
            round.told > 0 && owed.iter().sum::<u64>() == round.told,
            "{} people are told, but the apps' shares are {owed:?}",
            round.told
        );
        let alert = self.alert(case).await?;
        self.screen.step(
            "Push",
            "Batches of up to 500 go to each app over gRPC, no faster than it agreed to (a lane \
             that was idle may send a second's worth at once). The app acknowledges each batch \
             and tells its people.",
        );
        let mut progress = self.screen.progress("people told", owed, throttle);
        let gathered = self
            .pushes
            .gather(&alert, Kind::Issue, owed, &mut progress)
            .await?;
        drop(progress);
        let first = gathered.first.as_ref().context("nothing was pushed")?;
        self.screen.more(&format!(
            "First push in an app's hands {} ms after the operator's yes.",
            first.at.duration_since(asked).as_millis()
        ));
        for (app, whole_at) in gathered.whole_at.iter().enumerate() {
            let took = whole_at.map_or(0.0, |at| at.duration_since(asked).as_secs_f64());
            let text = format!("in {took:.1} s; throttle {}/s", HumanCount(rate(app)));
            row(APPS[app].0, owed[app], &text);
        }
        self.screen.more("What people read:");
        for text in first.alert.texts.iter().take(1) {
            for read in std::iter::once(&*text.title).chain(text.body.lines()) {
                self.screen.more(&format!("| {read}"));
            }
        }
        Ok((round, gathered))
    }

    fn show_audience(&self, round: &Round) -> anyhow::Result<()> {
        let not_told: u64 = round.not_told.values().sum();
        self.screen.step(
            "Wave 1",
            "Everybody in its cells is looked at once, and told or counted under one reason. \
             Whoever uses two apps is told by the one that saw them last.",
        );
        row("people in the area", round.in_area, "");
        row("told", round.told, "");
        row("not told", not_told, "");
        for (reason, people) in &round.not_told {
            let name = format!("  {}", reason.replace('_', " "));
            row(&name, *people, why(reason));
        }
        ensure!(
            round.told + not_told == round.in_area,
            "told and not told do not add up to the people in the area"
        );
        Ok(())
    }

    /// Waits until wave 1 is fanned out.
    async fn fanned_out(&self, case: &str) -> anyhow::Result<Round> {
        let done = async {
            loop {
                let dispatch = self.dispatch(case).await?;
                let first = dispatch.rounds.into_iter().next();
                let done = first.is_some_and(|round| round.shards_done == round.shards);
                if done {
                    // Asked once more: the figures may be older than the word that all is done.
                    let dispatch = self.dispatch(case).await?;
                    let first = dispatch.rounds.into_iter().next();
                    return first.context("wave 1 is gone");
                }
                tokio::time::sleep(ASK_EVERY).await;
            }
        };
        tokio::time::timeout(PATIENCE, done)
            .await
            .context("wave 1 was not fanned out in time")?
    }

    async fn dispatch(&self, case: &str) -> anyhow::Result<Dispatch> {
        let path = format!("/v1/cases/{case}/dispatch");
        let mut view = self.rest.get(&self.cast.operator, &path).await?;
        let alert = view["alerts"][0].take();
        serde_json::from_value(alert).with_context(|| format!("reading the answer to {path}"))
    }

    async fn alert(&self, case: &str) -> anyhow::Result<String> {
        let path = format!("/v1/cases/{case}");
        let view = self.rest.get(&self.cast.operator, &path).await?;
        Ok(text(&view["alert"]["id"])?.to_owned())
    }

    /// The alert is taken back from just those who got it.
    pub(super) async fn recall(
        &mut self,
        case: &str,
        alert: &str,
        told: &Gathered,
        round: &Round,
    ) -> anyhow::Result<u64> {
        self.screen.step(
            "Recall",
            "Every batch that went out is followed by its recall, so that the notice leaves the \
             screens.",
        );
        let owed = std::array::from_fn(|app| round.by_app.get(APPS[app].0).map_or(0, |of| of.told));
        let mut progress = self.screen.progress("people recalled", owed, throttle);
        let recalled = self
            .pushes
            .gather(alert, Kind::Recall, owed, &mut progress)
            .await?;
        drop(progress);
        ensure!(
            recalled.same_people_as(told),
            "the recall went to other people than the alert"
        );
        self.all_taken(case, round.told).await?;
        self.screen.more(&format!(
            "{} people got it in {} batches: just those who were told, and nobody else.",
            HumanCount(recalled.people()),
            recalled.batches()
        ));
        Ok(recalled.people())
    }

    /// Waits until the server knows, too, that the apps have taken everything.
    async fn all_taken(&self, case: &str, told: u64) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let batches = self.dispatch(case).await?.batches;
            let people = |kind: &str, taken: bool| -> u64 {
                let of_kind = batches.iter().filter(|tally| tally.kind == kind);
                let wanted = of_kind.filter(|tally| (tally.state == "taken") == taken);
                wanted.map(|tally| tally.people).sum()
            };
            let whole = |kind| (people(kind, true), people(kind, false)) == (told, 0);
            if whole("issue") && whole("recall") {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{told} people were told and recalled, but the server says {batches:?}");
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }
}

fn throttle(app: usize) -> String {
    format!("at {}/s", HumanCount(rate(app)))
}

fn rate(app: usize) -> u64 {
    APPS[app].1.unsigned_abs()
}

fn why(reason: &str) -> &'static str {
    match reason.parse() {
        Ok(Reason::OptedOut) => "want no alerts",
        Ok(Reason::Muted) => "not to be disturbed now",
        Ok(Reason::StalePosition) => "last seen over a day ago",
        Ok(Reason::Cap) => "told of enough alerts lately",
        _ => "",
    }
}
