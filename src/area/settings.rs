//! The assumptions of the model as settings, so that an operator can refit them from closed cases.
//! Every number here is our own assumption unless its comment names a source.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::error::AreaError;
use crate::model::{Category, Mobility};

/// The assumptions that a plan rests on beside the distance table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Categories that move otherwise than [`Movement::shipped`] says.
    pub movement: BTreeMap<Category, Movement>,
    /// Share of the final distance covered after a share `x` of the moving time: `x` to this power.
    /// A half is diffusive and errs outward early.
    pub spread_exponent: f64,
    /// Top speed of somebody of reduced mobility, as a share of the category's.
    pub reduced_speed_factor: f64,
    /// Distances of somebody of reduced mobility, as a share of the table's.
    pub reduced_distance_factor: f64,
    /// Top speed of a manual wheelchair.
    pub wheelchair_manual_kmh: f64,
    /// Top speed of a powered wheelchair.
    pub wheelchair_powered_kmh: f64,
    /// An unknown adult of this age or more is planned for as dementia.
    pub dementia_from_age: u8,
    /// The least and the most that all known places together count for.
    pub known_places_share: [f64; 2],
    /// How far round a known place somebody is who went there: the standard deviation along each axis.
    pub known_place_sigma_km: f64,
    /// How much likelier the direction of travel is: the concentration of a von Mises distribution,
    /// 1 to 2. At 1.5 half of all people are within 41° of it.
    pub heading_concentration: f64,
    /// The slowest and the fastest that a vehicle takes somebody away in a straight line.
    pub vehicle_kmh: [f64; 2],
    /// The share of people said to have left by vehicle or public transport who did.
    pub vehicle_share: f64,
    /// The share of people who did so where there is only a sign of it.
    pub sign_of_vehicle_share: f64,
    /// What one alert does to cells of average density: of those who are there it leaves `exp(-effort)`
    /// unfound. Korean alerts led to a find in 24.3 to 35.9 % of cases [S], which is 0.278 to 0.445.
    pub alert_effort: f64,
    /// How long an alert takes to have that effect; Korea's took 4.6 h on average [S].
    pub alert_effort_h: f64,
    /// When the three waves are released, in minutes after verification.
    pub wave_delays_min: [u32; 3],
}

/// How long and how fast a category moves.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Movement {
    /// Scale of the Weibull distribution of the time that the person keeps moving, in hours.
    pub scale_h: f64,
    /// Shape of that distribution.
    pub shape: f64,
    /// Top speed.
    pub speed_kmh: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            movement: BTreeMap::new(),
            spread_exponent: 0.5,
            reduced_speed_factor: 0.6,
            reduced_distance_factor: 0.7,
            wheelchair_manual_kmh: 3.6,
            wheelchair_powered_kmh: 8.0,
            dementia_from_age: 65,
            known_places_share: [0.10, 0.25],
            known_place_sigma_km: 0.25,
            heading_concentration: 1.5,
            vehicle_kmh: [20.0, 30.0],
            vehicle_share: 0.8,
            sign_of_vehicle_share: 0.2,
            alert_effort: 0.3,
            alert_effort_h: 3.0,
            wave_delays_min: [0, 30, 120],
        }
    }
}

impl Movement {
    /// What is taken for a category unless the settings say otherwise.
    ///
    /// - Dementia: fitted to the Grampian times to find, a proxy; speed 1.04 + 1.645 x 0.28 m/s
    ///   (Wittwer 2010, Kasovic 2021).
    /// - Children: the mobility of 10 to 12 year olds [S] for all ages; speeds after Hausdorff 1999.
    ///   Autism and intellectual disability as children.
    /// - In town: the mobility of the despondent [S] for all adults.
    /// - Outdoors: the snowboarder's [S] stands in for all.
    #[must_use]
    pub const fn shipped(category: Category) -> Self {
        const CHILD: (f64, f64) = (3.946, 1.045);
        const TOWN: (f64, f64) = (3.519, 0.546_4);
        const OUTDOORS: (f64, f64) = (10.56, 1.267);
        let ((scale_h, shape), speed_kmh) = match category {
            Category::Dementia => ((1.989_66, 0.788_506), 5.4),
            Category::Child1To3 => (CHILD, 3.6),
            Category::Child4To6 | Category::IntellectualDisability => (CHILD, 5.4),
            Category::Child7To9 => (CHILD, 6.5),
            Category::Child10To12 | Category::Child13To15 | Category::Autism => (CHILD, 7.2),
            Category::Despondent
            | Category::MentalIllness
            | Category::SubstanceIntoxication
            | Category::Abduction
            | Category::UnknownAdult => (TOWN, 7.2),
            Category::Hiker
            | Category::Hunter
            | Category::Gatherer
            | Category::Camper
            | Category::Runner
            | Category::Climber
            | Category::Angler
            | Category::Atv
            | Category::HorsebackRider
            | Category::MountainBiker
            | Category::SkierAlpine
            | Category::SkierNordic
            | Category::Snowboarder => (OUTDOORS, 7.2),
        };
        Self {
            scale_h,
            shape,
            speed_kmh,
        }
    }
}

/// How one person moves: their category's movement with their mobility applied.
#[derive(Debug, Clone, PartialEq)]
pub struct Motion {
    /// Moving time and top speed.
    pub movement: Movement,
    /// What the table's distances are multiplied by.
    pub distance_factor: f64,
    /// What was assumed, in words.
    pub assumptions: Vec<String>,
}

impl Settings {
    /// Checks every number.
    ///
    /// # Errors
    /// [`AreaError::Setting`] with the setting's name, what was given and what is accepted.
    pub fn check(&self) -> Result<(), AreaError> {
        const FACTOR: (f64, f64, &str) = (0.1, 1.0, "0.1 to 1");
        const SPEED: (f64, f64, &str) = (0.5, 200.0, "0.5 to 200 km/h");
        const SHARE: (f64, f64, &str) = (0.0, 1.0, "a share, 0 to 1");
        const HOURS: (f64, f64, &str) = (0.01, 1_000.0, "0.01 to 1000 h");
        let [places_least, places_most] = self.known_places_share;
        let [slowest, fastest] = self.vehicle_kmh;
        for (name, given, accepted) in [
            ("spread_exponent", self.spread_exponent, FACTOR),
            ("reduced_speed_factor", self.reduced_speed_factor, FACTOR),
            (
                "reduced_distance_factor",
                self.reduced_distance_factor,
                FACTOR,
            ),
            ("wheelchair_manual_kmh", self.wheelchair_manual_kmh, SPEED),
            ("wheelchair_powered_kmh", self.wheelchair_powered_kmh, SPEED),
            (
                "known_places_share[0]",
                places_least,
                (0.0, 0.5, "0 to 0.5"),
            ),
            (
                "known_places_share[1]",
                places_most,
                (places_least, 0.5, "at least the first, and at most 0.5"),
            ),
            (
                "known_place_sigma_km",
                self.known_place_sigma_km,
                (0.01, 10.0, "0.01 to 10 km"),
            ),
            (
                "heading_concentration",
                self.heading_concentration,
                (1.0, 2.0, "1 to 2"),
            ),
            ("vehicle_kmh[0]", slowest, SPEED),
            (
                "vehicle_kmh[1]",
                fastest,
                (slowest, 200.0, "at least the first, and at most 200 km/h"),
            ),
            ("vehicle_share", self.vehicle_share, SHARE),
            ("sign_of_vehicle_share", self.sign_of_vehicle_share, SHARE),
            ("alert_effort", self.alert_effort, (0.0, 5.0, "0 to 5")),
            ("alert_effort_h", self.alert_effort_h, HOURS),
        ] {
            within(name, given, accepted)?;
        }
        for (category, movement) in &self.movement {
            for (name, given, accepted) in [
                ("scale_h", movement.scale_h, HOURS),
                ("shape", movement.shape, (0.2, 10.0, "0.2 to 10")),
                ("speed_kmh", movement.speed_kmh, SPEED),
            ] {
                within(&format!("movement.{category}.{name}"), given, accepted)?;
            }
        }
        if let Some(pair) = self
            .wave_delays_min
            .windows(2)
            .find(|pair| pair[0] > pair[1])
        {
            return Err(AreaError::Setting {
                name: "wave_delays_min".to_owned(),
                given: f64::from(pair[1]),
                accepted: "three delays of which none is shorter than the one before",
            });
        }
        Ok(())
    }

    /// How a person of this category and mobility moves.
    #[must_use]
    pub fn motion(&self, category: Category, mobility: Mobility) -> Motion {
        let mut movement = self
            .movement
            .get(&category)
            .copied()
            .unwrap_or_else(|| Movement::shipped(category));
        let mut assumptions = Vec::new();
        let mut distance_factor = 1.0;
        match mobility {
            Mobility::Normal => {}
            Mobility::Reduced => {
                let (speed, distance) = (self.reduced_speed_factor, self.reduced_distance_factor);
                movement.speed_kmh *= speed;
                distance_factor = distance;
                assumptions.push(format!(
                    "reduced mobility: speed x {speed}, distances x {distance}"
                ));
            }
            Mobility::WheelchairManual => movement.speed_kmh = self.wheelchair_manual_kmh,
            Mobility::WheelchairPowered => movement.speed_kmh = self.wheelchair_powered_kmh,
        }
        assumptions.push(format!(
            "half have stopped after {:.1} h (a Weibull law of scale {} h and shape {}); at most {} km/h",
            movement.scale_h * libm::pow(std::f64::consts::LN_2, 1.0 / movement.shape),
            movement.scale_h,
            movement.shape,
            movement.speed_kmh
        ));
        assumptions.push(format!(
            "distance grows as the moving time to the power {}",
            self.spread_exponent
        ));
        Motion {
            movement,
            distance_factor,
            assumptions,
        }
    }
}

fn within(
    name: &str,
    given: f64,
    (min, max, accepted): (f64, f64, &'static str),
) -> Result<(), AreaError> {
    if (min..=max).contains(&given) {
        return Ok(());
    }
    Err(AreaError::Setting {
        name: name.to_owned(),
        given,
        accepted,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_settings_are_within_bounds() {
        assert_eq!(Settings::default().check(), Ok(()));
        for &category in Category::ALL {
            let movement = BTreeMap::from([(category, Movement::shipped(category))]);
            assert_eq!(
                Settings {
                    movement,
                    ..Settings::default()
                }
                .check(),
                Ok(())
            );
        }
    }

    #[test]
    fn a_bad_setting_is_named() {
        let movement = Movement {
            shape: f64::NAN,
            ..Movement::shipped(Category::Hiker)
        };
        let settings = Settings {
            movement: BTreeMap::from([(Category::Hiker, movement)]),
            ..Settings::default()
        };
        let told = settings.check().unwrap_err().to_string();
        assert_eq!(
            told,
            "area setting movement.hiker.shape must be 0.2 to 10, not NaN"
        );

        let settings = Settings {
            wave_delays_min: [0, 60, 30],
            ..Settings::default()
        };
        assert!(
            settings
                .check()
                .unwrap_err()
                .to_string()
                .contains("wave_delays_min")
        );
    }

    #[test]
    fn settings_come_from_part_of_a_file() {
        let text = r#"{"movement":{"runner":{"scale_h":3,"shape":1,"speed_kmh":12}},
            "dementia_from_age":70}"#;
        let settings: Settings = serde_json::from_str(text).unwrap();
        assert_eq!(settings.dementia_from_age, 70);
        let runner = settings.motion(Category::Runner, Mobility::Normal).movement;
        assert_eq!(
            runner,
            Movement {
                scale_h: 3.0,
                shape: 1.0,
                speed_kmh: 12.0
            }
        );
        let hiker = settings.motion(Category::Hiker, Mobility::Normal).movement;
        assert_eq!(hiker, Movement::shipped(Category::Hiker));
        assert!(serde_json::from_str::<Settings>(r#"{"dementia_form_age":70}"#).is_err());
    }

    #[test]
    fn mobility_changes_speed_and_distance() {
        let motion = |mobility| Settings::default().motion(Category::Dementia, mobility);
        let reduced = motion(Mobility::Reduced);
        assert!((reduced.movement.speed_kmh - 3.24).abs() < 1e-12);
        assert!((reduced.distance_factor - 0.7).abs() < 1e-12);
        for (mobility, speed) in [
            (Mobility::WheelchairManual, 3.6),
            (Mobility::WheelchairPowered, 8.0),
        ] {
            let wheelchair = motion(mobility);
            assert!((wheelchair.movement.speed_kmh - speed).abs() < 1e-12);
            assert!((wheelchair.distance_factor - 1.0).abs() < 1e-12);
        }
    }
}
