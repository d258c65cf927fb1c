//! Comparing names and descriptions across spellings, word orders and scripts.

use std::collections::BTreeSet;

use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;

/// Fewest terms in a description that can be compared.
const TERMS_MIN: usize = 3;
/// Shorter words (a, the, der, la) say nothing.
const WORD_MIN: usize = 3;
/// What a name loses if the other one has more parts: a single common first name is not the person.
const PART_MISSING: f64 = 0.05;

/// The likeness of the two names most alike, 0 to 1; none if no two are in scripts that can be
/// compared.
pub fn name_likeness(a: &[&str], b: &[&str]) -> Option<f64> {
    let pairs = a
        .iter()
        .flat_map(|a| b.iter().map(move |b| (parts(a), parts(b))));
    pairs
        .filter_map(|(a, b)| parts_likeness(&a, &b))
        .max_by(f64::total_cmp)
}

/// The parts of a name in plain lower-case letters, sorted.
fn parts(name: &str) -> Vec<String> {
    let plain = plain(name);
    let mut parts: Vec<String> = plain
        .split(|c: char| !c.is_alphanumeric())
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect();
    parts.sort_unstable();
    parts
}

fn parts_likeness(a: &[String], b: &[String]) -> Option<f64> {
    let latin = |parts: &[String]| parts.iter().all(|part| part.is_ascii());
    if a.is_empty() || b.is_empty() || latin(a) != latin(b) {
        return None;
    }
    // By their letters if they have as many: which was filed first does not matter.
    let (few, many) = if (a.len(), a) <= (b.len(), b) {
        (a, b)
    } else {
        (b, a)
    };
    let whole = strsim::jaro_winkler(&few.concat(), &many.concat());
    let by_part = if few.len() < many.len() {
        all_among(few, many) - PART_MISSING
    } else {
        all_among(few, many).min(all_among(many, few))
    };
    // Joined words of different order are alike by chance: parts decide if there are several.
    Some(if few.len() > 1 {
        by_part
    } else {
        whole.max(by_part)
    })
}

/// How well each of these parts is found among the others, on average.
fn all_among(parts: &[String], others: &[String]) -> f64 {
    let best = |part: &String| {
        let alike = others.iter().map(|other| strsim::jaro_winkler(part, other));
        alike.fold(0.0, f64::max)
    };
    #[expect(
        clippy::cast_precision_loss,
        reason = "a name has a few dozen parts at most"
    )]
    let count = parts.len() as f64;
    parts.iter().map(best).sum::<f64>() / count
}

/// How many of the words of two descriptions are the same, 0 to 1 (Dice); none if there are too few.
pub fn text_likeness(a: &[&str], b: &[&str]) -> Option<f64> {
    let (a, b) = (terms(a), terms(b));
    if a.len().min(b.len()) < TERMS_MIN {
        return None;
    }
    let common = a.intersection(&b).count();
    #[expect(
        clippy::cast_precision_loss,
        reason = "a description has a few hundred words at most"
    )]
    let likeness = 2.0 * common as f64 / (a.len() + b.len()) as f64;
    Some(likeness)
}

/// Words, and pairs of characters where words are not set apart.
fn terms(texts: &[&str]) -> BTreeSet<String> {
    let mut terms = BTreeSet::new();
    for text in texts {
        for word in plain(text).split(|c: char| !c.is_alphanumeric()) {
            let letters: Vec<char> = word.chars().collect();
            if letters.iter().any(|c| is_unspaced(*c)) {
                terms.extend(
                    letters
                        .windows(2)
                        .map(|pair| pair.iter().collect::<String>()),
                );
            } else if letters.len() >= WORD_MIN {
                terms.insert(word.to_owned());
            }
        }
    }
    terms
}

/// Scripts that do not set words apart: Thai to Khmer, kana, Han.
const fn is_unspaced(c: char) -> bool {
    matches!(c, '\u{0e00}'..='\u{0eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}'
        | '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{20000}'..='\u{3ffff}')
}

/// Lower case, one form per character, no accents, Cyrillic and Greek in Latin letters.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let lower = text.nfkc().flat_map(char::to_lowercase);
    // й is и with an accent to Unicode, but not to a reader; so letters are looked up before.
    for c in lower {
        match latin(c) {
            Some(letters) => plain.push_str(letters),
            None => {
                for base in std::iter::once(c).nfd().filter(|c| !is_combining_mark(*c)) {
                    match latin(base) {
                        Some(letters) => plain.push_str(letters),
                        None => plain.push(base),
                    }
                }
            }
        }
    }
    plain
}

/// Letters that do not decompose, or belong to another alphabet, as they are commonly transcribed.
fn latin(c: char) -> Option<&'static str> {
    const FROM: &str = "ßæœøłđðþıабвгдежзийклмнопрстуфхцчшщъыьэюяёіїєґαβγδεζηθικλμνξοπρσςτυφχψω";
    const TO: [&str; 71] = [
        "ss", "ae", "oe", "o", "l", "d", "d", "th", "i", "a", "b", "v", "g", "d", "e", "zh", "z",
        "i", "i", "k", "l", "m", "n", "o", "p", "r", "s", "t", "u", "f", "kh", "ts", "ch", "sh",
        "shch", "", "y", "", "e", "yu", "ya", "e", "i", "i", "e", "g", "a", "v", "g", "d", "e",
        "z", "i", "th", "i", "k", "l", "m", "n", "x", "o", "p", "r", "s", "s", "t", "y", "f", "ch",
        "ps", "o",
    ];
    let place = FROM.chars().position(|from| from == c)?;
    TO.get(place).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_letters_is_in_step() {
        for (letter, latin_letters) in [
            ('ß', "ss"),
            ('ı', "i"),
            ('а', "a"),
            ('й', "i"),
            ('щ', "shch"),
            ('ь', ""),
            ('я', "ya"),
            ('ґ', "g"),
            ('α', "a"),
            ('ξ', "x"),
            ('ω', "o"),
        ] {
            assert_eq!(latin(letter), Some(latin_letters), "{letter}");
        }
        assert_eq!(latin('a'), None);
    }

    #[test]
    fn two_parts_alike_are_not_found_in_one() {
        let (alike, other) = (&["Abc Abd"], &["Abc Xyz"]);
        let likeness = name_likeness(alike, other).unwrap();
        assert!(likeness < 0.6, "{likeness}");
        assert_eq!(name_likeness(other, alike), Some(likeness));
        assert_eq!(name_likeness(&["Xyz Abc"], other), Some(1.0));
    }

    #[test]
    fn text_becomes_plain() {
        assert_eq!(
            plain("ÉCOLE Ｆｕｌｌ Йод Ёж Ώρα ガ"),
            "ecole full iod ezh ora カ"
        );
    }
}
