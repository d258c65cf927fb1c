//! Whom to alert when not everybody may be: Koopman's optimum (Koopman 1957, "The theory of search
//! III: the optimum distribution of searching effort"; Stone, *Theory of Optimal Search*).
//!
//! The next person to alert is where `p alpha exp(-alpha z)` is largest. As long as nobody has been
//! alerted and people find alike everywhere, that is the order of the waves' cells, best first; and
//! once some have, that of the map which takes their search into account.

use serde::{Deserialize, Serialize};

/// A cell, or a set of them, whose people may be alerted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Crowd {
    /// The probability that the missing person is there, 0 to 1.
    pub p: f64,
    /// How much of the person's not being found one alerted person takes away, above 0.
    pub alpha: f64,
    /// How many people can be alerted there, 0 or more; infinite for as many as one likes.
    pub people: f64,
}

/// How a budget of recipients is best spent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Allocation {
    /// How many people to alert in each crowd, in the order of the crowds. Sums to the budget, or to
    /// all the people there are.
    pub people: Vec<f64>,
    /// The probability that somebody finds the missing person, `sum p (1 - exp(-alpha z))`.
    pub success: f64,
}

/// Spends a budget of recipients so that a find is as likely as can be:
/// `z = (ln(p alpha) - ln lambda) / alpha`, at least 0 and at most the people there are, with the
/// `lambda` that spends the budget.
///
/// A crowd whose numbers are out of bounds gets nobody.
#[must_use]
pub fn allocate(crowds: &[Crowd], budget: f64) -> Allocation {
    // Falling with ln lambda, each crowd begins to get people at one level and is full at another.
    // Between two of those levels the sum grows evenly.
    let mut levels: Vec<(f64, f64)> = Vec::with_capacity(2 * crowds.len());
    for crowd in crowds.iter().filter(|crowd| crowd.counts()) {
        let begins = libm::log(crowd.p * crowd.alpha);
        levels.push((begins, 1.0 / crowd.alpha));
        if crowd.people.is_finite() {
            levels.push((begins - crowd.alpha * crowd.people, -1.0 / crowd.alpha));
        }
    }
    levels.sort_by(|a, b| b.0.total_cmp(&a.0));
    let level = spending(&levels, budget.max(0.0)).unwrap_or(f64::NEG_INFINITY);
    let people: Vec<f64> = crowds.iter().map(|crowd| crowd.at(level)).collect();
    let success = crowds
        .iter()
        .zip(&people)
        .filter(|(crowd, _)| crowd.counts())
        .map(|(crowd, z)| -crowd.p * libm::expm1(-crowd.alpha * z))
        .sum();
    Allocation { people, success }
}

/// The logarithm of the lambda that spends the budget, from the levels in falling order and how much
/// the rate of spending changes at each; `None` where there are not that many people.
fn spending(levels: &[(f64, f64)], budget: f64) -> Option<f64> {
    let (mut spent, mut rate) = (0.0, 0.0);
    let mut above = levels.first()?.0;
    let endless = std::iter::once((f64::NEG_INFINITY, 0.0));
    for (level, change) in levels.iter().copied().chain(endless) {
        let more = rate * (above - level);
        if spent + more >= budget {
            return Some(if more > 0.0 {
                above - (budget - spent) / rate
            } else {
                above
            });
        }
        spent += more;
        rate += change;
        above = level;
    }
    None
}

impl Crowd {
    fn counts(&self) -> bool {
        self.p > 0.0 && self.alpha > 0.0 && self.people > 0.0
    }

    fn at(&self, level: f64) -> f64 {
        if self.counts() {
            ((libm::log(self.p * self.alpha) - level) / self.alpha)
                .max(0.0)
                .min(self.people)
        } else {
            0.0
        }
    }
}

#[cfg(test)]
#[path = "koopman_tests.rs"]
mod tests;
