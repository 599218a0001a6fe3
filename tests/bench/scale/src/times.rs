//! Many durations, and what they come to.

use crate::figures::Figures;
use std::time::Duration;

/// Durations that were measured.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    /// One more.
    pub(crate) fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// Those of another, too.
    pub(crate) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The least time that `share` of them do not exceed, in milliseconds.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        assert!(!self.0.is_empty(), "nothing was measured");
        let mut sorted = self.0.clone();
        sorted.sort();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in the list")]
        let place = (sorted.len() as f64 * share).ceil() as usize;
        millis(sorted[place.clamp(1, sorted.len()) - 1])
    }

    /// Notes median, 99th percentile (with a goal, if there is one) and maximum.
    pub(crate) fn note(&self, figures: &mut Figures, what: &str, goal: Option<f64>) {
        figures.note(format!("{what}, p50 of {}", self.len()), self.quantile(0.5), "ms");
        let what_p99 = format!("{what}, p99");
        match goal {
            Some(goal) => figures.hold(what_p99, self.quantile(0.99), "ms", goal),
            None => figures.note(what_p99, self.quantile(0.99), "ms"),
        }
        figures.note(format!("{what}, max"), self.quantile(1.0), "ms");
    }
}

/// In milliseconds.
pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_what_was_measured() {
        let mut times = Times::default();
        (1..=100).rev().for_each(|ms| times.add(Duration::from_millis(ms)));
        assert_eq!(
            [0.5, 0.99, 1.0, 0.0].map(|share| times.quantile(share).round()),
            [50.0, 99.0, 100.0, 1.0]
        );
    }
}
