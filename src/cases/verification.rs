//! What must be checked before anybody is told, and who may do without an operator.

use super::intake::{is_minor, is_recognisable};
use crate::model::{Check, Profile, Report, Urgency};

/// The vaguest last known position that a case may verify itself with, in metres (assumed: beyond
/// it the area is mostly guesswork, and an operator should look).
pub const SELF_VERIFY_ACCURACY_M: f64 = 5_000.0;

/// The points that every verification by an operator covers.
pub const REQUIRED: &[Check] = &[
    Check::ReporterCalledBack,
    Check::IdentityConfirmed,
    Check::LastSeenConfirmed,
    Check::ConsentConfirmed,
    Check::DuplicatesChecked,
];

/// The required points that are not among those done.
#[must_use]
pub fn missing_checks(done: &[Check]) -> Vec<Check> {
    REQUIRED
        .iter()
        .copied()
        .filter(|check| !done.contains(check))
        .collect()
}

/// Whether a case may be verified without an operator: the agency is trusted, the report complete,
/// and no open case likely to be the same.
///
/// # Errors
/// Every reason why an operator has to look, none of them personal.
pub fn may_self_verify(
    trusted: bool,
    report: &Report,
    profile: Profile,
    duplicates: usize,
) -> Result<(), Vec<String>> {
    let person = &report.person;
    let consent = &report.consent;
    let given = |text: &str| !text.trim().is_empty();
    let points = [
        (trusted, "the agency is not trusted to verify its own cases"),
        (
            person.name.is_some() || person.alias.is_some(),
            "no name or alias is given",
        ),
        (profile.age.is_some(), "no age is given"),
        (
            person.description.is_some() || person.clothing.is_some(),
            "neither looks nor clothing are described",
        ),
        (
            report.lkp.accuracy_m <= SELF_VERIFY_ACCURACY_M,
            "the last known position is vaguer than 5 km",
        ),
        (
            given(&report.contact.name) && given(&report.contact.phone),
            "there is nobody to call",
        ),
        (given(&consent.given_by), "nobody is named who consented"),
        (
            consent.legal_basis.as_deref().is_some_and(given) || !is_minor(profile),
            "the person is a minor and no legal basis is given",
        ),
        (
            is_recognisable(person, consent),
            "nothing may be published that people could recognise the person by",
        ),
        (duplicates == 0, "an open case may be about the same person"),
    ];
    let reasons: Vec<String> = points
        .iter()
        .filter(|(good, _)| !good)
        .map(|(_, reason)| (*reason).to_owned())
        .collect();
    if reasons.is_empty() {
        Ok(())
    } else {
        Err(reasons)
    }
}

/// The urgency that is granted: only an operator grants `critical`, to anybody else it becomes
/// `high`.
#[must_use]
pub const fn granted_urgency(requested: Urgency, by_operator: bool) -> Urgency {
    match (requested, by_operator) {
        (Urgency::Critical, false) => Urgency::High,
        (requested, _) => requested,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::intake::tests::checked;
    use super::*;

    #[test]
    fn every_check_is_required() {
        assert_eq!(missing_checks(&[]), Check::ALL);
        assert!(missing_checks(Check::ALL).is_empty());
        for check in Check::ALL {
            let others: Vec<_> = Check::ALL
                .iter()
                .copied()
                .filter(|one| one != check)
                .collect();
            assert_eq!(missing_checks(&others), [*check]);
        }
    }

    fn verdict(
        trusted: bool,
        duplicates: usize,
        change: &[(&str, Value)],
    ) -> Result<(), Vec<String>> {
        let filing = checked(change).unwrap();
        may_self_verify(trusted, &filing.report, filing.profile, duplicates)
    }

    #[test]
    fn a_trusted_agencys_complete_case_verifies_itself() {
        assert_eq!(verdict(true, 0, &[]), Ok(()));
        assert_eq!(
            verdict(true, 0, &[("/person/clothing", Value::Null)]),
            Ok(())
        );
        assert_eq!(
            verdict(true, 0, &[("/lkp/accuracy_m", json!(5_000))]),
            Ok(())
        );
    }

    #[test]
    fn anything_missing_needs_an_operator() {
        assert_eq!(verdict(false, 0, &[]).unwrap_err().len(), 1);
        assert_eq!(verdict(true, 1, &[]).unwrap_err().len(), 1);
        for change in [
            ("/person/age", Value::Null),
            ("/lkp/accuracy_m", json!(5_001)),
        ] {
            assert_eq!(verdict(true, 0, &[change]).unwrap_err().len(), 1);
        }
        let filing = checked(&[]).unwrap();
        let changes: [fn(&mut Report); 6] = [
            |report| report.person.name = None,
            |report| (report.person.description, report.person.clothing) = (None, None),
            |report| report.contact.phone.clear(),
            |report| report.contact.name.clear(),
            |report| report.consent.given_by.clear(),
            |report| report.consent.publish.clear(),
        ];
        for (i, change) in changes.iter().enumerate() {
            let mut report = filing.report.clone();
            change(&mut report);
            assert!(
                may_self_verify(true, &report, filing.profile, 0).is_err(),
                "{i}"
            );
        }
        let child = Profile {
            age: Some(9),
            ..filing.profile
        };
        assert!(may_self_verify(true, &filing.report, child, 0).is_err());
    }

    #[test]
    fn reasons_are_not_personal() {
        let mut report = checked(&[]).unwrap().report;
        report.consent.publish.clear();
        let profile = checked(&[]).unwrap().profile;
        let reasons = may_self_verify(false, &report, profile, 2)
            .unwrap_err()
            .join(" ");
        assert!(
            !reasons.contains("Hall") && !reasons.contains("82"),
            "{reasons}"
        );
    }

    proptest! {
        #[test]
        fn only_an_operator_grants_critical(
            requested in prop::sample::select(Urgency::ALL),
            by_operator in any::<bool>(),
        ) {
            let granted = granted_urgency(requested, by_operator);
            prop_assert!(by_operator || granted != Urgency::Critical);
            prop_assert!(granted == requested || granted == Urgency::High);
        }
    }
}
