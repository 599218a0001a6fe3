//! Which source addresses packets are taken from, and why: kept as it changes, so that one sidecar more costs no look at the others.

use super::sharded::Sharded;
use super::source::{Class, Source, SourceLimits};
use super::{MAX_ADMITTED, MAX_PORTS};
use causeway_model::WorkloadId;
use rustc_hash::{FxHashMap, FxHashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// The source addresses. One that was admitted by a probe counts as whose probe it was; any other that is the end of a control
/// connection, or a sibling's listening address, as [`Class::Control`].
#[derive(Clone, Debug)]
pub(super) struct Sources {
    limits: SourceLimits,
    by_addr: Sharded<SocketAddr, Arc<Source>>,
    workloads: Sharded<WorkloadId, Arc<Source>>,
    /// The probed addresses of each other gateway.
    ports: FxHashMap<Class, FxHashSet<SocketAddr>>,
    /// How many addresses are probed.
    probed: usize,
    /// Control connections by the address of their other end.
    control: FxHashMap<SocketAddr, usize>,
    /// The listening addresses of siblings, from which their control connections come. What they forward comes from others, which
    /// are probed.
    listening: FxHashSet<SocketAddr>,
}

impl Sources {
    pub(super) fn new(limits: SourceLimits) -> Self {
        Self {
            limits,
            by_addr: Sharded::default(),
            workloads: Sharded::default(),
            ports: FxHashMap::default(),
            probed: 0,
            control: FxHashMap::default(),
            listening: FxHashSet::default(),
        }
    }

    /// Every address.
    pub(super) fn by_addr(&self) -> &Sharded<SocketAddr, Arc<Source>> {
        &self.by_addr
    }

    /// Where each workload is.
    pub(super) fn workloads(&self) -> &Sharded<WorkloadId, Arc<Source>> {
        &self.workloads
    }

    /// Probes showed that `addr` is that of `class`. A workload has one address, another gateway at most [`MAX_PORTS`].
    pub(super) fn admit(&mut self, addr: SocketAddr, class: Class, listener: usize, now_ms: u64) {
        let known = self.probed_class(addr).is_some();
        if class == Class::Control || (self.probed >= MAX_ADMITTED && !known) {
            return;
        }
        if let Class::Workload(workload) = class
            && let Some(old) = self.workloads.get(&workload).map(|source| source.addr)
        {
            self.remove(old);
        }
        self.remove(addr);
        if self.ports.get(&class).is_some_and(|ports| ports.len() >= MAX_PORTS) {
            self.remove_oldest(class);
        }
        let source = Arc::new(Source::new(addr, class, listener, now_ms, &self.limits));
        match class {
            Class::Workload(workload) => self.workloads.insert(workload, source.clone()),
            _ => _ = self.ports.entry(class).or_default().insert(addr),
        }
        self.by_addr.insert(addr, source);
        self.probed += 1;
    }

    /// A gateway that was started anew has new ports, and those of its old process are silent.
    fn remove_oldest(&mut self, class: Class) {
        let seen =
            |addr: &&SocketAddr| self.by_addr.get(addr).map(|source| source.last_seen_ms.load(Relaxed));
        let oldest = self.ports.get(&class).and_then(|ports| ports.iter().min_by_key(seen)).copied();
        if let Some(addr) = oldest {
            self.remove(addr);
        }
    }

    fn probed_class(&self, addr: SocketAddr) -> Option<Class> {
        self.by_addr.get(&addr).map(|source| source.class).filter(|class| *class != Class::Control)
    }

    /// Forgets whose `addr` is, if probes said so.
    fn remove(&mut self, addr: SocketAddr) {
        let Some(class) = self.probed_class(addr) else { return };
        if let Class::Workload(workload) = class {
            self.workloads.remove(&workload);
        } else if let Some(ports) = self.ports.get_mut(&class) {
            ports.remove(&addr);
            if ports.is_empty() {
                self.ports.remove(&class);
            }
        }
        self.probed -= 1;
        self.by_addr.remove(&addr);
        self.fall_back(addr);
    }

    /// An address that is not probed is one of control connections, or none.
    fn fall_back(&mut self, addr: SocketAddr) {
        let wanted = self.control.contains_key(&addr) || self.listening.contains(&addr);
        match self.by_addr.get(&addr).map(|source| source.class) {
            None if wanted => {
                let source = Source::new(addr, Class::Control, 0, 0, &self.limits);
                self.by_addr.insert(addr, Arc::new(source));
            }
            Some(Class::Control) if !wanted => self.by_addr.remove(&addr),
            _ => {}
        }
    }

    /// Forgets a workload at once.
    pub(super) fn forget(&mut self, workload: WorkloadId) {
        if let Some(addr) = self.workloads.get(&workload).map(|source| source.addr) {
            self.remove(addr);
        }
    }

    /// Marks sidecars from which nothing came since `since_ms`; the next probe takes the mark away.
    pub(super) fn doubt(&self, since_ms: u64) {
        let workloads = self.workloads.iter().map(|(_, source)| source);
        for source in workloads.filter(|source| source.last_seen_ms.load(Relaxed) <= since_ms) {
            source.doubtful.store(true, Relaxed);
        }
    }

    /// Forgets probed addresses from which nothing came since `since_ms`; returns whether there were any.
    pub(super) fn expire(&mut self, since_ms: u64) -> bool {
        let silent =
            |source: &Source| source.class != Class::Control && source.last_seen_ms.load(Relaxed) <= since_ms;
        let gone: Vec<SocketAddr> =
            self.by_addr.iter().filter(|(_, source)| silent(source)).map(|(&addr, _)| addr).collect();
        gone.iter().for_each(|&addr| self.remove(addr));
        !gone.is_empty()
    }

    /// One more control connection has its other end at `addr`.
    pub(super) fn hold(&mut self, addr: SocketAddr) {
        *self.control.entry(addr).or_insert(0) += 1;
        self.fall_back(addr);
    }

    /// One less.
    pub(super) fn release(&mut self, addr: SocketAddr) {
        let Some(count) = self.control.get_mut(&addr) else { return };
        *count -= 1;
        if *count == 0 {
            self.control.remove(&addr);
            self.fall_back(addr);
        }
    }

    /// The other gateways changed: siblings listen at `listening`, and of those classes that are not `kept` nothing is taken.
    pub(super) fn follow(&mut self, listening: FxHashSet<SocketAddr>, kept: impl Fn(Class) -> bool) {
        let cut: Vec<SocketAddr> = self
            .ports
            .iter()
            .filter(|(class, _)| !kept(**class))
            .flat_map(|(_, ports)| ports.iter().copied())
            .collect();
        cut.into_iter().for_each(|addr| self.remove(addr));
        let before = std::mem::replace(&mut self.listening, listening);
        let now: Vec<SocketAddr> = self.listening.iter().copied().collect();
        before.into_iter().chain(now).for_each(|addr| self.fall_back(addr));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use causeway_model::NodeId;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn addr(last: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, last], 7443))
    }

    #[test]
    fn of_a_gateways_ports_the_most_silent_makes_room() {
        let mut sources = Sources::new(SourceLimits::default());
        let class = Class::Sibling(NodeId(2));
        let port = |port: usize| SocketAddr::from(([127, 0, 0, 1], u16::try_from(port).unwrap()));
        (1..=MAX_PORTS + 3).for_each(|i| sources.admit(port(i), class, 0, i as u64));
        assert_eq!((sources.by_addr().len(), sources.ports[&class].len()), (MAX_PORTS, MAX_PORTS));
        assert!(!sources.by_addr().contains_key(&port(3)) && sources.by_addr().contains_key(&port(4)));
        sources.follow(FxHashSet::default(), |_| false);
        assert_eq!((sources.by_addr().len(), sources.probed, sources.ports.len()), (0, 0, 0));
    }

    #[test]
    fn a_silent_sidecar_is_in_doubt() {
        let mut sources = Sources::new(SourceLimits::default());
        let (silent, heard) = (WorkloadId(1), WorkloadId(2));
        sources.admit(addr(1), Class::Workload(silent), 0, 100);
        sources.admit(addr(2), Class::Workload(heard), 0, 101);
        sources.doubt(100);
        let doubtful =
            |workload| sources.workloads().get(&workload).map(|source| source.doubtful.load(Relaxed));
        assert_eq!((doubtful(silent), doubtful(heard)), (Some(true), Some(false)));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Admit(u8, Class),
        Forget(u64),
        Expire(u64),
        Hold(u8),
        Release(u8),
        Follow(BTreeSet<u8>, BTreeSet<u64>),
    }

    fn step() -> impl Strategy<Value = Step> {
        let place = || 0u8..12;
        let class = prop_oneof![
            3 => (0u64..6).prop_map(|id| Class::Workload(WorkloadId(id))),
            1 => (0u64..3).prop_map(|id| Class::Sibling(NodeId(id))),
        ];
        prop_oneof![
            6 => (place(), class).prop_map(|(addr, class)| Step::Admit(addr, class)),
            1 => (0u64..6).prop_map(Step::Forget),
            1 => (0u64..20).prop_map(Step::Expire),
            2 => place().prop_map(Step::Hold),
            2 => place().prop_map(Step::Release),
            1 => (prop::collection::btree_set(place(), 0..4), prop::collection::btree_set(0u64..3, 0..3))
                .prop_map(|(listening, kept)| Step::Follow(listening, kept)),
        ]
    }

    /// The same, worked out anew from what happened.
    #[derive(Default)]
    struct Model {
        probed: BTreeMap<SocketAddr, (Class, u64)>,
        control: BTreeMap<SocketAddr, usize>,
        listening: BTreeSet<SocketAddr>,
    }

    impl Model {
        fn take(&mut self, now: u64, step: &Step) {
            match step {
                Step::Admit(at, class) => {
                    self.probed.retain(|_, (old, _)| old != class || matches!(class, Class::Sibling(_)));
                    self.probed.insert(addr(*at), (*class, now));
                }
                Step::Forget(id) => {
                    self.probed.retain(|_, (class, _)| *class != Class::Workload(WorkloadId(*id)))
                }
                Step::Expire(ago) => self.probed.retain(|_, (_, at)| *at > now.saturating_sub(*ago)),
                Step::Hold(at) => *self.control.entry(addr(*at)).or_default() += 1,
                Step::Release(at) => {
                    self.control.entry(addr(*at)).and_modify(|count| *count -= 1);
                    self.control.retain(|_, count| *count > 0);
                }
                Step::Follow(listening, kept) => {
                    self.listening = listening.iter().copied().map(addr).collect();
                    let stands =
                        |class: &Class| !matches!(class, Class::Sibling(node) if !kept.contains(&node.0));
                    self.probed.retain(|_, (class, _)| stands(class));
                }
            }
        }

        fn by_addr(&self) -> BTreeMap<SocketAddr, Class> {
            let control = self.control.keys().chain(&self.listening).map(|&addr| (addr, Class::Control));
            control.chain(self.probed.iter().map(|(&addr, &(class, _))| (addr, class))).collect()
        }
    }

    proptest! {
        #[test]
        fn what_is_kept_as_it_changes_equals_what_is_worked_out_anew(steps in prop::collection::vec(step(), 0..80)) {
            let (mut sources, mut model) = (Sources::new(SourceLimits::default()), Model::default());
            for (now, step) in (1u64..).zip(steps) {
                model.take(now, &step);
                match step {
                    Step::Admit(at, class) => sources.admit(addr(at), class, 0, now),
                    Step::Forget(id) => sources.forget(WorkloadId(id)),
                    Step::Expire(ago) => _ = sources.expire(now.saturating_sub(ago)),
                    Step::Hold(at) => sources.hold(addr(at)),
                    Step::Release(at) => sources.release(addr(at)),
                    Step::Follow(listening, kept) => {
                        let kept = |class| !matches!(class, Class::Sibling(node) if !kept.contains(&node.0));
                        sources.follow(listening.into_iter().map(addr).collect(), kept);
                    }
                }
                let by_addr: BTreeMap<_, _> =
                    sources.by_addr().iter().map(|(&addr, source)| (addr, source.class)).collect();
                prop_assert_eq!(&by_addr, &model.by_addr());
                prop_assert_eq!(sources.probed, model.probed.len());
                let workloads = sources.workloads();
                for (&at, &(class, _)) in &model.probed {
                    if let Class::Workload(workload) = class {
                        prop_assert_eq!(workloads.get(&workload).map(|source| source.addr), Some(at));
                    }
                }
                let there = model.probed.values().filter(|(class, _)| matches!(class, Class::Workload(_))).count();
                prop_assert_eq!(workloads.len(), there);
            }
        }
    }
}
