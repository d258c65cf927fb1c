//! What people read: nothing that was not agreed to, in sentences that fit.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;

use super::*;

const ZONE: &str = "Europe/London";

/// A report with a word of its own in every field, so that a leak shows.
pub fn report(publish: &[PublishedField], languages: &[Language]) -> Report {
    serde_json::from_value(json!({
        "person": {
            "name": "Margaret Qname", "age": 107, "sex": "female",
            "description": "qlooks grey hair", "clothing": "qcoat red",
            "photo_reference": "qphoto"
        },
        "lkp": {
            "position": {"lat": 57.1497, "lon": -2.0943}, "accuracy_m": 50.0,
            "at": "2026-07-03T14:05:00Z", "place": "Qplace Street"
        },
        "circumstances": "qstory left home",
        "contact": {"name": "Qcontact", "phone": "01224 999888", "relation": "qrelation"},
        "consent": {"given_by": "Qgiver", "publish": publish, "legal_basis": "Qbasis"},
        "requested_urgency": "high",
        "languages": languages
    }))
    .unwrap()
}

/// All the text of an alert in one string.
fn read(kind: Kind, exercise: bool, report: &Report) -> String {
    let texts = texts(kind, exercise, Some(report), ZONE);
    texts
        .into_iter()
        .flat_map(|text| [text.title, text.body])
        .collect::<Vec<_>>()
        .join("\n")
}

/// What shows that a field was published, in any language.
fn signs(field: PublishedField) -> &'static [&'static str] {
    match field {
        PublishedField::Name => &["Margaret", "Qname"],
        PublishedField::Age => &["107"],
        PublishedField::Sex => &["female", "weiblich", "féminin", "femenino", "女性"],
        PublishedField::Description => &["qlooks"],
        PublishedField::Clothing => &["qcoat"],
        PublishedField::Photo => &["qphoto"],
        PublishedField::LastSeen => &[
            "Qplace",
            "15:05",
            "15\u{a0}h\u{a0}05",
            "July",
            "Juli",
            "juillet",
            "julio",
            "7月",
        ],
        PublishedField::Circumstances => &["qstory"],
    }
}

const NEVER: [&str; 7] = [
    "Qcontact",
    "999888",
    "qrelation",
    "Qgiver",
    "Qbasis",
    "57.1",
    "qphoto",
];

fn any_publish() -> impl Strategy<Value = Vec<PublishedField>> {
    prop::sample::subsequence(PublishedField::ALL, 0..=PublishedField::ALL.len())
}

proptest! {
    #[test]
    fn no_unconsented_field_in_any_text_of_any_language(
        publish in any_publish(),
        kind in prop::sample::select(Kind::ALL),
        exercise in any::<bool>(),
    ) {
        let text = read(kind, exercise, &report(&publish, Language::ALL));
        for field in PublishedField::ALL {
            if !publish.contains(field) {
                for sign in signs(*field) {
                    prop_assert!(!text.contains(sign), "{field}: {sign} in {text}");
                }
            }
        }
        for sign in NEVER {
            prop_assert!(!text.contains(sign), "{sign} in {text}");
        }
    }

    #[test]
    fn everything_agreed_to_is_told_in_every_language(
        publish in any_publish(),
        kind in prop::sample::select(&[Kind::Issue, Kind::Update]),
        exercise in any::<bool>(),
        language in prop::sample::select(Language::ALL),
    ) {
        let text = read(kind, exercise, &report(&publish, &[language]));
        for field in publish.into_iter().filter(|field| *field != PublishedField::Photo) {
            prop_assert!(signs(field).iter().any(|sign| text.contains(sign)), "{field} in {text}");
        }
    }

    #[test]
    fn a_recall_tells_the_name_at_most(publish in any_publish(), exercise in any::<bool>()) {
        let text = read(Kind::Recall, exercise, &report(&publish, Language::ALL));
        for field in PublishedField::ALL.iter().filter(|field| **field != PublishedField::Name) {
            for sign in signs(*field) {
                prop_assert!(!text.contains(sign), "{sign} in {text}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn texts_fit_and_say_what_to_do(
        fields in prop::array::uniform6("(\\PC|\\n| ){0,700}"),
        publish in any_publish(),
        kind in prop::sample::select(Kind::ALL),
        exercise in any::<bool>(),
    ) {
        let mut report = report(&publish, Language::ALL);
        let [name, alias, description, clothing, place, circumstances] = fields.map(Some);
        report.person.name = name;
        report.person.alias = alias.filter(|alias| alias.len() % 2 == 0);
        (report.person.description, report.person.clothing) = (description, clothing);
        (report.lkp.place, report.circumstances) = (place, circumstances);
        for (text, language) in texts(kind, exercise, Some(&report), ZONE).iter().zip(Language::ALL) {
            let words = words::of(*language);
            prop_assert!((1..=TITLE_MAX).contains(&length(&text.title)), "{}", text.title);
            prop_assert!((1..=BODY_MAX).contains(&length(&text.body)), "{}", text.body);
            prop_assert!(!text.title.contains(|c: char| c.is_control()));
            if matches!(kind, Kind::Issue | Kind::Update) {
                prop_assert_eq!(text.body.contains(words.what_to_do), !exercise);
                prop_assert_eq!(text.body.contains(words.exercise_note), exercise);
            }
            if exercise && kind != Kind::Test {
                prop_assert!(text.title.starts_with(words.exercise_prefix));
            }
        }
    }
}

fn one(
    kind: Kind,
    exercise: bool,
    language: Language,
    publish: &[PublishedField],
) -> (String, String) {
    let mut report = report(publish, &[language]);
    report.person.name = Some("Margaret Hall".to_owned());
    report.person.age = Some(82);
    report.person.description = Some("grey hair,\nwalks with a stick".to_owned());
    report.person.clothing = Some("red coat".to_owned());
    report.lkp.place = Some("Union Street".to_owned());
    report.circumstances = Some("Left home to buy milk.".to_owned());
    let text = texts(kind, exercise, Some(&report), ZONE).remove(0);
    (text.title, text.body)
}

#[test]
fn an_issue_in_english() {
    let (title, body) = one(Kind::Issue, false, Language::English, PublishedField::ALL);
    assert_eq!(title, "Missing near you: Margaret Hall, aged 82");
    assert_eq!(
        body,
        "Margaret Hall is missing.\n\
         Age: 82\n\
         Sex: female\n\
         Last seen: 3 July, 15:05, Union Street\n\
         Description: grey hair, walks with a stick\n\
         Clothing: red coat\n\
         What happened: Left home to buy milk.\n\
         If you think you have seen this person, please report it in this app or call the police."
    );
}

#[test]
fn an_issue_in_every_other_language() {
    let all = PublishedField::ALL;
    let (title, body) = one(Kind::Issue, false, Language::German, all);
    assert_eq!(title, "Vermisst in Ihrer Nähe: Margaret Hall, 82 Jahre");
    assert!(
        body.contains("Zuletzt gesehen: 3. Juli, 15:05 Uhr, Union Street\n"),
        "{body}"
    );
    let (title, body) = one(Kind::Issue, false, Language::French, all);
    assert_eq!(
        title,
        "Disparition près de vous\u{a0}: Margaret Hall, 82 ans"
    );
    let seen = "Vue pour la dernière fois\u{a0}: le 3 juillet à 15\u{a0}h\u{a0}05, Union Street\n";
    assert!(body.contains(seen), "{body}");
    let (title, body) = one(Kind::Issue, false, Language::Spanish, all);
    assert_eq!(title, "Desaparición cerca de usted: Margaret Hall, 82 años");
    assert!(
        body.contains("Última vez que se le vio: 3 de julio, 15:05 h, Union Street\n"),
        "{body}"
    );
    let (title, body) = one(Kind::Issue, false, Language::Japanese, all);
    assert_eq!(title, "お近くで行方不明：Margaret Hallさん（82歳）");
    assert!(
        body.contains("最後に確認された日時・場所：7月3日 15:05、Union Street\n"),
        "{body}"
    );
}

#[test]
fn a_drill_says_so_and_sends_nobody_to_the_police() {
    for language in Language::ALL {
        for kind in [Kind::Issue, Kind::Update, Kind::Recall] {
            let (title, body) = one(kind, true, *language, PublishedField::ALL);
            assert!(
                title.starts_with(words::of(*language).exercise_prefix),
                "{title}"
            );
            assert!(!body.contains(words::of(*language).what_to_do), "{body}");
        }
    }
    let (title, _) = one(
        Kind::Issue,
        true,
        Language::English,
        &[PublishedField::Name],
    );
    assert_eq!(title, "EXERCISE: Missing near you: Margaret Hall");
}

#[test]
fn a_recall_ends_it_with_thanks() {
    let (title, body) = one(Kind::Recall, false, Language::English, PublishedField::ALL);
    assert_eq!(title, "Search over: Margaret Hall");
    assert_eq!(
        body,
        "The search for Margaret Hall is over. Thank you for looking out. Please do not share the \
         alert any more."
    );
    let (title, body) = one(Kind::Recall, false, Language::German, &[]);
    assert_eq!(title, "Die Suche in Ihrer Nähe ist beendet");
    assert!(
        body.starts_with("Die Suche nach der vermissten Person"),
        "{body}"
    );
}

#[test]
fn an_erased_report_can_still_be_recalled_in_every_language() {
    let texts = texts(Kind::Recall, false, None, ZONE);
    let languages: Vec<_> = texts.iter().map(|text| text.language.as_str()).collect();
    assert_eq!(languages, ["en", "de", "fr", "es", "ja"]);
    assert!(
        texts
            .iter()
            .all(|text| !text.title.contains('{') && !text.body.contains('{'))
    );
}

#[test]
fn languages_are_those_of_the_case_in_its_order() {
    let report = report(&[], &[Language::Japanese, Language::English]);
    let texts = texts(Kind::Issue, false, Some(&report), ZONE);
    assert_eq!(
        texts
            .iter()
            .map(|text| text.language.as_str())
            .collect::<Vec<_>>(),
        ["ja", "en"]
    );
}

#[test]
fn an_alias_stands_for_the_name() {
    let mut report = report(PublishedField::ALL, Language::ALL);
    report.person.alias = Some("Peggy".to_owned());
    for kind in [Kind::Issue, Kind::Update, Kind::Recall] {
        let text = read(kind, false, &report);
        assert!(text.contains("Peggy") && !text.contains("Qname"), "{text}");
    }
}

#[test]
fn a_name_that_looks_like_a_template_is_only_a_name() {
    let mut report = report(&[PublishedField::Name], &[Language::English]);
    report.person.name = Some("{who} {name}".to_owned());
    let text = read(Kind::Issue, false, &report);
    assert!(
        text.starts_with("Missing near you: {who} {name}\n"),
        "{text}"
    );
}

#[test]
fn first_years_and_first_days() {
    let months = |language: Language| {
        let words = words::of(language);
        let months: BTreeSet<_> = (1..=12)
            .map(|month| {
                (words.moment)(
                    &jiff::civil::date(2026, month, 1)
                        .at(1, 5, 0, 0)
                        .in_tz(ZONE)
                        .unwrap(),
                )
            })
            .collect();
        assert_eq!(months.len(), 12);
        [0, 1, 2].map(words.years)
    };
    assert_eq!(months(Language::English), ["under 1", "1", "2"]);
    assert_eq!(
        months(Language::German),
        ["unter 1 Jahr", "1 Jahr", "2 Jahre"]
    );
    assert_eq!(months(Language::French), ["moins d'un an", "1 an", "2 ans"]);
    assert_eq!(
        months(Language::Spanish),
        ["menos de 1 año", "1 año", "2 años"]
    );
    assert_eq!(months(Language::Japanese), ["0歳", "1歳", "2歳"]);
    let first = jiff::civil::date(2026, 3, 1)
        .at(9, 5, 0, 0)
        .in_tz(ZONE)
        .unwrap();
    let french = (words::of(Language::French).moment)(&first);
    assert_eq!(french, "le 1er mars à 9\u{a0}h\u{a0}05");
}

#[test]
fn the_clock_is_that_of_the_place() {
    let report = report(&[PublishedField::LastSeen], &[Language::English]);
    for (zone, time) in [
        ("Asia/Tokyo", "3 July, 23:05, "),
        ("America/Los_Angeles", "3 July, 07:05, "),
        ("Nowhere", "3 July, 14:05 UTC, "),
    ] {
        let body = texts(Kind::Issue, false, Some(&report), zone)
            .remove(0)
            .body;
        assert!(body.contains(time), "{body}");
    }
}

#[test]
fn no_sentence_is_missing_anywhere() {
    for language in Language::ALL {
        let words = words::of(*language);
        let pairs = [
            words.issue_title,
            words.update_title,
            words.recall_title,
            words.issue,
            words.update,
            words.recall,
        ];
        for (who, anybody) in pairs {
            assert_eq!(who.matches(WHO).count(), 1, "{who}");
            assert!(!anybody.is_empty() && !anybody.contains('{'), "{anybody}");
        }
    }
}
