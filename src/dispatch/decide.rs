//! Deciding over one shard who is told: pure.

use std::collections::{BTreeMap, HashMap};

use roaring::RoaringBitmap;

use crate::audience::eligibility::{DAY, History, Moment, WEEK, verdict};
use crate::model::{AlertId, App, AppId, Candidate, PersonNumber, Reason};
use crate::store::told::Told;

/// What was decided over one shard.
#[derive(Debug, Default)]
pub struct Decision<'a> {
    /// Who is told and by which token, by app, in order of person number.
    pub told: BTreeMap<AppId, Vec<(PersonNumber, &'a [u8])>>,
    /// People by app and reason; together they are everybody in the shard's cells.
    pub counts: BTreeMap<(AppId, Reason), i64>,
    /// The told-list of this round for every block that changed, whole.
    pub blocks: BTreeMap<i64, RoaringBitmap>,
}

/// How many more the case may tell, and under which reason the others are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// People.
    pub people: i64,
    /// `Ceiling` or `Budget`.
    pub reason: Reason,
}

/// What is known besides the candidates.
#[derive(Debug)]
pub struct Known<'a> {
    /// The alert that is fanned out.
    pub alert: AlertId,
    /// The round.
    pub round: i64,
    /// The told-lists of the candidates' blocks.
    pub told: &'a [Told],
    /// All apps.
    pub apps: &'a HashMap<AppId, App>,
    /// The moment.
    pub moment: &'a Moment,
    /// The limit of the case, if it has one.
    pub room: Option<Room>,
}

/// The blocks of person numbers that these candidates lie in, in ascending order.
#[must_use]
pub fn blocks(candidates: &[Candidate<'_>]) -> Vec<i64> {
    let mut blocks: Vec<i64> = candidates.iter().map(|one| one.person.block()).collect();
    blocks.sort_unstable();
    blocks.dedup();
    blocks
}

/// One row per person: the one of the app that saw the person last. Sorted by person number.
#[must_use]
pub fn one_per_person(mut candidates: Vec<Candidate<'_>>) -> Vec<Candidate<'_>> {
    candidates.sort_unstable_by(|a, b| {
        let freshness = |one: &Candidate<'_>| (one.seen_at_ms, one.seen_hour);
        a.person
            .cmp(&b.person)
            .then_with(|| freshness(b).cmp(&freshness(a)))
            .then_with(|| (a.app, a.token).cmp(&(b.app, b.token)))
    });
    candidates.dedup_by_key(|one| one.person);
    candidates
}

/// Decides over candidates (one per person, by person number).
#[must_use]
pub fn decide<'a>(candidates: &[Candidate<'a>], known: &Known<'_>) -> Decision<'a> {
    let mut decision = Decision::default();
    let mut tallies: HashMap<AppId, Tally<'a>> = HashMap::new();
    let lists = by_block(known);
    let mut left = known.room.map(|room| room.people);
    for people in candidates.chunk_by(|a, b| a.person.block() == b.person.block()) {
        let block = people[0].person.block();
        let lists = lists.get(&block);
        let mut told = RoaringBitmap::new();
        for candidate in people {
            let tally = tallies
                .entry(candidate.app)
                .or_insert_with(|| Tally::of(known.apps.get(&candidate.app)));
            let mut history =
                lists.map_or_else(History::default, |lists| lists.history(candidate.person));
            history.app_paused = tally.paused;
            history.app_drills = tally.drills;
            let mut reason = verdict(candidate, &history, known.moment);
            if let (None, Some(left), Some(room)) = (reason, left.as_mut(), known.room) {
                if *left > 0 {
                    *left -= 1;
                } else {
                    reason = Some(room.reason);
                }
            }
            if let Some(reason) = reason {
                *tally.not_told.entry(reason).or_default() += 1;
            } else {
                told.insert(u32::from(candidate.person.place()));
                tally.told.push((candidate.person, candidate.token));
            }
        }
        if !told.is_empty() {
            // Earlier shards of this round may have told others of the same block.
            if let Some(before) = lists.and_then(|lists| lists.this_round) {
                told |= before;
            }
            decision.blocks.insert(block, told);
        }
    }
    for (app, tally) in tallies {
        let counts = tally.not_told.into_iter();
        decision
            .counts
            .extend(counts.map(|(reason, people)| ((app, reason), people)));
        if !tally.told.is_empty() {
            let people = i64::try_from(tally.told.len()).unwrap_or(i64::MAX);
            decision.counts.insert((app, Reason::Told), people);
            decision.told.insert(app, tally.told);
        }
    }
    decision
}

/// One app's people.
struct Tally<'a> {
    paused: bool,
    drills: bool,
    told: Vec<(PersonNumber, &'a [u8])>,
    not_told: BTreeMap<Reason, i64>,
}

impl Tally<'_> {
    fn of(app: Option<&App>) -> Self {
        Self {
            paused: app.is_none_or(|app| app.paused),
            drills: app.is_some_and(|app| app.drills),
            told: Vec::new(),
            not_told: BTreeMap::new(),
        }
    }
}

/// The told-lists of one block.
#[derive(Default)]
struct Lists<'a> {
    this_alert: RoaringBitmap,
    this_round: Option<&'a RoaringBitmap>,
    /// Of other alerts in the last week, and whether it was within a day; the rounds of an alert follow
    /// each other.
    others: Vec<(AlertId, &'a RoaringBitmap, bool)>,
}

fn by_block<'a>(known: &Known<'a>) -> HashMap<i64, Lists<'a>> {
    let mut blocks: HashMap<i64, Lists<'a>> = HashMap::new();
    for list in known.told {
        let age = known.moment.now.duration_since(list.told_at);
        if list.alert == known.alert {
            let lists = blocks.entry(list.block).or_default();
            lists.this_alert |= &list.people;
            if list.round == known.round {
                lists.this_round = Some(&list.people);
            }
        } else if list.budget == known.moment.budget && age < WEEK {
            let lists = blocks.entry(list.block).or_default();
            lists.others.push((list.alert, &list.people, age < DAY));
        }
    }
    for lists in blocks.values_mut() {
        lists.others.sort_unstable_by_key(|(alert, ..)| *alert);
    }
    blocks
}

impl Lists<'_> {
    fn history(&self, person: PersonNumber) -> History {
        let place = u32::from(person.place());
        let mut history = History {
            told_already: self.this_alert.contains(place),
            ..History::default()
        };
        // Whoever was two persons until their keys were known may be in two rounds of an alert.
        for rounds in self.others.chunk_by(|a, b| a.0 == b.0) {
            let told = || {
                rounds
                    .iter()
                    .filter(|(_, people, _)| people.contains(place))
            };
            history.alerts_in_a_week += u32::from(told().next().is_some());
            history.alerts_in_a_day += u32::from(told().any(|(.., in_a_day)| *in_a_day));
        }
        history
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::model::{BatchFormat, CapBudget, CaseKind, SubscriberFlags};

    fn now() -> Timestamp {
        "2026-06-01T12:00:00Z".parse().unwrap()
    }

    fn moment() -> Moment {
        Moment {
            now: now(),
            budget: CapBudget::Usual,
            kind: CaseKind::Dementia,
            quiet: false,
            per_day: 2,
            per_week: 5,
            stale_after_h: 24,
            volunteers_only: false,
        }
    }

    fn candidate(app: i32, person: i64) -> Candidate<'static> {
        Candidate {
            app: AppId(app),
            token: b"token",
            person: PersonNumber(person),
            flags: SubscriberFlags(0),
            seen_hour: i32::try_from(now().as_second() / 3600).unwrap(),
            muted_until_ms: 0,
            seen_at_ms: 0,
        }
    }

    fn apps() -> HashMap<AppId, App> {
        (1..=2)
            .map(|id| {
                let app = App {
                    id: AppId(id),
                    name: format!("app {id}"),
                    rate_per_s: 1000,
                    paused: false,
                    drills: true,
                    format: BatchFormat::Protobuf,
                    created_at: now(),
                };
                (app.id, app)
            })
            .collect()
    }

    fn told(alert: AlertId, round: i64, hours_ago: i64, people: &[u32]) -> Told {
        Told {
            block: 0,
            alert,
            round,
            budget: CapBudget::Usual,
            told_at: now() - jiff::SignedDuration::from_hours(hours_ago),
            people: people.iter().copied().collect(),
        }
    }

    fn total(decision: &Decision<'_>) -> i64 {
        decision.counts.values().sum()
    }

    #[test]
    fn told_and_reasons_add_up_and_each_is_told_once() {
        let (alert, one, two) = (AlertId::fresh(), AlertId::fresh(), AlertId::fresh());
        let lists = [
            told(alert, 1, 0, &[1]),
            told(one, 1, 1, &[2, 3]),
            told(two, 1, 2, &[2]),
            told(two, 2, 30, &[3]),
        ];
        let apps = apps();
        let known = Known {
            alert,
            round: 2,
            told: &lists,
            apps: &apps,
            moment: &moment(),
            room: None,
        };
        let people: Vec<_> = (1..=4).map(|person| candidate(1, person)).collect();
        let decision = decide(&people, &known);
        assert_eq!(total(&decision), 4);
        assert_eq!(decision.counts[&(AppId(1), Reason::ToldAlready)], 1);
        assert_eq!(decision.counts[&(AppId(1), Reason::Cap)], 1, "two in a day");
        assert_eq!(
            decision.counts[&(AppId(1), Reason::Told)],
            2,
            "one in a day, two in a week"
        );
        assert_eq!(decision.blocks[&0].iter().collect::<Vec<_>>(), [3, 4]);
    }

    #[test]
    fn whoever_is_in_two_rounds_of_another_alert_was_told_of_one() {
        let (alert, other) = (AlertId::fresh(), AlertId::fresh());
        let lists = [told(other, 1, 3, &[5]), told(other, 2, 1, &[5])];
        let apps = apps();
        let known = Known {
            alert,
            round: 1,
            told: &lists,
            apps: &apps,
            moment: &moment(),
            room: None,
        };
        let decision = decide(&[candidate(1, 5)], &known);
        assert_eq!(decision.counts[&(AppId(1), Reason::Told)], 1);
    }

    #[test]
    fn a_block_keeps_those_whom_earlier_shards_of_the_round_told() {
        let alert = AlertId::fresh();
        let lists = [told(alert, 1, 0, &[7]), told(alert, 2, 0, &[8])];
        let apps = apps();
        let known = Known {
            alert,
            round: 2,
            told: &lists,
            apps: &apps,
            moment: &moment(),
            room: None,
        };
        let decision = decide(&[candidate(1, 9)], &known);
        assert_eq!(decision.blocks[&0].iter().collect::<Vec<_>>(), [8, 9]);
    }

    #[test]
    fn a_person_in_two_apps_is_one_person_told_by_the_app_that_saw_them_last() {
        let mut fresh = candidate(2, 5);
        fresh.seen_at_ms = 2;
        let mut old = candidate(1, 5);
        old.seen_at_ms = 1;
        let one = one_per_person(vec![old, fresh]);
        assert_eq!(one, [fresh]);
    }

    #[test]
    fn a_ceiling_is_kept_to_the_last_person_and_counted() {
        let apps = apps();
        let room = Some(Room {
            people: 3,
            reason: Reason::Ceiling,
        });
        let known = Known {
            alert: AlertId::fresh(),
            round: 1,
            told: &[],
            apps: &apps,
            moment: &moment(),
            room,
        };
        let people: Vec<_> = (1..=10).map(|person| candidate(1, person)).collect();
        let decision = decide(&people, &known);
        assert_eq!(decision.counts[&(AppId(1), Reason::Told)], 3);
        assert_eq!(decision.counts[&(AppId(1), Reason::Ceiling)], 7);
    }

    proptest! {
        #[test]
        fn whoever_is_in_the_area_is_counted_under_one_reason(
            people in proptest::collection::vec((1_i32..3, 0_i64..50), 0..80),
            before in proptest::collection::vec(0_u32..50, 0..30),
            room in proptest::option::of(0_i64..20),
        ) {
            let alert = AlertId::fresh();
            let lists = [told(alert, 1, 0, &before)];
            let apps = apps();
            let room = room.map(|people| Room { people, reason: Reason::Budget });
            let known = Known {
                alert, round: 2, told: &lists, apps: &apps, moment: &moment(), room,
            };
            let candidates: Vec<_> = people.iter().map(|(app, n)| candidate(*app, *n)).collect();
            let one = one_per_person(candidates);
            let persons = one.len();
            let decision = decide(&one, &known);
            prop_assert_eq!(total(&decision), i64::try_from(persons).unwrap());
            let mut told_now: Vec<_> = decision.told.values().flatten().map(|(p, _)| p.0).collect();
            let count = told_now.len();
            told_now.sort_unstable();
            told_now.dedup();
            prop_assert_eq!(told_now.len(), count);
            prop_assert!(told_now.iter().all(|p| !before.contains(&u32::try_from(*p).unwrap())));
        }
    }
}
