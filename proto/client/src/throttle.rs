//! Saying the same thing not too often.

use std::time::{Duration, Instant};

/// Lets one message through in each period.
#[derive(Debug)]
pub(crate) struct Throttle {
    every: Duration,
    last: Option<Instant>,
}

impl Throttle {
    pub(crate) fn new(every: Duration) -> Self {
        Self { every, last: None }
    }

    /// Whether it may be said at `now`.
    pub(crate) fn pass(&mut self, now: Instant) -> bool {
        let pass = self.last.is_none_or(|last| now.saturating_duration_since(last) >= self.every);
        if pass {
            self.last = Some(now);
        }
        pass
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_message_passes_in_each_period() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut throttle = Throttle::new(5 * second);
        let passed: Vec<u32> = (0..12).filter(|&n| throttle.pass(start + second * n)).collect();
        assert_eq!(passed, [0, 5, 10]);
    }
}
