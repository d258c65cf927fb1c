//! The life cycle of a case: which step leads where, and nothing else.

use serde::Serialize;

use crate::model::CaseState;

/// Something done to a case that may change where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Found genuine: people may be told.
    Verify,
    /// Not taken on.
    Reject,
    /// Halted for a while.
    Pause,
    /// Goes on.
    Resume,
    /// Ended.
    Close,
    /// Taken up again; it has to be verified anew.
    Reopen,
    /// An operator stands by a case that verified itself.
    Confirm,
}

/// Every step there is: from where, and where to.
const STEPS: [(CaseState, Step, CaseState); 11] = [
    (CaseState::Submitted, Step::Verify, CaseState::Active),
    (CaseState::Submitted, Step::Reject, CaseState::Rejected),
    // The person came home before anybody looked at the case.
    (CaseState::Submitted, Step::Close, CaseState::Closed),
    (CaseState::Active, Step::Pause, CaseState::Paused),
    (CaseState::Active, Step::Close, CaseState::Closed),
    (CaseState::Active, Step::Confirm, CaseState::Active),
    (CaseState::Paused, Step::Resume, CaseState::Active),
    (CaseState::Paused, Step::Close, CaseState::Closed),
    (CaseState::Paused, Step::Confirm, CaseState::Paused),
    (CaseState::Closed, Step::Reopen, CaseState::Submitted),
    (CaseState::Rejected, Step::Reopen, CaseState::Submitted),
];

impl Step {
    /// Every step, in the order of the documentation.
    pub const ALL: &'static [Self] = &[
        Self::Verify,
        Self::Reject,
        Self::Pause,
        Self::Resume,
        Self::Close,
        Self::Reopen,
        Self::Confirm,
    ];

    /// The name used in data, API and console.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Reject => "reject",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Close => "close",
            Self::Reopen => "reopen",
            Self::Confirm => "confirm",
        }
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A step that the case's state does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a case that is {state} cannot {step}; possible now: {}", names(&self.possible))]
pub struct IllegalStep {
    /// Where the case stands.
    pub state: CaseState,
    /// What was asked for.
    pub step: Step,
    /// What could be asked for instead.
    pub possible: Vec<Step>,
}

fn names(steps: &[Step]) -> String {
    steps
        .iter()
        .map(|step| step.name())
        .collect::<Vec<_>>()
        .join(", ")
}

/// Where a case stands after a step.
///
/// # Errors
/// [`IllegalStep`] if the state does not allow it, with the steps that it does.
pub fn after(state: CaseState, step: Step) -> Result<CaseState, IllegalStep> {
    STEPS
        .iter()
        .find(|(from, by, _)| (*from, *by) == (state, step))
        .map(|(_, _, to)| *to)
        .ok_or_else(|| IllegalStep {
            state,
            step,
            possible: possible(state),
        })
}

/// The steps that a state allows.
#[must_use]
pub fn possible(state: CaseState) -> Vec<Step> {
    STEPS
        .iter()
        .filter(|(from, ..)| *from == state)
        .map(|(_, step, _)| *step)
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_picture() {
        use CaseState as S;
        use Step as T;
        for (from, step, to) in [
            (S::Submitted, T::Verify, S::Active),
            (S::Submitted, T::Reject, S::Rejected),
            (S::Submitted, T::Close, S::Closed),
            (S::Active, T::Pause, S::Paused),
            (S::Paused, T::Resume, S::Active),
            (S::Active, T::Close, S::Closed),
            (S::Paused, T::Close, S::Closed),
            (S::Closed, T::Reopen, S::Submitted),
            (S::Rejected, T::Reopen, S::Submitted),
            (S::Active, T::Confirm, S::Active),
        ] {
            assert_eq!(after(from, step), Ok(to), "{from} {step}");
        }
        for (from, step) in [
            (S::Active, T::Verify),
            (S::Paused, T::Pause),
            (S::Submitted, T::Confirm),
            (S::Submitted, T::Resume),
            (S::Closed, T::Close),
            (S::Closed, T::Verify),
            (S::Rejected, T::Close),
        ] {
            assert!(after(from, step).is_err(), "{from} {step}");
        }
    }

    #[test]
    fn an_illegal_step_says_what_is_possible() {
        let error = after(CaseState::Closed, Step::Pause).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a case that is closed cannot pause; possible now: reopen"
        );
        assert_eq!(error.possible, [Step::Reopen]);
    }

    #[test]
    fn names_are_those_of_the_data() {
        for step in Step::ALL {
            assert_eq!(serde_json::to_string(step).unwrap(), format!("\"{step}\""));
        }
    }

    #[test]
    fn no_state_is_a_dead_end() {
        assert!(
            CaseState::ALL
                .iter()
                .all(|state| !possible(*state).is_empty())
        );
    }

    proptest! {
        #[test]
        fn nobody_is_told_unless_verified_since_it_was_last_opened(
            steps in prop::collection::vec(prop::sample::select(Step::ALL), 0..40)
        ) {
            let (mut state, mut verified) = (CaseState::Submitted, false);
            for step in steps {
                let Ok(next) = after(state, step) else { continue };
                verified = match step {
                    Step::Verify => true,
                    Step::Reopen => false,
                    _ => verified,
                };
                prop_assert!(verified || !matches!(next, CaseState::Active | CaseState::Paused));
                state = next;
            }
        }

        #[test]
        fn a_step_is_legal_just_when_it_is_listed(
            state in prop::sample::select(CaseState::ALL),
            step in prop::sample::select(Step::ALL),
        ) {
            match after(state, step) {
                Ok(_) => prop_assert!(possible(state).contains(&step)),
                Err(error) => {
                    prop_assert!(!error.possible.contains(&step));
                    prop_assert_eq!(error.possible, possible(state));
                }
            }
        }
    }
}
