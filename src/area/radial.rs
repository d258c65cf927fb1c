//! A distribution of distances, the same in all directions, as a table: what the map is drawn from.

use std::f64::consts::PI;

/// How finely a distribution is tabulated, evenly by the logarithm of the distance: with four
/// powers of ten to cover, a step is half a percent of the distance.
const STEPS: u32 = 2_048;

/// Fewer steps for a blurred one, which is smooth and takes an integral for each.
const BLURRED_STEPS: u32 = 512;

/// Into how many parts the integral of a blurred distribution is cut.
const PARTS: u32 = 96;

/// So many standard deviations hold all of a normal error that matters.
const DEVIATIONS: f64 = 7.0;

/// The probability of being within a distance, between entries straight by the logarithm of the
/// distance. Inside the first entry the density is even, beyond the last there is nobody.
#[derive(Debug, Clone, PartialEq)]
pub struct Radial {
    /// The probability of being exactly at the centre.
    centre: f64,
    first_km: f64,
    first_ln: f64,
    steps_per_ln: f64,
    values: Vec<f64>,
}

impl Radial {
    /// Tabulates `within`, the probability of being within so many km, between two distances in km
    /// of which the first is above 0 and below the second.
    #[must_use]
    pub fn tabulate(span_km: [f64; 2], within: impl Fn(f64) -> f64) -> Self {
        Self::with_steps(STEPS, span_km, 0.0, within)
    }

    /// Everybody exactly at the centre.
    #[must_use]
    pub fn point() -> Self {
        Self::with_steps(1, [1e-6, 1e-5], 1.0, |_| 1.0)
    }

    /// A normal error of `sigma_km` along each axis, which must be above 0.
    #[must_use]
    pub fn gaussian(sigma_km: f64) -> Self {
        Self::tabulate([sigma_km * 1e-3, sigma_km * DEVIATIONS], |km| {
            rayleigh(km / sigma_km)
        })
    }

    fn with_steps(
        steps: u32,
        [first_km, last_km]: [f64; 2],
        centre: f64,
        within: impl Fn(f64) -> f64,
    ) -> Self {
        let first_ln = libm::log(first_km);
        let step = (libm::log(last_km) - first_ln) / f64::from(steps);
        let at = |i: u32| match i {
            0 => first_km,
            last if last == steps => last_km,
            i => libm::exp(first_ln + f64::from(i) * step),
        };
        Self {
            centre,
            first_km,
            first_ln,
            steps_per_ln: 1.0 / step,
            values: (0..=steps).map(|i| within(at(i))).collect(),
        }
    }

    /// The probability of being within `km`.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "the step is checked to lie in the table"
    )]
    pub fn within(&self, km: f64) -> f64 {
        if km < self.first_km {
            let part = km / self.first_km;
            return self.centre + (self.values[0] - self.centre) * part * part;
        }
        let step = (libm::log(km) - self.first_ln) * self.steps_per_ln;
        let below = step as usize;
        match self.values.get(below..below.saturating_add(2)) {
            Some(&[low, high]) => low + (step - below as f64) * (high - low),
            _ => self.values[self.values.len() - 1],
        }
    }

    /// The shortest distance in km of the table within which the probability is `q` or more, or its
    /// last.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a few thousand entries")]
    pub fn reaching_km(&self, q: f64) -> f64 {
        let last = self.values.len() - 1;
        let entry = self.values.partition_point(|&within| within < q).min(last);
        libm::exp(self.first_ln + entry as f64 / self.steps_per_ln)
    }

    /// The same people, seen with a normal error of `sigma_km` along each axis.
    #[must_use]
    pub fn blurred(&self, sigma_km: f64) -> Self {
        let far = self.reaching_km(1.0) + DEVIATIONS * sigma_km;
        // Nearer than this the density is as good as even: it is that of a normal error.
        let near = (sigma_km * 0.05).min(far / 2.0);
        Self::with_steps(BLURRED_STEPS, [near, far], 0.0, |km| {
            blurred_within(|km| self.within(km), km, sigma_km)
        })
    }
}

/// The probability of being within `km` when everybody is moved by a normal error of `sigma_km`
/// along each axis, above 0. `within` says how likely they are within a distance before that.
///
/// Somebody at the distance ρ is then within r with the probability `1 - Q1(ρ/σ, r/σ)` (Marcum's Q
/// function). Its mean over everybody is, by parts, the integral of `F(ρ)` times
/// `-d/dρ (1 - Q1) = r/σ² exp(-(r² + ρ²) / 2σ²) I1(r ρ/σ²)`, a bell round r.
fn blurred_within(within: impl Fn(f64) -> f64, km: f64, sigma_km: f64) -> f64 {
    let r = km / sigma_km;
    let (low, high) = ((r - DEVIATIONS).max(0.0), r + DEVIATIONS);
    // What lies near the centre is much finer than the bell.
    let power = if low > 0.0 { 1.0 } else { 3.0 };
    let integral: f64 = (0..PARTS)
        .map(|i| {
            let x = (f64::from(i) + 0.5) / f64::from(PARTS);
            let rho = low + (high - low) * libm::pow(x, power);
            let width = (high - low) * power * libm::pow(x, power - 1.0) / f64::from(PARTS);
            let bell = libm::exp(-0.5 * (r - rho) * (r - rho)) * r * scaled_i1(r * rho);
            within(rho * sigma_km) * bell * width
        })
        .sum();
    integral.min(1.0)
}

/// The probability per km² at `km` when everybody is moved by a normal error of `sigma_km` along each
/// axis, above 0: the mean over a narrow ring, or over a small disc at the centre. `within` says how
/// likely they are within a distance before that.
#[must_use]
pub fn blurred_density(within: impl Fn(f64) -> f64, km: f64, sigma_km: f64) -> f64 {
    let (inner, outer) = ((km - 0.1 * sigma_km).max(0.0), km + 0.1 * sigma_km);
    let nearer = if inner > 0.0 {
        blurred_within(&within, inner, sigma_km)
    } else {
        0.0
    };
    let ring = PI * (outer * outer - inner * inner);
    (blurred_within(&within, outer, sigma_km) - nearer) / ring
}

/// The probability that a normal error in the plane is at most `deviations` long (Rayleigh).
fn rayleigh(deviations: f64) -> f64 {
    -libm::expm1(-0.5 * deviations * deviations)
}

/// `exp(-x) I1(x)`, the modified Bessel function of the first kind and order 1, scaled, for x >= 0:
/// Abramowitz and Stegun 9.8.3 and 9.8.4, right to 3e-7.
fn scaled_i1(x: f64) -> f64 {
    let horner = |terms: &[f64], at: f64| terms.iter().rev().fold(0.0, |sum, term| sum * at + term);
    if x <= 3.75 {
        let t = x / 3.75;
        return libm::exp(-x) * x * horner(&NEAR, t * t);
    }
    horner(&FAR, 3.75 / x) / libm::sqrt(x)
}

const NEAR: [f64; 7] = [
    0.5,
    0.878_905_94,
    0.514_988_69,
    0.150_849_34,
    0.026_587_33,
    0.003_015_32,
    0.000_324_11,
];
const FAR: [f64; 9] = [
    0.398_942_28,
    -0.039_880_24,
    -0.003_620_18,
    0.001_638_01,
    -0.010_315_55,
    0.022_829_67,
    -0.028_953_12,
    0.017_876_54,
    -0.004_200_59,
];

#[cfg(test)]
#[path = "radial_tests.rs"]
mod tests;
