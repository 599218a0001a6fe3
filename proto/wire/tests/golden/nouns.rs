//! The nouns that the samples are made of. Every variant of every enum in them is in some sample.

use causeway_model::*;
use causeway_wire::cid::Cid;
use causeway_wire::view::*;

pub(crate) fn parsed<T: std::str::FromStr<Err = ParseError>>(text: &str) -> T {
    text.parse().unwrap()
}

pub(crate) fn cluster_id(id: u32) -> ClusterId {
    ClusterId::new(id).unwrap()
}

pub(crate) fn locality(zone: &str) -> Locality {
    Locality { region: "us-ashburn-1".into(), zone: zone.into() }
}

pub(crate) fn facts(name: &str, id: u32) -> ClusterFacts {
    ClusterFacts {
        name: parsed(name),
        id: cluster_id(id),
        trust_domain: parsed(&format!("{name}.mesh")),
        locality: locality("AD-1"),
    }
}

pub(crate) fn gateways() -> Vec<GatewayFacts> {
    let gateway = |node, role| GatewayFacts {
        node: NodeId(node),
        role,
        locality: locality("AD-2"),
        cluster_addrs: vec![parsed("10.0.0.1:7443"), parsed("[2001:db8::1]:7443")],
        link_addrs: vec![parsed("gw.example.org:7443")],
    };
    vec![gateway(1, GatewayRole::Gateway), gateway(0xfedc_ba98_7654_3210, GatewayRole::Forwarder)]
}

pub(crate) fn bundle(trust_domain: &str) -> BundleView {
    BundleView {
        trust_domain: parsed(trust_domain),
        roots: vec![vec![0x30, 0x82, 1], vec![0x30; 300]],
        revoked: vec![Revocation { subject: RevokedSubject::Key([7; 32]), issued_before: 1_800_000_000 }],
    }
}

pub(crate) fn ports() -> PortSet {
    let list: Vec<ServicePort> =
        ["22/tcp", "53/udp", "80/http", "8443/grpc"].into_iter().map(parsed).collect();
    list.try_into().unwrap()
}

pub(crate) fn endpoints() -> Vec<EndpointView> {
    let endpoint = |instance, weight, health| EndpointView {
        instance: WorkloadId(instance),
        cid: Cid::endpoint(cluster_id(2), Epoch(5), instance, 0),
        locality: locality("AD-3"),
        weight,
        health,
    };
    vec![
        endpoint(7, 1, Health::Healthy),
        endpoint(300, 100, Health::Draining),
        endpoint(u64::MAX, 1000, Health::Unhealthy),
    ]
}

pub(crate) fn identity() -> SpiffeId {
    parsed("spiffe://phx.mesh/ns/shop/sa/payments")
}

pub(crate) fn export() -> ExportSummary {
    ExportSummary {
        name: parsed("payments.shop"),
        handle: ServiceHandle(0x1122_3344_5566_7788),
        ports: ports(),
        identities: vec![identity()],
        healthy: 2,
        total: 70_000,
        localities: vec![(locality("AD-1"), 1), (locality("AD-2"), 69_999)],
    }
}

/// A release that is not the present one, so that the files do not change with every release.
pub(crate) fn version() -> VersionInfo {
    VersionInfo { release: "0.1.0".into(), protocol: 1 }
}

pub(crate) fn refusal() -> Refusal {
    Refusal {
        request: 3,
        reason: "token-used-up".into(),
        message: "token 01 was used as often as it may".into(),
    }
}

pub(crate) fn cid_keys() -> Vec<CidSecret> {
    vec![CidSecret { epoch: Epoch(4), key: [4; 16] }, CidSecret { epoch: Epoch(300), key: [5; 16] }]
}

pub(crate) fn probe_key() -> ProbeSecret {
    ProbeSecret { epoch: Epoch(4), key: [6; 32] }
}

pub(crate) fn instances() -> Vec<(ClusterId, WorkloadId)> {
    vec![(cluster_id(1), WorkloadId(9)), (cluster_id(ClusterId::MAX), WorkloadId(u64::MAX))]
}
