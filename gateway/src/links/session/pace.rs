//! When to do something that is asked for again and again. Pure.

use std::time::{Duration, Instant};

/// Work that is asked for often and done seldom: `delay` after it was first asked for, so that what comes together is done
/// together, and no more often than `every`.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    delay: Duration,
    every: Duration,
    due: Option<Instant>,
    done: Option<Instant>,
}

impl Pace {
    pub(super) fn new(delay: Duration, every: Duration) -> Self {
        Self { delay, every, due: None, done: None }
    }

    /// The work is asked for.
    pub(super) fn ask(&mut self, now: Instant) {
        let earliest = self.done.map_or(now, |done| done + self.every);
        self.due.get_or_insert(earliest.max(now + self.delay));
    }

    /// The work is asked for without delay.
    pub(super) fn ask_now(&mut self, now: Instant) {
        self.due = Some(now);
    }

    /// Whether to do the work now; it then counts as done.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let due = self.due.is_some_and(|due| due <= now);
        if due {
            self.due = None;
            self.done = Some(now);
        }
        due
    }

    /// From now on no more often than `every`.
    pub(super) fn slow_to(&mut self, every: Duration) {
        self.every = every;
    }

    /// When the work is due, if it was asked for.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_together_is_done_together_and_not_too_often() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut pace = Pace::new(Duration::from_millis(20), Duration::from_millis(100));
        assert!(!pace.take(at(0)));
        pace.ask(at(0));
        pace.ask(at(19));
        assert!(!pace.take(at(19)));
        assert_eq!(pace.due(), Some(at(20)));
        assert!(pace.take(at(20)));
        assert!(!pace.take(at(500)));
        pace.ask(at(30));
        assert_eq!(pace.due(), Some(at(120)));
        pace.ask_now(at(31));
        assert!(pace.take(at(31)));
        pace.slow_to(Duration::from_secs(1));
        pace.ask(at(40));
        assert_eq!(pace.due(), Some(at(1031)));
    }
}
