//! An invented city: who is where in which app, the same on every run.

use std::sync::Arc;

use indicatif::ProgressBar;
use jiff::{SignedDuration, Timestamp};

use crate::model::{Cell, InvalidPosition, Position, SUBSCRIBER_RESOLUTION};

/// Subscribers of all apps together.
pub const SUBSCRIBERS: usize = 200_000;
/// Degrees north and east of the city's centre, which is also where the person was last seen.
const CENTRE: (f64, f64) = (57.149_7, -2.094_3);
/// People thin out by a factor of e over this many km from the centre.
const THINS_OUT_KM: f64 = 2.0;
/// Nobody lives farther out.
const EDGE_KM: f64 = 25.0;
/// One degree of latitude.
const KM_PER_DEGREE: f64 = 111.195;
/// Lines in one piece of an upload.
const PIECE_LINES: usize = 500;

/// The share of people, in percent, who use two apps.
pub const IN_TWO_APPS: u64 = 8;
/// Of a hundred subscribers, so many opted out, ...
const OPTED_OUT: u64 = 4;
/// ... so many do not want to be disturbed just now ...
const MUTED: u64 = 3;
/// ... and so many were last seen more than a day ago.
const STALE: u64 = 6;

/// The partner apps: name, recipients a second, and share of the people in percent.
pub const APPS: [(&str, i64, u64); 3] = [
    ("demo-weather", 2_000, 50),
    ("demo-transit", 1_000, 30),
    ("demo-neighbours", 500, 20),
];

/// Everybody in the city, subscriber by subscriber.
pub struct City {
    subscribers: Vec<Subscriber>,
    /// How many people they are.
    pub people: usize,
}

struct Subscriber {
    cell: Cell,
    person: u64,
    app: usize,
    in_two_apps: bool,
    state: State,
    seen_before: SignedDuration,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Reachable,
    OptedOut,
    Muted,
}

impl City {
    /// Builds the city.
    ///
    /// # Errors
    /// [`InvalidPosition`] if its centre were too near a pole.
    pub fn build() -> Result<Self, InvalidPosition> {
        let centre = centre()?;
        let mut chance = Chance(1);
        let mut subscribers = Vec::with_capacity(SUBSCRIBERS);
        let mut people = 0;
        while subscribers.len() < SUBSCRIBERS {
            let cell = Cell::at(home(&mut chance, centre)?, SUBSCRIBER_RESOLUTION);
            let app = which_app(&mut chance);
            // The last place is for one subscriber only.
            let in_two_apps = chance.percent(IN_TWO_APPS) && subscribers.len() + 1 < SUBSCRIBERS;
            let person = chance.next();
            subscribers.push(subscriber(&mut chance, cell, person, app, in_two_apps));
            if in_two_apps {
                let other = (app + 1) % APPS.len();
                subscribers.push(subscriber(&mut chance, cell, person, other, true));
            }
            people += 1;
        }
        Ok(Self {
            subscribers,
            people,
        })
    }

    /// How many subscribers an app has.
    #[must_use]
    pub fn of_app(&self, app: usize) -> usize {
        self.subscribers.iter().filter(|one| one.app == app).count()
    }

    /// An app's subscribers as it uploads them, in pieces of many lines; moves the bar.
    pub fn upload(
        self: &Arc<Self>,
        app: usize,
        now: Timestamp,
        bar: ProgressBar,
    ) -> impl Iterator<Item = String> + Send + use<> {
        let city = Arc::clone(self);
        let mut place = 0;
        std::iter::from_fn(move || {
            let mut piece = String::with_capacity(PIECE_LINES * 128);
            let mut lines = 0;
            while lines < PIECE_LINES
                && let Some(one) = city.subscribers.get(place)
            {
                place += 1;
                if one.app == app {
                    piece.push_str(&one.line(now));
                    lines += 1;
                }
            }
            bar.inc(lines as u64);
            (lines > 0).then_some(piece)
        })
    }
}

impl Subscriber {
    /// One line of `PUT /v1/subscribers`.
    fn line(&self, now: Timestamp) -> String {
        let token = mix(self.person ^ (self.app as u64 + 1));
        let at = now - self.seen_before;
        let state = match self.state {
            State::Reachable => String::new(),
            State::OptedOut => r#","opt_out":true"#.to_owned(),
            State::Muted => {
                let until = now + SignedDuration::from_hours(6);
                format!(r#","muted_until":"{until}""#)
            }
        };
        let person_keys = if self.in_two_apps {
            format!(
                r#","person_keys":["{:016x}{:016x}"]"#,
                self.person,
                mix(self.person)
            )
        } else {
            String::new()
        };
        let cell = self.cell;
        format!(
            "{{\"token\":\"{token:016x}\",\"cell\":\"{cell}\",\"at\":\"{at}\"{state}{person_keys}}}\n"
        )
    }
}

fn subscriber(
    chance: &mut Chance,
    cell: Cell,
    person: u64,
    app: usize,
    in_two_apps: bool,
) -> Subscriber {
    let state = match chance.below(100) {
        n if n < OPTED_OUT => State::OptedOut,
        n if n < OPTED_OUT + MUTED => State::Muted,
        _ => State::Reachable,
    };
    // Stale or fresh beyond doubt: positions age in whole clock hours.
    let minutes = if chance.percent(STALE) {
        26 * 60 + chance.below(46 * 60)
    } else {
        chance.below(20 * 60)
    };
    let seen_before = SignedDuration::from_mins(i64::try_from(minutes).unwrap_or_default());
    Subscriber {
        cell,
        person,
        app,
        in_two_apps,
        state,
        seen_before,
    }
}

fn which_app(chance: &mut Chance) -> usize {
    let mut left = chance.below(100);
    for (app, (_, _, share)) in APPS.iter().enumerate() {
        if left < *share {
            return app;
        }
        left -= share;
    }
    0
}

/// The city's centre.
///
/// # Errors
/// [`InvalidPosition`] if it were not on Earth.
pub fn centre() -> Result<Position, InvalidPosition> {
    Position::new(CENTRE.0, CENTRE.1)
}

/// Where somebody is: in no special direction, the likelier the nearer to the centre.
fn home(chance: &mut Chance, centre: Position) -> Result<Position, InvalidPosition> {
    let (sin, cos) = libm::sincos(std::f64::consts::TAU * chance.fraction());
    let km = -THINS_OUT_KM * libm::log(chance.fraction() * chance.fraction());
    let km = km.min(EDGE_KM);
    beside(centre, km * sin, km * cos)
}

/// The place so many km east and north of another, as on a flat map.
///
/// # Errors
/// [`InvalidPosition`] if that is beyond a pole.
pub fn beside(at: Position, east_km: f64, north_km: f64) -> Result<Position, InvalidPosition> {
    let km_per_degree_east = KM_PER_DEGREE * libm::cos(at.lat().to_radians());
    Position::new(
        at.lat() + north_km / KM_PER_DEGREE,
        at.lon() + east_km / km_per_degree_east,
    )
}

/// Chance that repeats itself on every run: the generator `SplitMix64`.
struct Chance(u64);

impl Chance {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// From 0 to one less than the limit; the bias of the remainder does no harm here.
    const fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    const fn percent(&mut self, share: u64) -> bool {
        self.below(100) < share
    }

    /// Above 0, up to 1.
    fn fraction(&mut self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
        let steps = ((self.next() >> 11) + 1) as f64;
        steps / 9_007_199_254_740_992.0
    }
}

/// Scatters the bits of a number, each number to another one.
const fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::audience::sync;

    #[test]
    fn the_city_is_the_same_every_time_and_every_line_is_accepted() {
        let now: Timestamp = "2026-06-01T12:00:00Z".parse().unwrap();
        let (one, two) = (City::build().unwrap(), City::build().unwrap());
        assert_eq!(one.subscribers.len(), SUBSCRIBERS);
        let (one, two) = (Arc::new(one), Arc::new(two));
        let mut tokens = HashSet::new();
        for app in 0..APPS.len() {
            let lines: String = one.upload(app, now, ProgressBar::hidden()).collect();
            let again: String = two.upload(app, now, ProgressBar::hidden()).collect();
            assert!(lines == again);
            assert_eq!(lines.lines().count(), one.of_app(app));
            for line in lines.lines() {
                assert!(sync::parse(line.as_bytes(), now).is_ok(), "{line}");
                let token = line.split('"').nth(3).unwrap().to_owned();
                assert!(tokens.insert((app, token)));
            }
        }
        assert_eq!(tokens.len(), SUBSCRIBERS);
    }

    #[test]
    fn about_one_in_twelve_uses_two_apps() {
        let city = City::build().unwrap();
        let twice = SUBSCRIBERS - city.people;
        assert!((13_000..17_000).contains(&twice), "{twice}");
    }
}
