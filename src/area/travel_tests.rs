use proptest::prelude::*;

use super::*;
use crate::area::distances::DistanceTable;
use crate::area::{Settings, normal};
use crate::model::{Category, Environment, Mobility, Profile};

const STATIC_H: f64 = 10.0 * 365.25 * 24.0;

fn law(category: Category, environment: Environment) -> StaticLaw {
    let profile = Profile {
        category,
        age: None,
        mobility: Mobility::Normal,
        environment,
    };
    let table = DistanceTable::shipped().unwrap();
    let row = table.row(&profile, 65).unwrap();
    StaticLaw::through(row.quartiles_km, row.r95_km)
}

fn after(category: Category, environment: Environment, hours: f64) -> TimeLaw {
    let spread = Settings::default().spread_exponent;
    TimeLaw::new(
        law(category, environment),
        Movement::shipped(category),
        spread,
        0.0,
        hours,
    )
}

fn dementia_urban(hours: f64) -> TimeLaw {
    after(Category::Dementia, Environment::Urban, hours)
}

#[test]
fn golden_time_values() {
    for (hours, km, share) in [
        (1.0, 0.5, 0.393_723),
        (1.0, 1.0, 0.546_251),
        (1.0, 2.0, 0.708_465),
        (2.0, 1.0, 0.507_540),
        (2.0, 3.0, 0.762_669),
        (6.0, 5.0, 0.841_337),
    ] {
        let got = dementia_urban(hours).cdf(km);
        assert!(
            (got - share).abs() < 1e-6,
            "F_{hours}({km}) = {got}, not {share}"
        );
    }
}

#[test]
fn golden_radii() {
    use Category::{Autism, Child1To3, Child4To6, Child10To12, Dementia, Despondent, Hiker};
    use Environment::{Default, TemperateMountain, Urban};
    let hours = [0.5, 1.0, 2.0, 6.0, 24.0];
    let golden = [
        (
            Dementia,
            Urban,
            "0.647/1.981/2.250 0.815/2.430/4.500 0.967/2.820/9.000 1.103/3.161/12.365 1.127/3.219/12.553",
        ),
        (
            Dementia,
            Default,
            "0.556/1.581/2.250 0.699/1.906/4.500 0.829/2.171/9.000 0.946/2.382/12.518 0.966/2.414/12.714",
        ),
        (
            Child1To3,
            Urban,
            "0.184/0.351/0.762 0.251/0.479/0.893 0.331/0.603/0.994 0.447/0.758/1.100 0.483/0.805/1.127",
        ),
        (
            Child4To6,
            Urban,
            "0.183/0.481/1.748 0.249/0.629/2.233 0.329/0.777/2.718 0.445/0.934/3.257 0.483/0.966/3.380",
        ),
        (
            Child10To12,
            Urban,
            "0.554/1.305/3.000 0.756/1.743/4.106 0.995/2.198/4.829 1.340/2.753/5.610 1.448/2.897/5.794",
        ),
        (
            Autism,
            Urban,
            "0.450/1.509/3.000 0.600/2.041/5.658 0.758/2.661/6.681 0.931/3.558/7.787 0.966/3.862/8.047",
        ),
        (
            Despondent,
            Urban,
            "0.209/0.826/3.000 0.267/0.993/6.000 0.328/1.149/10.122 0.415/1.336/11.856 0.474/1.435/12.881",
        ),
        (
            Hiker,
            TemperateMountain,
            "0.757/1.721/3.000 1.069/2.406/6.000 1.485/3.296/10.598 2.326/4.821/15.117 3.030/5.766/18.086",
        ),
    ];
    for (category, environment, row) in golden {
        for (hours, radii) in hours.into_iter().zip(row.split(' ')) {
            let law = after(category, environment, hours);
            let got = [0.50, 0.75, 0.95]
                .map(|q| format!("{:.3}", law.quantile(q)))
                .join("/");
            assert_eq!(got, radii, "{category} {environment} after {hours} h");
        }
    }
}

#[test]
fn in_the_end_it_is_the_static_law() {
    let fixed = law(Category::Dementia, Environment::Urban);
    let law = dementia_urban(STATIC_H);
    for q in [0.05, 0.2, 0.5, 0.9, 0.99] {
        assert!((law.quantile(q) - fixed.quantile(q)).abs() < 1e-12);
        assert!((law.cdf(fixed.quantile(q)) - q).abs() < 1e-12);
    }
}

#[test]
fn somebody_just_gone_is_still_there() {
    let law = dementia_urban(0.0);
    assert_eq!(law.quantile(0.95).to_bits(), 0.0_f64.to_bits());
    assert_eq!(law.cdf(0.0).to_bits(), 1.0_f64.to_bits());
    assert!((dementia_urban(1.0 / 3600.0).reach_km() - 0.001_25).abs() < 1e-9);
}

/// What share of somebody else's cases lies inside our radii, their published percentages joined
/// log-normally.
fn coverage(published: &[(f64, f64)]) -> [f64; 4] {
    let fixed = law(Category::Dementia, Environment::Urban);
    [0.25, 0.50, 0.75, 0.95].map(|q| {
        let km = fixed.quantile(q);
        let after = published
            .iter()
            .position(|knot| knot.1 > km)
            .unwrap_or(published.len() - 1);
        let (from, to) = (published[after.max(1) - 1], published[after.max(1)]);
        let (from_z, to_z) = (normal::quantile(from.0), normal::quantile(to.0));
        let part = libm::log(km / from.1) / libm::log(to.1 / from.1);
        normal::cdf(from_z + part * (to_z - from_z))
    })
}

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
    for (published, expected) in [
        (&misper, [0.213, 0.465, 0.721, 0.930]),
        (&grampian, [0.408, 0.679, 0.881, 0.991]),
    ] {
        for (got, expected) in coverage(published).into_iter().zip(expected) {
            assert!((got - expected).abs() < 1e-3, "{got}, not {expected}");
        }
    }
}

#[test]
fn the_map_has_nobody_beyond_the_reach_and_no_ring_at_it() {
    let law = dementia_urban(0.5);
    let reach_km = law.reach_km();
    assert!(
        law.cdf(reach_km * 0.999) < 0.8,
        "the radii's law jumps there"
    );
    let [inside, outside] = [0.999, 1.001].map(|part| law.bounded_cdf(part * reach_km));
    assert!(
        inside > 0.999 && (outside - 1.0).abs() < 1e-12,
        "{inside} {outside}"
    );
    // Inside, all proportions are kept.
    let ratio = law.bounded_cdf(0.5) / law.cdf(0.5);
    for km in [0.01, 0.1, 1.0, 2.0] {
        assert!((law.bounded_cdf(km) / law.cdf(km) - ratio).abs() < 1e-12);
    }
}

#[test]
fn density_is_the_slope_of_the_law() {
    for hours in [0.5, 2.0, 24.0] {
        let law = dementia_urban(hours);
        for km in [0.02, 0.2, 0.9, 2.0] {
            let (inner, outer) = (km * 0.9999, km * 1.0001);
            let ring = std::f64::consts::PI * (outer * outer - inner * inner);
            let slope = (law.bounded_cdf(outer) - law.bounded_cdf(inner)) / ring;
            assert!(
                (law.bounded_density(km) / slope - 1.0).abs() < 1e-3,
                "{hours} h, {km} km"
            );
        }
    }
}

#[test]
fn the_clock_runs_on_from_the_last_known_position() {
    let fixed = law(Category::Dementia, Environment::Urban);
    let movement = Movement::shipped(Category::Dementia);
    let between = |from, until| TimeLaw::new(fixed.clone(), movement, 0.5, from, until);
    assert_eq!(
        between(0.0, 3.0),
        after(Category::Dementia, Environment::Urban, 3.0)
    );
    let later = between(2.0, 5.0);
    assert!((later.reach_km() - 13.5).abs() < 1e-12);
    for q in [0.25, 0.5, 0.75, 0.95] {
        // Who still walks after two hours walks long: in three hours they get less far than those who
        // just left, for whom more of the walk lies ahead, and farther in four.
        assert!(later.quantile(q) < between(0.0, 3.0).quantile(q), "{q}");
        assert!(later.quantile(q) < between(2.0, 6.0).quantile(q), "{q}");
        assert!(
            later.quantile(q) > between(0.0, 3.0).quantile(q) / 4.0,
            "{q}"
        );
    }
    assert_eq!(
        between(2.0, 2.0).quantile(0.95).to_bits(),
        0.0_f64.to_bits()
    );
}

/// Two hours and three more spread people as five hours do, where nobody has stopped yet.
#[test]
fn squares_of_distances_add_up() {
    let movement = Movement {
        scale_h: 50.0,
        shape: 8.0,
        speed_kmh: 100.0,
    };
    let fixed = law(Category::Dementia, Environment::Urban);
    let median =
        |from, until| TimeLaw::new(fixed.clone(), movement, 0.5, from, until).quantile(0.5);
    let sum = libm::hypot(median(0.0, 2.0), median(2.0, 5.0));
    assert!(
        (sum / median(0.0, 5.0) - 1.0).abs() < 1e-6,
        "{sum} {}",
        median(0.0, 5.0)
    );
}

fn any_law() -> impl Strategy<Value = (StaticLaw, Movement)> {
    let categories = Category::ALL
        .iter()
        .copied()
        .filter(|&one| one != Category::Abduction);
    let categories: Vec<_> = categories.collect();
    (
        prop::sample::select(categories),
        prop::sample::select(Environment::ALL),
    )
        .prop_map(|(category, environment)| {
            (law(category, environment), Movement::shipped(category))
        })
}

proptest! {
    #[test]
    fn radii_rise_and_stay_within_reach((law, movement) in any_law(), hours in 0.001..200.0_f64) {
        let law = TimeLaw::new(law, movement, 0.5, 0.0, hours);
        let radii = [0.25, 0.50, 0.75, 0.95].map(|q| law.quantile(q));
        prop_assert!(radii.is_sorted(), "{radii:?}");
        prop_assert!(radii[3] <= law.reach_km());
    }

    #[test]
    fn radii_grow_with_time_up_to_the_static_law(
        (law, movement) in any_law(), q in 0.01..0.99_f64, hours in 0.001..100.0_f64, more in 1.0..3.0_f64,
    ) {
        let early = TimeLaw::new(law.clone(), movement, 0.5, 0.0, hours).quantile(q);
        let late = TimeLaw::new(law.clone(), movement, 0.5, 0.0, hours * more).quantile(q);
        prop_assert!(early <= late * (1.0 + 1e-12), "{early} {late}");
        prop_assert!(late <= law.quantile(q) * (1.0 + 1e-12));
    }

    #[test]
    fn probability_rises_with_distance_and_falls_with_time(
        (law, movement) in any_law(), hours in 0.05..50.0_f64, more in 1.0..3.0_f64,
        part in 0.001..0.99_f64, further in 1.0..2.0_f64,
    ) {
        let early = TimeLaw::new(law.clone(), movement, 0.5, 0.0, hours);
        let late = TimeLaw::new(law, movement, 0.5, 0.0, hours * more);
        let km = part * early.reach_km();
        prop_assert!(early.cdf(km) <= early.cdf(km * further) + 1e-12);
        prop_assert!(late.cdf(km) <= early.cdf(km) + 1e-12);
    }

    #[test]
    fn quantile_is_the_first_distance_to_reach_the_share(
        (law, movement) in any_law(), hours in 0.05..50.0_f64, q in 0.01..0.99_f64,
    ) {
        let law = TimeLaw::new(law, movement, 0.5, 0.0, hours);
        let km = law.quantile(q);
        prop_assert!(law.cdf(km * (1.0 + 1e-9)) >= q - 1e-9);
        prop_assert!(law.cdf(km * (1.0 - 1e-9)) <= q + 1e-9);
    }
}
