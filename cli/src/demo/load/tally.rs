//! What the request loops count.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How many errors are kept to be shown.
const KEPT: usize = 3;

/// Requests that were answered and that failed.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    done: AtomicU64,
    failed: AtomicU64,
    slowest_us: AtomicU64,
    loops: AtomicUsize,
    errors: Mutex<Vec<String>>,
}

impl Tally {
    /// A request was answered.
    pub(super) fn done(&self, took: Duration) {
        self.done.fetch_add(1, Ordering::Relaxed);
        self.slowest_us.fetch_max(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// A request failed.
    pub(super) fn failed(&self, error: String) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        if errors.len() < KEPT && !errors.contains(&error) {
            errors.push(error);
        }
    }

    /// A loop had its first answer.
    pub(super) fn loop_runs(&self) {
        self.loops.fetch_add(1, Ordering::Relaxed);
    }

    /// How many loops had an answer.
    pub(super) fn loops(&self) -> usize {
        self.loops.load(Ordering::Relaxed)
    }

    /// Requests in all.
    pub(crate) fn requests(&self) -> u64 {
        self.done.load(Ordering::Relaxed) + self.failures()
    }

    /// Requests that failed.
    pub(crate) fn failures(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// The longest that an answer took, with the time that the service waits.
    pub(crate) fn slowest(&self) -> Duration {
        Duration::from_micros(self.slowest_us.load(Ordering::Relaxed))
    }

    /// The first errors that differ.
    pub(crate) fn errors(&self) -> String {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner).join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_and_errors_kept_once() {
        let tally = Tally::default();
        tally.done(Duration::from_millis(7));
        tally.done(Duration::from_millis(3));
        for error in ["a", "b", "a", "c", "d"] {
            tally.failed(error.into());
        }
        assert_eq!((tally.requests(), tally.failures(), tally.slowest()), (7, 5, Duration::from_millis(7)));
        assert_eq!(tally.errors(), "a; b; c");
    }
}
