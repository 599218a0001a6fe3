//! The services of linked clusters, as their gateways tell of them.

use bytes::{Bytes, BytesMut};
use causeway_federation::Exporter;
use causeway_model::{ClusterFacts, ClusterId, Epoch, Locality, ServiceHandle};
use causeway_wire::Message;
use causeway_wire::link::LinkMessage;
use causeway_wire::view::ExportSummary;
use std::collections::BTreeMap;

/// How many clusters offer the same services.
pub(crate) const SHARED: u32 = 3;
/// The first id of a played cluster.
const FIRST: u32 = 0x10_0000;

/// A linked cluster.
pub(crate) fn facts(cluster: u32) -> ClusterFacts {
    ClusterFacts {
        name: format!("c{cluster}").parse().unwrap(),
        id: ClusterId::new(FIRST + cluster).unwrap(),
        trust_domain: format!("c{cluster}.mesh").parse().unwrap(),
        locality: Locality { region: "us-phoenix-1".into(), zone: "PHX-AD-1".into() },
    }
}

/// The name of a service of a cluster.
pub(crate) fn name(cluster: u32, number: u64) -> String {
    format!("payments-{}-{number:05}.shop", cluster / SHARED)
}

/// The handle of a service.
pub(crate) fn handle(number: u64) -> ServiceHandle {
    ServiceHandle((number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// A service as they are: two ports, two identities, one of its own, endpoints in three zones.
pub(crate) fn summary(cluster: u32, number: u64) -> ExportSummary {
    let account = format!("payments-{number:05}");
    let identity = |account: &str| format!("spiffe://c{cluster}.mesh/ns/shop/sa/{account}").parse().unwrap();
    let zone =
        |zone: u32| (Locality { region: "us-phoenix-1".into(), zone: format!("PHX-AD-{zone}") }, 3 + zone);
    ExportSummary {
        name: name(cluster, number).parse().unwrap(),
        handle: handle(number),
        ports: vec!["80/http".parse().unwrap(), "9090/grpc".parse().unwrap()].try_into().unwrap(),
        identities: vec![identity(&account), identity("deploy")],
        healthy: 14,
        total: 15,
        localities: (1..4).map(zone).collect(),
    }
}

/// All services of a cluster, by handle.
pub(crate) fn all(cluster: u32, services: u64) -> BTreeMap<ServiceHandle, ExportSummary> {
    (0..services).map(|number| summary(cluster, number)).map(|summary| (summary.handle, summary)).collect()
}

/// What a cluster's gateways tell.
pub(crate) fn exporter(cluster: u32, services: u64) -> Exporter {
    let mut exporter = Exporter::new(Epoch(1));
    assert!(exporter.set_exports(all(cluster, services)).left_out.is_empty());
    exporter
}

/// The bytes of messages.
pub(crate) fn encoded<M: Into<LinkMessage>>(messages: impl IntoIterator<Item = M>) -> Bytes {
    let mut all = BytesMut::new();
    messages.into_iter().for_each(|message| all.extend_from_slice(&message.into().to_frame().unwrap()));
    all.freeze()
}
