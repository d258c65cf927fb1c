//! Changing a case after it was filed: the rules of intake hold for what is changed.

use super::intake::{FieldProblem, Problems, checks, trim_consent, trim_contact, trim_optional};
use crate::alert::text;
use crate::model::{Amendment, Kind, Profile, Report};

/// What an amendment can change, for messages.
const FIELDS: &str =
    "description, clothing, photo_reference, circumstances, contact, consent, urgency";

/// Checks an amendment against the report it would change.
///
/// # Errors
/// All the problems found, each with its field and what would be accepted.
pub fn check(
    amendment: &Amendment,
    report: &Report,
    profile: Profile,
) -> Result<(), Vec<FieldProblem>> {
    if *amendment == Amendment::default() {
        let accepted = format!("at least one of {FIELDS}");
        return Err(vec![FieldProblem::of_body("changes nothing", accepted)]);
    }
    let mut problems = Problems::default();
    let Amendment {
        description,
        clothing,
        photo_reference,
        circumstances,
        ..
    } = amendment;
    checks::looks(&mut problems, "", [description, clothing, photo_reference]);
    checks::circumstances(&mut problems, circumstances.as_deref());
    let mut changed = report.clone();
    apply(amendment, &mut changed);
    if amendment.contact.is_some() {
        checks::contact(&mut problems, &changed.contact);
    }
    if amendment.consent.is_some() {
        checks::consent(&mut problems, &changed.consent, &changed.person, profile);
    }
    let person = &changed.person;
    let public = [
        ("description", person.description.as_deref()),
        ("clothing", person.clothing.as_deref()),
        ("circumstances", changed.circumstances.as_deref()),
    ];
    checks::phone_stays_private(&mut problems, &changed.contact.phone, &public);
    problems.none()
}

/// Changes a report as an amendment says. Texts are trimmed.
///
/// The urgency asked for changes too; what is granted stays the case's own.
pub fn apply(amendment: &Amendment, report: &mut Report) {
    let Amendment {
        description,
        clothing,
        photo_reference,
        circumstances,
        contact,
        consent,
        urgency,
    } = amendment.clone();
    for (changed, current) in [
        (description, &mut report.person.description),
        (clothing, &mut report.person.clothing),
        (photo_reference, &mut report.person.photo_reference),
        (circumstances, &mut report.circumstances),
    ] {
        if changed.is_some() {
            *current = changed;
            trim_optional(current);
        }
    }
    if let Some(mut contact) = contact {
        trim_contact(&mut contact);
        report.contact = contact;
    }
    if let Some(mut consent) = consent {
        trim_consent(&mut consent);
        report.consent = consent;
    }
    if let Some(urgency) = urgency {
        report.requested_urgency = urgency;
    }
}

/// Whether people would read something else after an amendment, given what may be published before
/// and after it.
#[must_use]
pub fn changes_alert(amendment: &Amendment, report: &Report) -> bool {
    let mut changed = report.clone();
    apply(amendment, &mut changed);
    // The zone moves both texts alike.
    let read = |report: &Report| text::texts(Kind::Issue, false, Some(report), "UTC");
    read(report) != read(&changed)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::intake::tests::checked;
    use super::*;

    fn amendment(fields: Value) -> Amendment {
        serde_json::from_value(fields).unwrap()
    }

    fn refused(fields: Value) -> Vec<String> {
        let filing = checked(&[]).unwrap();
        let problems = check(&amendment(fields), &filing.report, filing.profile).unwrap_err();
        problems.into_iter().map(|one| one.field).collect()
    }

    #[test]
    fn the_rules_of_intake_hold() {
        assert_eq!(refused(json!({})), ["(body)"]);
        for (fields, field) in [
            (json!({"description": " "}), "description"),
            (json!({"clothing": "a\u{0}"}), "clothing"),
            (json!({"photo_reference": ""}), "photo_reference"),
            (json!({"circumstances": "x".repeat(2_001)}), "circumstances"),
            (
                json!({"circumstances": "call 01224 496 0123"}),
                "circumstances",
            ),
            (
                json!({"contact": {"name": "", "phone": "112"}}),
                "contact.name",
            ),
            (
                json!({"contact": {"name": "Jo", "phone": "?"}}),
                "contact.phone",
            ),
            (
                json!({"consent": {"given_by": "", "publish": ["name"]}}),
                "consent.given_by",
            ),
            (
                json!({"consent": {"given_by": "Jo", "publish": []}}),
                "consent.publish",
            ),
            (
                json!({"consent": {"given_by": "Jo", "publish": ["photo"]}}),
                "consent.publish",
            ),
        ] {
            assert_eq!(refused(fields.clone()), [field], "{fields}");
        }
    }

    #[test]
    fn consent_is_checked_against_the_report_as_it_will_be() {
        let filing = checked(&[]).unwrap();
        let photo = amendment(json!({
            "photo_reference": "p-1",
            "consent": {"given_by": "Jo", "publish": ["photo"]},
        }));
        assert_eq!(check(&photo, &filing.report, filing.profile), Ok(()));
    }

    #[test]
    fn a_new_number_must_not_stand_in_the_text_that_is_there() {
        let changes = [("/circumstances", json!("neighbour: 0700 900 1234"))];
        let filing = checked(&changes).unwrap();
        let neighbour = amendment(json!({"contact": {"name": "N", "phone": "0700 9001234"}}));
        let problems = check(&neighbour, &filing.report, filing.profile).unwrap_err();
        assert_eq!(problems[0].field, "circumstances");
    }

    #[test]
    fn a_minors_consent_keeps_its_legal_basis() {
        let changes = [
            ("/person/age", json!(16)),
            ("/consent/legal_basis", json!("order 12")),
        ];
        let filing = checked(&changes).unwrap();
        let consent = json!({"consent": {"given_by": "Jo", "publish": ["name"]}});
        let problems = check(&amendment(consent), &filing.report, filing.profile).unwrap_err();
        assert_eq!(problems[0].field, "consent.legal_basis");
    }

    #[test]
    fn what_is_left_out_stays() {
        let before = checked(&[]).unwrap().report;
        let mut after = before.clone();
        apply(
            &amendment(json!({"clothing": " blue coat ", "urgency": "high"})),
            &mut after,
        );
        assert_eq!(after.person.clothing.as_deref(), Some("blue coat"));
        assert_eq!(after.requested_urgency.name(), "high");
        after.person.clothing.clone_from(&before.person.clothing);
        after.requested_urgency = before.requested_urgency;
        assert_eq!(after, before);
    }

    #[test]
    fn only_what_people_read_changes_the_alert() {
        let report = checked(&[]).unwrap().report;
        let changes = |fields| changes_alert(&amendment(fields), &report);
        assert!(changes(json!({"clothing": "blue coat"})));
        assert!(changes(
            json!({"consent": {"given_by": "Jo", "publish": ["name"]}})
        ));
        assert!(!changes(json!({"clothing": "red coat, brown boots"})));
        // Not agreed to.
        assert!(!changes(
            json!({"circumstances": "Left the train at Leith."})
        ));
        assert!(!changes(
            json!({"contact": {"name": "Jo", "phone": "0131 496 0000"}})
        ));
        assert!(!changes(
            json!({"photo_reference": "p-2", "urgency": "high"})
        ));
        // Agreed to and changed at once.
        assert!(changes(json!({
            "circumstances": "Left the train at Leith.",
            "consent": {"given_by": "Jo",
                "publish": ["name", "age", "description", "clothing", "circumstances"]},
        })));
    }
}
