//! Positions on Earth and the datums maps give them in.

use serde::{Deserialize, Serialize};

/// A position in WGS 84, in degrees.
///
/// Read from JSON it may name the datum of the map it comes from; it is WGS 84 from then on. Its `Debug` form rounds to a tenth of a degree, so that an exact position never reaches a log.
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawPosition")]
pub struct Position {
    lat: f64,
    lon: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPosition {
    lat: f64,
    lon: f64,
    #[serde(default)]
    datum: Datum,
}

impl TryFrom<RawPosition> for Position {
    type Error = InvalidPosition;

    fn try_from(raw: RawPosition) -> Result<Self, Self::Error> {
        raw.datum.to_wgs84(raw.lat, raw.lon)
    }
}

/// A latitude or longitude that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum InvalidPosition {
    /// The latitude is not a number in -90..=90.
    #[error("latitude must be a number from -90 to 90, not {0}")]
    Latitude(f64),
    /// The longitude is not a number in -180..=180.
    #[error("longitude must be a number from -180 to 180, not {0}")]
    Longitude(f64),
}

impl Position {
    /// A position from degrees of latitude and longitude.
    ///
    /// # Errors
    /// [`InvalidPosition`] outside -90..=90 and -180..=180, and for numbers that are not finite.
    pub fn new(lat: f64, lon: f64) -> Result<Self, InvalidPosition> {
        if !(-90.0..=90.0).contains(&lat) {
            return Err(InvalidPosition::Latitude(lat));
        }
        if !(-180.0..=180.0).contains(&lon) {
            return Err(InvalidPosition::Longitude(lon));
        }
        Ok(Self { lat, lon })
    }

    /// Degrees north.
    #[must_use]
    pub const fn lat(self) -> f64 {
        self.lat
    }

    /// Degrees east.
    #[must_use]
    pub const fn lon(self) -> f64 {
        self.lon
    }
}

impl std::fmt::Debug for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Position(~{:.1}, ~{:.1})", self.lat, self.lon)
    }
}

/// The datum that coordinates were read in. Chinese web maps shift theirs by up to 700 m.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Datum {
    /// What satellites and most of the world use.
    #[default]
    Wgs84,
    /// The shifted datum of licensed Chinese maps.
    Gcj02,
    /// Baidu's further shift of GCJ-02.
    Bd09,
}

impl Datum {
    /// Turns coordinates of this datum into WGS 84.
    ///
    /// # Errors
    /// [`InvalidPosition`] if the coordinates are not on Earth.
    pub fn to_wgs84(self, lat: f64, lon: f64) -> Result<Position, InvalidPosition> {
        let given = Position::new(lat, lon)?;
        let (lat, lon) = match self {
            Self::Wgs84 => return Ok(given),
            Self::Gcj02 => gcj02_to_wgs84(lat, lon),
            Self::Bd09 => {
                let (lat, lon) = bd09_to_gcj02(lat, lon);
                gcj02_to_wgs84(lat, lon)
            }
        };
        Position::new(lat, lon)
    }
}

/// Undoes Baidu's shift: a fixed offset of (0.0065, 0.006) degrees and a small ripple of the polar form.
fn bd09_to_gcj02(lat: f64, lon: f64) -> (f64, f64) {
    const RIPPLE: f64 = std::f64::consts::PI * 3000.0 / 180.0;
    let (x, y) = (lon - 0.0065, lat - 0.006);
    let z = x.hypot(y) - 0.000_02 * libm::sin(y * RIPPLE);
    let theta = libm::atan2(y, x) - 0.000_003 * libm::cos(x * RIPPLE);
    (z * libm::sin(theta), z * libm::cos(theta))
}

/// Inverts [`wgs84_to_gcj02`] by fixed-point iteration; five rounds are far below a millimetre.
fn gcj02_to_wgs84(lat: f64, lon: f64) -> (f64, f64) {
    let mut guess = (lat, lon);
    for _ in 0..5 {
        let shifted = wgs84_to_gcj02(guess.0, guess.1);
        guess = (guess.0 + lat - shifted.0, guess.1 + lon - shifted.1);
    }
    guess
}

/// The published form of the GCJ-02 shift, on the Krasovsky 1940 ellipsoid.
fn wgs84_to_gcj02(lat: f64, lon: f64) -> (f64, f64) {
    use libm::{fabs, sin, sqrt};
    use std::f64::consts::PI;
    const AXIS_M: f64 = 6_378_245.0;
    const ECCENTRICITY_SQUARED: f64 = 0.006_693_421_622_965_943;
    let (x, y) = (lon - 105.0, lat - 35.0);
    let ripple = (20.0 * sin(6.0 * x * PI) + 20.0 * sin(2.0 * x * PI)) * 2.0 / 3.0;
    let north_m = -100.0
        + 2.0 * x
        + 3.0 * y
        + 0.2 * y * y
        + 0.1 * x * y
        + 0.2 * sqrt(fabs(x))
        + ripple
        + (20.0 * sin(y * PI) + 40.0 * sin(y / 3.0 * PI)) * 2.0 / 3.0
        + (160.0 * sin(y / 12.0 * PI) + 320.0 * sin(y * PI / 30.0)) * 2.0 / 3.0;
    let east_m = 300.0
        + x
        + 2.0 * y
        + 0.1 * x * x
        + 0.1 * x * y
        + 0.1 * sqrt(fabs(x))
        + ripple
        + (20.0 * sin(x * PI) + 40.0 * sin(x / 3.0 * PI)) * 2.0 / 3.0
        + (150.0 * sin(x / 12.0 * PI) + 300.0 * sin(x / 30.0 * PI)) * 2.0 / 3.0;
    let phi = lat.to_radians();
    let magic = 1.0 - ECCENTRICITY_SQUARED * sin(phi) * sin(phi);
    let meridian_m = AXIS_M * (1.0 - ECCENTRICITY_SQUARED) / (magic * sqrt(magic));
    let parallel_m = AXIS_M / sqrt(magic) * libm::cos(phi);
    (
        lat + (north_m / meridian_m).to_degrees(),
        lon + (east_m / parallel_m).to_degrees(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_off_the_earth_are_refused() {
        assert_eq!(
            Position::new(91.0, 0.0),
            Err(InvalidPosition::Latitude(91.0))
        );
        assert_eq!(
            Position::new(0.0, -180.5),
            Err(InvalidPosition::Longitude(-180.5))
        );
        assert!(Position::new(f64::NAN, 0.0).is_err());
        assert!(serde_json::from_str::<Position>(r#"{"lat":95,"lon":0}"#).is_err());
    }

    #[test]
    fn debug_does_not_tell_where_somebody_is() {
        let shown = format!("{:?}", Position::new(57.149_7, -2.094_3).unwrap());
        assert!(!shown.contains("57.14"), "{shown}");
    }

    #[test]
    fn chinese_datums_are_undone() {
        // Tiananmen: 39.90734, 116.39089 in WGS 84 is 39.90874, 116.39713 in GCJ-02 maps
        // and 39.91504, 116.40354 in BD-09 maps.
        for (datum, lat, lon) in [
            (Datum::Gcj02, 39.908_74, 116.397_13),
            (Datum::Bd09, 39.915_04, 116.403_54),
        ] {
            let wgs = datum.to_wgs84(lat, lon).unwrap();
            assert!(
                (wgs.lat() - 39.907_34).abs() < 2e-4,
                "{datum:?} {}",
                wgs.lat()
            );
            assert!(
                (wgs.lon() - 116.390_89).abs() < 2e-4,
                "{datum:?} {}",
                wgs.lon()
            );
        }
    }

    #[test]
    fn gcj02_round_trip_is_below_a_millimetre() {
        let (lat, lon) = wgs84_to_gcj02(31.23, 121.47);
        let back = gcj02_to_wgs84(lat, lon);
        assert!((back.0 - 31.23).abs() < 1e-9 && (back.1 - 121.47).abs() < 1e-9);
    }
}
