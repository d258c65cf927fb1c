//! How the values of the plan's options are written.

use std::str::FromStr;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::area::SeenAt;
use crate::model::{KnownPlace, Position, UnknownName};

/// Takes the names of an enum, and lists them in the help and in errors.
pub fn one_of<T>(all: &[T], name: fn(T) -> &'static str) -> impl TypedValueParser<Value = T>
where
    T: Copy + FromStr<Err = UnknownName> + Send + Sync + 'static,
{
    PossibleValuesParser::new(all.iter().map(|one| name(*one))).try_map(|name| name.parse())
}

/// Latitude and longitude in degrees.
pub fn position(given: &str) -> Result<Position, String> {
    let degrees = |text: &str| text.trim().parse::<f64>().ok();
    let (lat, lon) = given
        .split_once(',')
        .and_then(|(lat, lon)| Some((degrees(lat)?, degrees(lon)?)))
        .ok_or("expected latitude and longitude in degrees, such as 57.1497,-2.0943")?;
    Position::new(lat, lon).map_err(|error| error.to_string())
}

/// A length in metres.
pub fn metres(given: &str) -> Result<f64, String> {
    let (number, scale) = match given.strip_suffix("km") {
        Some(number) => (number, 1_000.0),
        None => (given.strip_suffix('m').unwrap_or_default(), 1.0),
    };
    unsigned(number)
        .map(|number| number * scale)
        .ok_or_else(|| "expected a length such as 100m or 0.5km".to_owned())
}

/// A share in percent, given as a share of 1.
pub fn percent(given: &str) -> Result<f64, String> {
    unsigned(given)
        .filter(|percent| *percent > 0.0 && *percent < 100.0)
        .map(|percent| percent / 100.0)
        .ok_or_else(|| "expected percent, above 0 and below 100".to_owned())
}

/// A duration.
pub fn duration(given: &str) -> Result<Duration, String> {
    let wrong = || "expected a duration such as 90s, 30m, 2h, 1h30m or 1d".to_owned();
    let mut seconds = 0.0;
    let mut rest = given;
    let mut units = [('d', 86_400.0), ('h', 3_600.0), ('m', 60.0), ('s', 1.0)].into_iter();
    while !rest.is_empty() {
        let end = rest
            .find(|letter: char| letter.is_ascii_alphabetic())
            .ok_or_else(wrong)?;
        let (number, unit) = rest.split_at(end);
        // Each unit once, from the longest down.
        let (_, scale) = units
            .find(|(name, _)| unit.starts_with(*name))
            .ok_or_else(wrong)?;
        seconds += unsigned(number).ok_or_else(wrong)? * scale;
        rest = &unit[1..];
    }
    if given.is_empty() {
        return Err(wrong());
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}

/// A plain decimal number: no sign, no exponent.
fn unsigned(text: &str) -> Option<f64> {
    let plain = text
        .chars()
        .all(|letter| letter.is_ascii_digit() || letter == '.');
    if plain { text.parse().ok() } else { None }
}

/// A bearing in degrees.
pub fn bearing(given: &str) -> Result<f64, String> {
    unsigned(given)
        .filter(|degrees| *degrees <= 360.0)
        .ok_or_else(|| "expected degrees clockwise from north, 0 to 360".to_owned())
}

/// A place that the person knows.
pub fn known_place(given: &str) -> Result<KnownPlace, String> {
    let wrong = || "expected KIND,LAT,LON,WEIGHT such as home,57.16,-2.1,0.2".to_owned();
    let [kind, lat, lon, weight] = fields(given).ok_or_else(wrong)?;
    Ok(KnownPlace {
        kind: kind
            .parse()
            .map_err(|error: UnknownName| error.to_string())?,
        position: position(&format!("{lat},{lon}"))?,
        weight: share(weight)?,
    })
}

/// A report that the person was seen.
pub fn sighting(given: &str) -> Result<SeenAt, String> {
    let wrong = || {
        "expected LAT,LON,AFTER,CREDIBILITY,ACCURACY such as 57.16,-2.1,1h30m,0.8,100m".to_owned()
    };
    let [lat, lon, after, credibility, accuracy] = fields(given).ok_or_else(wrong)?;
    Ok(SeenAt {
        name: String::new(),
        position: position(&format!("{lat},{lon}"))?,
        accuracy_m: metres(accuracy)?,
        after: duration(after)?,
        credibility: share(credibility)?,
        false_reports_per_km2: None,
        withdrawn: false,
    })
}

fn fields<const N: usize>(given: &str) -> Option<[&str; N]> {
    let all: Vec<&str> = given.split(',').map(str::trim).collect();
    all.try_into().ok()
}

fn share(given: &str) -> Result<f64, String> {
    unsigned(given)
        .filter(|share| *share <= 1.0)
        .ok_or_else(|| format!("expected a probability, 0 to 1, not '{given}'"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PlaceKind;

    #[test]
    fn durations() {
        for (given, seconds) in [
            ("90s", 90),
            ("30m", 1_800),
            ("2h", 7_200),
            ("1h30m", 5_400),
            ("1d", 86_400),
            ("0m", 0),
        ] {
            assert_eq!(duration(given), Ok(Duration::from_secs(seconds)), "{given}");
        }
        assert_eq!(duration("1.5h"), Ok(Duration::from_mins(90)));
        for given in [
            "",
            "2",
            "h",
            "30m1h",
            "1h1h",
            "-1h",
            "2x",
            "1e3s",
            "2hé",
            "9999999999999999999999d",
        ] {
            assert!(duration(given).is_err(), "{given}");
        }
    }

    #[test]
    fn lengths() {
        assert_eq!(metres("100m").map(f64::to_bits), Ok(100.0_f64.to_bits()));
        assert_eq!(metres("0.5km").map(f64::to_bits), Ok(500.0_f64.to_bits()));
        for given in ["", "m", "km", "100", "-5m", "1e3m", "infm", "NaNkm"] {
            assert!(metres(given).is_err(), "{given}");
        }
    }

    #[test]
    fn places_and_sightings() {
        let home = known_place("home, 57.16, -2.1, 0.2").unwrap();
        assert_eq!(home.kind, PlaceKind::Home);
        assert_eq!(home.position, Position::new(57.16, -2.1).unwrap());
        let seen = sighting("-57.16,-2.1,1h30m,0.8,100m").unwrap();
        assert_eq!(seen.after, Duration::from_mins(90));
        assert_eq!(
            [seen.credibility, seen.accuracy_m].map(f64::to_bits),
            [0.8, 100.0].map(f64::to_bits)
        );
        for (told, part) in [
            (
                known_place("home,57.16,-2.1").unwrap_err(),
                "KIND,LAT,LON,WEIGHT",
            ),
            (
                known_place("pub,57.16,-2.1,0.2").unwrap_err(),
                "former_home",
            ),
            (known_place("home,97.16,-2.1,0.2").unwrap_err(), "-90 to 90"),
            (
                sighting("57.16,-2.1,1h30m,1.8,100m").unwrap_err(),
                "a probability, 0 to 1, not '1.8'",
            ),
            (
                sighting("57.16,-2.1,soon,0.8,100m").unwrap_err(),
                "expected a duration",
            ),
            (bearing("north").unwrap_err(), "clockwise from north"),
        ] {
            assert!(told.contains(part), "{told}");
        }
    }
}
