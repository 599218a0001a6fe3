//! The instances of this cluster that a sidecar or a linked cluster is connected to, and when one counts as gone. Pure.

use causeway_model::WorkloadId;
use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

/// For how long a gateway that has started does not call an instance gone because it does not know it: until then its
/// sidecars have attached again, after the idle timeout of their old connections at the latest.
const SETTLED_AFTER: Duration = Duration::from_secs(30);
/// How long an instance may be unknown before it counts as gone: word of it may still be on its way to this gateway.
const GRACE: Duration = Duration::from_secs(2);

/// What one session watches, and what it is yet to be told.
#[derive(Debug)]
pub(crate) struct Watched {
    /// Before then nothing is gone only because it is not known: this gateway has just started.
    settled: Instant,
    instances: BTreeSet<WorkloadId>,
    /// Those that are not known to live, with the time at which they count as gone; soonest first.
    doubts: VecDeque<(Instant, WorkloadId)>,
    doubted: BTreeSet<WorkloadId>,
    gone: BTreeSet<WorkloadId>,
}

impl Watched {
    /// Nothing is watched, by a process that has been up for `up`.
    pub(crate) fn of_process(now: Instant, up: Duration) -> Self {
        Self::new(now + SETTLED_AFTER.saturating_sub(up))
    }

    /// Nothing is watched. Until `settled` it proves nothing that an instance is not known.
    pub(crate) fn new(settled: Instant) -> Self {
        Self {
            settled,
            instances: BTreeSet::new(),
            doubts: VecDeque::new(),
            doubted: BTreeSet::new(),
            gone: BTreeSet::new(),
        }
    }

    /// These instances are watched and no others.
    pub(crate) fn set(
        &mut self,
        now: Instant,
        instances: impl IntoIterator<Item = WorkloadId>,
        alive: impl Fn(WorkloadId) -> bool,
    ) {
        self.instances = instances.into_iter().collect();
        let instances = &self.instances;
        self.doubts.retain(|(_, instance)| instances.contains(instance));
        self.doubted.retain(|instance| instances.contains(instance));
        self.gone.retain(|instance| instances.contains(instance));
        self.check(now, alive);
    }

    /// Looks at every instance anew: some may have gone unnoticed.
    pub(crate) fn check(&mut self, now: Instant, alive: impl Fn(WorkloadId) -> bool) {
        let due = self.settled.max(now + GRACE);
        for &instance in &self.instances {
            if !alive(instance) && !self.gone.contains(&instance) && self.doubted.insert(instance) {
                self.doubts.push_back((due, instance));
            }
        }
    }

    /// An instance of this cluster is gone for certain.
    pub(crate) fn handle_gone(&mut self, instance: WorkloadId) {
        if self.instances.contains(&instance) {
            self.gone.insert(instance);
        }
    }

    /// The time of [`Self::poll_timeout`] has come.
    pub(crate) fn handle_timeout(&mut self, now: Instant, alive: impl Fn(WorkloadId) -> bool) {
        while let Some((_, instance)) = self.doubts.pop_front_if(|(due, _)| *due <= now) {
            self.doubted.remove(&instance);
            if !alive(instance) {
                self.handle_gone(instance);
            }
        }
    }

    /// When an instance that is not known to live counts as gone.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.doubts.front().map(|(due, _)| *due)
    }

    /// The instances that are to be told of as gone; they are not watched any longer.
    pub(crate) fn take_gone(&mut self) -> Option<Vec<WorkloadId>> {
        if self.gone.is_empty() {
            return None;
        }
        let gone: Vec<WorkloadId> = std::mem::take(&mut self.gone).into_iter().collect();
        for instance in &gone {
            self.instances.remove(instance);
        }
        Some(gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[u64]) -> Vec<WorkloadId> {
        ids.iter().copied().map(WorkloadId).collect()
    }

    #[test]
    fn an_unknown_instance_is_gone_after_a_grace_unless_it_appears() {
        let start = Instant::now();
        let mut watched = Watched::new(start);
        watched.set(start, ids(&[1, 2, 3]), |id| id.0 == 1);
        assert_eq!(watched.take_gone(), None);
        assert_eq!(watched.poll_timeout(), Some(start + GRACE));
        let later = start + GRACE / 2;
        watched.set(later, ids(&[1, 2, 3, 4]), |id| id.0 == 1);
        assert_eq!(watched.poll_timeout(), Some(start + GRACE), "saying it again wins no time");
        watched.handle_timeout(start + GRACE, |id| id.0 == 3);
        assert_eq!(watched.take_gone(), Some(ids(&[2])));
        assert_eq!(watched.poll_timeout(), Some(later + GRACE));
        watched.handle_timeout(later + GRACE, |_| false);
        assert_eq!(watched.take_gone(), Some(ids(&[4])));
        assert_eq!(watched.poll_timeout(), None);
    }

    #[test]
    fn what_is_gone_for_certain_is_told_at_once_and_once() {
        let start = Instant::now();
        let mut watched = Watched::new(start);
        watched.set(start, ids(&[1, 2]), |_| true);
        watched.handle_gone(WorkloadId(2));
        watched.handle_gone(WorkloadId(9));
        assert_eq!(watched.take_gone(), Some(ids(&[2])));
        watched.handle_gone(WorkloadId(2));
        assert_eq!(watched.take_gone(), None);
        watched.handle_gone(WorkloadId(1));
        watched.set(start, ids(&[7]), |_| true);
        assert_eq!(watched.take_gone(), None, "nobody asks for it any longer");
    }

    #[test]
    fn a_gateway_that_has_just_started_calls_nobody_gone() {
        let start = Instant::now();
        let settled = start + 5 * GRACE;
        let mut watched = Watched::new(settled);
        watched.set(start, ids(&[1, 2]), |_| false);
        assert_eq!(watched.poll_timeout(), Some(settled));
        watched.handle_gone(WorkloadId(1));
        assert_eq!(watched.take_gone(), Some(ids(&[1])), "what it saw die is gone all the same");
        watched.handle_timeout(settled, |_| false);
        assert_eq!(watched.take_gone(), Some(ids(&[2])));
    }

    #[test]
    fn a_second_look_finds_what_was_missed() {
        let start = Instant::now();
        let mut watched = Watched::new(start);
        watched.set(start, ids(&[1, 2]), |_| true);
        watched.check(start, |id| id.0 == 1);
        watched.check(start, |id| id.0 == 1);
        watched.handle_timeout(start + GRACE, |id| id.0 == 1);
        assert_eq!(watched.take_gone(), Some(ids(&[2])));
    }
}
