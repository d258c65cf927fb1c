//! The law of distance after a given time: the static law, held back by how long people move and
//! how fast.

use super::law::StaticLaw;
use super::settings::Movement;

/// Streets make the way this much longer than the straight line: 1.2 to 1.23 in three studies [S].
const STREET_DETOUR: f64 = 1.2;

/// Into how many equally likely values the moving time is split.
const MOVING_TIMES: u32 = 64;

/// Below the nearest distance that matters: the share of people nearer than the first table entry.
const NEAREST: f64 = 1e-5;

/// Beyond the farthest distance that matters: the share of people within the last table entry.
const FARTHEST: f64 = 0.999_9;

/// The distance law at one time after the person was somewhere.
///
/// The time `M` that somebody keeps moving is Weibull distributed and runs from when they were last
/// seen. Of their final distance they have covered the share `s = min(1, t/M)^gamma` after `t`, and
/// nobody is beyond the reach `v t / 1.2`. Who was seen somewhere else after `from` had not stopped
/// by then, so `M` is taken given that it is longer (`a ((from/a)^b - ln(1 - u))^(1/b)`), and they
/// have since covered `((min(t, M) - from) / M)^gamma`. Where `from` is 0 that is the same; for a
/// `gamma` of a half, the squares of the distances before and after a sighting add up as in a
/// random walk.
///
/// [`Self::cdf`] and [`Self::quantile`] are the radii's: the mean of `F(r/s)` below the reach and 1
/// from there on, so that a radius never promises less than it holds, and stops growing at the
/// static law. [`Self::bounded_cdf`] is the map's: there the same people have to be somewhere, and
/// as many at exactly the reach as `cdf` has would be a false ring. It takes for impossible what is
/// beyond the reach, `F_t(r) / F_t(reach)`, which keeps all proportions inside.
#[derive(Debug, Clone, PartialEq)]
pub struct TimeLaw {
    law: StaticLaw,
    reach_km: f64,
    shares: Vec<Share>,
    /// The share of people whom the reach does not hold back.
    within_reach: f64,
}

/// Some of the people and the share of their final distance they have covered.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Share {
    /// Natural logarithm of the share of the distance.
    ln: f64,
    weight: f64,
}

impl TimeLaw {
    /// The law at `until_h` hours after the person was last seen, of the distance from where they
    /// were after `from_h` hours.
    #[must_use]
    pub fn new(
        law: StaticLaw,
        movement: Movement,
        spread_exponent: f64,
        from_h: f64,
        until_h: f64,
    ) -> Self {
        let weight = 1.0 / f64::from(MOVING_TIMES);
        let gone = libm::pow(from_h / movement.scale_h, movement.shape);
        let mut arrived = 0.0;
        let mut shares = Vec::new();
        for j in 0..MOVING_TIMES {
            let u = (f64::from(j) + 0.5) / f64::from(MOVING_TIMES);
            let power = libm::pow(gone - libm::log(1.0 - u), 1.0 / movement.shape);
            let moving_h = movement.scale_h * power;
            let moved = (until_h.min(moving_h) - from_h) / moving_h;
            if moved >= 1.0 {
                arrived += weight;
            } else {
                let ln = spread_exponent * libm::log(moved);
                shares.push(Share { ln, weight });
            }
        }
        if arrived > 0.0 {
            shares.push(Share {
                ln: 0.0,
                weight: arrived,
            });
        }
        Self::bounded(law, reach_km(movement.speed_kmh, until_h - from_h), shares)
    }

    /// The law of people who are as far as they will get, but not beyond `reach_km`.
    #[must_use]
    pub fn settled(law: StaticLaw, reach_km: f64) -> Self {
        let all = Share {
            ln: 0.0,
            weight: 1.0,
        };
        Self::bounded(law, reach_km, vec![all])
    }

    fn bounded(law: StaticLaw, reach_km: f64, shares: Vec<Share>) -> Self {
        let mut law = Self {
            law,
            reach_km,
            shares,
            within_reach: 1.0,
        };
        if reach_km > 0.0 && reach_km.is_finite() {
            law.within_reach = law.unbounded(libm::log(reach_km));
        }
        law
    }

    /// The farthest that anybody can be, in km.
    #[must_use]
    pub const fn reach_km(&self) -> f64 {
        self.reach_km
    }

    /// `F_t`: the probability of being within `km` of where the person was, by now.
    #[must_use]
    pub fn cdf(&self, km: f64) -> f64 {
        if km >= self.reach_km {
            1.0
        } else if km > 0.0 {
            self.unbounded(libm::log(km))
        } else {
            0.0
        }
    }

    /// The probability of being within `km` if nobody can be beyond the reach.
    #[must_use]
    pub fn bounded_cdf(&self, km: f64) -> f64 {
        if km >= self.reach_km {
            1.0
        } else if km > 0.0 {
            self.unbounded(libm::log(km)) / self.within_reach
        } else {
            0.0
        }
    }

    /// The probability per km² at `km`, if nobody can be beyond the reach.
    #[must_use]
    pub fn bounded_density(&self, km: f64) -> f64 {
        if km >= self.reach_km {
            return 0.0;
        }
        let density = |share: &Share| {
            let scale = libm::exp(share.ln);
            share.weight * self.law.areal_density(km / scale) / (scale * scale)
        };
        self.shares.iter().map(density).sum::<f64>() / self.within_reach
    }

    /// `F_t` without the reach, at a distance given by its natural logarithm.
    fn unbounded(&self, ln: f64) -> f64 {
        let moved = |share: &Share| share.weight * self.law.cdf_ln(ln - share.ln);
        self.shares.iter().map(moved).sum()
    }

    /// The shortest distance in km within which the probability is `q` or more; never above the
    /// reach, nor above the static law's.
    #[must_use]
    pub fn quantile(&self, q: f64) -> f64 {
        if self.reach_km <= 0.0 {
            return 0.0;
        }
        let slowest = self.shares.iter().map(|share| share.ln).fold(0.0, f64::min);
        let mut low = self.law.ln_quantile(q) + slowest;
        let mut high = libm::log(self.reach_km).min(self.law.ln_quantile(q));
        if low >= high || self.unbounded(high) < q {
            return libm::exp(high).min(self.reach_km);
        }
        while high - low > 1e-13 {
            let middle = f64::midpoint(low, high);
            if middle <= low || middle >= high {
                break;
            }
            if self.unbounded(middle) < q {
                low = middle;
            } else {
                high = middle;
            }
        }
        libm::exp(high).min(self.reach_km)
    }

    /// Two distances in km between which all but a few in 10,000 of those who move are.
    #[must_use]
    pub fn span_km(&self) -> [f64; 2] {
        let slowest = self.shares.iter().map(|share| share.ln).fold(0.0, f64::min);
        let far = self.law.quantile(FARTHEST).min(self.reach_km);
        let near = self.law.quantile(NEAREST) * libm::exp(slowest);
        [near.min(far / 2.0), far]
    }
}

/// How far somebody gets in a straight line, in km.
#[must_use]
pub fn reach_km(speed_kmh: f64, hours: f64) -> f64 {
    speed_kmh * hours / STREET_DETOUR
}

#[cfg(test)]
#[path = "travel_tests.rs"]
mod tests;
