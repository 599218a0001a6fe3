//! How long an endpoint takes, as far as it is known.

use crate::pair::is_worse;
use std::time::{Duration, Instant};

/// What a new sample counts that is above the estimate: bad news is believed sooner.
const UP: f64 = 0.5;
/// What one counts that is below it.
const DOWN: f64 = 0.3;
/// Without samples, an estimate comes near the best one of others with a time constant, so that a slow endpoint is tried again: first
/// with this one, in seconds.
const FORGET_FIRST: f64 = 0.05;
/// The time constant doubles each time that a slow endpoint is found to be slow still, up to this, in seconds.
const FORGET_LAST: f64 = 3.0;

/// A moving estimate of a time, in seconds.
///
/// Each sample counts as the median of itself and the last two: one that waited for a scheduler or a lost packet says nothing of
/// the endpoint. After a pause one counts as it is, and what was before is forgotten.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Latency {
    estimate: f64,
    /// The last samples, the newest first.
    last: [f64; 2],
    /// How many of `last` there are.
    count: u8,
    at: Option<Instant>,
    forget: f64,
}

impl Default for Latency {
    fn default() -> Self {
        Self { estimate: 0.0, last: [0.0; 2], count: 0, at: None, forget: FORGET_FIRST }
    }
}

impl Latency {
    /// Takes note that it took `took`, when the best of all candidates takes `best`, in seconds.
    pub(crate) fn sample(&mut self, took: Duration, best: f64, now: Instant) {
        let took = took.as_secs_f64();
        if self.at.is_none_or(|at| now.saturating_duration_since(at).as_secs_f64() > self.forget) {
            self.count = 0;
            self.estimate = took;
            if is_worse(took, best) {
                self.forget = (self.forget * 2.0).min(FORGET_LAST);
            }
        } else {
            let counts = if self.count < 2 { took.min(self.last[0]) } else { median(took, self.last) };
            let part = if counts > self.estimate { UP } else { DOWN };
            self.estimate += (counts - self.estimate) * part;
        }
        if !is_worse(took, best) {
            self.forget = FORGET_FIRST;
        }
        self.last = [took, self.last[0]];
        self.count = (self.count + 1).min(2);
        self.at = Some(now);
    }

    /// The estimate as it was at the last sample, if there was one.
    pub(crate) fn known(&self) -> Option<f64> {
        self.at.map(|_| self.estimate)
    }

    /// The estimate at `now`, when the best of all candidates is `best`. What is not known is taken for the best.
    pub(crate) fn estimate(&self, best: f64, now: Instant) -> f64 {
        let Some(at) = self.at else { return best };
        let unused = now.saturating_duration_since(at).as_secs_f64();
        best + (self.estimate - best) * (-unused / self.forget).exp()
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

fn median(a: f64, [b, c]: [f64; 2]) -> f64 {
    a.min(b).max(a.max(b).min(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    const BEST: f64 = 0.005;

    #[test]
    fn one_outlier_says_nothing_and_two_do() {
        let (mut latency, mut now) = (Latency::default(), Instant::now());
        for _ in 0..5 {
            latency.sample(ms(5), BEST, now);
            now += ms(10);
        }
        latency.sample(ms(500), BEST, now);
        assert!((latency.estimate - BEST).abs() < 1e-9, "{latency:?}");
        latency.sample(ms(500), BEST, now);
        assert!(latency.estimate > 0.2, "{latency:?}");
    }

    /// When the endpoint, which is slow at `now`, is taken for as good as others again.
    fn retried(latency: &Latency, now: Instant) -> Duration {
        let like_others = |wait: &u64| !is_worse(latency.estimate(BEST, now + ms(*wait)), BEST);
        ms((0..100_000).step_by(10).find(like_others).unwrap())
    }

    #[test]
    fn a_slow_one_is_tried_again_soon_and_then_later_and_later() {
        let (mut latency, mut now) = (Latency::default(), Instant::now());
        let mut waits = Vec::new();
        for _ in 0..8 {
            latency.sample(ms(50), BEST, now);
            waits.push(retried(&latency, now));
            now += waits[waits.len() - 1] + ms(10);
        }
        assert!(waits.is_sorted() && waits[0] < ms(500), "{waits:?}");
        assert!((ms(5000)..ms(8000)).contains(&waits[7]), "{waits:?}");
        // and all is forgotten with the first good sample
        latency.sample(ms(5), BEST, now + ms(10_000));
        assert_eq!(retried(&latency, now + ms(10_000)), ms(0));
        latency.sample(ms(50), BEST, now + ms(12_000));
        assert!(retried(&latency, now + ms(12_000)) < ms(500));
    }

    #[test]
    fn what_is_not_known_is_taken_for_the_best() {
        assert!((Latency::default().estimate(BEST, Instant::now()) - BEST).abs() < 1e-9);
        assert_eq!(Latency::default().known(), None);
    }
}
