//! The law of distance after a given time: the static law, held back by how long people move and
//! how fast.

use super::law::StaticLaw;
use super::settings::Movement;

/// Streets make the way this much longer than the straight line: 1.2 to 1.23 in three studies [S].
const STREET_DETOUR: f64 = 1.2;

/// Into how many equally likely values the moving time is split.
const MOVING_TIMES: u32 = 64;

/// How finely [`TimeLaw::evenly`] tabulates the law: 2,048 steps are at most 1 % of a distance each.
const TABLE_STEPS: u32 = 2_048;

/// The distance law at one time after the person was last seen.
///
/// The time `M` that somebody keeps moving is Weibull distributed; after `t` they have covered the
/// share `s = min(1, t/M)^gamma` of their final distance, and nobody is beyond the reach
/// `v t / 1.2`. So `F_t(r)` is the mean of `F(r/s)` below the reach and 1 from there on, and the
/// radii stop growing at the static law.
#[derive(Debug, Clone, PartialEq)]
pub struct TimeLaw {
    law: StaticLaw,
    reach_km: f64,
    shares: Vec<Share>,
}

/// Some of the people and the share of their final distance they have covered.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Share {
    /// Natural logarithm of the share of the distance.
    ln: f64,
    weight: f64,
}

impl TimeLaw {
    /// The law `hours` after the person was last seen.
    #[must_use]
    pub fn new(law: StaticLaw, movement: Movement, spread_exponent: f64, hours: f64) -> Self {
        let reach_km = movement.speed_kmh * hours / STREET_DETOUR;
        let weight = 1.0 / f64::from(MOVING_TIMES);
        let mut arrived = Share {
            ln: 0.0,
            weight: 0.0,
        };
        let mut shares = Vec::new();
        for j in 0..MOVING_TIMES {
            let u = (f64::from(j) + 0.5) / f64::from(MOVING_TIMES);
            let moving_h = movement.scale_h * libm::pow(-libm::log(1.0 - u), 1.0 / movement.shape);
            if hours >= moving_h {
                arrived.weight += weight;
            } else {
                shares.push(Share {
                    ln: spread_exponent * libm::log(hours / moving_h),
                    weight,
                });
            }
        }
        if arrived.weight > 0.0 {
            shares.push(arrived);
        }
        Self {
            law,
            reach_km,
            shares,
        }
    }

    /// The farthest that anybody can be, in km.
    #[must_use]
    pub const fn reach_km(&self) -> f64 {
        self.reach_km
    }

    /// `F_t`: the probability of being within `km` of the last known position by now.
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

    /// `F_t` without the reach, at a distance given by its natural logarithm.
    fn unbounded(&self, ln: f64) -> f64 {
        self.shares
            .iter()
            .map(|share| share.weight * self.law.cdf_ln(ln - share.ln))
            .sum()
    }

    /// The shortest distance in km within which the probability is `q` or more; never above the
    /// reach, nor above the static law's.
    #[must_use]
    pub fn quantile(&self, q: f64) -> f64 {
        let (mut low, mut high) = self.bracket(q, q);
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

    /// Logarithms of two distances that have the quantiles from `first` to `last` between them.
    fn bracket(&self, first: f64, last: f64) -> (f64, f64) {
        let slowest = self.shares.iter().map(|share| share.ln).fold(0.0, f64::min);
        let top = libm::log(self.reach_km).min(self.law.ln_quantile(last));
        (self.law.ln_quantile(first) + slowest, top)
    }

    /// The distances in km of `n` equally likely people, nearest first: the quantiles of
    /// `(k + 0.5)/n` for `k` from 0 to `n - 1`.
    ///
    /// Read from a table of `F_t`, straight between its entries: right to 0.005 % of the distance
    /// on average and to 0.4 % at the kinks of the law. Bisecting for each would take hundreds of
    /// times as long.
    #[must_use]
    pub fn evenly(&self, n: u32) -> Vec<f64> {
        let share = |k: u32| (f64::from(k) + 0.5) / f64::from(n);
        let (bottom, top) = self.bracket(share(0), share(n.saturating_sub(1)));
        if top <= bottom {
            return (0..n).map(|_| self.reach_km).collect();
        }
        let step = (top - bottom) / f64::from(TABLE_STEPS);
        let mut nodes = (1..=TABLE_STEPS).map(|i| {
            let ln = if i == TABLE_STEPS {
                top
            } else {
                bottom + f64::from(i) * step
            };
            (ln, self.unbounded(ln))
        });
        let mut below = (bottom, self.unbounded(bottom));
        let mut above = nodes.next().unwrap_or(below);
        (0..n)
            .map(|k| {
                let q = share(k);
                while above.1 < q
                    && let Some(next) = nodes.next()
                {
                    below = std::mem::replace(&mut above, next);
                }
                let ln = if q > above.1 {
                    top
                } else {
                    let part = (q - below.1) / (above.1 - below.1);
                    below.0 + part.max(0.0) * (above.0 - below.0)
                };
                libm::exp(ln).min(self.reach_km)
            })
            .collect()
    }
}

#[cfg(test)]
#[path = "travel_tests.rs"]
mod tests;
