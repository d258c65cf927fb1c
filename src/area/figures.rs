//! Which figures apply to a person, and what had to be assumed to find them.

use h3o::Resolution;
use serde::{Deserialize, Serialize};

use super::cells;
use super::distances::{Chosen, DistanceTable};
use super::error::AreaError;
use super::inputs::PlanInputs;
use super::law::StaticLaw;
use super::mixture::Mover;
use super::policy;
use super::settings::{Movement, Settings};
use crate::model::{Category, Environment, Policy, Profile, Transport};

/// The figures that apply to the person, as they were looked up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Basis {
    /// The category whose figures were taken.
    pub category: Category,
    /// The environment of the row that was taken; none where it is the category's one row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Environment>,
    /// The distances in km within which 25, 50 and 75 % were found in the end, mobility included.
    pub quartiles_km: [f64; 3],
    /// That of 95 %; none for an abduction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r95_km: Option<f64>,
    /// Where the row comes from.
    pub source: String,
    /// How long and fast the person moves; none where a vehicle has taken them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub movement: Option<Movement>,
}

/// A [`Basis`] with how it was found.
pub struct Figures {
    /// The figures.
    pub basis: Basis,
    /// The policy that the area is released by.
    pub policy: Option<Policy>,
    assumptions: Vec<String>,
}

/// How fine a map is and how far it goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Extent {
    /// The resolution of its cells.
    pub resolution: Resolution,
    /// How far from each centre it goes at most, however many cells it could take.
    pub most_km: f64,
    /// The resolution of the cells that can only be reached by vehicle, coarser or the same.
    pub ridden: Resolution,
}

impl Figures {
    /// Looks them up. An abduction, which has no 95 % distance, goes by the policy for it; and who
    /// was abducted by vehicle goes by the figures for abductions.
    ///
    /// # Errors
    /// [`AreaError::NoRow`] where the table has no row for the profile.
    pub fn find(
        table: &DistanceTable,
        settings: &Settings,
        inputs: &PlanInputs,
    ) -> Result<Self, AreaError> {
        let given = inputs.profile;
        if inputs.policy.is_none() && given.category != Category::Abduction {
            return Self::moving(table, settings, given);
        }
        let profile = Profile {
            category: Category::Abduction,
            ..given
        };
        let Chosen {
            category,
            environment,
            quartiles_km,
            r95_km,
            source,
            mut assumptions,
        } = table.row(&profile, settings.dementia_from_age)?;
        assumptions.push(
            "abducted by vehicle: circles of 100 km up to 1 h, 200 km up to 2 h, 300 km up to 3 h, then 500 km; \
             distances do not depend on time or mobility".to_owned(),
        );
        let basis = Basis {
            category,
            environment,
            quartiles_km,
            r95_km,
            source: source.to_owned(),
            movement: None,
        };
        Ok(Self {
            basis,
            policy: Some(Policy::AbductionByVehicle),
            assumptions,
        })
    }

    fn moving(
        table: &DistanceTable,
        settings: &Settings,
        profile: Profile,
    ) -> Result<Self, AreaError> {
        let chosen = table.row(&profile, settings.dementia_from_age)?;
        let motion = settings.motion(chosen.category, profile.mobility);
        let mut assumptions = chosen.assumptions;
        assumptions.extend(motion.assumptions);
        let basis = Basis {
            category: chosen.category,
            environment: chosen.environment,
            quartiles_km: chosen.quartiles_km.map(|km| km * motion.distance_factor),
            r95_km: chosen.r95_km.map(|km| km * motion.distance_factor),
            source: chosen.source.to_owned(),
            movement: Some(motion.movement),
        };
        Ok(Self {
            basis,
            policy: None,
            assumptions,
        })
    }

    /// How the person moves by these figures.
    #[must_use]
    pub fn mover<'a>(&self, settings: &'a Settings, inputs: &'a PlanInputs) -> Mover<'a> {
        Mover {
            law: StaticLaw::through(self.basis.quartiles_km, self.basis.r95_km),
            movement: self.basis.movement,
            settings,
            inputs,
        }
    }

    /// How fine the map is and how far it goes.
    #[must_use]
    pub fn extent(&self, mover: &Mover, now_h: f64) -> Extent {
        let [.., static_r75_km] = self.basis.quartiles_km;
        if self.policy.is_some() {
            let resolution = cells::resolution(static_r75_km, policy::WIDEST_KM);
            return Extent {
                resolution,
                most_km: policy::WIDEST_KM,
                ridden: resolution,
            };
        }
        let resolution = cells::resolution(static_r75_km, mover.law.quantile(0.95));
        let [_, fastest_km] = mover.ride_km(now_h);
        Extent {
            resolution,
            most_km: f64::INFINITY,
            ridden: cells::resolution(static_r75_km, fastest_km).min(resolution),
        }
    }

    /// The farthest in km that anybody is taken to be after so many hours, by a policy.
    #[must_use]
    pub fn most_km(&self, hours: f64) -> f64 {
        match self.policy {
            Some(Policy::AbductionByVehicle) => policy::radius_km(hours),
            None => f64::INFINITY,
        }
    }

    /// Every fallback taken and assumption made for a plan, in words.
    #[must_use]
    pub fn assumptions(&self, mover: &Mover, now_h: f64) -> Vec<String> {
        let mut all = self.assumptions.clone();
        let (settings, inputs) = (mover.settings, mover.inputs);
        let [slow, fast] = settings.vehicle_kmh;
        match (mover.movement, inputs.transport) {
            (None, _) => {}
            (_, Transport::OnFoot) => all.push("on foot".to_owned()),
            (_, Transport::Unknown) => all.push("on foot: there is no sign of a vehicle".to_owned()),
            (_, Transport::SignOfVehicle | Transport::VehicleOrTransit) => all.push(format!(
                "by vehicle with a probability of {}: in a straight line {slow} to {fast} km/h, evenly by area, at most 500 km",
                mover.riding()
            )),
        }
        if inputs.heading_deg.is_some() {
            all.push(format!(
                "direction of travel: von Mises of concentration {}, round the last known position only",
                settings.heading_concentration
            ));
        }
        if !inputs.known_places.is_empty() {
            let total: f64 = mover.places(now_h).iter().map(|(_, share)| share).sum();
            all.push(format!(
                "known places within reach count for {total:.2} of the map, each with a standard deviation of {} km",
                settings.known_place_sigma_km
            ));
        }
        if !inputs.looked_for.is_empty() {
            all.push(format!(
                "an alert has an effort of {} over {} h where the usual number of people get it",
                settings.alert_effort, settings.alert_effort_h
            ));
        }
        if self.policy.is_none() {
            let [first, second, third] = settings.wave_delays_min;
            all.push(format!("waves after {first}, {second} and {third} min"));
        }
        all
    }
}
