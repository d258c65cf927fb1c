//! The standard normal distribution, on `libm` alone so that a plan is the same on any machine.

#![expect(
    clippy::excessive_precision,
    reason = "the coefficients stand as published"
)]

use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// Density of the standard normal distribution at `z`.
#[must_use]
pub fn pdf(z: f64) -> f64 {
    libm::exp(-0.5 * z * z) / libm::sqrt(2.0 * PI)
}

/// Probability that a standard normal variable is at most `z`.
#[must_use]
pub fn cdf(z: f64) -> f64 {
    0.5 * libm::erfc(-z * FRAC_1_SQRT_2)
}

/// The inverse of [`cdf`] by Wichura's algorithm AS 241 (`PPND16`, relative error about 1e-16).
///
/// 0 and 1 give the infinities, anything outside them NaN.
#[must_use]
pub fn quantile(p: f64) -> f64 {
    let q = p - 0.5;
    if libm::fabs(q) <= 0.425 {
        return q * CENTRE.at(0.180_625 - q * q);
    }
    let r = libm::sqrt(-libm::log(if q < 0.0 { p } else { 1.0 - p }));
    let z = if r == f64::INFINITY {
        r
    } else if r <= 5.0 {
        SHOULDER.at(r - 1.6)
    } else {
        TAIL.at(r - 5.0)
    };
    libm::copysign(z, q)
}

/// A ratio of two polynomials, coefficients from the constant upwards.
struct Ratio {
    above: [f64; 8],
    below: [f64; 8],
}

impl Ratio {
    fn at(&self, x: f64) -> f64 {
        let horner = |terms: &[f64; 8]| terms.iter().rev().fold(0.0, |sum, term| sum * x + term);
        horner(&self.above) / horner(&self.below)
    }
}

/// |p - 0.5| <= 0.425.
const CENTRE: Ratio = Ratio {
    above: [
        3.387_132_872_796_366_608,
        133.141_667_891_784_377_45,
        1_971.590_950_306_551_442_7,
        13_731.693_765_509_461_125,
        45_921.953_931_549_871_457,
        67_265.770_927_008_700_853,
        33_430.575_583_588_128_105,
        2_509.080_928_730_122_672_7,
    ],
    below: [
        1.0,
        42.313_330_701_600_911_252,
        687.187_007_492_057_908_3,
        5_394.196_021_424_751_107_7,
        21_213.794_301_586_595_867,
        39_307.895_800_092_710_61,
        28_729.085_735_721_942_674,
        5_226.495_278_852_854_561,
    ],
};

/// Probabilities down to exp(-25) beyond the centre.
const SHOULDER: Ratio = Ratio {
    above: [
        1.423_437_110_749_683_577_34,
        4.630_337_846_156_545_295_9,
        5.769_497_221_460_691_405_5,
        3.647_848_324_763_204_605_04,
        1.270_458_252_452_368_382_58,
        0.241_780_725_177_450_611_77,
        0.022_723_844_989_269_184_583_3,
        0.000_774_545_014_278_341_407_64,
    ],
    below: [
        1.0,
        2.053_191_626_637_758_821_87,
        1.676_384_830_183_803_849_4,
        0.689_767_334_985_100_004_55,
        0.148_103_976_427_480_074_59,
        0.015_198_666_563_616_457_196_6,
        0.000_547_593_808_499_534_494_6,
        1.050_750_071_644_416_843_24e-9,
    ],
};

/// The far tails.
const TAIL: Ratio = Ratio {
    above: [
        6.657_904_643_501_103_777_2,
        5.463_784_911_164_114_369_9,
        1.784_826_539_917_291_335_8,
        0.296_560_571_828_504_891_23,
        0.026_532_189_526_576_123_093,
        0.001_242_660_947_388_078_438_6,
        2.711_555_568_743_487_578_15e-5,
        2.010_334_399_292_288_132_65e-7,
    ],
    below: [
        1.0,
        0.599_832_206_555_887_937_69,
        0.136_929_880_922_735_805_31,
        0.014_875_361_290_850_614_852_5,
        0.000_786_869_131_145_613_259_1,
        1.846_318_317_510_054_681_8e-5,
        1.421_511_758_316_445_888_7e-7,
        2.044_263_103_389_939_785_64e-15,
    ],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_quantiles() {
        for (p, z) in [
            (0.5, 0.0),
            (0.75, 0.674_489_750_196_081_7),
            (0.95, 1.644_853_626_951_472_2),
            (0.10, -1.281_551_565_544_600_4),
            (0.999, 3.090_232_306_167_813),
            (1e-10, -6.361_340_902_404_056),
            (1e-20, -9.262_340_089_798_409),
        ] {
            assert!(
                (quantile(p) - z).abs() < 2e-15 * z.abs().max(1.0),
                "{p}: {}",
                quantile(p)
            );
        }
        assert_eq!(
            (quantile(0.0), quantile(1.0)),
            (f64::NEG_INFINITY, f64::INFINITY)
        );
        assert!(quantile(-0.1).is_nan() && quantile(f64::NAN).is_nan());
    }

    #[test]
    fn quantile_undoes_cdf() {
        for step in -800..=300 {
            let z = f64::from(step) / 100.0;
            assert!(
                (quantile(cdf(z)) - z).abs() < 1e-12,
                "{z}: {}",
                quantile(cdf(z))
            );
        }
    }

    #[test]
    fn density_is_the_slope_of_cdf() {
        for step in -40..=40 {
            let z = f64::from(step) / 10.0;
            let slope = (cdf(z + 1e-5) - cdf(z - 1e-5)) / 2e-5;
            assert!((slope - pdf(z)).abs() < 1e-9);
        }
    }
}
