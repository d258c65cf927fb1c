//! The rules of intake, one function per part of the filing.

use std::ops::RangeInclusive;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use unicode_normalization::UnicodeNormalization as _;

use super::problem::{Lines, Problems};
use super::{
    ACCURACY_M, ADULT_AGE, AGE_MAX, CIRCUMSTANCES_MAX, CLOCK_SKEW, CLOTHING_MAX, DESCRIPTION_MAX,
    KNOWN_PLACES_MAX, LAST_SEEN_MAX, NAME_MAX, PHONE_MAX, PLACE_MAX, REFERENCE_MAX,
};
use crate::model::{
    Category, Clues, Consent, Contact, FiledPosition, Language, Person, Position, Profile,
    PublishedField,
};

/// The fields by which people can recognise somebody.
const RECOGNISABLE: [PublishedField; 4] = [
    PublishedField::Name,
    PublishedField::Description,
    PublishedField::Clothing,
    PublishedField::Photo,
];
/// Fewest digits that can be a telephone number (the shortest are emergency numbers).
const PHONE_DIGITS_MIN: usize = 3;
/// A text with so many of the last digits of a telephone number has the number in it; shorter ones
/// may be house numbers or years.
const PHONE_DIGITS_TELLING: usize = 7;
/// Oldest age in any category of children.
const CHILD_AGE_MAX: u8 = 15;

/// The ages that belong to a category of children.
const fn child_ages(category: Category) -> Option<RangeInclusive<u8>> {
    match category {
        // Babies have no category of their own.
        Category::Child1To3 => Some(0..=3),
        Category::Child4To6 => Some(4..=6),
        Category::Child7To9 => Some(7..=9),
        Category::Child10To12 => Some(10..=12),
        Category::Child13To15 => Some(13..=15),
        _ => None,
    }
}

/// The category of children that an age belongs to.
fn child_category(age: u8) -> Option<Category> {
    Category::ALL
        .iter()
        .copied()
        .find(|category| child_ages(*category).is_some_and(|ages| ages.contains(&age)))
}

/// Whether publishing about this person needs a legal basis: a child by age or by category.
#[must_use]
pub fn is_minor(profile: Profile) -> bool {
    profile.age.is_some_and(|age| age < ADULT_AGE) || child_ages(profile.category).is_some()
}

/// Whether the report has anything to publish in a field.
fn is_filled(person: &Person, field: PublishedField) -> bool {
    match field {
        PublishedField::Name => person.name.is_some() || person.alias.is_some(),
        PublishedField::Description => person.description.is_some(),
        PublishedField::Clothing => person.clothing.is_some(),
        PublishedField::Photo => person.photo_reference.is_some(),
        _ => false,
    }
}

/// Whether people can recognise the person by what may be published and was reported.
#[must_use]
pub fn is_recognisable(person: &Person, consent: &Consent) -> bool {
    RECOGNISABLE
        .iter()
        .any(|field| consent.publish.contains(field) && is_filled(person, *field))
}

pub fn person(problems: &mut Problems, person: &Person) {
    if person.name.is_none() && person.alias.is_none() {
        problems.add(
            "person.name",
            "is missing, and so is person.alias",
            "a name, or an alias to use in its place",
        );
    }
    let one = Lines::One;
    problems.optional("person.name", person.name.as_deref(), NAME_MAX, one);
    problems.optional("person.alias", person.alias.as_deref(), NAME_MAX, one);
    looks(
        problems,
        "person.",
        [
            &person.description,
            &person.clothing,
            &person.photo_reference,
        ],
    );
}

/// Checks description, clothing and photo reference, whose fields begin with `at`.
pub fn looks(problems: &mut Problems, at: &str, looks: [&Option<String>; 3]) {
    let [description, clothing, photo] = looks.map(Option::as_deref);
    let field = |name| format!("{at}{name}");
    problems.optional(
        &field("description"),
        description,
        DESCRIPTION_MAX,
        Lines::Many,
    );
    problems.optional(&field("clothing"), clothing, CLOTHING_MAX, Lines::Many);
    problems.optional(&field("photo_reference"), photo, REFERENCE_MAX, Lines::One);
}

/// Checks the account of what happened.
pub fn circumstances(problems: &mut Problems, text: Option<&str>) {
    problems.optional("circumstances", text, CIRCUMSTANCES_MAX, Lines::Many);
}

pub fn age(problems: &mut Problems, profile: Profile) {
    let Some(age) = profile.age else { return };
    if age > AGE_MAX {
        problems.add(
            "person.age",
            format!("is {age}"),
            format!("0 to {AGE_MAX}, or leave it out"),
        );
        return;
    }
    let fitting = child_category(age).map_or_else(
        || format!("a category for adults; children's end at {CHILD_AGE_MAX}"),
        |category| format!("{category} for this age, or a category that has no ages"),
    );
    let category = profile.category;
    if child_ages(category).is_some_and(|ages| !ages.contains(&age)) {
        problems.add(
            "category",
            format!("is {category}, but the age is {age}"),
            fitting,
        );
    } else if category == Category::UnknownAdult && age <= CHILD_AGE_MAX {
        problems.add(
            "category",
            format!("is for adults, but the age is {age}"),
            fitting,
        );
    }
}

pub fn lkp(problems: &mut Problems, lkp: &FiledPosition, now: Timestamp) -> Option<Position> {
    problems.optional("lkp.place", lkp.place.as_deref(), PLACE_MAX, Lines::One);
    if !ACCURACY_M.contains(&lkp.accuracy_m) {
        problems.add(
            "lkp.accuracy_m",
            format!("is {}", lkp.accuracy_m),
            format!("{} to {} metres", ACCURACY_M.start(), ACCURACY_M.end()),
        );
    }
    let age = now.duration_since(lkp.at);
    if age < -CLOCK_SKEW {
        problems.add(
            "lkp.at",
            "is in the future",
            "a time that has passed, with its UTC offset",
        );
    } else if age > LAST_SEEN_MAX {
        let days = LAST_SEEN_MAX.as_hours() / 24;
        problems.add(
            "lkp.at",
            "is too long ago",
            format!("a time in the last {days} days"),
        );
    }
    let lat = degrees(problems, "lkp.lat", lkp.lat, 90.0);
    let lon = degrees(problems, "lkp.lon", lkp.lon, 180.0);
    if !(lat && lon) {
        return None;
    }
    let position = lkp.datum.to_wgs84(lkp.lat, lkp.lon);
    if position.is_err() {
        problems.add(
            "lkp.datum",
            "moves the position off the map",
            "wgs84, unless the map is Chinese",
        );
    }
    position.ok()
}

/// Checks what is said of where the person may have gone.
pub fn clues(problems: &mut Problems, clues: &Clues) {
    if let Some(heading) = clues.heading_deg
        && !(0.0..=360.0).contains(&heading)
    {
        problems.add(
            "clues.heading_deg",
            format!("is {heading}"),
            "0 to 360 degrees clockwise from north",
        );
    }
    let places = &clues.known_places;
    if places.len() > KNOWN_PLACES_MAX {
        problems.add(
            "clues.known_places",
            format!("are {} places", places.len()),
            format!("at most {KNOWN_PLACES_MAX}, the likeliest"),
        );
    }
    for (i, place) in places.iter().enumerate() {
        if !(0.0..=1.0).contains(&place.weight) {
            problems.add(
                &format!("clues.known_places[{i}].weight"),
                format!("is {}", place.weight),
                "how likely the person is there, 0 to 1",
            );
        }
    }
}

fn degrees(problems: &mut Problems, field: &str, degrees: f64, limit: f64) -> bool {
    let good = (-limit..=limit).contains(&degrees);
    if !good {
        problems.add(
            field,
            format!("is {degrees}, which is not on Earth"),
            format!("a number from -{limit} to {limit}"),
        );
    }
    good
}

/// Checks whom to call.
pub fn contact(problems: &mut Problems, contact: &Contact) {
    problems.text("contact.name", &contact.name, NAME_MAX, Lines::One);
    problems.optional(
        "contact.relation",
        contact.relation.as_deref(),
        REFERENCE_MAX,
        Lines::One,
    );
    if problems.text("contact.phone", &contact.phone, PHONE_MAX, Lines::One)
        && contact.phone.chars().filter(|c| c.is_numeric()).count() < PHONE_DIGITS_MIN
    {
        problems.add(
            "contact.phone",
            "is no telephone number",
            format!("at least {PHONE_DIGITS_MIN} digits, such as +44 20 7946 0000"),
        );
    }
}

/// Checks that somebody agreed, to enough for people to recognise the person, and lawfully.
pub fn consent(problems: &mut Problems, consent: &Consent, person: &Person, profile: Profile) {
    problems.text(
        "consent.given_by",
        &consent.given_by,
        REFERENCE_MAX,
        Lines::One,
    );
    let legal_basis = consent.legal_basis.as_deref();
    problems.optional(
        "consent.legal_basis",
        legal_basis,
        REFERENCE_MAX,
        Lines::One,
    );
    if legal_basis.is_none() && is_minor(profile) {
        problems.add(
            "consent.legal_basis",
            "is missing, and the person is a minor",
            "the law or order that allows publication",
        );
    }
    if let Some(twice) = repeated(&consent.publish) {
        problems.add(
            "consent.publish",
            format!("names {twice} twice"),
            "each field once",
        );
    }
    if !is_recognisable(person, consent) {
        problems.add(
            "consent.publish",
            "leaves nothing that people could recognise the person by",
            "at least one of name, description, clothing, photo that the report fills in",
        );
    }
}

/// Checks that no text people may read has the telephone number of the contact in it.
pub fn phone_stays_private(
    problems: &mut Problems,
    phone: &str,
    texts: &[(&'static str, Option<&str>)],
) {
    let digits = |text: &str| text.nfkc().filter(|c| c.is_numeric()).collect::<Vec<_>>();
    let phone = digits(phone);
    let Some(telling) = phone
        .len()
        .checked_sub(PHONE_DIGITS_TELLING)
        .map(|at| &phone[at..])
    else {
        return;
    };
    for (field, text) in texts {
        let text = text.map(digits).unwrap_or_default();
        if text.windows(telling.len()).any(|run| run == telling) {
            problems.add(
                field,
                "has the contact's telephone number in it",
                "the text without the number, which is never published",
            );
        }
    }
}

pub fn languages(problems: &mut Problems, languages: &[Language]) {
    let known = || format!("any of {}, each once", names(Language::ALL));
    if languages.is_empty() {
        problems.add("languages", "is empty", known());
    } else if let Some(twice) = repeated(languages) {
        problems.add("languages", format!("names {twice} twice"), known());
    }
}

pub fn time_zone(
    problems: &mut Problems,
    filed: Option<&str>,
    agency_time_zone: &str,
) -> Option<String> {
    let given = filed.unwrap_or(agency_time_zone);
    let zone = TimeZone::get(given).ok().filter(|zone| !zone.is_unknown());
    if zone.is_none() {
        let problem = if filed.is_some() {
            "is no known time zone"
        } else {
            "was left out, and the agency's own time zone is unknown"
        };
        problems.add("time_zone", problem, "an IANA name such as Europe/London");
    }
    zone?.iana_name().map(str::to_owned)
}

/// The first value that stands in a list more than once.
fn repeated<T: PartialEq + Copy>(list: &[T]) -> Option<T> {
    list.iter()
        .enumerate()
        .find(|(i, one)| list[..*i].contains(one))
        .map(|(_, one)| *one)
}

fn names(languages: &[Language]) -> String {
    languages
        .iter()
        .map(|language| language.name())
        .collect::<Vec<_>>()
        .join(", ")
}
