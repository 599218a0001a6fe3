//! When the next check is. Pure: randomness is an argument.

use super::verdict::Sign;
use causeway_runtime::Backoff;
use std::time::Duration;

/// The first wait after a check that was refused, and the longest: an application that starts again is found soon, and a
/// connection to a port where nobody listens costs next to nothing.
const REFUSED: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// The times of one port's checks.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    /// From one check to the next while nothing is wrong; without it there is none.
    every: Option<Duration>,
    backoff: Backoff,
    /// The first check is done.
    begun: bool,
}

impl Schedule {
    /// A check each `every`, the second after a random part of that, so that many sidecars do not check at once.
    pub(super) fn every(every: Duration) -> Self {
        Self { every: Some(every), ..Self::passive() }
    }

    /// No check until a delivery is refused, and then until one passes.
    pub(super) fn passive() -> Self {
        Self { every: None, backoff: Backoff::new(REFUSED.0, REFUSED.1), begun: false }
    }

    /// Whether it checks without being asked.
    pub(super) fn is_active(&self) -> bool {
        self.every.is_some()
    }

    /// The wait after a check with `sign` that left the port `healthy`; `None` until a delivery is refused. `random` is drawn
    /// from 0 to 1.
    pub(super) fn after(&mut self, sign: Sign, healthy: bool, random: f64) -> Option<Duration> {
        let first = !std::mem::replace(&mut self.begun, true);
        let hurry = sign == Sign::Refused || (self.every.is_none() && !healthy);
        if !hurry {
            self.backoff.reset();
            let part = if first { random.clamp(0.0, 1.0) } else { 1.0 };
            return self.every.map(|every| every.mul_f64(part));
        }
        let soon = self.backoff.next_delay(random);
        Some(self.every.map_or(soon, |every| soon.min(every)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EVERY: Duration = Duration::from_secs(5);

    #[test]
    fn checks_are_spread_and_then_regular() {
        let mut schedule = Schedule::every(EVERY);
        assert_eq!(schedule.after(Sign::Passed, true, 0.5), Some(EVERY / 2));
        assert_eq!(schedule.after(Sign::Passed, true, 0.5), Some(EVERY));
        assert_eq!(schedule.after(Sign::Failed, true, 0.5), Some(EVERY));
    }

    #[test]
    fn what_was_refused_is_looked_at_soon_and_for_as_long_as_it_is() {
        let mut schedule = Schedule::passive();
        assert!(!schedule.is_active());
        for _ in 0..50 {
            assert!(schedule.after(Sign::Refused, false, 1.0).unwrap() <= REFUSED.1);
        }
        // it listens, but does not accept yet
        assert!(schedule.after(Sign::Failed, false, 1.0).is_some());
        assert_eq!(schedule.after(Sign::Passed, true, 1.0), None);
        assert_eq!(schedule.after(Sign::Failed, true, 1.0), None);
        assert!(schedule.after(Sign::Refused, false, 0.0).unwrap() >= REFUSED.0);
    }

    proptest! {
        #[test]
        fn no_wait_is_longer_than_the_interval(every in 100u64..10_000, random in 0.0..1.0, signs: Vec<bool>) {
            let every = Duration::from_millis(every);
            let mut schedule = Schedule::every(every);
            for refused in signs {
                let sign = if refused { Sign::Refused } else { Sign::Passed };
                prop_assert!(schedule.after(sign, !refused, random).unwrap() <= every);
            }
        }
    }
}
