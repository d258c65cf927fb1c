//! Who may be told now, and why not: pure rules.
//!
//! The first reason that holds is the one that is counted, in the order of [`verdict`].

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::config::{Config, QuietHours};
use crate::model::{Audience, Candidate, CapBudget, CaseKind, Category, Reason, SubscriberFlags};
use crate::store::reach::Wanted;

/// How long a batch may wait between fan-out and sending before its people count as told only when
/// it is sent. The day and week of the cap are longer by as much, so that no real day sees too many.
pub const LATE: SignedDuration = SignedDuration::from_mins(5);
/// The day of "at most so many in any 24 hours".
pub const DAY: SignedDuration = SignedDuration::from_mins(24 * 60 + 5);
/// The week of "at most so many in any 7 days".
pub const WEEK: SignedDuration = SignedDuration::from_mins(7 * 24 * 60 + 5);

/// Everything about the moment and the alert that the rules look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// Now, by the database's clock.
    pub now: Timestamp,
    /// Which allowance the alert draws on.
    pub budget: CapBudget,
    /// The kind of case.
    pub kind: CaseKind,
    /// Whether it is night in the case's area and the case is not critical.
    pub quiet: bool,
    /// Alerts a person may be told of in any 24 hours.
    pub per_day: u32,
    /// Alerts a person may be told of in any 7 days.
    pub per_week: u32,
    /// Whole hours after which a position is stale.
    pub stale_after_h: i32,
    /// Whether only volunteers and responders are told.
    pub volunteers_only: bool,
}

impl Moment {
    /// The moment as the rules see it, for a case of a category in a time zone, whose alert draws on
    /// `budget`; with what an operator said of who is told.
    #[must_use]
    pub fn new(
        now: Timestamp,
        budget: CapBudget,
        category: Category,
        audience: Option<Audience>,
        time_zone: &str,
        config: &Config,
    ) -> Self {
        let cap = &config.cap;
        let (per_day, per_week) = match budget {
            CapBudget::Critical => (cap.critical_per_day, cap.critical_per_week),
            CapBudget::Usual | CapBudget::Exercise => (cap.per_day, cap.per_week),
        };
        let night = || is_quiet(now, &config.quiet_hours, &zone_or_utc(time_zone));
        Self {
            now,
            budget,
            kind: category.kind(),
            quiet: budget != CapBudget::Critical && night(),
            per_day,
            per_week,
            stale_after_h: config.audience.stale_after_h,
            volunteers_only: volunteers_only(category, audience),
        }
    }

    /// What the record of somebody says who may be told: [`verdict`] but for what they were told of before
    /// and what their app does.
    #[must_use]
    pub fn wanted(&self) -> Wanted {
        let drills = i32::from(self.budget == CapBudget::Exercise) * SubscriberFlags::DRILLS;
        let volunteer = i32::from(self.volunteers_only) * SubscriberFlags::VOLUNTEER;
        let unwanted = SubscriberFlags::OPTED_OUT | SubscriberFlags::opted_out_of(self.kind);
        let hour = self.now.as_second().div_euclid(3600) - i64::from(self.stale_after_h);
        Wanted {
            flags_looked_at: unwanted | drills | volunteer,
            flags_set: drills | volunteer,
            seen_hour: i32::try_from(hour).unwrap_or(i32::MAX),
            now_ms: self.now.as_millisecond(),
        }
    }
}

/// Whether only volunteers and responders are told: of somebody in despair, unless an operator said
/// otherwise.
#[must_use]
pub fn volunteers_only(category: Category, said: Option<Audience>) -> bool {
    match said {
        Some(audience) => audience == Audience::Volunteers,
        None => category == Category::Despondent,
    }
}

/// What the told-list and the app's record say about one person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct History {
    /// Told by an earlier wave or sweep of this alert.
    pub told_already: bool,
    /// Other alerts of the same allowance in the last 24 hours.
    pub alerts_in_a_day: u32,
    /// Other alerts of the same allowance in the last 7 days.
    pub alerts_in_a_week: u32,
    /// The app is paused.
    pub app_paused: bool,
    /// The app takes part in exercises.
    pub app_drills: bool,
}

/// Why this person is not told now; `None` if they may be.
#[must_use]
pub fn verdict(candidate: &Candidate, history: &History, moment: &Moment) -> Option<Reason> {
    let drill_refused = moment.budget == CapBudget::Exercise
        && !(history.app_drills && candidate.flags.has(SubscriberFlags::DRILLS));
    let now_hour = moment.now.as_second().div_euclid(3600);
    let rules = [
        (Reason::ToldAlready, history.told_already),
        (
            Reason::OptedOut,
            candidate.flags.has(SubscriberFlags::OPTED_OUT)
                || candidate
                    .flags
                    .has(SubscriberFlags::opted_out_of(moment.kind))
                || drill_refused,
        ),
        (
            Reason::VolunteersOnly,
            moment.volunteers_only && !candidate.flags.has(SubscriberFlags::VOLUNTEER),
        ),
        (
            Reason::Muted,
            candidate.muted_until_ms > moment.now.as_millisecond(),
        ),
        (
            Reason::StalePosition,
            now_hour - i64::from(candidate.seen_hour) > i64::from(moment.stale_after_h),
        ),
        (Reason::AppPaused, history.app_paused),
        (Reason::QuietHours, moment.quiet),
        (
            Reason::Cap,
            history.alerts_in_a_day >= moment.per_day
                || history.alerts_in_a_week >= moment.per_week,
        ),
    ];
    rules
        .into_iter()
        .find(|(_, holds)| *holds)
        .map(|(reason, _)| reason)
}

/// The time zone of a name. It was checked when the case was filed; should the zone data have lost it
/// since, the hours are those of UTC rather than none.
#[must_use]
pub fn zone_or_utc(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap_or(TimeZone::UTC)
}

/// Whether it is night by the quiet hours of a place. `from` after `to` spans midnight; equal means
/// never.
#[must_use]
pub fn is_quiet(now: Timestamp, hours: &QuietHours, time_zone: &TimeZone) -> bool {
    let time = now.to_zoned(time_zone.clone()).time();
    if hours.from <= hours.to {
        (hours.from..hours.to).contains(&time)
    } else {
        time >= hours.from || time < hours.to
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::time;
    use proptest::prelude::*;

    use super::*;
    use crate::model::{AppId, PersonNumber};

    const NOON: &str = "2026-06-01T12:00:00Z";

    fn moment() -> Moment {
        Moment {
            now: NOON.parse().unwrap(),
            budget: CapBudget::Usual,
            kind: CaseKind::Dementia,
            quiet: false,
            per_day: 2,
            per_week: 5,
            stale_after_h: 24,
            volunteers_only: false,
        }
    }

    fn candidate() -> Candidate<'static> {
        let now: Timestamp = NOON.parse().unwrap();
        Candidate {
            app: AppId(1),
            token: b"t",
            person: PersonNumber(65_536),
            flags: SubscriberFlags(0),
            seen_hour: i32::try_from(now.as_second() / 3600).unwrap(),
            muted_until_ms: 0,
            seen_at_ms: 0,
        }
    }

    #[test]
    fn somebody_here_now_is_told() {
        assert_eq!(verdict(&candidate(), &History::default(), &moment()), None);
    }

    #[test]
    fn each_rule_holds_back_under_its_own_reason() {
        let free = History::default();
        let mut opted_out = candidate();
        opted_out.flags = SubscriberFlags(SubscriberFlags::OPTED_OUT);
        assert_eq!(
            verdict(&opted_out, &free, &moment()),
            Some(Reason::OptedOut)
        );

        let mut muted = candidate();
        muted.muted_until_ms = moment().now.as_millisecond() + 1;
        assert_eq!(verdict(&muted, &free, &moment()), Some(Reason::Muted));
        muted.muted_until_ms -= 1;
        assert_eq!(verdict(&muted, &free, &moment()), None);

        let mut stale = candidate();
        stale.seen_hour -= 24;
        assert_eq!(verdict(&stale, &free, &moment()), None);
        stale.seen_hour -= 1;
        assert_eq!(
            verdict(&stale, &free, &moment()),
            Some(Reason::StalePosition)
        );

        let told = History {
            told_already: true,
            ..free
        };
        assert_eq!(
            verdict(&candidate(), &told, &moment()),
            Some(Reason::ToldAlready)
        );
        let paused = History {
            app_paused: true,
            ..free
        };
        assert_eq!(
            verdict(&candidate(), &paused, &moment()),
            Some(Reason::AppPaused)
        );
        let night = Moment {
            quiet: true,
            ..moment()
        };
        assert_eq!(
            verdict(&candidate(), &free, &night),
            Some(Reason::QuietHours)
        );
    }

    #[test]
    fn the_cap_is_two_a_day_and_five_a_week() {
        let told = |alerts_in_a_day, alerts_in_a_week| History {
            alerts_in_a_day,
            alerts_in_a_week,
            ..History::default()
        };
        assert_eq!(verdict(&candidate(), &told(1, 4), &moment()), None);
        assert_eq!(
            verdict(&candidate(), &told(2, 2), &moment()),
            Some(Reason::Cap)
        );
        assert_eq!(
            verdict(&candidate(), &told(0, 5), &moment()),
            Some(Reason::Cap)
        );
    }

    #[test]
    fn an_exercise_reaches_only_those_who_take_part_in_drills() {
        let drill = Moment {
            budget: CapBudget::Exercise,
            ..moment()
        };
        let app = History {
            app_drills: true,
            ..History::default()
        };
        assert_eq!(verdict(&candidate(), &app, &drill), Some(Reason::OptedOut));
        let mut volunteer = candidate();
        volunteer.flags = SubscriberFlags(SubscriberFlags::DRILLS);
        assert_eq!(verdict(&volunteer, &app, &drill), None);
        assert_eq!(
            verdict(&volunteer, &History::default(), &drill),
            Some(Reason::OptedOut)
        );
    }

    #[test]
    fn a_case_for_volunteers_reaches_nobody_else() {
        let moment = Moment {
            volunteers_only: true,
            ..moment()
        };
        let told = |flags| {
            let mut one = candidate();
            one.flags = SubscriberFlags(flags);
            verdict(&one, &History::default(), &moment)
        };
        assert_eq!(told(0), Some(Reason::VolunteersOnly));
        assert_eq!(told(SubscriberFlags::VOLUNTEER), None);
        let out = SubscriberFlags::VOLUNTEER | SubscriberFlags::OPTED_OUT;
        assert_eq!(told(out), Some(Reason::OptedOut));

        let only = volunteers_only;
        assert!(only(Category::Despondent, None) && !only(Category::Dementia, None));
        assert!(!only(Category::Despondent, Some(Audience::Everybody)));
        assert!(only(Category::Dementia, Some(Audience::Volunteers)));
    }

    #[test]
    fn quiet_hours_follow_the_time_zone_and_span_midnight() {
        let hours = QuietHours {
            from: time(22, 0, 0, 0),
            to: time(7, 0, 0, 0),
        };
        let quiet = |at: &str, zone: &str| {
            is_quiet(at.parse().unwrap(), &hours, &TimeZone::get(zone).unwrap())
        };
        assert!(!quiet(NOON, "Europe/London"));
        assert!(quiet("2026-06-01T21:30:00Z", "Europe/London"));
        assert!(quiet("2026-06-01T05:59:00Z", "Europe/London"));
        assert!(!quiet("2026-06-01T06:00:00Z", "Europe/London"));
        assert!(quiet("2026-06-01T15:00:00Z", "Asia/Tokyo"));
    }

    #[test]
    fn opting_out_of_a_kind_of_case_leaves_the_others() {
        for kind in CaseKind::ALL {
            let mut one = candidate();
            one.flags = SubscriberFlags(SubscriberFlags::opted_out_of(*kind));
            let reason = verdict(&one, &History::default(), &moment());
            let out = *kind == CaseKind::Dementia;
            assert_eq!(reason, out.then_some(Reason::OptedOut), "{kind}");
        }
    }

    proptest! {
        #[test]
        fn a_record_that_is_wanted_is_one_that_no_rule_holds_back(
            flags in 0..(1_i32 << 15), hours_old in 0..50_i32, muted in any::<bool>(),
            volunteers_only in any::<bool>(), exercise in any::<bool>(),
        ) {
            let budget = if exercise { CapBudget::Exercise } else { CapBudget::Usual };
            let moment = Moment { budget, volunteers_only, ..moment() };
            let mut one = candidate();
            one.flags = SubscriberFlags(flags & !SubscriberFlags::DELETED);
            one.seen_hour -= hours_old;
            one.muted_until_ms = moment.now.as_millisecond() + i64::from(muted);
            let history = History { app_drills: true, ..History::default() };
            let wanted = moment.wanted();
            let is_wanted = one.flags.0 & wanted.flags_looked_at == wanted.flags_set
                && one.seen_hour >= wanted.seen_hour
                && one.muted_until_ms <= wanted.now_ms;
            prop_assert_eq!(verdict(&one, &history, &moment).is_none(), is_wanted);
        }
    }

    #[test]
    fn a_critical_case_has_no_quiet_hours_and_its_own_budget() {
        let mut config = Config::defaults().unwrap();
        config.cap.critical_per_day = 7;
        let night: Timestamp = "2026-06-01T23:30:00Z".parse().unwrap();
        let at = |budget| Moment::new(night, budget, Category::Child4To6, None, "UTC", &config);
        assert!(at(CapBudget::Usual).quiet);
        assert!(!at(CapBudget::Critical).quiet);
        assert_eq!(at(CapBudget::Critical).per_day, 7);
        assert_eq!(at(CapBudget::Exercise).per_day, config.cap.per_day);
    }

    proptest! {
        #[test]
        fn nobody_told_already_or_capped_is_ever_told(
            flags in 0_i32..32, age_h in 0_i32..48, day in 0_u32..6, week in 0_u32..8,
            told_already: bool, quiet: bool, app_paused: bool,
        ) {
            let mut who = candidate();
            who.flags = SubscriberFlags(flags);
            who.seen_hour -= age_h;
            let history = History {
                told_already, alerts_in_a_day: day, alerts_in_a_week: week, app_paused,
                app_drills: true,
            };
            let when = Moment { quiet, ..moment() };
            if verdict(&who, &history, &when).is_none() {
                prop_assert!(!told_already && day < 2 && week < 5 && !quiet && !app_paused);
                prop_assert!(age_h <= 24 && !who.flags.has(SubscriberFlags::OPTED_OUT));
            }
        }
    }
}
