//! Leases of local workloads: who has not been heard of for too long.
//!
//! A traffic sign only writes a time (constant time, no reordering). Each lease waits in one slot of a coarse agenda; when
//! the slot comes up, the lease has run out or moves to the slot of its real deadline. So each lease is looked at about
//! once per lease time, however often its workload is heard.

use causeway_model::WorkloadId;
use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// The granularity of the agenda: a lease runs out at most this much late.
const SLOT: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(crate) struct Leases {
    lease: Duration,
    start: Instant,
    /// Nobody counts as silent from before this time.
    floor: Instant,
    /// Only looked up by key, never iterated, so its order decides nothing.
    leases: HashMap<WorkloadId, Lease>,
    agenda: BTreeSet<(u64, WorkloadId)>,
}

#[derive(Debug)]
struct Lease {
    seen: Instant,
    slot: u64,
}

impl Leases {
    pub(crate) fn new(lease: Duration, now: Instant) -> Self {
        Self { lease, start: now, floor: now, leases: HashMap::new(), agenda: BTreeSet::new() }
    }

    /// The workload was heard of; returns whether it has a lease.
    pub(crate) fn renew(&mut self, now: Instant, workload: WorkloadId) -> bool {
        let Some(lease) = self.leases.get_mut(&workload) else { return false };
        lease.seen = lease.seen.max(now);
        true
    }

    /// Starts or renews a lease.
    pub(crate) fn grant(&mut self, now: Instant, workload: WorkloadId) {
        if !self.renew(now, workload) {
            let slot = self.slot(now + self.lease);
            self.leases.insert(workload, Lease { seen: now, slot });
            self.agenda.insert((slot, workload));
        }
    }

    pub(crate) fn end(&mut self, workload: WorkloadId) {
        if let Some(lease) = self.leases.remove(&workload) {
            self.agenda.remove(&(lease.slot, workload));
        }
    }

    /// Gives every lease its full time from `now` on.
    pub(crate) fn extend_all(&mut self, now: Instant) {
        self.floor = self.floor.max(now);
    }

    /// One workload whose lease has run out; it is forgotten.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<WorkloadId> {
        while let Some(&(slot, workload)) = self.agenda.first() {
            if self.time(slot) > now {
                return None;
            }
            self.agenda.pop_first();
            let Some(lease) = self.leases.get_mut(&workload) else { continue };
            let deadline = lease.seen.max(self.floor) + self.lease;
            if deadline <= now {
                self.leases.remove(&workload);
                return Some(workload);
            }
            let slot = slot_of(self.start, deadline);
            lease.slot = slot;
            self.agenda.insert((slot, workload));
        }
        None
    }

    /// When a lease may run out next.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.agenda.first().map(|&(slot, _)| self.time(slot))
    }

    fn slot(&self, time: Instant) -> u64 {
        slot_of(self.start, time)
    }

    fn time(&self, slot: u64) -> Instant {
        let millis = u64::try_from(SLOT.as_millis()).unwrap_or(u64::MAX);
        self.start + Duration::from_millis(slot.saturating_mul(millis))
    }
}

/// The first slot that is not before `time`.
fn slot_of(start: Instant, time: Instant) -> u64 {
    let nanos = time.saturating_duration_since(start).as_nanos();
    u64::try_from(nanos.div_ceil(SLOT.as_nanos())).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_millis(1500);

    fn drain(leases: &mut Leases, now: Instant) -> Vec<WorkloadId> {
        std::iter::from_fn(|| leases.expire(now)).collect()
    }

    #[test]
    fn a_lease_runs_out_between_its_time_and_one_slot_later() {
        let start = Instant::now();
        let mut leases = Leases::new(LEASE, start);
        let granted = start + Duration::from_millis(13);
        leases.grant(granted, WorkloadId(1));
        assert!(drain(&mut leases, granted + LEASE - Duration::from_millis(1)).is_empty());
        let due = leases.next().unwrap();
        assert!(due >= granted + LEASE && due <= granted + LEASE + SLOT);
        assert_eq!(drain(&mut leases, due), [WorkloadId(1)]);
        assert_eq!(leases.next(), None);
        assert!(!leases.renew(due, WorkloadId(1)));
    }

    #[test]
    fn attaching_and_leaving_again_and_again_leaves_nothing_behind() {
        let start = Instant::now();
        let mut leases = Leases::new(LEASE, start);
        for i in 0..1000u64 {
            leases.grant(start + Duration::from_millis(i), WorkloadId(1));
            leases.end(WorkloadId(1));
        }
        assert!(leases.agenda.is_empty() && leases.leases.is_empty());
    }

    #[test]
    fn each_lease_is_looked_at_about_once_per_lease_time() {
        let start = Instant::now();
        let mut leases = Leases::new(LEASE, start);
        let count = 50_000u64;
        (0..count).for_each(|w| leases.grant(start, WorkloadId(w)));
        let mut looked_at = 0;
        for step in 1..=600u64 {
            let now = start + Duration::from_millis(10 * step);
            if step % 50 == 0 {
                (0..count).for_each(|w| assert!(leases.renew(now, WorkloadId(w))));
            }
            let due = leases.agenda.iter().take_while(|(slot, _)| leases.time(*slot) <= now).count();
            looked_at += due;
            assert_eq!(leases.expire(now), None);
        }
        assert!(looked_at as u64 <= count * 6, "{looked_at}");
    }

    #[test]
    fn extending_gives_everyone_a_full_lease() {
        let start = Instant::now();
        let mut leases = Leases::new(LEASE, start);
        leases.grant(start, WorkloadId(1));
        let late = start + 4 * LEASE;
        leases.extend_all(late);
        assert!(drain(&mut leases, late).is_empty());
        assert_eq!(drain(&mut leases, late + LEASE + SLOT), [WorkloadId(1)]);
    }
}
