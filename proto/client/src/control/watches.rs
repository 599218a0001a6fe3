//! The instances that somebody waits for the end of.

use crate::metrics::ClientMetrics;
use causeway_model::{ClusterId, WorkloadId};
use causeway_wire::ctl::MAX_WATCHED;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

type Instance = (ClusterId, WorkloadId);

/// Every instance that is watched.
#[derive(Debug)]
pub(super) struct Watches {
    entries: Mutex<Entries>,
    /// Counts the changes of what is watched.
    version: watch::Sender<u64>,
    metrics: ClientMetrics,
}

#[derive(Debug, Default)]
struct Entries {
    of: BTreeMap<Instance, Entry>,
    born: u64,
}

#[derive(Debug)]
struct Entry {
    gone: CancellationToken,
    users: usize,
    /// Tells this entry from a later one of the same instance.
    birth: u64,
}

impl Watches {
    pub(super) fn new(metrics: ClientMetrics) -> Self {
        Self { entries: Mutex::default(), version: watch::Sender::new(0), metrics }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self, count: usize) {
        self.metrics.watched.set(i64::try_from(count).unwrap_or(i64::MAX));
        self.version.send_modify(|version| *version += 1);
    }

    /// Another user of an instance.
    pub(super) fn watch(self: &Arc<Self>, cluster: ClusterId, workload: WorkloadId) -> InstanceWatch {
        let (instance, mut entries) = ((cluster, workload), self.lock());
        if !entries.of.contains_key(&instance) && entries.of.len() >= MAX_WATCHED {
            self.metrics.watches_refused.inc();
            return InstanceWatch { instance, gone: CancellationToken::new(), hold: None };
        }
        entries.born += 1;
        let birth = entries.born;
        let entry = entries.of.entry(instance).or_insert_with(|| Entry {
            gone: CancellationToken::new(),
            users: 0,
            birth,
        });
        entry.users += 1;
        let (gone, birth, first) = (entry.gone.clone(), entry.birth, entry.users == 1);
        let count = entries.of.len();
        drop(entries);
        if first {
            self.changed(count);
        }
        InstanceWatch { instance, gone, hold: Some((Arc::clone(self), birth)) }
    }

    fn release(&self, instance: Instance, birth: u64) {
        let mut entries = self.lock();
        let Some(entry) = entries.of.get_mut(&instance).filter(|entry| entry.birth == birth) else { return };
        entry.users = entry.users.saturating_sub(1);
        if entry.users == 0 {
            entries.of.remove(&instance);
            let count = entries.of.len();
            drop(entries);
            self.changed(count);
        }
    }

    /// A gateway says that these are gone; how many of them were watched.
    pub(super) fn gone(&self, instances: &[Instance]) -> usize {
        let mut entries = self.lock();
        let ended: Vec<Entry> = instances.iter().filter_map(|instance| entries.of.remove(instance)).collect();
        let count = entries.of.len();
        drop(entries);
        for entry in &ended {
            entry.gone.cancel();
        }
        if !ended.is_empty() {
            self.changed(count);
        }
        ended.len()
    }

    /// The instances that are watched.
    pub(super) fn instances(&self) -> Vec<Instance> {
        self.lock().of.keys().copied().collect()
    }

    /// Changes whenever [`Watches::instances`] does.
    pub(super) fn version(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }
}

/// An instance that is watched, for as long as this lives.
#[derive(Debug)]
pub struct InstanceWatch {
    instance: Instance,
    gone: CancellationToken,
    hold: Option<(Arc<Watches>, u64)>,
}

impl InstanceWatch {
    /// Resolves when a gateway says that the instance is gone. Cancel safe.
    pub async fn gone(&self) {
        self.gone.cancelled().await;
    }

    /// Whether a gateway has said so.
    pub fn is_gone(&self) -> bool {
        self.gone.is_cancelled()
    }
}

impl Drop for InstanceWatch {
    fn drop(&mut self) {
        if let Some((watches, birth)) = &self.hold {
            watches.release(self.instance, *birth);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watches() -> (Arc<Watches>, ClientMetrics) {
        let metrics = ClientMetrics::default();
        (Arc::new(Watches::new(metrics.clone())), metrics)
    }

    fn instance(n: u64) -> Instance {
        (ClusterId::new(7).unwrap(), WorkloadId(n))
    }

    fn watch(watches: &Arc<Watches>, n: u64) -> InstanceWatch {
        watches.watch(instance(n).0, instance(n).1)
    }

    #[tokio::test]
    async fn whoever_watches_learns_that_it_is_gone_from_any_gateway_once() {
        let (watches, metrics) = watches();
        let (first, second, other) = (watch(&watches, 1), watch(&watches, 1), watch(&watches, 2));
        assert_eq!(watches.instances(), [instance(1), instance(2)]);
        assert_eq!(watches.gone(&[instance(1), instance(3)]), 1);
        first.gone().await;
        assert!(second.is_gone() && !other.is_gone());
        assert_eq!(watches.gone(&[instance(1)]), 0, "the second gateway says it too");
        assert_eq!((watches.instances(), metrics.watched.get()), (vec![instance(2)], 1));
    }

    #[test]
    fn an_old_guard_does_not_end_a_new_watch() {
        let (watches, _) = watches();
        let old = watch(&watches, 1);
        watches.gone(&[instance(1)]);
        let new = watch(&watches, 1);
        drop(old);
        assert_eq!(watches.instances(), [instance(1)]);
        assert!(!new.is_gone());
        drop(new);
        assert!(watches.instances().is_empty());
    }

    #[test]
    fn only_the_first_and_the_last_user_change_what_is_watched() {
        let (watches, _) = watches();
        let mut version = watches.version();
        let first = watch(&watches, 1);
        assert!(version.has_changed().unwrap());
        version.mark_unchanged();
        let second = watch(&watches, 1);
        drop(first);
        assert!(!version.has_changed().unwrap());
        drop(second);
        assert!(version.has_changed().unwrap());
    }

    #[test]
    fn watches_are_bounded() {
        let (watches, metrics) = watches();
        let most = u64::try_from(MAX_WATCHED).unwrap();
        let held: Vec<InstanceWatch> = (0..most).map(|n| watch(&watches, n)).collect();
        let beyond = watch(&watches, most);
        assert_eq!((watches.instances().len(), metrics.watches_refused.get()), (MAX_WATCHED, 1));
        drop((beyond, held));
        assert!(watches.instances().is_empty());
    }
}
