//! `/v1/status`: this gateway and its registry at a glance.

use super::api::{Packets, Registry, Status};
use super::links::brief;
use crate::forwarder::{DropReason, Totals};
use crate::hub::Hub;
use axum::Json;
use axum::extract::State;
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
    let registry_status = hub.registry.status();
    let not_ready = hub.not_ready();
    Json(Status {
        cluster: cluster.name.to_string(),
        cluster_id: cluster.id.get(),
        trust_domain: cluster.trust_domain.to_string(),
        node: node.id().to_string(),
        role: node.role().to_string(),
        release: release(),
        region: node.locality().region.clone(),
        zone: node.locality().zone.clone(),
        ready: not_ready.is_empty(),
        not_ready,
        listen: texts(&hub.forwarder.sockets().listen),
        registry: registry(&registry_status),
        attached: attached as u64,
        workloads: workloads as u64,
        services: catalog.services().len() as u64,
        imports: imports as u64,
        links: catalog.links().map(|link| brief(&hub, link)).collect(),
        packets: packets(&hub.forwarder.totals()),
        svid_expires_at: unix(node.svid().current().not_after()),
    })
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

pub(super) fn texts(values: &[impl ToString]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

/// A time as seconds since 1970.
pub(super) fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use causeway_model::{NodeId, Revision};
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
