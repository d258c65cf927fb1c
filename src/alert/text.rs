//! The words of an alert, in every language, out of nothing but what may be published.

mod words;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use self::words::Words;
use super::proto::v1;
use crate::model::{Kind, Language, PublishedField, Report, Sex};

/// Longest title, in characters: what phones show without cutting.
pub const TITLE_MAX: usize = 80;
/// Longest body, in characters: all languages together fit into one push message.
pub const BODY_MAX: usize = 600;
/// Longest name in a body, in characters.
const NAME_MAX: usize = 60;
/// Longest time and place in a body, in characters.
const LAST_SEEN_MAX: usize = 120;
/// A text that would have to be cut to fewer characters than this is left out.
const WORTH_SAYING: usize = 12;

/// The text of an alert, one per language of the case, the first one first; in every language for a
/// test and where the report was erased.
///
/// Nothing of the report gets in but the fields that its consent names, and never the contact.
#[must_use]
pub fn texts(
    kind: Kind,
    exercise: bool,
    report: Option<&Report>,
    time_zone: &str,
) -> Vec<v1::Text> {
    let report = report.filter(|_| kind != Kind::Test);
    let shown = report
        .map(|report| Shown::of(report, time_zone))
        .unwrap_or_default();
    let languages = report
        .map(|report| report.languages.as_slice())
        .unwrap_or_default();
    let languages = if languages.is_empty() {
        Language::ALL
    } else {
        languages
    };
    let text = |language: &Language| {
        let words = words::of(*language);
        v1::Text {
            language: language.name().to_owned(),
            title: title(words, kind, exercise, &shown),
            body: body(words, kind, exercise, &shown),
        }
    };
    languages.iter().map(text).collect()
}

/// What may be published of a report. Texts are made of this alone, so that nothing else can get
/// into them.
#[derive(Default)]
struct Shown {
    name: Option<String>,
    age: Option<u8>,
    sex: Option<Sex>,
    last_seen: Option<(Zoned, Option<String>)>,
    description: Option<String>,
    clothing: Option<String>,
    circumstances: Option<String>,
}

impl Shown {
    fn of(report: &Report, time_zone: &str) -> Self {
        let allowed = |field| report.consent.publish.contains(&field);
        let person = &report.person;
        let text = |field, text: &Option<String>| {
            text.as_deref()
                .filter(|_| allowed(field))
                .map(one_line)
                .filter(|text| !text.is_empty())
        };
        // Where there is an alias, the name itself is never published.
        let name = if person.alias.is_some() {
            &person.alias
        } else {
            &person.name
        };
        let lkp = &report.lkp;
        Self {
            name: text(PublishedField::Name, name),
            age: person.age.filter(|_| allowed(PublishedField::Age)),
            sex: person.sex.filter(|_| allowed(PublishedField::Sex)),
            last_seen: allowed(PublishedField::LastSeen).then(|| {
                (
                    local(lkp.at, time_zone),
                    text(PublishedField::LastSeen, &lkp.place),
                )
            }),
            description: text(PublishedField::Description, &person.description),
            clothing: text(PublishedField::Clothing, &person.clothing),
            circumstances: text(PublishedField::Circumstances, &report.circumstances),
        }
    }
}

/// A moment as clocks there show it; in UTC, and saying so, where the zone is unknown.
fn local(at: Timestamp, time_zone: &str) -> Zoned {
    at.to_zoned(TimeZone::get(time_zone).unwrap_or(TimeZone::UTC))
}

fn title(words: &Words, kind: Kind, exercise: bool, shown: &Shown) -> String {
    let (who, anybody) = match kind {
        Kind::Issue => words.issue_title,
        Kind::Update => words.update_title,
        Kind::Recall => words.recall_title,
        Kind::Test => return words.test_title.to_owned(),
    };
    let prefix = if exercise { words.exercise_prefix } else { "" };
    let Some(name) = &shown.name else {
        return clip(&format!("{prefix}{anybody}"), TITLE_MAX);
    };
    let age = shown
        .age
        .filter(|_| kind != Kind::Recall)
        .map(words.age_apposition);
    let age = age.unwrap_or_default();
    let taken = [prefix, who, &age]
        .iter()
        .map(|part| length(part))
        .sum::<usize>()
        - WHO.len();
    let name = clip(name, TITLE_MAX.saturating_sub(taken));
    let title = format!("{prefix}{}", who.replacen(WHO, &format!("{name}{age}"), 1));
    clip(&title, TITLE_MAX)
}

/// Stands for the name in [`Words`].
const WHO: &str = "{who}";

fn body(words: &Words, kind: Kind, exercise: bool, shown: &Shown) -> String {
    let text = match (kind, exercise) {
        (Kind::Test, _) => words.test_body.to_owned(),
        (Kind::Recall, true) => words.exercise_over.to_owned(),
        (Kind::Recall, false) => {
            format!("{} {}", about(words.recall, shown), words.recall_thanks)
        }
        (Kind::Issue, _) => open_body(words, &about(words.issue, shown), exercise, shown),
        (Kind::Update, _) => open_body(words, &about(words.update, shown), exercise, shown),
    };
    clip(&text, BODY_MAX)
}

/// A sentence about the person by name, or about anybody.
fn about((who, anybody): (&str, &str), shown: &Shown) -> String {
    shown.name.as_deref().map_or_else(
        || anybody.to_owned(),
        |name| who.replacen(WHO, &clip(name, NAME_MAX), 1),
    )
}

/// The body while the person is missing: first sentence, facts, what to do. The first sentence and
/// what to do are always whole; long facts share the room that is left.
fn open_body(words: &Words, first: &str, exercise: bool, shown: &Shown) -> String {
    let lead = if exercise {
        format!("{} {first}", words.exercise_note)
    } else {
        first.to_owned()
    };
    let what_to_do = if exercise { "" } else { words.what_to_do };
    let mut left = BODY_MAX.saturating_sub(length(&lead) + 1 + length(what_to_do));
    let mut lines = vec![lead];
    for line in short_facts(words, shown) {
        left = left.saturating_sub(length(&line) + 1);
        lines.push(line);
    }
    let long = [
        (words.description, &shown.description),
        (words.clothing, &shown.clothing),
        (words.circumstances, &shown.circumstances),
    ];
    let mut to_come = long.iter().filter(|(_, text)| text.is_some()).count();
    for (label, text) in long {
        let Some(text) = text else { continue };
        let room = (left / to_come.max(1)).saturating_sub(length(label) + 1);
        to_come = to_come.saturating_sub(1);
        if room < WORTH_SAYING.min(length(text)) {
            continue;
        }
        let line = format!("{label}{}", clip(text, room));
        left = left.saturating_sub(length(&line) + 1);
        lines.push(line);
    }
    if !what_to_do.is_empty() {
        lines.push(what_to_do.to_owned());
    }
    lines.join("\n")
}

fn short_facts(words: &Words, shown: &Shown) -> Vec<String> {
    let age = shown
        .age
        .map(|age| format!("{}{}", words.age, (words.years)(age)));
    let sex = match shown.sex {
        Some(Sex::Female) => Some(words.sex.0),
        Some(Sex::Male) => Some(words.sex.1),
        Some(Sex::Other) | None => None,
    };
    let last_seen = shown.last_seen.as_ref().map(|(at, place)| {
        let mut text = (words.moment)(at);
        if *at.time_zone() == TimeZone::UTC {
            text.push_str(" UTC");
        }
        if let Some(place) = place {
            text.push_str(words.comma);
            text.push_str(place);
        }
        format!("{}{}", words.last_seen, clip(&text, LAST_SEEN_MAX))
    });
    [age, sex.map(str::to_owned), last_seen]
        .into_iter()
        .flatten()
        .collect()
}

/// Length in characters, as limits count it.
fn length(text: &str) -> usize {
    text.chars().count()
}

/// The text on one line, without control characters.
fn one_line(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    words
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// The text, or as much of it as fits with a sign that there was more.
fn clip(text: &str, max: usize) -> String {
    if length(text) <= max {
        return text.to_owned();
    }
    let kept: String = text.chars().take(max.saturating_sub(1)).collect();
    // A joiner at the end would wait for what was cut off.
    let kept = kept.trim_end_matches(|c: char| c.is_whitespace() || c == '\u{200d}');
    if max == 0 {
        String::new()
    } else {
        format!("{kept}…")
    }
}

#[cfg(test)]
#[path = "text_tests.rs"]
pub(super) mod tests;
