//! Whether this gateway's replica follows what the others have. Pure.

use causeway_model::Revision;
use std::time::{Duration, Instant};

/// A revision that others have and this replica has not: how many it lacks, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lag {
    pub(crate) revisions: u64,
    pub(crate) lasts: Duration,
}

/// The oldest revision that is still missing here, and since when it has been known of.
#[derive(Debug, Default)]
pub(crate) struct Behind {
    missing: Option<(Revision, Instant)>,
    newest: Revision,
}

impl Behind {
    /// This replica is at `applied`, and `newest` is the newest revision that anybody spoke of. A replica that only takes its time
    /// reaches every revision soon after it was spoken of, however many follow.
    pub(super) fn observe(&mut self, now: Instant, applied: Revision, newest: Revision) {
        self.newest = newest;
        let reached = self.missing.is_none_or(|(missing, _)| applied >= missing);
        if reached {
            self.missing = (newest > applied).then_some((newest, now));
        }
    }

    /// How far behind it is.
    pub(crate) fn lag(&self, now: Instant, applied: Revision) -> Option<Lag> {
        let (missing, since) = self.missing.filter(|(missing, _)| applied < *missing)?;
        let revisions = self.newest.max(missing).0 - applied.0;
        Some(Lag { revisions, lasts: now.saturating_duration_since(since) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_that_follows_is_not_behind_however_fast_changes_come() {
        let (mut behind, start) = (Behind::default(), Instant::now());
        let mut longest = Duration::ZERO;
        for step in 0..1000u64 {
            let now = start + Duration::from_millis(250 * step);
            behind.observe(now, Revision(step * 10), Revision(step * 10 + 7));
            let lag = behind.lag(now, Revision(step * 10)).unwrap();
            longest = longest.max(lag.lasts);
        }
        assert!(longest <= Duration::from_millis(250), "{longest:?}");
    }

    #[test]
    fn a_replica_that_stands_still_is() {
        let (mut behind, start) = (Behind::default(), Instant::now());
        for step in 0..=40u64 {
            behind.observe(start + Duration::from_millis(250 * step), Revision(5), Revision(6 + step));
        }
        let end = start + Duration::from_secs(10);
        let lag = Lag { revisions: 41, lasts: Duration::from_secs(10) };
        assert_eq!(behind.lag(end, Revision(5)), Some(lag));
        assert_eq!(behind.lag(end, Revision(6)), None, "it moves again");
        behind.observe(end, Revision(46), Revision(46));
        assert_eq!(behind.lag(end, Revision(46)), None);
    }
}
