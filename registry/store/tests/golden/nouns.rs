//! The nouns that the samples are made of.

use causeway_model::*;

pub(crate) fn parsed<T: std::str::FromStr<Err = ParseError>>(text: &str) -> T {
    text.parse().unwrap()
}

pub(crate) fn locality() -> Locality {
    Locality { region: "us-ashburn-1".into(), zone: "AD-1".into() }
}

pub(crate) fn facts(name: &str, id: u32) -> ClusterFacts {
    ClusterFacts {
        name: parsed(name),
        id: ClusterId::new(id).unwrap(),
        trust_domain: parsed(&format!("{name}.mesh")),
        locality: locality(),
    }
}

pub(crate) fn gateway(node: u64, role: GatewayRole) -> GatewayFacts {
    GatewayFacts {
        node: NodeId(node),
        role,
        locality: locality(),
        cluster_addrs: vec![parsed("10.0.0.1:7443"), parsed("[2001:db8::1]:7443")],
        link_addrs: vec![parsed("gw.example.org:7443")],
    }
}

pub(crate) fn ports() -> PortSet {
    let list: Vec<ServicePort> =
        ["22/tcp", "53/udp", "80/http", "8443/grpc"].into_iter().map(parsed).collect();
    list.try_into().unwrap()
}

pub(crate) fn identity() -> SpiffeId {
    parsed("spiffe://iad.mesh/ns/shop/sa/payments")
}
