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
        within(
            "spread_exponent",
            self.spread_exponent,
            0.1,
            1.0,
            "0.1 to 1",
        )?;
        let factor = "0.1 to 1";
        within(
            "reduced_speed_factor",
            self.reduced_speed_factor,
            0.1,
            1.0,
            factor,
        )?;
        within(
            "reduced_distance_factor",
            self.reduced_distance_factor,
            0.1,
            1.0,
            factor,
        )?;
        let speed = "0.5 to 200 km/h";
        within(
            "wheelchair_manual_kmh",
            self.wheelchair_manual_kmh,
            0.5,
            200.0,
            speed,
        )?;
        within(
            "wheelchair_powered_kmh",
            self.wheelchair_powered_kmh,
            0.5,
            200.0,
            speed,
        )?;
        for (category, movement) in &self.movement {
            let name = |field: &str| format!("movement.{category}.{field}");
            within(
                &name("scale_h"),
                movement.scale_h,
                0.01,
                1_000.0,
                "0.01 to 1000 h",
            )?;
            within(&name("shape"), movement.shape, 0.2, 10.0, "0.2 to 10")?;
            within(&name("speed_kmh"), movement.speed_kmh, 0.5, 200.0, speed)?;
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
            "keeps moving for a time of Weibull scale {} h, shape {}; at most {} km/h",
            movement.scale_h, movement.shape, movement.speed_kmh
        ));
        assumptions.push(format!(
            "distance grows as the moving time to the power {}, on foot and in no direction",
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
    min: f64,
    max: f64,
    accepted: &'static str,
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
