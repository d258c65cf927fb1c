//! What the demo shows: lines on standard output that stay, and bars on the terminal that move.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use indicatif::{HumanCount, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::apps::Push;
use super::city::APPS;

/// Columns of a line.
const WIDTH: usize = 80;
/// Columns of the clock and the label before the text.
const MARGIN: usize = 24;
/// What stays with the figure before it.
const UNITS: [&str; 6] = ["%", "km", "h", "min", "s", "ms"];
/// Where nothing moves, how often it is said how far things are.
const SAY_EVERY: Duration = Duration::from_secs(1);

/// Says one line.
pub fn line(text: &str) {
    // Whoever reads it, such as `head`, may have seen enough; the story goes on.
    let _ = writeln!(std::io::stdout().lock(), "{}", text.trim_end());
}

/// Says that an app took a batch.
pub fn pushed(push: &Push) {
    let kind = push.alert.kind().as_str_name();
    let kind = kind.trim_start_matches("KIND_").to_lowercase();
    let title = push.alert.texts.first().map_or("", |text| &text.title);
    let name = APPS[push.app].0;
    line(&format!(
        "{name}: {} people, {kind}, \"{title}\"",
        push.people
    ));
}

/// Says a row of a table within a step.
pub fn row(name: &str, figure: u64, text: &str) {
    let figure = HumanCount(figure).to_string();
    let margin = " ".repeat(MARGIN);
    line(&format!("{margin}{name:<18}{figure:>8}  {text}"));
}

/// Where the story is told.
pub struct Screen {
    started: Instant,
    /// Colours may be used.
    colour: bool,
    /// Bars may be drawn.
    live: bool,
}

/// A way to set text off.
#[derive(Debug, Clone, Copy)]
pub enum Style {
    /// As it is.
    Plain,
    /// A label.
    Label,
    /// By the way.
    Aside,
    /// Of the first, second or third wave.
    Wave(u64),
}

impl Screen {
    /// The terminal, or whatever standard output is.
    #[must_use]
    pub fn new() -> Self {
        let terminal = std::io::stdout().is_terminal();
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            started: Instant::now(),
            colour: terminal && !dumb && !set("NO_COLOR"),
            live: terminal && !dumb && std::io::stderr().is_terminal(),
        }
    }

    /// Since the story began.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The beginning of a step: the time, its name, and what happens.
    pub fn step(&self, label: &str, text: &str) {
        line("");
        let clock = format!("{:6.1} s ", self.elapsed().as_secs_f64());
        let label = self.paint(Style::Label, &format!("{label:<14}"));
        let clock = self.paint(Style::Aside, &clock);
        self.wrapped(&format!("{clock} {label}"), text, Style::Plain);
    }

    /// More of a step.
    pub fn more(&self, text: &str) {
        self.wrapped(&" ".repeat(MARGIN), text, Style::Plain);
    }

    /// Something of a step that one may skip.
    pub fn aside(&self, text: &str) {
        self.wrapped(&" ".repeat(MARGIN), text, Style::Aside);
    }

    fn wrapped(&self, first: &str, text: &str, style: Style) {
        let mut margin = first.to_owned();
        for piece in wrap(text, WIDTH - MARGIN) {
            line(&format!("{margin}{}", self.paint(style, &piece)));
            margin = " ".repeat(MARGIN);
        }
    }

    /// Text in a style, on a terminal that has styles.
    #[must_use]
    pub fn paint(&self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Label => "1;36",
            Style::Aside => "2",
            Style::Wave(1) => "31",
            Style::Wave(2) => "33",
            Style::Wave(3) => "34",
            Style::Plain | Style::Wave(_) => return text.to_owned(),
        };
        if self.colour && !text.is_empty() {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// A bar for every app: how many of `owed` are done; `says` stands beside it.
    #[must_use]
    pub fn progress(
        &self,
        doing: &'static str,
        owed: [u64; APPS.len()],
        says: impl Fn(usize) -> String,
    ) -> Progress {
        let target = if self.live {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let all = MultiProgress::with_draw_target(target);
        let style = ProgressStyle::with_template(
            "{prefix:>23} {bar:25.cyan/black} {human_pos:>7}/{human_len:<7} {msg}",
        )
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━╸━");
        let bars = (0..APPS.len())
            .map(|app| {
                let bar = ProgressBar::new(owed[app]).with_style(style.clone());
                let bar = all.add(bar.with_prefix(APPS[app].0));
                bar.set_message(says(app));
                bar
            })
            .collect();
        Progress {
            all,
            bars,
            doing,
            owed: owed.iter().sum(),
            said: (!self.live).then(Instant::now),
        }
    }
}

/// How far every app is.
pub struct Progress {
    all: MultiProgress,
    bars: Vec<ProgressBar>,
    doing: &'static str,
    owed: u64,
    /// When a line last said how far things are, where no bar does.
    said: Option<Instant>,
}

impl Progress {
    /// The bar of an app.
    #[must_use]
    pub fn bar(&self, app: usize) -> ProgressBar {
        self.bars[app].clone()
    }

    /// An app has done some more.
    pub fn add(&mut self, app: usize, more: u64) {
        self.bars[app].inc(more);
        let due = self.said.is_some_and(|said| said.elapsed() >= SAY_EVERY);
        if due {
            self.said = Some(Instant::now());
            let done = self.bars.iter().map(ProgressBar::position).sum();
            let text = format!(
                "{}{} of {} {}",
                " ".repeat(MARGIN),
                HumanCount(done),
                HumanCount(self.owed),
                self.doing
            );
            line(&text);
        }
    }
}

impl Drop for Progress {
    /// Bars go away; what stays is said in lines.
    fn drop(&mut self) {
        for bar in &self.bars {
            bar.finish_and_clear();
        }
        let _ = self.all.clear();
    }
}

/// The words of a text in lines of at most so many characters; a figure and its unit stay together.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let bare = word.trim_end_matches(['.', ',', ')']);
        match words.last_mut() {
            Some(figure) if UNITS.contains(&bare) => {
                figure.push(' ');
                figure.push_str(word);
            }
            _ => words.push(word.to_owned()),
        }
    }
    let mut lines = vec![String::new()];
    for word in words {
        let Some(line) = lines.last_mut() else { break };
        if line.is_empty() {
            line.push_str(&word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(&word);
        } else {
            lines.push(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_wrapped_between_words() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("", 7), [""]);
        assert_eq!(wrap("within 95 % of", 9), ["within", "95 % of"]);
        assert_eq!(wrap("unbreakable yes", 4), ["unbreakable", "yes"]);
    }
}
