//! How much somebody may ask for: a token bucket that can run up a debt. Pure.
//!
//! What a message costs is known only when it has been read. So it is paid for afterwards, and nothing more is read while there
//! is a debt: QUIC's flow control then holds the sender back, and no message is lost.

use std::time::{Duration, Instant};

/// A token for each `every`, up to `burst` of them: the generic cell rate algorithm (ITU-T I.371), which needs no timer.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    every: Duration,
    depth: Duration,
    /// When the bucket is full again.
    full_at: Option<Instant>,
}

impl Bucket {
    /// A full bucket.
    pub(crate) fn new(every: Duration, burst: u32) -> Self {
        Self { every, depth: every.saturating_mul(burst), full_at: None }
    }

    /// Takes `cost` tokens, those that it lacks as a debt.
    pub(crate) fn charge(&mut self, now: Instant, cost: u32) {
        self.full_at = self.after(now, cost);
    }

    /// Takes one token, or says when there is one.
    pub(crate) fn take(&mut self, now: Instant) -> Result<(), Instant> {
        let after = self.after(now, 1);
        match after.and_then(|full| full.checked_sub(self.depth)).filter(|due| *due > now) {
            Some(due) => Err(due),
            None => {
                self.full_at = after;
                Ok(())
            }
        }
    }

    /// When the debt is paid; `None` if there is none.
    pub(crate) fn debt_until(&self, now: Instant) -> Option<Instant> {
        self.full_at?.checked_sub(self.depth).filter(|paid| *paid > now)
    }

    fn after(&self, now: Instant, cost: u32) -> Option<Instant> {
        let from = self.full_at.map_or(now, |full| full.max(now));
        // a time beyond all times would be a debt that is never paid: nothing that is sent costs so much
        from.checked_add(self.every.saturating_mul(cost)).or(self.full_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_burst_passes_and_then_one_for_each_period() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10 * MS, 5);
        let passed = |bucket: &mut Bucket, now| (0..100).take_while(|_| bucket.take(now).is_ok()).count();
        assert_eq!(passed(&mut bucket, start), 5);
        assert_eq!(bucket.take(start), Err(start + 10 * MS));
        assert_eq!(passed(&mut bucket, start + 25 * MS), 2);
        assert_eq!(bucket.take(start + 25 * MS), Err(start + 30 * MS));
        assert_eq!(passed(&mut bucket, start + 1000 * MS), 5, "it does not fill beyond its burst");
    }

    #[test]
    fn what_is_charged_beyond_the_burst_is_a_debt_that_time_pays() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10 * MS, 5);
        bucket.charge(start, 5);
        assert_eq!(bucket.debt_until(start), None);
        bucket.charge(start, 3);
        assert_eq!(bucket.debt_until(start), Some(start + 30 * MS));
        assert_eq!(bucket.debt_until(start + 29 * MS), Some(start + 30 * MS));
        assert_eq!(bucket.debt_until(start + 30 * MS), None);
        bucket.charge(start + 30 * MS, 1);
        assert_eq!(bucket.debt_until(start + 30 * MS), Some(start + 40 * MS));
    }

    #[test]
    fn no_cost_overflows() {
        let start = Instant::now();
        let mut bucket = Bucket::new(Duration::MAX, u32::MAX);
        bucket.charge(start, u32::MAX);
        assert_eq!(bucket.debt_until(start), None);
        assert_eq!(bucket.take(start), Ok(()));
    }
}
