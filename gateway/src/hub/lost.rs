//! Workloads that went without a goodbye: killed, or cut off. Pure.

use causeway_model::{SpiffeId, WorkloadId};
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// The most that are remembered.
const MOST: usize = 100;
/// For how long they are.
const REMEMBER: Duration = Duration::from_secs(600);
/// A workload whose connection was closed is expected to be gone, or to be back, within this time.
const CLOSED: Duration = Duration::from_secs(10);
/// The most that are expected so.
const MOST_CLOSED: usize = 4096;

/// A workload that went without a goodbye.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LostWorkload {
    pub(crate) workload: WorkloadId,
    pub(crate) identity: SpiffeId,
    pub(crate) at: Instant,
}

/// Those that went lately, as far as they were attached to this gateway.
#[derive(Debug, Default)]
pub(crate) struct Lost {
    /// Attached here, and has not said goodbye.
    held: BTreeMap<WorkloadId, SpiffeId>,
    /// Was so a moment ago.
    closed: BTreeMap<WorkloadId, (SpiffeId, Instant)>,
    recent: VecDeque<LostWorkload>,
}

impl Lost {
    /// A control connection of `workload` stands.
    pub(super) fn open(&mut self, workload: WorkloadId, identity: &SpiffeId) {
        self.held.insert(workload, identity.clone());
        self.closed.remove(&workload);
    }

    /// It said goodbye.
    pub(super) fn goodbye(&mut self, workload: WorkloadId) {
        self.held.remove(&workload);
        self.closed.remove(&workload);
    }

    /// Its last control connection is closed.
    pub(super) fn close(&mut self, now: Instant, workload: WorkloadId) {
        let Some(identity) = self.held.remove(&workload) else { return };
        if self.closed.len() >= MOST_CLOSED {
            self.closed.retain(|_, (_, at)| now.saturating_duration_since(*at) < CLOSED);
        }
        if self.closed.len() < MOST_CLOSED {
            self.closed.insert(workload, (identity, now));
        }
    }

    /// No gateway vouches for it any more.
    pub(super) fn gone(&mut self, now: Instant, workload: WorkloadId) {
        let closed = self.closed.remove(&workload);
        let closed = closed.filter(|(_, at)| now.saturating_duration_since(*at) < CLOSED);
        let Some(identity) = self.held.remove(&workload).or(closed.map(|(identity, _)| identity)) else {
            return;
        };
        if self.recent.len() >= MOST {
            self.recent.pop_front();
        }
        self.recent.push_back(LostWorkload { workload, identity, at: now });
    }

    /// Those of the last ten minutes, at most 100, the oldest first.
    pub(crate) fn recent(&self, now: Instant) -> impl Iterator<Item = &LostWorkload> {
        self.recent.iter().filter(move |lost| now.saturating_duration_since(lost.at) < REMEMBER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> SpiffeId {
        "spiffe://iad.mesh/ns/shop/sa/payments".parse().unwrap()
    }

    fn recent(lost: &Lost, now: Instant) -> Vec<u64> {
        lost.recent(now).map(|lost| lost.workload.0).collect()
    }

    #[test]
    fn only_who_said_nothing_counts_as_lost() {
        let (mut lost, start) = (Lost::default(), Instant::now());
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        (1..=5).for_each(|workload| lost.open(WorkloadId(workload), &id()));
        // killed: its probes end before its connection times out
        lost.gone(at(2), WorkloadId(1));
        lost.close(at(4), WorkloadId(1));
        // ended in an orderly way, as the last of its gateways hears it
        lost.goodbye(WorkloadId(2));
        lost.gone(at(3), WorkloadId(2));
        lost.goodbye(WorkloadId(3));
        lost.close(at(3), WorkloadId(3));
        lost.gone(at(4), WorkloadId(3));
        // its connection ends first
        lost.close(at(3), WorkloadId(4));
        lost.gone(at(5), WorkloadId(4));
        // it went over to another gateway, and ended there later
        lost.close(at(3), WorkloadId(5));
        lost.gone(at(60), WorkloadId(5));
        // it was never attached here
        lost.gone(at(60), WorkloadId(9));
        assert_eq!(recent(&lost, at(60)), [1, 4]);
        assert_eq!(lost.recent(at(60)).next().unwrap().identity, id());
        assert!(recent(&lost, at(700)).is_empty(), "it is forgotten");
        assert!(lost.held.is_empty() && lost.closed.is_empty());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (mut lost, now) = (Lost::default(), Instant::now());
        for workload in 0..20_000 {
            lost.open(WorkloadId(workload), &id());
            if workload % 2 == 0 {
                lost.close(now, WorkloadId(workload));
            } else {
                lost.gone(now, WorkloadId(workload));
            }
        }
        assert_eq!((recent(&lost, now).len(), lost.closed.len(), lost.held.len()), (MOST, MOST_CLOSED, 0));
        assert_eq!(recent(&lost, now).last(), Some(&19_999), "the newest are kept");
    }
}
