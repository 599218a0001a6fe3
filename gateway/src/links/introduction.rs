//! What clusters say of themselves: our own introduction, and the check of others'.

use super::LinkError;
use crate::hub::Hub;
use causeway_identity::TrustBundle;
use causeway_model::{GatewayFacts, GatewayRole, Locality, NodeId, TrustDomain};
use causeway_wire::link::Introduction;
use causeway_wire::view::BundleView;
use std::collections::BTreeSet;

/// The most gateways of a cluster that its peers are told of.
pub(super) const MAX_GATEWAYS: usize = 64;
/// The most addresses of one gateway.
const MAX_ADDRESSES: usize = 16;

/// What this cluster says of itself.
pub(super) fn own(hub: &Hub) -> Result<Introduction, LinkError> {
    let catalog = hub.catalog();
    if catalog.cluster().is_none() {
        return Err(LinkError::NotReady);
    }
    let gateways = told_gateways(hub.gateways());
    if !gateways.iter().any(is_reachable) {
        return Err(LinkError::NoAddress);
    }
    Ok(Introduction { cluster: hub.cluster(), bundle: hub.own_bundle(&catalog), gateways })
}

/// Gateways as linked clusters are told of them: those that hold links first, and without the addresses that are for their
/// own cluster.
pub(super) fn told_gateways(mut gateways: Vec<GatewayFacts>) -> Vec<GatewayFacts> {
    gateways.sort_by_key(|gateway| (gateway.role, gateway.node));
    gateways.truncate(MAX_GATEWAYS);
    for gateway in &mut gateways {
        gateway.cluster_addrs.clear();
        gateway.link_addrs.truncate(MAX_ADDRESSES);
    }
    gateways
}

/// Whether a gateway holds links and can be reached for it.
pub(super) fn is_reachable(gateway: &GatewayFacts) -> bool {
    gateway.role == GatewayRole::Gateway && !gateway.link_addrs.is_empty()
}

/// Checks what a cluster says of itself, whoever it is.
pub(super) fn check(told: &Introduction) -> Result<(), LinkError> {
    check_locality(&told.cluster.locality)
        .and_then(|()| check_bundle(&told.cluster.trust_domain, &told.bundle))
        .and_then(|()| check_gateways(&told.gateways))
        .map_err(|what| LinkError::Introduction { cluster: told.cluster.name.clone(), what })
}

/// Checks the trust bundle that a cluster of `trust_domain` says it has.
pub(super) fn check_bundle(trust_domain: &TrustDomain, bundle: &BundleView) -> Result<(), String> {
    if bundle.trust_domain != *trust_domain {
        return Err(format!(
            "its trust domain is {trust_domain}, and its trust bundle is of {}",
            bundle.trust_domain
        ));
    }
    let made = TrustBundle::new(trust_domain.clone(), bundle.roots.clone());
    match made.and_then(|made| made.with_revoked(bundle.revoked.clone())) {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// Checks the gateways that a cluster says it has.
pub(super) fn check_gateways(gateways: &[GatewayFacts]) -> Result<(), String> {
    if gateways.is_empty() || gateways.len() > MAX_GATEWAYS {
        return Err(format!("it names {} gateways, need 1 to {MAX_GATEWAYS}", gateways.len()));
    }
    let mut seen = BTreeSet::new();
    for gateway in gateways {
        if gateway.node == NodeId::ANY || !seen.insert(gateway.node) {
            return Err(format!(
                "it names gateway {} twice, or as node 0, which no gateway is",
                gateway.node
            ));
        }
        let addresses = gateway.link_addrs.len().max(gateway.cluster_addrs.len());
        if addresses > MAX_ADDRESSES {
            return Err(format!(
                "gateway {} has {addresses} addresses, at most {MAX_ADDRESSES} are taken",
                gateway.node
            ));
        }
        check_locality(&gateway.locality)?;
    }
    Ok(())
}

fn check_locality(locality: &Locality) -> Result<(), String> {
    let longest = locality.region.len().max(locality.zone.len());
    if longest > Locality::MAX_LEN {
        return Err(format!("a region or zone has {longest} bytes, at most {} are taken", Locality::MAX_LEN));
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use causeway_identity::ClusterCa;
    use causeway_model::ClusterFacts;
    use std::time::SystemTime;

    pub(in crate::links) fn facts(name: &str, id: u32) -> ClusterFacts {
        ClusterFacts {
            name: name.parse().unwrap(),
            id: id.try_into().unwrap(),
            trust_domain: format!("{name}.mesh").parse().unwrap(),
            locality: Locality { region: name.into(), zone: "a".into() },
        }
    }

    pub(in crate::links) fn gateway(node: u64) -> GatewayFacts {
        GatewayFacts {
            node: NodeId(node),
            role: GatewayRole::Gateway,
            locality: Locality { region: "phx".into(), zone: "a".into() },
            cluster_addrs: vec!["10.0.0.1:7443".parse().unwrap()],
            link_addrs: vec!["192.0.2.1:7443".parse().unwrap()],
        }
    }

    fn root(trust_domain: &TrustDomain) -> Vec<u8> {
        ClusterCa::create(trust_domain, SystemTime::now()).unwrap().root_der().to_vec()
    }

    fn introduction() -> Introduction {
        let cluster = facts("phx", 2);
        let trust_domain = cluster.trust_domain.clone();
        let bundle = BundleView { roots: vec![root(&trust_domain)], revoked: Vec::new(), trust_domain };
        Introduction { cluster, bundle, gateways: vec![gateway(1), gateway(2)] }
    }

    #[test]
    fn a_good_introduction_passes() {
        check(&introduction()).unwrap();
    }

    #[test]
    fn an_introduction_that_cannot_be_is_refused_with_the_cause() {
        let iad: TrustDomain = "iad.mesh".parse().unwrap();
        type Break = Box<dyn Fn(&mut Introduction)>;
        let cases: Vec<(&str, Break)> = vec![
            ("bundle is of iad.mesh", {
                let iad = iad.clone();
                Box::new(move |i| i.bundle.trust_domain = iad.clone())
            }),
            ("root 1", Box::new(move |i| i.bundle.roots = vec![root(&iad)])),
            ("0 roots", Box::new(|i| i.bundle.roots.clear())),
            ("root 2", Box::new(|i| i.bundle.roots.push(vec![1, 2, 3]))),
            ("names 0 gateways", Box::new(|i| i.gateways.clear())),
            ("names 65 gateways", Box::new(|i| i.gateways = (1..=65).map(gateway).collect())),
            ("twice", Box::new(|i| i.gateways.push(gateway(1)))),
            ("node 0", Box::new(|i| i.gateways[0].node = NodeId::ANY)),
            ("17 addresses", {
                let addr = gateway(1).link_addrs[0].clone();
                Box::new(move |i| i.gateways[0].link_addrs = vec![addr.clone(); 17])
            }),
            ("129 bytes", Box::new(|i| i.gateways[1].locality.zone = "z".repeat(129))),
            ("129 bytes", Box::new(|i| i.cluster.locality.region = "r".repeat(129))),
        ];
        for (expected, spoil) in cases {
            let mut told = introduction();
            spoil(&mut told);
            let error = check(&told).unwrap_err();
            assert_eq!(error.reason(), "link-introduction");
            assert!(error.to_string().contains(expected), "{error} lacks {expected}");
        }
    }

    #[test]
    fn peers_are_told_of_gateways_that_hold_links_first_and_of_no_inner_address() {
        let forwarder = GatewayFacts { role: GatewayRole::Forwarder, ..gateway(1) };
        let told = told_gateways(vec![forwarder, gateway(3), gateway(2)]);
        let nodes: Vec<u64> = told.iter().map(|gateway| gateway.node.0).collect();
        assert_eq!(nodes, [2, 3, 1]);
        assert!(told.iter().all(|gateway| gateway.cluster_addrs.is_empty()));
        assert!(!is_reachable(&told[2]));
        assert_eq!(told_gateways((1..100).map(gateway).collect()).len(), MAX_GATEWAYS);
    }
}
