use proptest::prelude::*;

use super::*;

fn crowd(p: f64, alpha: f64) -> Crowd {
    Crowd {
        p,
        alpha,
        people: f64::INFINITY,
    }
}

fn near(got: &[f64], expected: &[f64], within: f64) {
    assert_eq!(got.len(), expected.len());
    assert!(
        got.iter()
            .zip(expected)
            .all(|(a, b)| (a - b).abs() < within),
        "{got:?}, not {expected:?}"
    );
}

#[test]
fn golden_allocations() {
    for (crowds, budget, people, success) in [
        (
            vec![crowd(0.6, 1.0), crowd(0.4, 1.0)],
            1.0,
            vec![0.702_732_6, 0.297_267_4],
            0.405_723_7,
        ),
        (
            [0.5, 0.3, 0.15, 0.05].map(|p| crowd(p, 1.0)).to_vec(),
            3.0,
            vec![1.571_599_5, 1.060_773_9, 0.367_626_7, 0.0],
            0.638_431_0,
        ),
        (
            vec![crowd(0.5, 1.0), crowd(0.5, 2.0)],
            1.0,
            vec![0.435_617_6, 0.564_382_4],
            0.514_851_2,
        ),
    ] {
        let got = allocate(&crowds, budget);
        near(&got.people, &people, 1e-6);
        assert!((got.success - success).abs() < 1e-6, "{}", got.success);
    }
}

#[test]
fn there_are_only_so_many_people() {
    let crowds = [(0.6, 10.0), (0.3, 100.0), (0.1, 100.0)].map(|(p, people)| Crowd {
        p,
        alpha: 0.01,
        people,
    });
    near(&allocate(&crowds, 10.0).people, &[10.0, 0.0, 0.0], 1e-9);
    near(&allocate(&crowds, 30.0).people, &[10.0, 20.0, 0.0], 1e-9);
    near(&allocate(&crowds, 1e6).people, &[10.0, 100.0, 100.0], 1e-9);
    assert_eq!(allocate(&[], 5.0).people, [0.0; 0]);
    let useless = [
        crowd(0.0, 1.0),
        crowd(f64::NAN, 1.0),
        crowd(0.5, 0.0),
        crowd(0.5, 1.0),
    ];
    near(
        &allocate(&useless, 2.0).people,
        &[0.0, 0.0, 0.0, 2.0],
        1e-12,
    );
    near(&allocate(&useless, -2.0).people, &[0.0; 4], 1e-12);
}

fn crowds() -> impl Strategy<Value = Vec<Crowd>> {
    prop::collection::vec(
        (
            0.001..1.0_f64,
            1e-4..2.0_f64,
            prop_oneof![Just(f64::INFINITY), 0.1..500.0_f64],
        ),
        1..12,
    )
    .prop_map(|all| {
        all.into_iter()
            .map(|(p, alpha, people)| Crowd { p, alpha, people })
            .collect()
    })
}

proptest! {
    #[test]
    fn the_budget_is_spent_where_it_is_worth_most(crowds in crowds(), budget in 0.01..2_000.0_f64) {
        let got = allocate(&crowds, budget);
        let spent: f64 = got.people.iter().sum();
        let there_are: f64 = crowds.iter().map(|crowd| crowd.people).sum();
        prop_assert!((spent - budget.min(there_are)).abs() < 1e-9 * budget.max(1.0), "{spent}");
        // The next person is worth the same wherever somebody but not everybody is alerted, no more
        // where nobody is and no less where everybody is.
        let worth = |crowd: &Crowd, z: f64| crowd.p * crowd.alpha * libm::exp(-crowd.alpha * z);
        let marginal = |test: fn(f64, f64) -> bool| -> Vec<f64> {
            let chosen = crowds.iter().zip(&got.people).filter(|(crowd, z)| test(**z, crowd.people));
            chosen.map(|(crowd, z)| worth(crowd, *z)).collect()
        };
        let active = marginal(|z, people| z > 1e-9 && z < people - 1e-9);
        let idle = marginal(|z, people| z <= 1e-9 && people > 1e-9);
        let full = marginal(|z, people| z >= people - 1e-9);
        for one in &active {
            prop_assert!((one - active[0]).abs() < 1e-9, "{active:?}");
        }
        let level = active.first().copied();
        let most_idle = idle.iter().copied().fold(0.0, f64::max);
        let least_full = full.iter().copied().fold(f64::INFINITY, f64::min);
        prop_assert!(most_idle <= level.unwrap_or(least_full) + 1e-9);
        prop_assert!(least_full >= level.unwrap_or(most_idle) - 1e-9);
    }

    #[test]
    fn success_rises_and_is_concave(crowds in crowds(), budget in 0.1..200.0_f64, step in 0.1..50.0_f64) {
        let [a, b, c] = [0.0, 1.0, 2.0].map(|i| allocate(&crowds, budget + i * step).success);
        prop_assert!(a <= b + 1e-12 && b <= c + 1e-12, "{a} {b} {c}");
        prop_assert!(b - a >= c - b - 1e-9, "{a} {b} {c}");
    }
}
