//! The names in use by name and by virtual address, and those that nobody knows.

use super::Name;
use causeway_model::{Vip, VipName};
use rustc_hash::FxHashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::Instant;

/// How long a name that nobody offers is not asked for again.
const UNKNOWN_FOR: Duration = Duration::from_secs(2);
/// The most of those that are remembered.
const MAX_UNKNOWN: usize = 1024;

struct Entry {
    name: Arc<Name>,
    /// The number of the use that was last.
    used: AtomicU64,
}

/// The names in use: at most a given number, of which the one that was used longest ago makes room.
pub(super) struct Table {
    most: usize,
    by_name: FxHashMap<VipName, Entry>,
    by_vip: FxHashMap<Vip, VipName>,
    unknown: FxHashMap<VipName, Instant>,
    uses: AtomicU64,
}

impl Table {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most: most.max(1),
            by_name: FxHashMap::default(),
            by_vip: FxHashMap::default(),
            unknown: FxHashMap::default(),
            uses: AtomicU64::new(0),
        }
    }

    /// How many names may be in use.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    pub(super) fn by_name(&self, name: &VipName) -> Option<Arc<Name>> {
        let entry = self.by_name.get(name)?;
        entry.used.store(self.uses.fetch_add(1, Relaxed), Relaxed);
        Some(Arc::clone(&entry.name))
    }

    pub(super) fn by_vip(&self, vip: Vip) -> Option<Arc<Name>> {
        self.by_vip.get(&vip).and_then(|name| self.by_name(name))
    }

    /// Every name in use.
    pub(super) fn all(&self) -> impl Iterator<Item = Arc<Name>> {
        self.by_name.values().map(|entry| Arc::clone(&entry.name))
    }

    /// Adds `name`, unless it was added meanwhile; the one that counts, and the one that made room for it.
    pub(super) fn add(&mut self, name: Name) -> (Arc<Name>, Option<VipName>) {
        if let Some(known) = self.by_name(&name.name) {
            return (known, None);
        }
        let full = self.by_name.len() >= self.most;
        let given_up = full.then(|| self.drop_oldest()).flatten();
        let name = Arc::new(name);
        self.unknown.remove(&name.name);
        self.by_vip.insert(name.vip, name.name.clone());
        let used = AtomicU64::new(self.uses.fetch_add(1, Relaxed));
        self.by_name.insert(name.name.clone(), Entry { name: Arc::clone(&name), used });
        (name, given_up)
    }

    fn drop_oldest(&mut self) -> Option<VipName> {
        let oldest = self.by_name.iter().min_by_key(|(_, entry)| entry.used.load(Relaxed));
        let name = oldest.map(|(name, _)| name.clone())?;
        let entry = self.by_name.remove(&name)?;
        self.by_vip.remove(&entry.name.vip);
        Some(name)
    }

    /// Whether nobody knew `name` a moment ago.
    pub(super) fn is_unknown(&self, name: &VipName, now: Instant) -> bool {
        self.unknown.get(name).is_some_and(|until| now < *until)
    }

    pub(super) fn add_unknown(&mut self, name: VipName, now: Instant) {
        if self.unknown.len() >= MAX_UNKNOWN {
            self.unknown.retain(|_, until| now < *until);
        }
        if self.unknown.len() < MAX_UNKNOWN {
            self.unknown.insert(name, now + UNKNOWN_FOR);
        }
    }
}
