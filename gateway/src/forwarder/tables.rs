//! What the forwarder knows: an immutable picture that its threads read without locks, and the inputs it is built from.

use super::source::{Class, Source, SourceLimits};
use super::target::Target;
use causeway_model::{ClusterId, Epoch, NodeId, ServiceHandle, WorkloadId};
use causeway_wire::CidKeys;
use causeway_wire::probe;
use rustc_hash::{FxHashMap, FxHashSet};
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

/// What the tables are built from. Whoever owns a part replaces it through [`super::Forwarder::update`].
#[derive(Clone, Debug)]
pub struct Inputs {
    /// Whether packets are taken; probes are answered either way.
    pub ready: bool,
    /// Whether these inputs are of a registry that has its cluster.
    pub filled: bool,
    /// Whether this gateway is about to stop: it still forwards, and asks everybody to use another.
    pub draining: bool,
    /// The keys of this cluster's WORKLOAD ids.
    pub cid_keys: CidKeys,
    /// The keys of this cluster's probes.
    pub probe_keys: Vec<(Epoch, [u8; 32])>,
    /// Services with a handle.
    pub services: FxHashMap<ServiceHandle, ServiceRoute>,
    /// The tags of the cluster's endpoints, under every key in use.
    pub endpoints: FxHashMap<u64, WorkloadId>,
    /// Workloads that are attached to another gateway, and to which.
    pub elsewhere: FxHashMap<WorkloadId, NodeId>,
    /// Linked clusters.
    pub links: FxHashMap<ClusterId, LinkRoute>,
    /// The other gateways of this cluster.
    pub siblings: FxHashMap<NodeId, Vec<SocketAddr>>,
    pub(super) admitted: FxHashMap<SocketAddr, Arc<Source>>,
    pub(super) control: FxHashMap<SocketAddr, usize>,
    /// Where each workload is admitted.
    pub(super) workload_at: FxHashMap<Class, SocketAddr>,
}

impl Inputs {
    /// The admitted sources that still stand: those of a link or a gateway that was removed are cut off at once.
    fn standing(&self) -> FxHashMap<SocketAddr, Arc<Source>> {
        let stands = |source: &Source| match source.class {
            Class::Link(cluster, node) => {
                self.links.get(&cluster).is_some_and(|link| link.nodes.contains(&node))
            }
            Class::Sibling(node) => self.siblings.contains_key(&node),
            Class::Workload(_) | Class::Control => true,
        };
        self.admitted
            .iter()
            .filter(|(_, source)| stands(source))
            .map(|(&addr, source)| (addr, source.clone()))
            .collect()
    }

    pub(super) fn new(cluster: ClusterId) -> Self {
        Self {
            ready: false,
            filled: false,
            draining: false,
            cid_keys: CidKeys::new(cluster, []),
            probe_keys: Vec::new(),
            services: FxHashMap::default(),
            endpoints: FxHashMap::default(),
            elsewhere: FxHashMap::default(),
            links: FxHashMap::default(),
            siblings: FxHashMap::default(),
            admitted: FxHashMap::default(),
            control: FxHashMap::default(),
            workload_at: FxHashMap::default(),
        }
    }
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
    pub(super) sources: FxHashMap<SocketAddr, Arc<Source>>,
    pub(super) workloads: FxHashMap<WorkloadId, Arc<Source>>,
    pub(super) elsewhere: FxHashMap<WorkloadId, NodeId>,
    pub(super) endpoints: FxHashMap<u64, WorkloadId>,
    pub(super) services: FxHashMap<ServiceHandle, ServiceRoute>,
    pub(super) link_keys: FxHashMap<ClusterId, ([u8; 32], FxHashSet<NodeId>)>,
    pub(super) links: FxHashMap<ClusterId, Vec<Arc<Target>>>,
    pub(super) siblings: FxHashMap<NodeId, Arc<Target>>,
    pub(super) targets: Vec<Arc<Target>>,
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
        Self::build(fixed, &Inputs::new(fixed.cluster), None, 0)
    }

    /// The picture of `inputs`. Targets that stay the same are taken over from `old`, with what is known of their paths.
    pub(super) fn build(fixed: &Fixed, inputs: &Inputs, old: Option<&Self>, now_ms: u64) -> Self {
        let mut tables = Self {
            cluster: fixed.cluster,
            node: fixed.node,
            ready: inputs.ready,
            draining: inputs.draining,
            filled: inputs.filled,
            cid_keys: inputs.cid_keys.clone(),
            probe_keys: inputs.probe_keys.clone(),
            sources: inputs.standing(),
            workloads: FxHashMap::default(),
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
            ports: fixed.ports,
        };
        tables.add_targets(fixed, inputs, old);
        tables.add_static_sources(fixed, inputs, old, now_ms);
        for source in tables.sources.values() {
            if let Class::Workload(workload) = source.class {
                tables.workloads.insert(workload, source.clone());
            }
        }
        tables
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

    /// The listening addresses of known gateways, from which their control connections come, and the other ends of control
    /// connections. A probed admission of the same address counts more.
    fn add_static_sources(&mut self, fixed: &Fixed, inputs: &Inputs, old: Option<&Self>, now_ms: u64) {
        // what a gateway forwards leaves from its link sockets, which are probed: its listening address is for control only
        let siblings = inputs.siblings.values().flatten().map(|&addr| (addr, Class::Control));
        let control = inputs.control.keys().map(|&addr| (addr, Class::Control));
        for (addr, class) in siblings.chain(control) {
            let kept =
                old.and_then(|old| old.sources.get(&addr)).filter(|source| source.class == class).cloned();
            self.sources.entry(addr).or_insert_with(|| {
                kept.unwrap_or_else(|| Arc::new(Source::new(addr, class, 0, now_ms, &fixed.limits)))
            });
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

    fn inputs(fixed: &Fixed) -> Inputs {
        let mut inputs = Inputs::new(cluster(1));
        inputs.probe_keys = vec![(Epoch(1), [9; 32])];
        inputs.siblings.insert(NodeId(2), vec![addr(2)]);
        let gateways = vec![(NodeId(7), addr(7))];
        let nodes = [NodeId(7)].into_iter().collect();
        inputs.links.insert(cluster(2), LinkRoute { key: [1; 32], gateways, nodes });
        for (addr, class) in
            [(addr(20), Class::Link(cluster(2), NodeId(7))), (addr(21), Class::Sibling(NodeId(2)))]
        {
            inputs.admitted.insert(addr, Arc::new(Source::new(addr, class, 0, 0, &fixed.limits)));
        }
        inputs
    }

    #[test]
    fn what_is_removed_is_cut_off_at_once_and_what_stays_keeps_its_paths() {
        let fixed = Fixed { cluster: cluster(1), node: NodeId(1), ports: 2, limits: SourceLimits::default() };
        let mut inputs = inputs(&fixed);
        let before = Tables::build(&fixed, &inputs, None, 0);
        assert!(before.sources.contains_key(&addr(20)) && before.sources.contains_key(&addr(21)));
        assert_eq!(before.targets.len(), 2);

        inputs.links.clear();
        let after = Tables::build(&fixed, &inputs, Some(&before), 0);
        assert!(!after.sources.contains_key(&addr(20)), "its packets are taken although the link is removed");
        assert!(after.sources.contains_key(&addr(21)));
        assert!(Arc::ptr_eq(&before.siblings[&NodeId(2)], &after.siblings[&NodeId(2)]));

        inputs.siblings.clear();
        let last = Tables::build(&fixed, &inputs, Some(&after), 0);
        assert!(last.sources.is_empty() && last.targets.is_empty());
    }

    #[test]
    fn the_listening_address_of_a_sibling_is_for_control_connections_only() {
        let fixed = Fixed { cluster: cluster(1), node: NodeId(1), ports: 2, limits: SourceLimits::default() };
        let tables = Tables::build(&fixed, &inputs(&fixed), None, 0);
        assert_eq!(tables.sources[&addr(2)].class, Class::Control);
    }
}
