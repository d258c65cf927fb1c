//! What is wrong with a field, and the rules every text has to meet.

use serde::Serialize;

/// The field name of a problem with the body as a whole.
const BODY: &str = "(body)";

/// Something wrong in what was sent: the field, why, and what would be accepted.
///
/// It reads as one sentence, field first: "lkp.lat" "is 95, which is not on Earth". A text that was
/// sent is never repeated in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldProblem {
    /// The dotted path of the field, such as `lkp.lat`; `(body)` for the whole.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
    /// What would be accepted.
    pub accepted: String,
}

impl FieldProblem {
    /// A problem with a field.
    pub fn new(
        field: impl Into<String>,
        problem: impl Into<String>,
        accepted: impl Into<String>,
    ) -> Self {
        Self {
            field: field.into(),
            problem: problem.into(),
            accepted: accepted.into(),
        }
    }

    /// A problem with the body as a whole.
    pub fn of_body(problem: impl Into<String>, accepted: impl Into<String>) -> Self {
        Self::new(BODY, problem, accepted)
    }

    /// What kept JSON from being read, in the words of this service.
    #[must_use]
    pub fn of_json(error: &serde_path_to_error::Error<serde_json::Error>) -> Self {
        let inner = error.inner();
        let message = inner.to_string();
        if !inner.is_data() {
            return Self::of_body(format!("is no JSON: {message}"), "a JSON object");
        }
        let path = error.path().to_string();
        // A path that ends in the name of the field itself, as unknown and repeated ones do or not.
        let with = |name: &str| match path.as_str() {
            "." => name.to_owned(),
            path if path == name || path.ends_with(&format!(".{name}")) => path.to_owned(),
            path => format!("{path}.{name}"),
        };
        let message = message
            .rsplit_once(" at line ")
            .map_or(message.as_str(), |(text, _)| text);
        if let Some(name) = quoted_after(message, "missing field `") {
            return Self::new(with(name), "is missing", "a value; this field is required");
        }
        if let Some(name) = quoted_after(message, "duplicate field `") {
            return Self::new(with(name), "stands there twice", "each field once");
        }
        if let Some(name) = quoted_after(message, "unknown field `") {
            return Self::new(with(name), "is no field of this request", expected(message));
        }
        let field = if path == "." { BODY.to_owned() } else { path };
        let time = field
            .rsplit('.')
            .next()
            .is_some_and(|name| name == "at" || name.ends_with("_at"));
        if time {
            return Self::new(field, "is no time", "a time such as 2026-03-01T14:30:00Z");
        }
        let problem = problem_of(message);
        Self::new(field, problem, expected(message))
    }
}

/// The name between a prefix and the next back-tick.
fn quoted_after<'a>(message: &'a str, prefix: &str) -> Option<&'a str> {
    message.strip_prefix(prefix)?.split('`').next()
}

/// What serde found instead of what it looked for, without repeating what was sent.
fn problem_of(message: &str) -> String {
    let found = |text: &str| text.split([' ', ',']).next().unwrap_or_default().to_owned();
    if let Some(rest) = message.strip_prefix("invalid type: ") {
        let kind = match found(rest).as_str() {
            "null" => "null".to_owned(),
            "integer" => "a whole number".to_owned(),
            "floating" => "a number".to_owned(),
            "sequence" => "a list".to_owned(),
            "map" => "an object".to_owned(),
            kind => format!("a {kind}"),
        };
        return format!("is {kind}");
    }
    if message.starts_with("invalid value: ") || message.starts_with("unknown variant ") {
        return "has a value that is not accepted".to_owned();
    }
    let (problem, _) = message
        .split_once(", accepted are: ")
        .unwrap_or((message, ""));
    format!("is refused: {problem}")
}

/// What would have been accepted, out of serde's or our own message.
fn expected(message: &str) -> String {
    if let Some((_, names)) = message.rsplit_once(", accepted are: ") {
        return format!("one of {names}");
    }
    let Some((_, wanted)) = message.rsplit_once(", expected ") else {
        return "see /openapi.json".to_owned();
    };
    match wanted {
        "u8" => "a whole number from 0 to 255".to_owned(),
        "f64" => "a number".to_owned(),
        "a sequence" => "a list".to_owned(),
        wanted if wanted.starts_with("struct ") => "an object".to_owned(),
        wanted => wanted.replace('`', ""),
    }
}

/// Whether a text may have more than one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lines {
    /// One line.
    One,
    /// Any number of lines.
    Many,
}

/// Problems as they are found.
#[derive(Default)]
pub struct Problems(Vec<FieldProblem>);

impl Problems {
    /// Notes a problem.
    pub fn add(&mut self, field: &str, problem: impl Into<String>, accepted: impl Into<String>) {
        self.0.push(FieldProblem::new(field, problem, accepted));
    }

    /// Checks a text that must be there; true if nothing is wrong with it.
    pub fn text(&mut self, field: &str, text: &str, max: usize, lines: Lines) -> bool {
        let problem = if text.trim().is_empty() {
            "is empty".to_owned()
        } else if text.chars().any(|c| is_unprintable(c, lines)) {
            "has control characters".to_owned()
        } else {
            match text.chars().count() {
                length if length > max => format!("is {length} characters long"),
                _ => return true,
            }
        };
        let accepted = match lines {
            Lines::One => format!("1 to {max} printable characters on one line"),
            Lines::Many => format!("1 to {max} printable characters and line breaks"),
        };
        self.add(field, problem, accepted);
        false
    }

    /// Checks a text that may be left out, but not be empty.
    pub fn optional(&mut self, field: &str, text: Option<&str>, max: usize, lines: Lines) {
        if let Some(text) = text {
            self.text(field, text, max, lines);
        }
    }

    /// Everything noted.
    pub fn into_vec(self) -> Vec<FieldProblem> {
        self.0
    }

    /// Nothing was noted.
    ///
    /// # Errors
    /// Everything that was.
    pub fn none(self) -> Result<(), Vec<FieldProblem>> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(self.0)
        }
    }
}

/// Control characters, and the marks that make text read in another order than it is written.
fn is_unprintable(c: char, lines: Lines) -> bool {
    match c {
        '\n' => matches!(lines, Lines::One),
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}' => true,
        c => c.is_control(),
    }
}
