//! The routing table: where a packet goes, by its destination connection ID. A snapshot that senders read without a lock.

use super::addr::to_socket;
use super::link::{Link, Peer};
use super::{Attached, GatewayStatus, GatewayTarget, MAX_ADDRESSES, MAX_GATEWAYS};
use causeway_model::{NodeId, WorkloadId};
use causeway_wire::cid::{mix, rendezvous};
use causeway_wire::{Cid, CidKind};
use rustc_hash::{FxHashMap, FxHashSet};
use std::hash::{BuildHasher, BuildHasherDefault};
use std::net::SocketAddr;
use std::sync::Arc;

#[cfg(test)]
mod tests;

/// A gateway and the ways to it, best first; there is at least one.
#[derive(Clone)]
pub(super) struct Gateway {
    pub(super) node: NodeId,
    /// What stands for the gateway in rendezvous hashing: every sidecar of a cluster picks alike.
    member: u64,
    pub(super) links: Vec<Arc<Link>>,
}

impl Gateway {
    /// The first way that answers.
    #[inline]
    pub(super) fn alive(&self) -> Option<&Arc<Link>> {
        self.links.iter().find(|link| link.is_alive())
    }

    /// The way that answered last; the first if none ever did.
    fn last_alive(&self) -> Option<&Arc<Link>> {
        self.links.iter().rev().max_by_key(|link| link.last_answer())
    }

    pub(super) fn status(&self) -> Vec<GatewayStatus> {
        self.links.iter().map(|link| link.status(self.node)).collect()
    }
}

#[derive(Clone, Default)]
pub(super) struct Table {
    pub(super) attached: Option<Arc<Attached>>,
    pub(super) gateways: Vec<Gateway>,
    pub(super) direct: FxHashMap<WorkloadId, Arc<Link>>,
    /// Whose packets are taken, by source address.
    sources: FxHashMap<SocketAddr, Arc<Link>>,
}

impl Table {
    /// The way for a packet to `cid`; `None` if there is no gateway at all, or the ID is none of the mesh.
    #[inline]
    pub(super) fn route(&self, cid: &Cid) -> Option<&Arc<Link>> {
        let kind = cid.kind()?;
        if let Some(attached) = &self.attached
            && cid.cluster() == Some(attached.attachment.cluster)
        {
            let special = match kind {
                CidKind::Workload => self.direct_way(attached, cid),
                CidKind::Gateway => self.gateway_way(cid),
                CidKind::Service | CidKind::Endpoint => None,
            };
            if special.is_some() {
                return special;
            }
        }
        self.spread(cid.spread())
    }

    #[inline]
    fn direct_way(&self, attached: &Attached, cid: &Cid) -> Option<&Arc<Link>> {
        if self.direct.is_empty() {
            return None;
        }
        let workload = attached.attachment.cid_keys.open(cid)?;
        self.direct.get(&workload).filter(|link| link.is_alive())
    }

    fn gateway_way(&self, cid: &Cid) -> Option<&Arc<Link>> {
        let node = cid.node().filter(|&node| node != NodeId::ANY)?;
        self.gateways.iter().find(|gateway| gateway.node == node)?.alive()
    }

    /// The gateway for a connection among those that answer. If none does, among all of them by the same rule: when all fell
    /// silent at once, as when this machine's own network fails, each connection keeps its gateway.
    #[inline]
    fn spread(&self, key: u64) -> Option<&Arc<Link>> {
        let weigh = |gateway: &Gateway| rendezvous(key, gateway.member);
        let living = self.gateways.iter().filter_map(|gateway| Some((weigh(gateway), gateway.alive()?)));
        if let Some((_, link)) = living.max_by_key(|(weight, _)| *weight) {
            return Some(link);
        }
        self.gateways.iter().max_by_key(|gateway| weigh(gateway))?.last_alive()
    }

    /// Whose packets come from `source`.
    #[inline]
    pub(super) fn source(&self, source: &SocketAddr) -> Option<&Arc<Link>> {
        self.sources.get(source)
    }

    /// Every way there is, each once.
    pub(super) fn links(&self) -> impl Iterator<Item = &Arc<Link>> {
        self.gateways.iter().flat_map(|gateway| &gateway.links).chain(self.direct.values())
    }

    pub(super) fn with_attached(&self, attached: Arc<Attached>) -> Self {
        Self { attached: Some(attached), ..self.clone() }
    }

    pub(super) fn with_gateways(&self, targets: Vec<GatewayTarget>, v6: bool) -> Self {
        let mut taken = FxHashSet::default();
        let mut gateways: Vec<Gateway> = Vec::new();
        for target in targets {
            let mut links = Vec::new();
            for addr in target.addrs.iter().filter_map(|addr| to_socket(*addr, v6)) {
                if links.len() < MAX_ADDRESSES && taken.insert(addr) {
                    links.push(self.gateway_link(addr));
                }
            }
            if links.is_empty() || gateways.len() == MAX_GATEWAYS {
                tracing::debug!(node = %target.node, addrs = ?target.addrs, "a gateway without a usable address of its own");
                continue;
            }
            gateways.push(Gateway { node: target.node, member: member(target.node, links[0].addr), links });
        }
        Self { gateways, ..self.clone() }.indexed()
    }

    /// The link that there is already, whichever node it was believed to be, or a new one.
    fn gateway_link(&self, addr: SocketAddr) -> Arc<Link> {
        let mut links = self.gateways.iter().flat_map(|gateway| &gateway.links);
        let found = links.find(|link| link.addr == addr).cloned();
        found.unwrap_or_else(|| Arc::new(Link::new(Peer::Gateway, addr)))
    }

    pub(super) fn with_direct(
        &self,
        workload: WorkloadId,
        addr: SocketAddr,
        key: [u8; 32],
        v6: bool,
    ) -> Self {
        let mut table = self.clone();
        let peer = Peer::Direct { workload, key };
        match to_socket(addr, v6) {
            Some(addr)
                if !self.direct.get(&workload).is_some_and(|link| (link.peer, link.addr) == (peer, addr)) =>
            {
                table.direct.insert(workload, Arc::new(Link::new(peer, addr)));
            }
            Some(_) => {}
            None => {
                tracing::debug!(%workload, %addr, "a direct address of a family that the overlay is not bound to");
                table.direct.remove(&workload);
            }
        }
        table.indexed()
    }

    pub(super) fn without_direct(&self, workload: WorkloadId) -> Self {
        let mut table = self.clone();
        table.direct.remove(&workload);
        table.indexed()
    }

    /// With the index of sources: where a gateway and a direct peer have one address, it is the gateway's.
    fn indexed(mut self) -> Self {
        let gateways = self.gateways.iter().flat_map(|gateway| &gateway.links);
        self.sources =
            self.direct.values().chain(gateways).map(|link| (link.addr, Arc::clone(link))).collect();
        self
    }
}

/// A gateway is its node id; while that is not known, its address.
fn member(node: NodeId, addr: SocketAddr) -> u64 {
    if node == NodeId::ANY {
        mix(BuildHasherDefault::<rustc_hash::FxHasher>::default().hash_one(addr))
    } else {
        node.0
    }
}
