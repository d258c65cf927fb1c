//! The static distance law: how far from where they were last seen people are found in the end.

use std::f64::consts::PI;

use super::normal;

/// The share of people found close by: about 10 % of ISRID cases end within 50 m of the start
/// [S, Cawi, "The Lognormal Distance Model"]. A plain log-normal would give those no density.
const CORE_SHARE: f64 = 0.10;
const CORE_KM: f64 = 0.05;

/// The probabilities that a row of the distance table gives distances for.
pub const TABLE_QUANTILES: [f64; 4] = [0.25, 0.50, 0.75, 0.95];

/// A log-normal drawn piece by piece through the knots of a table row, with a uniform core.
///
/// With z = Φ⁻¹(q) and l = ln r, between two knots `F(r) = Φ(z_j + (l - l_j)(z_j+1 - z_j)/(l_j+1 - l_j))`;
/// the last piece goes on for ever. Inside the core `F(r) = p0 (r/r0)²`.
#[derive(Debug, Clone, PartialEq)]
pub struct StaticLaw {
    core_ln: f64,
    pieces: Vec<Piece>,
}

/// One straight line of z over ln r, from its first knot on.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Piece {
    ln: f64,
    z: f64,
    probability: f64,
    slope: f64,
}

impl StaticLaw {
    /// The law through the 25, 50, 75 and, where there is one, 95 % distances in km, which must be
    /// positive and rising (as every row of a checked table is).
    ///
    /// Where the 25 % distance is not above 50 m, the core is halved until it is.
    #[must_use]
    pub fn through(quartiles_km: [f64; 3], r95_km: Option<f64>) -> Self {
        let mut core_km = CORE_KM;
        while quartiles_km[0] <= core_km && core_km > f64::MIN_POSITIVE {
            core_km /= 2.0;
        }
        let knots = TABLE_QUANTILES
            .into_iter()
            .zip(quartiles_km.into_iter().chain(r95_km));
        let mut start = (CORE_SHARE, core_km);
        let pieces = knots
            .map(|end| {
                let (probability, km) = std::mem::replace(&mut start, end);
                let (ln, z) = (libm::log(km), normal::quantile(probability));
                let slope = (normal::quantile(end.0) - z) / (libm::log(end.1) - ln);
                Piece {
                    ln,
                    z,
                    probability,
                    slope,
                }
            })
            .collect();
        Self {
            core_ln: libm::log(core_km),
            pieces,
        }
    }

    /// F: the probability of being found within `km`.
    #[must_use]
    pub fn cdf(&self, km: f64) -> f64 {
        if km > 0.0 {
            self.cdf_ln(libm::log(km))
        } else {
            0.0
        }
    }

    /// F at a distance given by its natural logarithm.
    pub(super) fn cdf_ln(&self, ln: f64) -> f64 {
        if ln <= self.core_ln {
            return CORE_SHARE * libm::exp(2.0 * (ln - self.core_ln));
        }
        let piece = self.piece(|piece| piece.ln <= ln);
        normal::cdf(piece.z + (ln - piece.ln) * piece.slope)
    }

    /// Q: the distance in km within which the share `p` is found, the inverse of [`Self::cdf`].
    #[must_use]
    pub fn quantile(&self, p: f64) -> f64 {
        libm::exp(self.ln_quantile(p))
    }

    /// The natural logarithm of Q.
    pub(super) fn ln_quantile(&self, p: f64) -> f64 {
        if p <= CORE_SHARE {
            return self.core_ln + 0.5 * libm::log(p / CORE_SHARE);
        }
        let piece = self.piece(|piece| piece.probability <= p);
        piece.ln + (normal::quantile(p) - piece.z) / piece.slope
    }

    /// g: the probability per km² at `km` from the start, `F'(r) / (2 pi r)`.
    #[must_use]
    pub fn areal_density(&self, km: f64) -> f64 {
        let ln = libm::log(km);
        if ln <= self.core_ln {
            return CORE_SHARE / (PI * libm::exp(2.0 * self.core_ln));
        }
        let piece = self.piece(|piece| piece.ln <= ln);
        let z = piece.z + (ln - piece.ln) * piece.slope;
        normal::pdf(z) * piece.slope / (2.0 * PI * km * km)
    }

    /// The last piece that has begun.
    fn piece(&self, has_begun: impl Fn(&Piece) -> bool) -> &Piece {
        self.pieces
            .iter()
            .rev()
            .find(|piece| has_begun(piece))
            .unwrap_or(&self.pieces[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn dementia_urban() -> StaticLaw {
        StaticLaw::through([0.321_869, 1.126_541, 3.218_688], Some(12.552_883))
    }

    #[test]
    fn golden_cdf() {
        for (km, share) in [
            (0.025, 0.025),
            (0.05, 0.1),
            (0.1, 0.145_580),
            (0.5, 0.330_931),
            (1.0, 0.474_425),
            (1.126_541, 0.5),
            (2.0, 0.643_854),
            (5.0, 0.838_555),
            (8.0, 0.907_190),
            (10.0, 0.930_929),
            (20.0, 0.975_976),
            (50.0, 0.995_734),
        ] {
            let got = dementia_urban().cdf(km);
            assert!((got - share).abs() < 1e-6, "F({km}) = {got}, not {share}");
        }
        assert_eq!(dementia_urban().cdf(0.0).to_bits(), 0);
    }

    #[test]
    fn golden_quantiles() {
        for (share, km) in [
            (0.05, 0.035_36),
            (0.2, 0.192_77),
            (0.4, 0.703_70),
            (0.6, 1.671_09),
            (0.8, 4.068_94),
            (0.9, 7.541_37),
            (0.99, 32.647_72),
        ] {
            let got = dementia_urban().quantile(share);
            assert!((got - km).abs() < 1e-5, "Q({share}) = {got}, not {km}");
        }
    }

    #[test]
    fn golden_areal_density() {
        for (km, density) in [
            (0.03, 12.732_4),
            (0.1, 1.185_76),
            (0.3, 0.180_34),
            (1.0, 0.034_114_8),
            (3.0, 0.003_718_41),
            (10.0, 0.000_150_803),
        ] {
            let got = dementia_urban().areal_density(km);
            assert!(
                (got / density - 1.0).abs() < 1e-4,
                "g({km}) = {got}, not {density}"
            );
        }
    }

    #[test]
    fn published_figures_of_others_lie_in_the_sanity_band() {
        const MILE: f64 = 1.609_344;
        let law = dementia_urban();
        assert!((0.37..=0.78).contains(&law.cdf(MILE)));
        assert!((0.70..=0.94).contains(&law.cdf(5.0)));
        assert!((0.86..=0.97).contains(&law.cdf(5.0 * MILE)));
    }

    #[test]
    fn the_core_shrinks_below_a_short_first_quarter() {
        let law = StaticLaw::through([0.02, 0.5, 1.0], Some(2.0));
        assert!((law.cdf(0.012_5) - CORE_SHARE).abs() < 1e-12);
        assert!((law.cdf(0.02) - 0.25).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn quantile_undoes_cdf(
            first in 0.01..5.0_f64, steps in prop::array::uniform3(1.01..8.0_f64), p in 1e-6..0.999_99,
        ) {
            let second = first * steps[0];
            let third = second * steps[1];
            let law = StaticLaw::through([first, second, third], Some(third * steps[2]));
            prop_assert!((law.cdf(law.quantile(p)) - p).abs() < 1e-9);
            prop_assert!(law.cdf(law.quantile(p) * 1.001) > p);
        }
    }
}
