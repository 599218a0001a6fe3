//! How long to wait before the next try. Pure: randomness is an argument, and waiting is the caller's.

use std::time::Duration;

/// Exponential backoff with full jitter above a floor: each wait is drawn evenly between `min` and a ceiling, which
/// starts at twice `min` and doubles with each try up to `max`.
///
/// The first wait is drawn as well, so that all who lost one peer at once do not come back at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    ceiling: Duration,
}

impl Backoff {
    /// A backoff from `min` to `max`; a `max` below `min` is taken as `min`.
    pub fn new(min: Duration, max: Duration) -> Self {
        let max = max.max(min);
        Self { min, max, ceiling: min.saturating_mul(2).min(max) }
    }

    /// The next wait. `random` is drawn evenly from `0.0..1.0` by the caller; what lies outside is taken as the nearer
    /// end.
    pub fn next_delay(&mut self, random: f64) -> Duration {
        let random = if random.is_nan() { 0.0 } else { random.clamp(0.0, 1.0) };
        let delay = self.min + (self.ceiling - self.min).mul_f64(random);
        self.ceiling = self.ceiling.saturating_mul(2).min(self.max);
        delay
    }

    /// Begins again after a success.
    pub fn reset(&mut self) {
        *self = Self::new(self.min, self.max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_ceiling_doubles_up_to_max_and_resets() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(500));
        let waits: Vec<u128> = (0..4).map(|_| backoff.next_delay(1.0).as_millis()).collect();
        assert_eq!(waits, [200, 400, 500, 500]);
        assert_eq!(backoff.next_delay(0.0).as_millis(), 100);
        backoff.reset();
        assert_eq!(backoff.next_delay(0.5).as_millis(), 150);
    }

    proptest! {
        #[test]
        fn a_wait_is_never_outside_its_bounds(
            min in 0u64..100_000, max in 0u64..10_000_000, random in proptest::collection::vec(any::<f64>(), 1..80)
        ) {
            let (min, max) = (Duration::from_millis(min), Duration::from_millis(max));
            let mut backoff = Backoff::new(min, max);
            for random in random {
                let delay = backoff.next_delay(random);
                prop_assert!(delay >= min && delay <= max.max(min));
            }
        }
    }
}
