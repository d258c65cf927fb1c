//! Changing a case after it was filed: the rules of intake hold for what is changed.

use jiff::Timestamp;

use super::intake::{FieldProblem, Problems, checks, trim_consent, trim_contact, trim_optional};
use crate::alert::text;
use crate::model::{Amendment, Kind, LastKnownPosition, Profile, Report};

/// What an amendment can change, for messages.
const FIELDS: &str = "description, clothing, photo_reference, circumstances, contact, consent, urgency, lkp, \
     category, mobility, environment, clues";

/// Checks an amendment against the report it would change.
///
/// # Errors
/// All the problems found, each with its field and what would be accepted.
pub fn check(
    amendment: &Amendment,
    report: &Report,
    profile: Profile,
    now: Timestamp,
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
    let (mut changed, mut profile) = (report.clone(), profile);
    apply(amendment, &mut changed, &mut profile);
    if let Some(lkp) = &amendment.lkp {
        checks::lkp(&mut problems, lkp, now);
    }
    if let Some(clues) = &amendment.clues {
        checks::clues(&mut problems, clues);
    }
    if amendment.category.is_some() {
        checks::age(&mut problems, profile);
    }
    if amendment.contact.is_some() {
        checks::contact(&mut problems, &changed.contact);
    }
    if amendment.consent.is_some() || amendment.category.is_some() {
        checks::consent(&mut problems, &changed.consent, &changed.person, profile);
    }
    let person = &changed.person;
    let public = [
        ("description", person.description.as_deref()),
        ("clothing", person.clothing.as_deref()),
        ("circumstances", changed.circumstances.as_deref()),
        ("lkp.place", changed.lkp.place.as_deref()),
    ];
    checks::phone_stays_private(&mut problems, &changed.contact.phone, &public);
    problems.none()
}

/// Changes report and profile as an amendment that was checked says. Texts are trimmed.
///
/// The urgency asked for changes too; what is granted stays the case's own.
pub fn apply(amendment: &Amendment, report: &mut Report, profile: &mut Profile) {
    let Amendment {
        description,
        clothing,
        photo_reference,
        circumstances,
        contact,
        consent,
        urgency,
        lkp,
        category,
        mobility,
        environment,
        clues,
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
    if let Some(mut lkp) = lkp
        && let Ok(position) = lkp.datum.to_wgs84(lkp.lat, lkp.lon)
    {
        trim_optional(&mut lkp.place);
        report.lkp = LastKnownPosition {
            position,
            accuracy_m: lkp.accuracy_m,
            at: lkp.at,
            place: lkp.place,
        };
    }
    if let Some(clues) = clues {
        report.clues = clues;
    }
    profile.category = category.unwrap_or(profile.category);
    profile.mobility = mobility.unwrap_or(profile.mobility);
    profile.environment = environment.unwrap_or(profile.environment);
}

/// Whether an amendment changes what the area is planned from.
#[must_use]
pub const fn changes_area(amendment: &Amendment) -> bool {
    amendment.lkp.is_some()
        || amendment.category.is_some()
        || amendment.mobility.is_some()
        || amendment.environment.is_some()
        || amendment.clues.is_some()
}

/// Whether people would read something else after an amendment, given what may be published before
/// and after it.
#[must_use]
pub fn changes_alert(amendment: &Amendment, report: &Report, profile: Profile) -> bool {
    let mut changed = report.clone();
    // Nobody reads the profile.
    let mut profile = profile;
    apply(amendment, &mut changed, &mut profile);
    // The zone moves both texts alike.
    let read = |report: &Report| text::texts(Kind::Issue, false, Some(report), "UTC");
    read(report) != read(&changed)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::intake::tests::{checked, now};
    use super::*;

    fn amendment(fields: Value) -> Amendment {
        serde_json::from_value(fields).unwrap()
    }

    fn refused(fields: Value) -> Vec<String> {
        let filing = checked(&[]).unwrap();
        let problems =
            check(&amendment(fields), &filing.report, filing.profile, now()).unwrap_err();
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
        assert_eq!(check(&photo, &filing.report, filing.profile, now()), Ok(()));
    }

    #[test]
    fn a_new_number_must_not_stand_in_the_text_that_is_there() {
        let changes = [("/circumstances", json!("neighbour: 0700 900 1234"))];
        let filing = checked(&changes).unwrap();
        let neighbour = amendment(json!({"contact": {"name": "N", "phone": "0700 9001234"}}));
        let problems = check(&neighbour, &filing.report, filing.profile, now()).unwrap_err();
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
        let problems =
            check(&amendment(consent), &filing.report, filing.profile, now()).unwrap_err();
        assert_eq!(problems[0].field, "consent.legal_basis");
    }

    #[test]
    fn what_is_left_out_stays() {
        let filing = checked(&[]).unwrap();
        let (before, mut profile) = (filing.report, filing.profile);
        let mut after = before.clone();
        apply(
            &amendment(json!({"clothing": " blue coat ", "urgency": "high"})),
            &mut after,
            &mut profile,
        );
        assert_eq!(profile, filing.profile);
        assert_eq!(after.person.clothing.as_deref(), Some("blue coat"));
        assert_eq!(after.requested_urgency.name(), "high");
        after.person.clothing.clone_from(&before.person.clothing);
        after.requested_urgency = before.requested_urgency;
        assert_eq!(after, before);
    }

    #[test]
    fn only_what_people_read_changes_the_alert() {
        let filing = checked(&[]).unwrap();
        let changes = |fields| changes_alert(&amendment(fields), &filing.report, filing.profile);
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

    #[test]
    fn what_moves_the_area_is_checked_and_taken() {
        let lkp =
            json!({"lat": 57.2, "lon": -2.1, "accuracy_m": 40, "at": now(), "place": " Mill "});
        let moved = amendment(json!({
            "lkp": lkp, "environment": "dry", "mobility": "reduced",
            "clues": {"heading_deg": 90, "transport": "on_foot", "known_places": [
                {"kind": "work", "position": {"lat": 57.3, "lon": -2.0}, "weight": 0.2}]},
        }));
        let filing = checked(&[]).unwrap();
        assert_eq!(check(&moved, &filing.report, filing.profile, now()), Ok(()));
        assert!(changes_area(&moved));
        let (mut report, mut profile) = (filing.report.clone(), filing.profile);
        apply(&moved, &mut report, &mut profile);
        assert_eq!((report.lkp.accuracy_m, report.lkp.at), (40.0, now()));
        assert_eq!(report.lkp.place.as_deref(), Some("Mill"));
        assert_eq!(report.clues.known_places.len(), 1);
        assert_eq!(
            (profile.environment.name(), profile.mobility.name()),
            ("dry", "reduced")
        );
        assert!(!changes_area(&amendment(json!({"clothing": "blue coat"}))));

        let mut wrong = lkp.clone();
        wrong["lat"] = json!(95);
        assert_eq!(refused(json!({"lkp": wrong})), ["lkp.lat"]);
        let place = json!({"kind": "home", "position": {"lat": 57.3, "lon": -2.0}, "weight": 2});
        assert_eq!(
            refused(json!({"clues": {"heading_deg": 400, "known_places": [place]}})),
            ["clues.heading_deg", "clues.known_places[0].weight"]
        );
        let many =
            vec![json!({"kind": "home", "position": {"lat": 57.3, "lon": -2.0}, "weight": 0}); 21];
        assert_eq!(
            refused(json!({"clues": {"known_places": many}})),
            ["clues.known_places"]
        );
        // The one who is missing is 82.
        assert_eq!(refused(json!({"category": "child_4_6"}))[0], "category");
    }
}
