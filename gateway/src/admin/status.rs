//! `/v1/status` and `/v1/gateways`: this gateway, its registry, its siblings.

use super::api::{Gateway, Packets, Registry, Status};
use super::links::brief;
use crate::forwarder::{DropReason, PathStatus, Totals};
use crate::hub::Hub;
use axum::Json;
use axum::extract::State;
use causeway_model::{GatewayFacts, NodeId};
use causeway_store::RegistryStatus;
use causeway_wire::view::VersionInfo;
use std::time::{SystemTime, UNIX_EPOCH};

/// The release of this process.
pub(super) fn release() -> String {
    VersionInfo::current().release
}

pub(super) async fn show(State(hub): State<Hub>) -> Json<Status> {
    let (attached, workloads, imports) = {
        let soft = hub.soft();
        let imports: usize = soft.peers.values().map(|peer| peer.imports.len()).sum();
        (soft.attached.len(), soft.presence.workload_count(), imports)
    };
    let (cluster, catalog, node) = (hub.cluster(), hub.catalog(), &hub.node);
    Json(Status {
        cluster: cluster.name.to_string(),
        cluster_id: cluster.id.get(),
        trust_domain: cluster.trust_domain.to_string(),
        node: node.id().to_string(),
        role: node.role().to_string(),
        release: release(),
        region: node.locality().region.clone(),
        zone: node.locality().zone.clone(),
        ready: hub.forwarder.is_ready() && !hub.drain.is_draining(),
        listen: texts(&hub.forwarder.sockets().listen),
        registry: registry(&hub.registry.status()),
        attached: attached as u64,
        workloads: workloads as u64,
        services: catalog.services().len() as u64,
        imports: imports as u64,
        links: catalog.links().map(|link| brief(&hub, link)).collect(),
        packets: packets(&hub.forwarder.totals()),
        svid_expires_at: unix(node.svid().current().not_after()),
    })
}

pub(super) async fn gateways(State(hub): State<Hub>) -> Json<Vec<Gateway>> {
    let (status, paths) = (hub.registry.status(), hub.forwarder.paths());
    let own = hub.node.id();
    Json(hub.gateways().iter().map(|facts| gateway(facts, own, &status, &paths)).collect())
}

fn gateway(facts: &GatewayFacts, own: NodeId, status: &RegistryStatus, paths: &[PathStatus]) -> Gateway {
    let path = paths.iter().find(|path| path.cluster.is_none() && path.node == facts.node);
    Gateway {
        node: facts.node.to_string(),
        role: facts.role.to_string(),
        registry: part(facts.node, status).to_owned(),
        region: facts.locality.region.clone(),
        zone: facts.locality.zone.clone(),
        cluster_addrs: texts(&facts.cluster_addrs),
        link_addrs: texts(&facts.link_addrs),
        alive: (facts.node != own).then(|| path.is_some_and(|path| path.ports_alive > 0)),
        rtt_us: path.and_then(|path| path.srtt_us),
    }
}

/// What `node` does in the registry.
fn part(node: NodeId, status: &RegistryStatus) -> &'static str {
    if status.leader == Some(node) {
        "leader"
    } else if status.voters.contains(&node) {
        "voter"
    } else if status.learners.contains(&node) {
        "learner"
    } else {
        "none"
    }
}

fn registry(status: &RegistryStatus) -> Registry {
    Registry {
        role: status.role.to_string(),
        leader: status.leader.map(|node| node.to_string()),
        writable: status.leader.is_some() && status.failure.is_none(),
        term: status.term,
        revision: status.applied.0,
        voters: texts(&status.voters),
        learners: texts(&status.learners),
    }
}

fn packets(totals: &Totals) -> Packets {
    let dropped = DropReason::ALL.iter().map(|&reason| (reason.reason().to_owned(), totals.dropped(reason)));
    Packets {
        received: totals.packets_in,
        forwarded: totals.packets_out,
        dropped: dropped.filter(|(_, count)| *count > 0).collect(),
    }
}

fn texts(values: &[impl ToString]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

/// A time as seconds since 1970.
pub(super) fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use causeway_model::{GatewayRole, Locality, Revision};
    use causeway_store::RegistryRole;

    /// Node 1 follows node 2; node 3 votes, node 4 learns.
    pub(in crate::admin) fn follower() -> RegistryStatus {
        RegistryStatus {
            node: NodeId(1),
            role: RegistryRole::Follower,
            leader: Some(NodeId(2)),
            term: 4,
            last_log: Revision(42),
            applied: Revision(41),
            snapshot: Revision(0),
            voters: vec![NodeId(1), NodeId(2), NodeId(3)],
            learners: vec![NodeId(4)],
            lag: Vec::new(),
            failure: None,
        }
    }

    fn facts(node: u64) -> GatewayFacts {
        GatewayFacts {
            node: NodeId(node),
            role: GatewayRole::Gateway,
            locality: Locality { region: "r".into(), zone: "z".into() },
            cluster_addrs: vec!["10.0.0.1:7443".parse().unwrap()],
            link_addrs: Vec::new(),
        }
    }

    #[test]
    fn a_gateway_has_its_part_in_the_registry_and_its_path() {
        let path = PathStatus {
            cluster: None,
            node: NodeId(2),
            addr: "10.0.0.2:7443".parse().unwrap(),
            ports_alive: 2,
            ports: 2,
            srtt_us: Some(300),
        };
        let shown = |node| gateway(&facts(node), NodeId(1), &follower(), std::slice::from_ref(&path));
        let parts: Vec<String> = (1..=5).map(|node| shown(node).registry).collect();
        assert_eq!(parts, ["voter", "leader", "voter", "learner", "none"]);
        assert_eq!((shown(1).alive, shown(2).alive, shown(3).alive), (None, Some(true), Some(false)));
        assert_eq!(shown(2).rtt_us, Some(300));
    }

    #[test]
    fn a_registry_without_a_leader_takes_no_changes() {
        assert!(registry(&follower()).writable);
        assert!(!registry(&RegistryStatus { leader: None, ..follower() }).writable);
        assert!(!registry(&RegistryStatus { failure: Some("disk".into()), ..follower() }).writable);
        assert_eq!(registry(&follower()).revision, 41);
    }

    #[test]
    fn drops_that_never_happened_are_left_out() {
        let mut totals = Totals { packets_in: 10, packets_out: 7, ..Totals::default() };
        totals.drops[DropReason::NoPath as usize] = 3;
        let packets = packets(&totals);
        assert_eq!((packets.received, packets.forwarded), (10, 7));
        assert_eq!(packets.dropped.into_iter().collect::<Vec<_>>(), [("no-path".to_owned(), 3)]);
    }
}
