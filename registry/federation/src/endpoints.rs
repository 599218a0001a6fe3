//! The endpoints of one peer's services that are in use here.

use crate::fault::check_locality;
use crate::import::ImportRules;
use causeway_model::{ClusterId, ServiceHandle};
use causeway_wire::cid::CidKind;
use causeway_wire::link::Endpoints;
use causeway_wire::view::{EndpointView, MAX_ENDPOINTS};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// The weights that an endpoint may have.
const WEIGHTS: std::ops::RangeInclusive<u16> = 1..=1000;

/// The endpoints of a service as a peer told them last.
#[derive(Clone, Debug, PartialEq)]
pub struct HeldEndpoints {
    /// The endpoints, each instance once; the random half of their ids is 0.
    pub endpoints: Vec<EndpointView>,
    /// When they were told.
    pub told: Instant,
}

/// What a frame of endpoints came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndpointChange {
    /// Whether the service's endpoints changed.
    pub changed: bool,
    /// How many endpoints were dropped as unacceptable.
    pub dropped: usize,
    /// The frame was for a service that is not in use here and was ignored.
    pub unasked: bool,
}

/// The endpoints of one peer's services in use.
///
/// Only services named with [`Self::set_used`] are held, so its size is bounded by what was asked for.
#[derive(Debug)]
pub struct EndpointCache {
    peer: ClusterId,
    max_endpoints: usize,
    used: BTreeSet<ServiceHandle>,
    held: BTreeMap<ServiceHandle, HeldEndpoints>,
    dropped: u64,
}

impl EndpointCache {
    /// An empty cache for the peer in `rules`.
    pub fn new(rules: &ImportRules) -> Self {
        Self {
            peer: rules.peer.id,
            max_endpoints: rules.max_endpoints.min(MAX_ENDPOINTS),
            used: BTreeSet::new(),
            held: BTreeMap::new(),
            dropped: 0,
        }
    }

    /// These services are in use and no others: the endpoints of others are forgotten.
    pub fn set_used(&mut self, used: BTreeSet<ServiceHandle>) {
        self.held.retain(|handle, _| used.contains(handle));
        self.used = used;
    }

    /// The peer told the endpoints of a service. Unacceptable ones are dropped, and so is what exceeds the bound.
    pub fn handle_endpoints(&mut self, now: Instant, told: Endpoints) -> EndpointChange {
        if !self.used.contains(&told.handle) {
            self.dropped += told.endpoints.len() as u64;
            return EndpointChange { unasked: true, dropped: told.endpoints.len(), changed: false };
        }
        let count = told.endpoints.len();
        let mut instances = BTreeSet::new();
        let endpoints: Vec<EndpointView> = told
            .endpoints
            .into_iter()
            .filter(|endpoint| self.is_acceptable(endpoint) && instances.insert(endpoint.instance))
            .take(self.max_endpoints)
            // the random half is the client's to choose; without it, what several gateways tell is the same
            .map(|endpoint| EndpointView { cid: endpoint.cid.with_random(0), ..endpoint })
            .collect();
        let old = self.held.get(&told.handle).map_or(&[][..], |held| &held.endpoints);
        let known = self.held.contains_key(&told.handle);
        let change = EndpointChange {
            changed: !known || old != endpoints,
            dropped: count - endpoints.len(),
            unasked: false,
        };
        self.dropped += change.dropped as u64;
        self.held.insert(told.handle, HeldEndpoints { endpoints, told: now });
        change
    }

    /// The endpoints of `handle`; `None` until the peer told them.
    pub fn get(&self, handle: ServiceHandle) -> Option<&HeldEndpoints> {
        self.held.get(&handle)
    }

    /// How many endpoints were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn is_acceptable(&self, endpoint: &EndpointView) -> bool {
        endpoint.cid.kind() == Some(CidKind::Endpoint)
            && endpoint.cid.cluster() == Some(self.peer)
            && WEIGHTS.contains(&endpoint.weight)
            && check_locality(&endpoint.locality).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use causeway_model::{ClusterFacts, Epoch, Health, Locality, NodeId, WorkloadId};
    use causeway_wire::{Cid, CidKey};

    fn locality(zone: &str) -> Locality {
        Locality { region: "phx".into(), zone: zone.into() }
    }

    fn id(id: u32) -> ClusterId {
        ClusterId::new(id).unwrap()
    }

    fn cache() -> EndpointCache {
        let mut cache = EndpointCache::new(&ImportRules::new(ClusterFacts {
            name: "phx".parse().unwrap(),
            id: id(2),
            trust_domain: "phx.mesh".parse().unwrap(),
            locality: locality("a"),
        }));
        cache.set_used([ServiceHandle(1)].into());
        cache
    }

    fn endpoint(instance: u64, cluster: u32, epoch: u64, random: u64) -> EndpointView {
        let tag = CidKey::new(Epoch(epoch), [1; 16]).endpoint_tag(WorkloadId(instance));
        let cid = Cid::endpoint(id(cluster), Epoch(epoch), tag, random);
        EndpointView {
            instance: WorkloadId(instance),
            cid,
            locality: locality("a"),
            weight: 100,
            health: Health::Healthy,
        }
    }

    fn told(endpoints: Vec<EndpointView>) -> Endpoints {
        Endpoints { handle: ServiceHandle(1), endpoints }
    }

    #[test]
    fn only_endpoint_ids_of_the_peer_are_taken() {
        let (mut cache, now) = (cache(), Instant::now());
        let good = endpoint(1, 2, 1, 0);
        let workload = CidKey::new(Epoch(1), [1; 16]).mint(id(2), WorkloadId(9), 1);
        let bad = [
            endpoint(2, 3, 1, 1),
            EndpointView { cid: Cid::service(id(2), ServiceHandle(1), 9), ..endpoint(3, 2, 1, 1) },
            EndpointView { cid: Cid::gateway(id(2), NodeId(1), 9), ..endpoint(4, 2, 1, 1) },
            EndpointView { cid: workload, ..endpoint(9, 2, 1, 1) },
            EndpointView { cid: Cid([0; 20]), ..endpoint(5, 2, 1, 1) },
            EndpointView { weight: 0, ..endpoint(6, 2, 1, 1) },
            EndpointView { weight: 1001, ..endpoint(7, 2, 1, 1) },
            EndpointView { locality: locality(&"z".repeat(129)), ..endpoint(8, 2, 1, 1) },
            endpoint(1, 2, 1, 2),
        ];
        let change = cache.handle_endpoints(now, told([vec![good.clone()], bad.into()].concat()));
        assert_eq!(change, EndpointChange { changed: true, dropped: 9, unasked: false });
        assert_eq!(cache.get(ServiceHandle(1)).unwrap().endpoints, [good]);
        assert_eq!(cache.dropped(), 9);
    }

    #[test]
    fn it_is_bounded_by_what_is_in_use() {
        let (mut cache, now) = (cache(), Instant::now());
        let many = (0..100).map(|i| endpoint(i, 2, 1, i)).collect();
        assert_eq!(cache.handle_endpoints(now, told(many)).dropped, 100 - MAX_ENDPOINTS);
        let unasked = Endpoints { handle: ServiceHandle(7), endpoints: vec![endpoint(1, 2, 1, 1)] };
        assert!(cache.handle_endpoints(now, unasked).unasked);
        assert!(cache.get(ServiceHandle(7)).is_none());
        cache.set_used(BTreeSet::new());
        assert!(cache.get(ServiceHandle(1)).is_none());
    }

    #[test]
    fn another_random_half_is_no_change() {
        let (mut cache, now) = (cache(), Instant::now());
        assert!(cache.handle_endpoints(now, told(Vec::new())).changed, "none is news, too");
        assert!(cache.handle_endpoints(now, told(vec![endpoint(1, 2, 1, 1)])).changed);
        assert!(!cache.handle_endpoints(now, told(vec![endpoint(1, 2, 1, 2)])).changed);
        assert!(cache.handle_endpoints(now, told(vec![endpoint(1, 2, 2, 3)])).changed);
    }
}
