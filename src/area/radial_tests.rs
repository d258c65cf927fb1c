use proptest::prelude::*;

use super::*;

/// I1(x) exp(-x) as the mean of cos(a) exp(x (cos(a) - 1)) over the circle.
fn scaled_i1_by_definition(x: f64) -> f64 {
    const POINTS: u32 = 2_000;
    let at = |i: u32| {
        let cos = libm::cos(2.0 * PI * f64::from(i) / f64::from(POINTS));
        cos * libm::exp(x * (cos - 1.0))
    };
    (0..POINTS).map(at).sum::<f64>() / f64::from(POINTS)
}

#[test]
fn bessel_function() {
    for x in [0.0, 0.1, 1.0, 3.7, 3.8, 10.0, 300.0, 50_000.0] {
        let off = scaled_i1(x) - scaled_i1_by_definition(x);
        assert!(off.abs() < 3e-7, "{x}: {off}");
    }
}

#[test]
fn a_table_is_right_at_and_between_its_entries() {
    let even = Radial::tabulate([0.5, 10.0], |km| km * km / 100.0);
    for km in [0.0, 0.1, 0.5, 0.77, 3.0, 9.99, 10.0, 12.0] {
        assert!(
            (even.within(km) - (km * km / 100.0).min(1.0)).abs() < 1e-5,
            "{km}"
        );
    }
    assert!((even.reaching_km(0.25) - 5.0).abs() < 0.02);
    assert!((even.reaching_km(1.0) - 10.0).abs() < 1e-9);
    assert!((even.reaching_km(2.0) - 10.0).abs() < 1e-9);
}

#[test]
fn a_blurred_point_is_a_normal_error() {
    let blurred = Radial::point().blurred(0.3);
    let normal = Radial::gaussian(0.3);
    for km in [0.01, 0.1, 0.3, 0.5, 1.0, 1.5] {
        let exact = -libm::expm1(-0.5 * (km / 0.3) * (km / 0.3));
        assert!(
            (blurred.within(km) - exact).abs() < 1e-4,
            "{km}: {}",
            blurred.within(km)
        );
        assert!(
            (normal.within(km) - exact).abs() < 1e-5,
            "{km}: {}",
            normal.within(km)
        );
    }
}

#[test]
fn variances_add_up() {
    let blurred = Radial::gaussian(0.4).blurred(0.3);
    for km in [0.05, 0.2, 0.6, 1.2] {
        let exact = -libm::expm1(-0.5 * (km / 0.5) * (km / 0.5));
        assert!(
            (blurred.within(km) - exact).abs() < 1e-4,
            "{km}: {}",
            blurred.within(km)
        );
        let density = libm::exp(-0.5 * (km / 0.5) * (km / 0.5)) / (2.0 * PI * 0.25);
        let got = blurred_density(|km| Radial::gaussian(0.4).within(km), km, 0.3);
        assert!(
            (got / density - 1.0).abs() < 2e-3,
            "{km}: {got}, not {density}"
        );
    }
}

#[test]
fn a_small_error_changes_little_far_out() {
    let law = |km: f64| km / (1.0 + km);
    let exact = Radial::tabulate([1e-5, 1e4], law);
    let blurred = exact.blurred(0.05);
    for km in [0.5, 1.0, 5.0, 20.0] {
        assert!(
            (blurred.within(km) - law(km)).abs() < 2e-3,
            "{km}: {}",
            blurred.within(km)
        );
    }
    assert!(blurred.within(0.02) < law(0.02) / 2.0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn a_distribution_never_falls_and_an_error_moves_people_outwards(
        sigma_km in 0.001..5.0_f64, scale_km in 0.01..10.0_f64, km in 0.001..30.0_f64, more in 1.0..2.0_f64,
    ) {
        let law = |km: f64| -libm::expm1(-km / scale_km);
        let exact = Radial::tabulate([scale_km * 1e-5, scale_km * 12.0], law);
        let blurred = exact.blurred(sigma_km);
        prop_assert!(blurred.within(km) <= blurred.within(km * more) + 1e-6);
        prop_assert!(blurred.within(km) <= exact.within(km) + 1e-3);
        prop_assert!((blurred.within(1e3) - 1.0).abs() < 1e-3);
    }
}
