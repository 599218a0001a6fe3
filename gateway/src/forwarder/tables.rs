//! What the forwarder knows: an immutable picture that its threads read without locks, and the inputs it is built from.

use super::sharded::Sharded;
use super::source::{Class, Source, SourceLimits};
use super::sources::Sources;
use super::target::Target;
use causeway_model::{ClusterId, Epoch, NodeId, ServiceHandle, WorkloadId};
use causeway_wire::CidKeys;
use causeway_wire::probe;
use rustc_hash::{FxHashMap, FxHashSet};
#[cfg(test)]
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// A service that SERVICE ids may name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceRoute {
    /// Its healthy endpoints.
    pub endpoints: Vec<WorkloadId>,
    /// The clusters it is exported to.
    pub exported_to: FxHashSet<ClusterId>,
}

/// A link as the forwarder needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkRoute {
    /// The link's key.
    pub key: [u8; 32],
    /// The linked cluster's gateways that have an address.
    pub gateways: Vec<(NodeId, SocketAddr)>,
    /// All of its gateways.
    pub nodes: FxHashSet<NodeId>,
}

/// Linked clusters.
pub type Links = FxHashMap<ClusterId, LinkRoute>;
/// The other gateways of this cluster, and their addresses.
pub type Siblings = FxHashMap<NodeId, Vec<SocketAddr>>;
/// Services with a handle.
pub type Services = FxHashMap<ServiceHandle, Arc<ServiceRoute>>;

/// Where packets go and may come from that pass through other clusters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransitRoutes {
    /// By destination: the neighbour to which they are sent, and those of its gateways that send them on.
    pub next: FxHashMap<ClusterId, (ClusterId, FxHashSet<NodeId>)>,
    /// By neighbour with transit on: the clusters whose packets it may bring.
    pub origins: FxHashMap<ClusterId, FxHashSet<ClusterId>>,
}

/// By linked cluster: the other gateways of this one that say they reach it.
pub type Beside = FxHashMap<ClusterId, Vec<NodeId>>;

/// What the tables are built from. Whoever owns a part changes it through [`super::Forwarder::update`].
#[derive(Clone, Debug)]
pub struct Inputs {
    /// Whether packets are taken; probes are answered either way.
    pub ready: bool,
    /// Whether these inputs are of a registry that has its cluster.
    pub filled: bool,
    /// Whether this gateway is about to stop: it still forwards, and asks everybody to use another.
    pub draining: bool,
    /// The keys of this cluster's probes.
    pub probe_keys: Vec<(Epoch, [u8; 32])>,
    /// The keys of this cluster's WORKLOAD ids.
    pub(super) cid_keys: CidKeys,
    pub(super) services: Arc<Services>,
    /// The tags of the cluster's endpoints, under every key in use.
    pub(super) endpoints: Sharded<u64, WorkloadId>,
    /// Workloads that are attached to another gateway, and to which.
    pub(super) elsewhere: Sharded<WorkloadId, NodeId>,
    links: Links,
    siblings: Siblings,
    /// What passes through other clusters, or through this one.
    pub transit: Arc<TransitRoutes>,
    /// Who can help where this gateway has no way.
    pub beside: Arc<Beside>,
    pub(super) sources: Sources,
}

impl Inputs {
    pub(super) fn new(fixed: &Fixed) -> Self {
        Self {
            ready: false,
            filled: false,
            draining: false,
            probe_keys: Vec::new(),
            cid_keys: CidKeys::new(fixed.cluster, []),
            services: Arc::default(),
            endpoints: Sharded::default(),
            elsewhere: Sharded::default(),
            links: FxHashMap::default(),
            siblings: FxHashMap::default(),
            transit: Arc::default(),
            beside: Arc::default(),
            sources: Sources::new(fixed.limits),
        }
    }

    /// `workload` is one of the cluster, reached through the other gateway `through`, if there is one.
    pub fn place(&mut self, workload: WorkloadId, through: Option<NodeId>) {
        let Self { cid_keys, endpoints, elsewhere, .. } = self;
        cid_keys.keys().for_each(|key| endpoints.set(key.endpoint_tag(workload), workload));
        match through {
            Some(node) => elsewhere.set(workload, node),
            None => elsewhere.remove(&workload),
        }
    }

    /// `workload` is gone from the cluster.
    pub fn displace(&mut self, workload: WorkloadId) {
        let Self { cid_keys, endpoints, elsewhere, .. } = self;
        cid_keys.keys().for_each(|key| endpoints.remove(&key.endpoint_tag(workload)));
        elsewhere.remove(&workload);
    }

    /// The keys of WORKLOAD ids are `keys`; returns whether they are others than before. [`Self::replace_workloads`] must follow
    /// then, because the tags of all endpoints are others too.
    #[must_use]
    pub fn set_keys(&mut self, keys: CidKeys) -> bool {
        // a key shows itself in the tags that it makes
        let shown = |keys: &CidKeys| {
            keys.keys().map(|key| (key.epoch(), key.endpoint_tag(WorkloadId(0)))).collect::<Vec<_>>()
        };
        let changed = shown(&self.cid_keys) != shown(&keys);
        self.cid_keys = keys;
        changed
    }

    /// The cluster's workloads are these, each with the other gateway that it is reached through, if any.
    pub fn replace_workloads(&mut self, workloads: impl Iterator<Item = (WorkloadId, Option<NodeId>)>) {
        (self.endpoints, self.elsewhere) = (Sharded::default(), Sharded::default());
        workloads.for_each(|(workload, through)| self.place(workload, through));
    }

    /// The service `handle` has this route.
    pub fn set_service(&mut self, handle: ServiceHandle, route: ServiceRoute) {
        if self.services.get(&handle).is_none_or(|known| **known != route) {
            Arc::make_mut(&mut self.services).insert(handle, Arc::new(route));
        }
    }

    /// All services.
    pub fn replace_services(&mut self, services: Services) {
        if *self.services != services {
            self.services = Arc::new(services);
        }
    }

    /// The gateways of linked clusters and of this one. What comes from those that were removed is cut off at once.
    pub fn set_gateways(&mut self, links: Links, siblings: Siblings) {
        if (&self.links, &self.siblings) == (&links, &siblings) {
            return;
        }
        (self.links, self.siblings) = (links, siblings);
        let listening = self.siblings.values().flatten().copied().collect();
        let Self { sources, links, siblings, .. } = self;
        sources.follow(listening, |class| stands(links, siblings, class));
    }

    /// The inputs of a gateway of `cluster` that knows nothing yet.
    #[cfg(test)]
    pub(crate) fn of(cluster: ClusterId) -> Self {
        Self::new(&Fixed { cluster, node: NodeId(1), ports: 1, limits: SourceLimits::default() })
    }

    /// What is known of workloads and services: tags, gateways, routes.
    #[cfg(test)]
    pub(crate) fn known(&self) -> (BTreeMap<u64, WorkloadId>, BTreeMap<WorkloadId, NodeId>, Services) {
        let endpoints = self.endpoints.iter().map(|(&tag, &workload)| (tag, workload)).collect();
        let elsewhere = self.elsewhere.iter().map(|(&workload, &node)| (workload, node)).collect();
        (endpoints, elsewhere, Services::clone(&self.services))
    }

    /// Probes showed that `addr` is that of `class`.
    pub(super) fn admit(&mut self, addr: SocketAddr, class: Class, listener: usize, now_ms: u64) {
        if stands(&self.links, &self.siblings, class) {
            self.sources.admit(addr, class, listener, now_ms);
        }
    }
}

/// Whether `class` is a gateway that is known, or no gateway.
fn stands(links: &Links, siblings: &Siblings, class: Class) -> bool {
    match class {
        Class::Link(cluster, node) => links.get(&cluster).is_some_and(|link| link.nodes.contains(&node)),
        Class::Sibling(node) => siblings.contains_key(&node),
        Class::Workload(_) | Class::Control => true,
    }
}

/// The way to a cluster through others.
#[derive(Debug)]
pub(super) struct Onward {
    /// The neighbour to which packets are sent: the cluster itself if it is one.
    pub(super) next: ClusterId,
    /// Its gateways that send them on.
    pub(super) targets: Vec<Arc<Target>>,
}

/// The picture that the threads read.
#[derive(Debug)]
pub(super) struct Tables {
    pub(super) cluster: ClusterId,
    pub(super) node: NodeId,
    pub(super) ready: bool,
    pub(super) draining: bool,
    pub(super) filled: bool,
    pub(super) cid_keys: CidKeys,
    pub(super) probe_keys: Vec<(Epoch, [u8; 32])>,
    pub(super) sources: Sharded<SocketAddr, Arc<Source>>,
    pub(super) workloads: Sharded<WorkloadId, Arc<Source>>,
    pub(super) elsewhere: Sharded<WorkloadId, NodeId>,
    pub(super) endpoints: Sharded<u64, WorkloadId>,
    pub(super) services: Arc<Services>,
    pub(super) link_keys: FxHashMap<ClusterId, ([u8; 32], FxHashSet<NodeId>)>,
    pub(super) links: FxHashMap<ClusterId, Vec<Arc<Target>>>,
    pub(super) siblings: FxHashMap<NodeId, Arc<Target>>,
    pub(super) targets: Vec<Arc<Target>>,
    /// What `transit` was made from, and whose packets may come in where.
    pub(super) routes: Arc<TransitRoutes>,
    pub(super) transit: Arc<FxHashMap<ClusterId, Onward>>,
    /// By linked cluster: the siblings that say they reach it.
    pub(super) beside: FxHashMap<ClusterId, Vec<Arc<Target>>>,
    pub(super) ports: usize,
}

/// What stays the same for the life of a forwarder.
#[derive(Clone, Debug)]
pub(super) struct Fixed {
    pub(super) cluster: ClusterId,
    pub(super) node: NodeId,
    pub(super) ports: usize,
    pub(super) limits: SourceLimits,
}

impl Tables {
    pub(super) fn empty(fixed: &Fixed) -> Self {
        Self::build(fixed, &Inputs::new(fixed), None)
    }

    /// The picture of `inputs`; takes as long as there are gateways, however many workloads there are. Targets that stay the same
    /// are taken over from `old`, with what is known of their paths.
    pub(super) fn build(fixed: &Fixed, inputs: &Inputs, old: Option<&Self>) -> Self {
        let mut tables = Self {
            cluster: fixed.cluster,
            node: fixed.node,
            ready: inputs.ready,
            draining: inputs.draining,
            filled: inputs.filled,
            cid_keys: inputs.cid_keys.clone(),
            probe_keys: inputs.probe_keys.clone(),
            sources: inputs.sources.by_addr().clone(),
            workloads: inputs.sources.workloads().clone(),
            elsewhere: inputs.elsewhere.clone(),
            endpoints: inputs.endpoints.clone(),
            services: inputs.services.clone(),
            link_keys: inputs
                .links
                .iter()
                .map(|(&cluster, link)| (cluster, (link.key, link.nodes.clone())))
                .collect(),
            links: FxHashMap::default(),
            siblings: FxHashMap::default(),
            targets: Vec::new(),
            routes: inputs.transit.clone(),
            transit: Arc::default(),
            beside: FxHashMap::default(),
            ports: fixed.ports,
        };
        tables.add_targets(fixed, inputs, old);
        tables.add_transit(old);
        tables.beside = inputs
            .beside
            .iter()
            .map(|(&cluster, nodes)| {
                (cluster, nodes.iter().filter_map(|node| tables.siblings.get(node).cloned()).collect())
            })
            .collect();
        tables
    }

    /// There may be a great many: what neither paths nor gateways changed is that of `old`.
    fn add_transit(&mut self, old: Option<&Self>) {
        if let Some(old) = old.filter(|old| self.has_ways_of(old)) {
            self.transit = old.transit.clone();
            return;
        }
        // a link that was removed a moment ago has no targets
        let onward = self.routes.next.iter().filter_map(|(&cluster, (next, nodes))| {
            let targets = self.links.get(next)?.iter().filter(|target| nodes.contains(&target.node()));
            Some((cluster, Onward { next: *next, targets: targets.cloned().collect() }))
        });
        self.transit = Arc::new(onward.collect());
    }

    fn has_ways_of(&self, old: &Self) -> bool {
        let same = |(new, old): (&Arc<Target>, &Arc<Target>)| Arc::ptr_eq(new, old);
        Arc::ptr_eq(&self.routes, &old.routes)
            && self.targets.len() == old.targets.len()
            && self.targets.iter().zip(&old.targets).all(same)
    }

    fn add_targets(&mut self, fixed: &Fixed, inputs: &Inputs, old: Option<&Self>) {
        let mut target = |class: Class, addr: SocketAddr, key: [u8; 32], epoch_bits: u8| {
            let same = |t: &&Arc<Target>| {
                t.class == class && t.addr == addr && t.key == key && t.epoch_bits == epoch_bits
            };
            let known = old.and_then(|old| old.targets.iter().find(same)).cloned();
            let target =
                known.unwrap_or_else(|| Arc::new(Target::new(class, addr, key, epoch_bits, fixed.ports)));
            self.targets.push(target.clone());
            target
        };
        for (&cluster, link) in &inputs.links {
            let key = probe::link_key(&link.key, fixed.cluster, fixed.node);
            let targets = link
                .gateways
                .iter()
                .map(|&(node, addr)| target(Class::Link(cluster, node), addr, key, 0))
                .collect();
            self.links.insert(cluster, targets);
        }
        let Some((epoch, probe_key)) = inputs.probe_keys.iter().max_by_key(|(epoch, _)| *epoch) else {
            return;
        };
        let key = probe::gateway_key(probe_key, fixed.node);
        for (&node, addrs) in &inputs.siblings {
            if let Some(&addr) = addrs.first() {
                self.siblings.insert(node, target(Class::Sibling(node), addr, key, epoch.low_bits()));
            }
        }
    }

    /// The probe key of the epoch with these low bits.
    pub(super) fn probe_key(&self, bits: u8) -> Option<&[u8; 32]> {
        self.probe_keys
            .iter()
            .filter(|(epoch, _)| epoch.low_bits() == bits)
            .max_by_key(|(epoch, _)| *epoch)
            .map(|(_, key)| key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(id: u32) -> ClusterId {
        ClusterId::new(id).unwrap()
    }

    fn addr(last: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, last], 7443))
    }

    fn fixed() -> Fixed {
        Fixed { cluster: cluster(1), node: NodeId(1), ports: 2, limits: SourceLimits::default() }
    }

    fn links() -> Links {
        let gateways = vec![(NodeId(7), addr(7))];
        let nodes = [NodeId(7)].into_iter().collect();
        [(cluster(2), LinkRoute { key: [1; 32], gateways, nodes })].into_iter().collect()
    }

    fn siblings() -> Siblings {
        [(NodeId(2), vec![addr(2)])].into_iter().collect()
    }

    fn inputs(fixed: &Fixed) -> Inputs {
        let mut inputs = Inputs::new(fixed);
        inputs.probe_keys = vec![(Epoch(1), [9; 32])];
        inputs.set_gateways(links(), siblings());
        inputs.admit(addr(20), Class::Link(cluster(2), NodeId(7)), 0, 0);
        inputs.admit(addr(21), Class::Sibling(NodeId(2)), 0, 0);
        inputs
    }

    #[test]
    fn what_is_removed_is_cut_off_at_once_and_what_stays_keeps_its_paths() {
        let fixed = fixed();
        let mut inputs = inputs(&fixed);
        let before = Tables::build(&fixed, &inputs, None);
        assert!(before.sources.contains_key(&addr(20)) && before.sources.contains_key(&addr(21)));
        assert_eq!(before.targets.len(), 2);

        inputs.set_gateways(Links::default(), siblings());
        let after = Tables::build(&fixed, &inputs, Some(&before));
        assert!(!after.sources.contains_key(&addr(20)), "its packets are taken although the link is removed");
        assert!(after.sources.contains_key(&addr(21)));
        assert!(Arc::ptr_eq(&before.siblings[&NodeId(2)], &after.siblings[&NodeId(2)]));

        inputs.set_gateways(Links::default(), Siblings::default());
        inputs.admit(addr(20), Class::Link(cluster(2), NodeId(7)), 0, 0);
        let last = Tables::build(&fixed, &inputs, Some(&after));
        assert!(last.sources.len() == 0 && last.targets.is_empty());
    }

    #[test]
    fn ways_through_other_clusters_are_made_anew_only_when_they_may_be_others() {
        let fixed = fixed();
        let mut inputs = inputs(&fixed);
        let nodes = [NodeId(7)].into_iter().collect();
        let next: FxHashMap<_, _> = [(cluster(9), (cluster(2), nodes))].into_iter().collect();
        inputs.transit = Arc::new(TransitRoutes { next, ..TransitRoutes::default() });
        let first = Tables::build(&fixed, &inputs, None);
        assert_eq!(first.transit[&cluster(9)].targets.len(), 1);
        inputs.place(WorkloadId(1), None);
        let second = Tables::build(&fixed, &inputs, Some(&first));
        assert!(Arc::ptr_eq(&first.transit, &second.transit) && Arc::ptr_eq(&first.routes, &second.routes));
        let mut moved = links();
        if let Some(link) = moved.get_mut(&cluster(2)) {
            link.gateways = vec![(NodeId(7), addr(8))];
        }
        inputs.set_gateways(moved, siblings());
        let third = Tables::build(&fixed, &inputs, Some(&second));
        assert_eq!(third.transit[&cluster(9)].targets[0].addr, addr(8));
        inputs.transit = Arc::default();
        assert!(Tables::build(&fixed, &inputs, Some(&third)).transit.is_empty());
    }

    #[test]
    fn the_listening_address_of_a_sibling_is_for_control_connections_only() {
        let fixed = fixed();
        let tables = Tables::build(&fixed, &inputs(&fixed), None);
        assert_eq!(tables.sources.get(&addr(2)).unwrap().class, Class::Control);
    }

    #[test]
    fn endpoints_have_a_tag_under_every_key_and_none_when_they_are_gone() {
        let mut inputs = Inputs::new(&fixed());
        let keys = |epochs: &[u8]| {
            CidKeys::new(cluster(1), epochs.iter().map(|&epoch| (Epoch(u64::from(epoch)), [epoch; 16])))
        };
        let (here, there) = (WorkloadId(1), WorkloadId(2));
        let all = [(here, None), (there, Some(NodeId(2)))];
        assert!(inputs.set_keys(keys(&[1, 2])));
        inputs.replace_workloads(all.into_iter());
        assert_eq!((inputs.endpoints.len(), inputs.elsewhere.len()), (4, 1));
        assert!(!inputs.set_keys(keys(&[1, 2])) && inputs.set_keys(keys(&[2])));
        inputs.replace_workloads(all.into_iter());
        assert_eq!((inputs.endpoints.len(), inputs.elsewhere.get(&there)), (2, Some(&NodeId(2))));
        inputs.place(there, None);
        inputs.displace(here);
        assert_eq!((inputs.endpoints.len(), inputs.elsewhere.len()), (1, 0));
        inputs.displace(there);
        assert_eq!(inputs.endpoints.len(), 0);
    }
}
