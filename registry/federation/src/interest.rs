//! Who wants to hear of what, added up for each cluster.

use causeway_model::{ClusterId, WorkloadId};
use std::collections::{BTreeMap, BTreeSet};

/// What a new list of interests came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterestOutcome {
    /// How many entries were left out because the list, or all lists together, were too long.
    pub left_out: usize,
}

/// The interests of many sidecars in things of other clusters. The bounds on a single list and on all together keep its
/// size finite whatever the sidecars say.
#[derive(Debug)]
pub(crate) struct Interest<K> {
    per_watcher: usize,
    in_all: usize,
    count: usize,
    watchers: BTreeMap<WorkloadId, BTreeSet<(ClusterId, K)>>,
    wanted: BTreeMap<ClusterId, BTreeMap<K, BTreeSet<WorkloadId>>>,
    changed: BTreeSet<ClusterId>,
}

impl<K: Ord + Copy> Interest<K> {
    pub(crate) fn new(per_watcher: usize, in_all: usize) -> Self {
        Self {
            per_watcher,
            in_all,
            count: 0,
            watchers: BTreeMap::new(),
            wanted: BTreeMap::new(),
            changed: BTreeSet::new(),
        }
    }

    /// Replaces what `watcher` is interested in.
    pub(crate) fn set(
        &mut self,
        watcher: WorkloadId,
        list: impl IntoIterator<Item = (ClusterId, K)>,
    ) -> InterestOutcome {
        let old = self.watchers.remove(&watcher).unwrap_or_default();
        let room = self.per_watcher.min(self.in_all.saturating_sub(self.count - old.len()));
        let (mut new, mut left_out) = (BTreeSet::new(), 0);
        for entry in list {
            if new.len() < room || new.contains(&entry) {
                new.insert(entry);
            } else {
                left_out += 1;
            }
        }
        self.count = self.count - old.len() + new.len();
        old.difference(&new).for_each(|entry| self.detach(watcher, *entry));
        new.difference(&old).for_each(|entry| self.attach(watcher, *entry));
        if !new.is_empty() {
            self.watchers.insert(watcher, new);
        }
        InterestOutcome { left_out }
    }

    /// What watchers want of `cluster`, in order.
    pub(crate) fn wanted(&self, cluster: ClusterId) -> impl Iterator<Item = K> + '_ {
        self.wanted.get(&cluster).into_iter().flat_map(|keys| keys.keys().copied())
    }

    pub(crate) fn is_wanted(&self, cluster: ClusterId, key: K) -> bool {
        self.wanted.get(&cluster).is_some_and(|keys| keys.contains_key(&key))
    }

    /// The clusters of which something else is wanted than at the last call.
    pub(crate) fn take_changed(&mut self) -> BTreeSet<ClusterId> {
        std::mem::take(&mut self.changed)
    }

    /// Takes `key` of `cluster` out of all lists; returns who had it.
    pub(crate) fn forget(&mut self, cluster: ClusterId, key: K) -> Vec<WorkloadId> {
        let watchers: Vec<WorkloadId> = self
            .wanted
            .get(&cluster)
            .and_then(|keys| keys.get(&key))
            .into_iter()
            .flatten()
            .copied()
            .collect();
        for watcher in &watchers {
            self.detach(*watcher, (cluster, key));
            self.count -= 1;
            if let Some(list) = self.watchers.get_mut(watcher) {
                list.remove(&(cluster, key));
                if list.is_empty() {
                    self.watchers.remove(watcher);
                }
            }
        }
        watchers
    }

    fn attach(&mut self, watcher: WorkloadId, (cluster, key): (ClusterId, K)) {
        let watchers = self.wanted.entry(cluster).or_default().entry(key).or_default();
        if watchers.is_empty() {
            self.changed.insert(cluster);
        }
        watchers.insert(watcher);
    }

    fn detach(&mut self, watcher: WorkloadId, (cluster, key): (ClusterId, K)) {
        let Some(keys) = self.wanted.get_mut(&cluster) else { return };
        let Some(watchers) = keys.get_mut(&key) else { return };
        watchers.remove(&watcher);
        if watchers.is_empty() {
            keys.remove(&key);
            self.changed.insert(cluster);
        }
        if keys.is_empty() {
            self.wanted.remove(&cluster);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_the_union_of_the_lists_and_says_when_it_changes(
            steps in prop::collection::vec((0u64..5, prop::collection::vec((1u32..4, 0u8..6), 0..6), any::<bool>()), 0..40)
        ) {
            let mut interest = Interest::new(4, 12);
            let mut lists: BTreeMap<u64, BTreeSet<(u32, u8)>> = BTreeMap::new();
            for (watcher, list, forget) in steps {
                let before = lists.clone();
                if let (true, Some(&(cluster, key))) = (forget, list.first()) {
                    let told = interest.forget(ClusterId::new(cluster).unwrap(), key);
                    let had: Vec<_> = lists.iter_mut().filter_map(|(w, l)| l.remove(&(cluster, key)).then_some(WorkloadId(*w))).collect();
                    prop_assert_eq!(told, had);
                } else {
                    let left = interest.set(WorkloadId(watcher), list.iter().map(|(c, k)| (ClusterId::new(*c).unwrap(), *k))).left_out;
                    let others: usize = lists.iter().filter(|(w, _)| **w != watcher).map(|(_, l)| l.len()).sum();
                    let mut kept = BTreeSet::new();
                    for entry in &list {
                        if kept.len() < 4.min(12 - others) { kept.insert(*entry); }
                    }
                    prop_assert_eq!(left, list.iter().filter(|e| !kept.contains(e)).count());
                    lists.insert(watcher, kept);
                }
                let changed = interest.take_changed();
                for cluster in 1..4 {
                    let of = |lists: &BTreeMap<u64, BTreeSet<(u32, u8)>>| -> BTreeSet<u8> {
                        lists.values().flatten().filter(|(c, _)| *c == cluster).map(|(_, k)| *k).collect()
                    };
                    let id = ClusterId::new(cluster).unwrap();
                    prop_assert_eq!(interest.wanted(id).collect::<BTreeSet<u8>>(), of(&lists));
                    if of(&lists) != of(&before) {
                        prop_assert!(changed.contains(&id));
                    }
                }
            }
        }
    }
}
