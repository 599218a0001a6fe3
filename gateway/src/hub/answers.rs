//! Views: what the hub answers about services, bundles and keys.

use super::{Hub, Peer, Soft};
use crate::instance;
use causeway_catalog::{Catalog, ExportTo, Link, MergeRule};
use causeway_federation::{LeftOut, Merged, PeerOffer, merge_offers};
use causeway_model::{
    ClusterFacts, ClusterId, ClusterName, GatewayFacts, GatewayRole, Health, Locality, NodeId, Revision,
    ServiceHandle, ServiceName, SpiffeId, TrustDomain, WorkloadId,
};
use causeway_presence::Row;
use causeway_wire::cid::rendezvous;
use causeway_wire::view::{
    BundleView, CidSecret, EndpointView, ExportSummary, MAX_ENDPOINTS, MAX_LOCALITIES, Offer, ProbeSecret,
};
use causeway_wire::{Cid, CidKeys};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

impl Hub {
    /// The cluster's facts: those of the registry, or those this gateway joined with until its replica has them.
    pub(crate) fn cluster(&self) -> ClusterFacts {
        self.node.cluster().clone()
    }

    /// What gateway `node` of this cluster does; while the registry's replica is empty, as those said that this gateway
    /// joined through.
    pub(crate) fn role_of(&self, node: NodeId) -> Option<GatewayRole> {
        self.gateways().iter().find(|gateway| gateway.node == node).map(|gateway| gateway.role)
    }

    /// The keys of the cluster's WORKLOAD ids.
    pub(crate) fn cid_keys(&self, catalog: &Catalog) -> CidKeys {
        let keys =
            catalog.cluster().map(|cluster| cluster.cid_keys.iter().map(|(&epoch, key)| (epoch, key.0)));
        CidKeys::new(self.node.cluster().id, keys.into_iter().flatten())
    }

    /// The keys of the cluster's WORKLOAD ids, to be handed to a sidecar.
    pub(crate) fn cid_secrets(&self) -> Vec<CidSecret> {
        let catalog = self.catalog();
        let keys = catalog.cluster().into_iter().flat_map(|cluster| &cluster.cid_keys);
        keys.map(|(&epoch, key)| CidSecret { epoch, key: key.0 }).collect()
    }

    /// The newest key of the probes of `workload`.
    pub(crate) fn probe_secret(&self, workload: WorkloadId) -> Option<ProbeSecret> {
        let catalog = self.catalog();
        let (epoch, key) = catalog.cluster()?.newest_probe_key()?;
        Some(ProbeSecret { epoch, key: causeway_wire::probe::workload_key(&key.0, workload) })
    }

    /// An id for a new instance of `identity`; nothing before the registry is here.
    pub(crate) fn mint_workload(&self, identity: &SpiffeId) -> Option<WorkloadId> {
        let catalog = self.catalog();
        let (_, key) = catalog.cluster()?.newest_probe_key()?;
        Some(instance::mint(&key.0, identity, rand::random()))
    }

    /// Whether `workload` was given to an instance of `identity`.
    pub(crate) fn is_of(&self, identity: &SpiffeId, workload: WorkloadId) -> bool {
        let catalog = self.catalog();
        let keys = catalog.cluster().into_iter().flat_map(|cluster| cluster.probe_keys.values());
        instance::is_of(keys.map(|key| &key.0), identity, workload)
    }

    /// The cluster's gateways.
    pub(crate) fn gateways(&self) -> Vec<GatewayFacts> {
        let catalog = self.catalog();
        if catalog.gateways().len() > 0 { catalog.gateways().cloned().collect() } else { self.node.seeds() }
    }

    /// The trust domains of this cluster and of every linked one, each with the revision at which its bundle last changed.
    pub(crate) fn trusted(&self, catalog: &Catalog) -> BTreeMap<TrustDomain, Revision> {
        let linked = catalog.links().map(|link| (link.peer.trust_domain.clone(), link.trust_changed));
        let own = (self.node.cluster().trust_domain.clone(), catalog.own_trust_revision());
        linked.chain([own]).collect()
    }

    /// The trust bundle of one of them.
    pub(crate) fn bundle(&self, catalog: &Catalog, trust_domain: &TrustDomain) -> Option<BundleView> {
        if *trust_domain == self.node.cluster().trust_domain {
            return Some(self.own_bundle(catalog));
        }
        catalog.link_by_domain(trust_domain).map(|link| BundleView {
            trust_domain: trust_domain.clone(),
            roots: link.roots.clone(),
            revoked: link.revoked.clone(),
        })
    }

    /// The trust bundle of this cluster.
    pub(crate) fn own_bundle(&self, catalog: &Catalog) -> BundleView {
        let trust_domain = self.node.cluster().trust_domain.clone();
        let roots =
            catalog.cluster().map_or_else(|| self.node.roots().to_vec(), |cluster| cluster.ca.roots.clone());
        let revoked = catalog.revoked().map(|revoked| revoked.revocation.clone()).collect();
        BundleView { trust_domain, roots, revoked }
    }

    /// A service as every cluster offers it, for a client in `here`.
    pub(crate) fn service(&self, name: &ServiceName, here: &Locality) -> Merged {
        let catalog = self.catalog();
        let keys = self.cid_keys(&catalog);
        self.merged(&catalog, &self.soft(), &keys, name, here)
    }

    /// Services as every cluster offers them, in the order of `names`, with what `read` makes of each: the soft state is held
    /// meanwhile, so they must be few.
    pub(crate) fn services<T>(
        &self,
        names: &[ServiceName],
        here: &Locality,
        mut read: impl FnMut(&Catalog, &Soft, Merged) -> T,
    ) -> Vec<T> {
        let catalog = self.catalog();
        let keys = self.cid_keys(&catalog);
        let soft = self.soft();
        let read = |name| read(&catalog, &soft, self.merged(&catalog, &soft, &keys, name, here));
        names.iter().map(read).collect()
    }

    fn merged(
        &self,
        catalog: &Catalog,
        soft: &Soft,
        keys: &CidKeys,
        name: &ServiceName,
        here: &Locality,
    ) -> Merged {
        let local = self.local_offer(catalog, soft, keys, name, here);
        let shared = catalog.links().filter(|link| !link.paused && !link.peer_paused);
        let peers = shared.filter_map(|link| peer_offer(soft, link, name));
        merge_offers(name, self.node.cluster(), local, peers, here)
    }

    fn local_offer(
        &self,
        catalog: &Catalog,
        soft: &Soft,
        keys: &CidKeys,
        name: &ServiceName,
        here: &Locality,
    ) -> Option<Offer> {
        let service = catalog.service(name)?;
        let (healthy, total) = soft.presence.counts(name);
        Some(Offer {
            cluster: self.node.cluster().clone(),
            handle: None,
            ports: service.ports.clone(),
            identities: service.identities.iter().cloned().collect(),
            healthy: count(healthy),
            total: count(total),
            stale_for: None,
            endpoints: endpoints(soft, keys, name, |row| u64::from(2 - here.distance(&row.locality))),
        })
    }

    /// Brings what the link with `cluster` is told up to date; returns what cannot be exported as it is.
    pub(crate) fn refresh_exports(&self, cluster: &ClusterFacts) -> Vec<LeftOut> {
        let mut soft = self.soft();
        // read under the lock: of two sessions that come here, the later one has the newer catalog
        let catalog = self.catalog();
        let exports = exports(&catalog, &soft, &cluster.name);
        soft.peers
            .get_mut(&cluster.id)
            .map(|peer| peer.exporter.set_exports(exports).left_out)
            .unwrap_or_default()
    }

    /// Endpoints of an exported service for clients in `cluster`; nothing when it is not exported to it.
    pub(crate) fn endpoints_for(&self, cluster: &ClusterName, handle: ServiceHandle) -> Vec<EndpointView> {
        let catalog = self.catalog();
        let Some(export) = catalog.service_by_handle(handle).filter(|export| allows(&export.to, cluster))
        else {
            return Vec::new();
        };
        let keys = self.cid_keys(&catalog);
        // which endpoints a peer gets is the same for all its gateways, and differs between peers
        let seed =
            cluster.as_str().bytes().fold(0, |hash, byte| causeway_wire::cid::mix(hash ^ u64::from(byte)));
        endpoints(&self.soft(), &keys, &export.service, |row| rendezvous(seed, row.workload.0))
    }

    /// What is known of a linked cluster, in short: for how long it has been silent, and how many services it offers.
    pub(crate) fn with_peer<T>(&self, cluster: ClusterId, read: impl FnOnce(&Peer) -> T) -> Option<T> {
        self.soft().peers.get(&cluster).map(read)
    }

    /// From how many linked clusters a snapshot of their exports is on its way.
    pub(crate) fn fetching(&self, now: Instant) -> usize {
        self.soft().peers.values().filter(|peer| peer.imports.is_fetching(now)).count()
    }
}

/// The exports to `cluster`, by handle: what its link is told.
fn exports(catalog: &Catalog, soft: &Soft, cluster: &ClusterName) -> BTreeMap<ServiceHandle, ExportSummary> {
    if catalog.link(cluster).is_some_and(|link| link.paused) {
        return BTreeMap::new();
    }
    let exports = catalog.exports_to(cluster).filter_map(|export| {
        let service = catalog.service(&export.service)?;
        // a service without ports has never been served: there is nothing to call yet
        (!service.ports.is_empty()).then(|| (export.handle, summary(soft, service, export.handle)))
    });
    exports.collect()
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

pub(super) fn allows(to: &ExportTo, cluster: &ClusterName) -> bool {
    match to {
        ExportTo::All => true,
        ExportTo::Clusters(clusters) => clusters.contains(cluster),
    }
}

fn peer_offer(soft: &Soft, link: &Link, name: &ServiceName) -> Option<PeerOffer> {
    let peer = soft.peers.get(&link.peer.id)?;
    let import = peer.imports.by_name(name)?;
    let stale = peer.imports.stale_for(Instant::now());
    let told = peer.endpoints.get(import.handle());
    let summary = import.summary();
    let offer = Offer {
        cluster: link.peer.clone(),
        handle: Some(summary.handle),
        ports: summary.ports,
        identities: summary.identities,
        healthy: summary.healthy,
        total: summary.total,
        stale_for: stale.map(|age| u32::try_from(age.as_secs()).unwrap_or(u32::MAX)),
        endpoints: told.map(|held| held.endpoints.clone()).unwrap_or_default(),
    };
    let may_merge = match &link.merge_namespaces {
        MergeRule::All => true,
        MergeRule::None => false,
        MergeRule::Only(namespaces) => namespaces.contains(name.namespace()),
    };
    Some(PeerOffer { offer, may_merge, linked_at: link.established })
}

/// Up to [`MAX_ENDPOINTS`] endpoints: those that take new requests first, then by `rank`, greatest first.
fn endpoints(
    soft: &Soft,
    keys: &CidKeys,
    name: &ServiceName,
    rank: impl Fn(&Row) -> u64,
) -> Vec<EndpointView> {
    let Some(key) = keys.newest() else { return Vec::new() };
    let mut rows: Vec<(Health, &Arc<Row>)> = soft
        .presence
        .endpoints(name)
        .filter_map(|row| row.service(name).map(|service| (service.health, row)))
        .collect();
    rows.sort_by_cached_key(|(health, row)| {
        (*health != Health::Healthy, std::cmp::Reverse(rank(row)), rendezvous(0, row.workload.0))
    });
    let view = |(health, row): (Health, &Arc<Row>)| EndpointView {
        instance: row.workload,
        cid: Cid::endpoint(keys.cluster(), key.epoch(), key.endpoint_tag(row.workload), 0),
        locality: row.locality.clone(),
        weight: row.weight.clamp(1, 1000),
        health,
    };
    rows.into_iter().take(MAX_ENDPOINTS).map(view).collect()
}

fn summary(soft: &Soft, service: &causeway_catalog::Service, handle: ServiceHandle) -> ExportSummary {
    let (healthy, total) = soft.presence.counts(&service.name);
    let mut localities: BTreeMap<Locality, u32> = BTreeMap::new();
    for row in soft.presence.endpoints(&service.name) {
        *localities.entry(row.locality.clone()).or_default() += 1;
    }
    ExportSummary {
        name: service.name.clone(),
        handle,
        ports: service.ports.clone(),
        identities: service.identities.iter().cloned().collect(),
        healthy: count(healthy),
        total: count(total),
        localities: localities.into_iter().take(MAX_LOCALITIES).collect(),
    }
}
