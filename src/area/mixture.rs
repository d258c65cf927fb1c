//! Where the person may be, as a mixture: round the last known position and every sighting, on foot
//! or by vehicle, or at a place they know.

use std::f64::consts::PI;

use super::cells::Heading;
use super::inputs::PlanInputs;
use super::law::StaticLaw;
use super::radial::{self, Radial};
use super::settings::{Movement, Settings};
use super::sphere::{self, Horizon, great_circle_km};
use super::travel::{TimeLaw, reach_km};
use crate::model::{KnownPlace, Position, Transport};

/// An accuracy radius holds 68 % of a normal error in the plane: 1.5096 of its standard deviations.
const SIGMAS_IN_ACCURACY: f64 = 1.509_6;

/// 95 % of a normal error in the plane is within so many standard deviations.
pub const SIGMAS_95: f64 = 2.447_7;

/// Nobody is taken farther than this by a vehicle: the last circle of `abduction_by_vehicle`.
pub const VEHICLE_MAX_KM: f64 = 500.0;

/// Nearer than this, walking does not narrow down which of two places a person is at.
const NEAREST_KM: f64 = 1e-6;

/// The standard deviation along each axis, in km, of a position of that accuracy in metres.
#[must_use]
pub fn sigma_km(accuracy_m: f64) -> f64 {
    accuracy_m / 1_000.0 / SIGMAS_IN_ACCURACY
}

/// A place where the person was at a time, or may have been.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Centre {
    /// The place.
    pub position: Position,
    /// Standard deviation of its error along each axis.
    pub sigma_km: f64,
    /// When, in hours after the person was last seen at the last known position.
    pub since_h: f64,
    /// The probability that the person was truly there and nowhere later.
    pub weight: f64,
}

/// How this person moves from where they were.
#[derive(Debug, Clone, PartialEq)]
pub struct Mover<'a> {
    /// How far they get in the end.
    pub law: StaticLaw,
    /// How long and fast they move; `None` where a vehicle has taken them as far as they will get.
    pub movement: Option<Movement>,
    /// The assumptions.
    pub settings: &'a Settings,
    /// What the plan is made from.
    pub inputs: &'a PlanInputs,
}

/// A part of the mixture: people spread round one place.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// Round which place.
    pub position: Position,
    /// The share of the mixture.
    pub weight: f64,
    spread: Spread,
    sigma_km: f64,
    /// A likelier direction.
    pub heading: Option<Heading>,
}

#[derive(Debug, Clone, PartialEq)]
enum Spread {
    Walk(TimeLaw),
    /// Between the radii in km of the slowest and the fastest vehicle.
    Ride([f64; 2]),
    Still,
}

impl Mover<'_> {
    /// The last known position, for certain.
    #[must_use]
    pub fn start(&self) -> Centre {
        Centre {
            position: self.inputs.lkp,
            sigma_km: sigma_km(self.inputs.accuracy_m),
            since_h: 0.0,
            weight: 1.0,
        }
    }

    /// The law of the distance from a place, between two times in hours.
    #[must_use]
    pub fn law(&self, since_h: f64, until_h: f64) -> TimeLaw {
        match self.movement {
            Some(movement) => {
                let spread = self.settings.spread_exponent;
                TimeLaw::new(self.law.clone(), movement, spread, since_h, until_h)
            }
            None => TimeLaw::settled(self.law.clone(), f64::INFINITY),
        }
    }

    /// The share of the mixture that goes by vehicle as a part of its own.
    #[must_use]
    pub fn riding(&self) -> f64 {
        match (self.movement, self.inputs.transport) {
            (None, _) | (_, Transport::OnFoot | Transport::Unknown) => 0.0,
            (_, Transport::SignOfVehicle) => self.settings.sign_of_vehicle_share,
            (_, Transport::VehicleOrTransit) => self.settings.vehicle_share,
        }
    }

    /// Whether nobody can be beyond what can be walked.
    #[must_use]
    pub fn only_walks(&self) -> bool {
        self.movement.is_some() && self.riding() <= 0.0
    }

    /// How far the person can have walked from the last known position after so many hours, in km.
    #[must_use]
    pub fn reach_km(&self, hours: f64) -> f64 {
        self.movement.map_or(f64::INFINITY, |movement| {
            reach_km(movement.speed_kmh, hours)
        })
    }

    /// The radii in km of the slowest and the fastest vehicle after so many hours.
    #[must_use]
    pub fn ride_km(&self, hours: f64) -> [f64; 2] {
        self.settings
            .vehicle_kmh
            .map(|kmh| (kmh * hours).min(VEHICLE_MAX_KM))
    }

    /// The known places that count at a time, with their shares of the mixture. Those that cannot be
    /// reached on foot by then do not.
    #[must_use]
    pub fn places(&self, until_h: f64) -> Vec<(KnownPlace, f64)> {
        let reach_km = if self.only_walks() {
            self.reach_km(until_h)
        } else {
            f64::INFINITY
        };
        let reached: Vec<KnownPlace> = self
            .inputs
            .known_places
            .iter()
            .copied()
            .filter(|place| {
                place.weight > 0.0 && great_circle_km(self.inputs.lkp, place.position) <= reach_km
            })
            .collect();
        let total: f64 = reached.iter().map(|place| place.weight).sum();
        let [least, most] = self.settings.known_places_share;
        let scale = total.clamp(least, most) / total;
        reached
            .into_iter()
            .map(|place| (place, place.weight * scale))
            .collect()
    }

    /// The parts that a centre stands for at a time. Their weights sum to the centre's.
    #[must_use]
    pub fn parts(&self, centre: &Centre, until_h: f64) -> Vec<Part> {
        let places = self.places(until_h);
        let moving = centre.weight * (1.0 - places.iter().map(|(_, share)| share).sum::<f64>());
        let heading = self.inputs.heading_deg.filter(|_| centre.since_h <= 0.0);
        let heading =
            heading.map(|bearing| Heading::new(bearing, self.settings.heading_concentration));
        let part = |weight, spread, heading| Part {
            position: centre.position,
            weight,
            spread,
            sigma_km: centre.sigma_km,
            heading,
        };
        let riding = self.riding();
        let walk = Spread::Walk(self.law(centre.since_h, until_h));
        let mut parts = vec![part(moving * (1.0 - riding), walk, heading)];
        if riding > 0.0 {
            let ride = Spread::Ride(self.ride_km(until_h - centre.since_h));
            parts.push(part(moving * riding, ride, heading));
        }
        parts.extend(places.into_iter().map(|(place, share)| Part {
            position: place.position,
            weight: centre.weight * share,
            spread: Spread::Still,
            sigma_km: self.settings.known_place_sigma_km,
            heading: None,
        }));
        parts.retain(|part| part.weight > 0.0);
        parts
    }

    /// The probability per km² of a report from `place` at a time, under these centres, if its
    /// position has an error of `sigma_km` along each axis. Infinite where all is exactly there.
    #[must_use]
    pub fn density(&self, centres: &[Centre], until_h: f64, place: Position, sigma_km: f64) -> f64 {
        let parts = centres
            .iter()
            .flat_map(|centre| self.parts(centre, until_h));
        parts
            .map(|part| part.weight * part.density(place, sigma_km))
            .sum()
    }
}

impl Part {
    /// Whether these people go by vehicle.
    #[must_use]
    pub const fn rides(&self) -> bool {
        matches!(self.spread, Spread::Ride(_))
    }

    /// The distribution of distances from the place.
    #[must_use]
    pub fn radial(&self) -> Radial {
        match &self.spread {
            Spread::Still if self.sigma_km > 0.0 => Radial::gaussian(self.sigma_km),
            _ if self.sigma_km > 0.0 => self.exact().blurred(self.sigma_km),
            _ => self.exact(),
        }
    }

    /// The distribution of distances if the place were exact.
    fn exact(&self) -> Radial {
        match &self.spread {
            Spread::Walk(law) if law.reach_km() > NEAREST_KM => {
                Radial::tabulate(law.span_km(), |km| law.bounded_cdf(km))
            }
            Spread::Ride([slow, fast]) if *slow > NEAREST_KM => {
                Radial::tabulate([slow / 2.0, *fast], |km| ridden([*slow, *fast], km))
            }
            _ => Radial::point(),
        }
    }

    /// The probability per km² of being at `place`, seen with an error of `sigma_km`.
    fn density(&self, place: Position, sigma_km: f64) -> f64 {
        let offset = Horizon::at(self.position).offset(sphere::vector(place));
        let km = libm::hypot(offset[0], offset[1]);
        let factor = self.heading.map_or(1.0, |heading| heading.factor(offset));
        let sigma_km = libm::hypot(self.sigma_km, sigma_km);
        let density = if sigma_km > 0.0 {
            radial::blurred_density(|km| self.spread.within(km), km, sigma_km)
        } else {
            self.spread.density(km)
        };
        factor * density
    }
}

impl Spread {
    /// The probability of being within `km`.
    fn within(&self, km: f64) -> f64 {
        match self {
            Self::Walk(law) => law.bounded_cdf(km),
            Self::Ride(span) => ridden(*span, km),
            Self::Still => 1.0,
        }
    }

    /// The probability per km² at `km`. Infinite on the spot where all are.
    fn density(&self, km: f64) -> f64 {
        match self {
            Self::Walk(law) if law.reach_km() > NEAREST_KM => {
                law.bounded_density(km.max(NEAREST_KM))
            }
            Self::Ride([slow, fast]) if *slow > NEAREST_KM => ride_density([*slow, *fast], km),
            _ if km <= NEAREST_KM => f64::INFINITY,
            _ => 0.0,
        }
    }
}

/// The probability of being within `km` by vehicle: anywhere in a circle, evenly by area, whose
/// radius is evenly spread between those of the slowest and the fastest vehicle.
fn ridden([slow, fast]: [f64; 2], km: f64) -> f64 {
    if km >= fast {
        return 1.0;
    }
    if km <= slow {
        return km * km / (slow * fast);
    }
    ((km - slow) + km * km * (1.0 / km - 1.0 / fast)) / (fast - slow)
}

/// The density per km² of [`ridden`].
fn ride_density([slow, fast]: [f64; 2], km: f64) -> f64 {
    if km >= fast {
        0.0
    } else if km <= slow {
        1.0 / (PI * slow * fast)
    } else {
        (1.0 / km - 1.0 / fast) / (PI * (fast - slow))
    }
}

#[cfg(test)]
#[path = "mixture_tests.rs"]
mod tests;
