//! The names and virtual addresses that are remembered, a bounded number of them. Pure.

use super::NamedVip;
use causeway_model::{Vip, VipName};
use causeway_wire::ctl::MAX_SUBSCRIPTIONS;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The most that are remembered.
const MOST: usize = MAX_SUBSCRIPTIONS;

#[derive(Debug)]
struct Known {
    vip: Vip,
    /// Whether it was asked for since it was last passed over: those that are not go first. Reading needs no more than a shared lock so.
    used: AtomicBool,
}

impl Known {
    fn touch(&self) {
        // a write would take the cache line away from the other cores each time
        if !self.used.load(Relaxed) {
            self.used.store(true, Relaxed);
        }
    }
}

/// Names and virtual addresses.
#[derive(Debug, Default)]
pub(super) struct Memory {
    by_name: HashMap<VipName, Known>,
    by_vip: HashMap<Vip, VipName>,
    /// Those of `by_name`, in the order in which they are looked at when one has to go.
    order: VecDeque<VipName>,
}

impl Memory {
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn vip(&self, name: &VipName) -> Option<Vip> {
        let known = self.by_name.get(name)?;
        known.touch();
        Some(known.vip)
    }

    pub(super) fn name(&self, vip: Vip) -> Option<VipName> {
        let name = self.by_vip.get(&vip)?;
        if let Some(known) = self.by_name.get(name) {
            known.touch();
        }
        Some(name.clone())
    }

    pub(super) fn all(&self) -> Vec<NamedVip> {
        let known = |name: &VipName| self.by_name.get(name).map(|known| (name.clone(), known.vip));
        self.order.iter().filter_map(known).collect()
    }

    /// Remembers it; whether that is news. What contradicts it is forgotten: the registry was restored from a backup that is older.
    pub(super) fn learn(&mut self, name: VipName, vip: Vip) -> bool {
        if self.by_name.get(&name).is_some_and(|known| known.vip == vip) {
            return false;
        }
        self.forget(&name);
        if let Some(other) = self.by_vip.get(&vip).cloned() {
            self.forget(&other);
        }
        if self.len() >= MOST {
            self.make_room();
        }
        self.by_vip.insert(vip, name.clone());
        self.order.push_back(name.clone());
        self.by_name.insert(name, Known { vip, used: AtomicBool::new(false) });
        true
    }

    fn forget(&mut self, name: &VipName) {
        if self.remove(name) {
            self.order.retain(|known| known != name);
        }
    }

    fn remove(&mut self, name: &VipName) -> bool {
        let Some(known) = self.by_name.remove(name) else { return false };
        self.by_vip.remove(&known.vip);
        true
    }

    /// Forgets the first one that was not used since it was last looked at.
    fn make_room(&mut self) {
        while let Some(name) = self.order.pop_front() {
            let used = self.by_name.get(&name).is_some_and(|known| known.used.swap(false, Relaxed));
            if used {
                self.order.push_back(name);
            } else {
                self.remove(&name);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(n: usize) -> VipName {
        format!("s{n}.shop").parse().unwrap()
    }

    fn vip(n: usize) -> Vip {
        Vip::new(u32::try_from(n).unwrap() + 1).unwrap()
    }

    fn sound(memory: &Memory) {
        assert!(memory.len() <= MOST);
        assert_eq!((memory.by_name.len(), memory.by_vip.len()), (memory.len(), memory.len()));
        assert!(memory.all().iter().all(|(name, vip)| memory.by_vip[vip] == *name));
        assert_eq!(memory.all().len(), memory.len());
    }

    #[test]
    fn what_is_in_use_outlives_what_is_not() {
        let mut memory = Memory::default();
        for n in 0..4 * MOST {
            assert!(memory.learn(name(n), vip(n)) && !memory.learn(name(n), vip(n)));
            // by name, or by address: it is all the same
            assert_eq!(memory.vip(&name(0)), Some(vip(0)), "{n}");
            if n > 0 {
                assert_eq!(memory.name(vip(1)), Some(name(1)), "{n}");
            }
        }
        sound(&memory);
        assert_eq!(memory.len(), MOST);
        let last = 4 * MOST - 1;
        assert_eq!((memory.vip(&name(2)), memory.vip(&name(last))), (None, Some(vip(last))));
    }

    #[test]
    fn all_of_them_in_use_is_no_reason_to_grow() {
        let mut memory = Memory::default();
        for n in 0..MOST {
            memory.learn(name(n), vip(n));
            memory.vip(&name(n));
        }
        memory.learn(name(MOST), vip(MOST));
        sound(&memory);
        assert_eq!((memory.vip(&name(0)), memory.vip(&name(MOST))), (None, Some(vip(MOST))));
    }

    #[test]
    fn what_is_told_anew_replaces_what_contradicts_it() {
        let mut memory = Memory::default();
        memory.learn(name(1), vip(1));
        memory.learn(name(2), vip(2));
        assert!(memory.learn(name(1), vip(2)), "both are given up");
        assert_eq!(memory.all(), [(name(1), vip(2))]);
        assert_eq!((memory.name(vip(1)), memory.vip(&name(2))), (None, None));
        sound(&memory);
    }
}
