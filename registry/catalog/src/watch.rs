//! Everything since revision R, as one snapshot or the deltas.
//!
//! An [`EventLog`] stands beside a catalog and is not part of it: each replica keeps its own, starting where that
//! replica's memory starts.

use crate::Event;
use causeway_model::Revision;
use std::collections::VecDeque;

/// What a watcher that has seen everything up to some revision must do to catch up.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replay {
    /// Read the whole catalog and go on from its revision: the log does not reach back far enough.
    Snapshot,
    /// Take these in order, each exactly once. Go on from [`EventLog::latest`]. Empty when nothing is new.
    Deltas(Vec<(Revision, Event)>),
}

/// The most recent events of one replica, at most its capacity of them.
///
/// The contract: a watcher that starts with a snapshot at revision R and then asks again and again `since` the revision
/// that it has reached sees, in order, each later event exactly once, or is told to take a snapshot. All events of one
/// revision come in one answer or not at all.
#[derive(Clone, Debug)]
pub struct EventLog {
    capacity: usize,
    events: VecDeque<(Revision, Event)>,
    /// Deltas are complete for watchers that have seen this revision.
    floor: Revision,
    latest: Revision,
}

impl EventLog {
    /// How many events [`EventLog::new`] keeps.
    pub const DEFAULT_CAPACITY: usize = 4096;

    /// An empty log beside a catalog at revision `start`.
    pub fn new(start: Revision) -> Self {
        Self::with_capacity(start, Self::DEFAULT_CAPACITY)
    }

    /// An empty log that keeps at most `capacity` events.
    pub fn with_capacity(start: Revision, capacity: usize) -> Self {
        Self { capacity, events: VecDeque::new(), floor: start, latest: start }
    }

    /// The newest revision that was recorded, whether or not it had events.
    pub fn latest(&self) -> Revision {
        self.latest
    }

    /// Adds the events of one applied command. A revision that is not newer than the latest one was recorded before and
    /// is ignored.
    pub fn record(&mut self, revision: Revision, events: &[Event]) {
        if revision <= self.latest {
            return;
        }
        self.latest = revision;
        self.events.extend(events.iter().map(|event| (revision, event.clone())));
        while self.events.len() > self.capacity {
            // what is left of a revision that is cut in two is below the floor, and so is never told
            if let Some((cut, _)) = self.events.pop_front() {
                self.floor = cut;
            }
        }
    }

    /// Forgets everything, because the catalog was replaced by a snapshot at `revision`. Watchers that have seen an
    /// older revision must take a snapshot too.
    pub fn reset(&mut self, revision: Revision) {
        self.events.clear();
        self.floor = revision;
        self.latest = revision;
    }

    /// What happened after `revision`. A watcher that is ahead of this replica (it read from another one) gets nothing
    /// until this replica has caught up.
    pub fn since(&self, revision: Revision) -> Replay {
        if revision < self.floor {
            return Replay::Snapshot;
        }
        let start = self.events.partition_point(|(at, _)| *at <= revision);
        Replay::Deltas(self.events.range(start..).cloned().collect())
    }
}
