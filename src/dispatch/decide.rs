//! Deciding over one shard who is told: pure.

use std::collections::{BTreeMap, HashMap};

use roaring::RoaringBitmap;

use crate::audience::eligibility::{DAY, History, Moment, WEEK, verdict};
use crate::model::{AlertId, App, AppId, Candidate, PersonNumber, Reason};
use crate::store::told::Told;

/// What was decided over one shard.
#[derive(Debug, Default)]
pub struct Decision {
    /// Who is told, by app, in order of person number.
    pub told: BTreeMap<AppId, Vec<(PersonNumber, Vec<u8>)>>,
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
pub fn blocks(candidates: &[Candidate]) -> Vec<i64> {
    let mut blocks: Vec<i64> = candidates.iter().map(|one| one.person.block()).collect();
    blocks.sort_unstable();
    blocks.dedup();
    blocks
}

/// One row per person: the one of the app that saw the person last. Sorted by person number.
#[must_use]
pub fn one_per_person(mut candidates: Vec<Candidate>) -> Vec<Candidate> {
    candidates.sort_unstable_by(|a, b| {
        let freshness = |one: &Candidate| (one.seen_at_ms, one.seen_hour);
        a.person
            .cmp(&b.person)
            .then_with(|| freshness(b).cmp(&freshness(a)))
            .then_with(|| (a.app, &a.token).cmp(&(b.app, &b.token)))
    });
    candidates.dedup_by_key(|one| one.person);
    candidates
}

/// Decides over candidates (one per person, by person number).
#[must_use]
pub fn decide(candidates: Vec<Candidate>, known: &Known<'_>) -> Decision {
    let mut decision = Decision::default();
    let lists = Lists::new(known);
    let mut left = known.room.map(|room| room.people);
    for candidate in candidates {
        let app = known.apps.get(&candidate.app);
        let mut history = lists.history(candidate.person);
        history.app_paused = app.is_none_or(|app| app.paused);
        history.app_drills = app.is_some_and(|app| app.drills);
        let mut reason = verdict(&candidate, &history, known.moment);
        if let (None, Some(left), Some(room)) = (reason, left.as_mut(), known.room) {
            if *left > 0 {
                *left -= 1;
            } else {
                reason = Some(room.reason);
            }
        }
        *decision
            .counts
            .entry((candidate.app, reason.unwrap_or(Reason::Told)))
            .or_default() += 1;
        if reason.is_none() {
            let place = u32::from(candidate.person.place());
            decision
                .blocks
                .entry(candidate.person.block())
                .or_default()
                .insert(place);
            decision
                .told
                .entry(candidate.app)
                .or_default()
                .push((candidate.person, candidate.token));
        }
    }
    // Earlier shards of this round may have told others of the same blocks.
    for list in known.told {
        if list.alert == known.alert
            && list.round == known.round
            && let Some(block) = decision.blocks.get_mut(&list.block)
        {
            *block |= &list.people;
        }
    }
    decision
}

/// The told-lists, sorted for looking up one person after the other.
struct Lists<'a> {
    this_alert: HashMap<i64, RoaringBitmap>,
    others: HashMap<i64, Vec<(&'a RoaringBitmap, bool)>>,
}

impl<'a> Lists<'a> {
    fn new(known: &Known<'a>) -> Self {
        let mut this_alert: HashMap<i64, RoaringBitmap> = HashMap::new();
        let mut others: HashMap<i64, Vec<(&RoaringBitmap, bool)>> = HashMap::new();
        for list in known.told {
            if list.alert == known.alert {
                *this_alert.entry(list.block).or_default() |= &list.people;
            } else if list.budget == known.moment.budget
                && known.moment.now.duration_since(list.told_at) < WEEK
            {
                let in_a_day = known.moment.now.duration_since(list.told_at) < DAY;
                others
                    .entry(list.block)
                    .or_default()
                    .push((&list.people, in_a_day));
            }
        }
        Self { this_alert, others }
    }

    fn history(&self, person: PersonNumber) -> History {
        let (block, place) = (person.block(), u32::from(person.place()));
        let told_already = self
            .this_alert
            .get(&block)
            .is_some_and(|people| people.contains(place));
        let mut history = History {
            told_already,
            ..History::default()
        };
        for (people, in_a_day) in self.others.get(&block).into_iter().flatten() {
            if people.contains(place) {
                history.alerts_in_a_week += 1;
                history.alerts_in_a_day += u32::from(*in_a_day);
            }
        }
        history
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::model::{BatchFormat, CapBudget, SubscriberFlags};

    fn now() -> Timestamp {
        "2026-06-01T12:00:00Z".parse().unwrap()
    }

    fn moment() -> Moment {
        Moment {
            now: now(),
            budget: CapBudget::Usual,
            quiet: false,
            per_day: 2,
            per_week: 5,
            stale_after_h: 24,
            volunteers_only: false,
        }
    }

    fn candidate(app: i32, person: i64) -> Candidate {
        Candidate {
            app: AppId(app),
            token: format!("{app}-{person}").into_bytes(),
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

    fn total(decision: &Decision) -> i64 {
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
        let decision = decide((1..=4).map(|person| candidate(1, person)).collect(), &known);
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
        let decision = decide(vec![candidate(1, 9)], &known);
        assert_eq!(decision.blocks[&0].iter().collect::<Vec<_>>(), [8, 9]);
    }

    #[test]
    fn a_person_in_two_apps_is_one_person_told_by_the_app_that_saw_them_last() {
        let mut fresh = candidate(2, 5);
        fresh.seen_at_ms = 2;
        let mut old = candidate(1, 5);
        old.seen_at_ms = 1;
        let one = one_per_person(vec![old, fresh.clone()]);
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
        let decision = decide(
            (1..=10).map(|person| candidate(1, person)).collect(),
            &known,
        );
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
            let decision = decide(one, &known);
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
