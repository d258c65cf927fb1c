use std::time::Duration;

use super::*;
use crate::area::inputs::PlanInputs;
use crate::area::law::StaticLaw;
use crate::area::settings::Movement;
use crate::area::travel::TimeLaw;
use crate::model::{Mobility, Profile};

fn aberdeen() -> Position {
    Position::new(57.149_7, -2.094_3).unwrap()
}

/// A case found so many km away after so many hours.
fn case(k: u32, km: f64, hours: f64) -> ClosedCase {
    let profile = Profile {
        category: Category::Dementia,
        age: None,
        mobility: Mobility::Normal,
        environment: Environment::Urban,
    };
    let (sin, cos) = libm::sincos(f64::from(k) * 2.399_963_229_728_653);
    ClosedCase {
        inputs: PlanInputs::new(
            profile,
            aberdeen(),
            Duration::from_secs_f64(hours * 3_600.0),
        ),
        found: Horizon::at(aberdeen()).point(km * sin, km * cos).unwrap(),
    }
}

fn calibrated(cases: &[ClosedCase]) -> Calibration {
    calibrate(
        &DistanceTable::shipped().unwrap(),
        &Settings::default(),
        cases,
    )
    .unwrap()
}

/// Cases that follow a law: one for each of `n` equally likely distances.
fn following(n: u32, hours: f64, quantile: impl Fn(f64) -> f64) -> Vec<ClosedCase> {
    (0..n)
        .map(|k| case(k, quantile((f64::from(k) + 0.5) / f64::from(n)), hours))
        .collect()
}

/// A law through published percentages, joined log-normally, as an inverse.
fn through(knots: &[(f64, f64)]) -> impl Fn(f64) -> f64 + '_ {
    move |p| {
        let after = knots
            .iter()
            .position(|knot| knot.0 > p)
            .unwrap_or(knots.len() - 1)
            .max(1);
        let (from, to) = (knots[after - 1], knots[after]);
        let [z, from_z, to_z] = [p, from.0, to.0].map(normal::quantile);
        let part = (z - from_z) / (to_z - from_z);
        libm::exp(libm::log(from.1) + part * libm::log(to.1 / from.1))
    }
}

#[test]
fn cases_that_follow_the_law_bear_it_out() {
    let law = StaticLaw::through([0.321_869, 1.126_541, 3.218_688], Some(12.552_883));
    let law = TimeLaw::new(law, Movement::shipped(Category::Dementia), 0.5, 0.0, 48.0);
    let inside = law.cdf(law.reach_km() * (1.0 - 1e-9));
    let got = calibrated(&following(50, 48.0, |p| law.quantile(p * inside)));
    for (one, promised) in got.coverage.iter().zip(TABLE_QUANTILES) {
        assert!((one.inside - promised).abs() < 0.05, "{one:?}");
        assert!(one.interval[0] < one.inside && one.inside < one.interval[1] + 1e-9);
    }
    assert_eq!(got.transform.histogram, [5; 10]);
    assert!(
        got.transform.largest_gap < 0.03 && got.transform.p_value > 0.99,
        "{:?}",
        got.transform
    );
    assert!(
        got.rossmo.mean > 0.75 && got.rossmo.outside <= 3,
        "{:?}",
        got.rossmo
    );
}

/// The two independent laws of the model's page, by simulation.
#[test]
fn coverage_on_other_peoples_data() {
    let misper = [
        (0.2, 0.3),
        (0.3, 0.5),
        (0.4, 1.0),
        (0.5, 1.2),
        (0.6, 2.0),
        (0.7, 2.9),
        (0.8, 5.0),
        (0.9, 9.5),
    ];
    let grampian = [
        (0.4, 0.3),
        (0.5, 0.7),
        (0.6, 0.9),
        (0.7, 1.2),
        (0.8, 2.0),
        (0.9, 3.7),
        (0.95, 5.8),
        (0.99, 12.0),
    ];
    for (knots, expected) in [
        (&misper, [0.213, 0.465, 0.721, 0.930]),
        (&grampian, [0.408, 0.679, 0.881, 0.991]),
    ] {
        let got = calibrated(&following(60, 1e5, through(knots)));
        for (one, expected) in got.coverage.iter().zip(expected) {
            assert!(
                (one.inside - expected).abs() <= 1.0 / 60.0,
                "{one:?}, not {expected}"
            );
        }
    }
}

#[test]
fn a_wrong_model_is_found_out() {
    let cases = following(50, 1e5, |p| 4.0 + 20.0 * p);
    let got = calibrated(&cases);
    assert!(got.coverage[2].inside < 0.01 && got.coverage[2].interval[1] < 0.15);
    assert!(got.transform.p_value < 1e-6, "{:?}", got.transform);
    assert!(
        got.rossmo.outside > 20 && got.rossmo.mean < 0.0,
        "{:?}",
        got.rossmo
    );
}

#[test]
fn rossmos_score_of_the_best_and_the_worst_place() {
    let got = |km: f64| calibrated(&[case(1, km, 1e5)]).rossmo.mean;
    // The best cell has 0.6 of 625 km², and counts by half.
    let best = Cell::at(aberdeen(), h3o::Resolution::Eight)
        .index()
        .area_km2();
    assert!(
        (got(0.0) - (1.0 - best / 625.0)).abs() < 1e-9,
        "{}",
        got(0.0)
    );
    // The cell at 12 km has its centre up to 0.5 km nearer or farther.
    let share = std::f64::consts::PI * 12.0 * 12.0 / 625.0;
    assert!(
        (got(12.0) - (1.0 - 2.0 * share)).abs() < 0.13,
        "{}",
        got(12.0)
    );
    assert!((got(40.0) + 1.0).abs() < 1e-12);
}

#[test]
fn rows_are_ready_to_paste() {
    let got = calibrated(&following(21, 1e5, |p| 10.0 * p));
    assert_eq!(got.rows.len(), 1);
    let row = got.rows[0].as_csv().unwrap();
    let own = format!("category,environment,r25_km,r50_km,r75_km,r95_km,source\n{row}\n");
    let table = DistanceTable::shipped().unwrap().with_rows(&own).unwrap();
    let chosen = table.row(&case(0, 1.0, 1.0).inputs.profile, 65).unwrap();
    assert!((chosen.quartiles_km[1] - 5.0).abs() < 1e-6, "{row}");
    assert_eq!(chosen.source, "own closed cases, n = 21");
    assert_eq!(
        calibrated(&following(19, 1e5, |p| 10.0 * p)).rows[0].as_csv(),
        None
    );
}

#[test]
fn nothing_comes_of_nothing() {
    let got = calibrated(&[]);
    assert_eq!(
        got.coverage[0].interval.map(f64::to_bits),
        [0.0, 1.0].map(f64::to_bits)
    );
    assert_eq!(got.rows, []);
}

#[test]
fn wilsons_interval_and_kolmogorovs_distribution() {
    // Wilson's interval of 8 in 10: 0.4902 to 0.9433. Kolmogorov: P(K > 1.3581) = 0.05.
    let [low, high] = coverage(0.75, 8, 10).interval;
    assert!(
        (low - 0.490_2).abs() < 1e-4 && (high - 0.943_3).abs() < 1e-4,
        "{low} {high}"
    );
    assert!((kolmogorov(1.358_1) - 0.05).abs() < 1e-4);
    assert!((kolmogorov(1.627_6) - 0.01).abs() < 1e-4);
    assert!((sample_quantile(&[1.0, 2.0, 4.0], 0.75) - 3.0).abs() < 1e-12);
}
