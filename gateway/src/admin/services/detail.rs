//! Everything that this gateway knows of one service.

use super::view::{Around, endpoint, shown};
use crate::admin::api::{
    Endpoint, LeftOut, OfferDetail, PathGateway, ServiceDetail, ServiceLink, ServiceVip,
};
use crate::forwarder::PathStatus;
use crate::hub::{Hub, Soft};
use crate::links;
use causeway_catalog::{Catalog, Link};
use causeway_federation::{Conflict, Merged};
use causeway_model::{ClusterId, GatewayFacts, Health, HostPort, NodeId, ServiceName, VipName};
use causeway_presence::Row;
use std::time::Instant;

/// The most endpoints of this cluster that are shown.
const MAX_ENDPOINTS: usize = 1000;

/// Everything about the service of that name; nothing when nobody offers it.
pub(super) async fn detail(hub: &Hub, name: &ServiceName) -> Option<ServiceDetail> {
    let started = Instant::now();
    let own = hub.node.cluster().id;
    let read = |catalog: &Catalog, soft: &Soft, merged: Merged| {
        let shown = shown(&merged.view, &Around::of(own, catalog, soft, &merged.view));
        let left_out: Vec<LeftOut> =
            merged.conflicts.iter().map(|conflict| left_out(catalog, conflict)).collect();
        let endpoints: Vec<Endpoint> =
            soft.presence.endpoints(name).filter_map(|row| local(row, name)).collect();
        (catalog.revision(), shown, left_out, endpoints)
    };
    let names = std::slice::from_ref(name);
    let (revision, service, left_out, mut endpoints) =
        hub.services(names, hub.node.locality(), read).pop()?;
    if service.offers.is_empty() && left_out.is_empty() {
        return None;
    }
    endpoints.sort_by(|a, b| {
        (a.health != "healthy", &a.zone, &a.workload).cmp(&(b.health != "healthy", &b.zone, &b.workload))
    });
    endpoints.truncate(MAX_ENDPOINTS);
    let (catalog, paths) = (hub.catalog(), hub.forwarder.paths());
    let vips = vips(hub, &catalog, name);
    let offers = service.offers.into_iter().map(|mut offer| {
        let link = catalog.links().find(|link| link.peer.name.as_str() == offer.cluster);
        if let Some(link) = link.filter(|_| offer.origin != "local") {
            let across =
                |facts: &GatewayFacts| gateway(facts, &facts.link_addrs, Some(link.peer.id), None, &paths);
            let gateways = link.gateways.values().map(across).collect();
            return OfferDetail { offer, link: Some(over(hub, link)), gateways };
        }
        offer.endpoints = std::mem::take(&mut endpoints);
        let here = Some(hub.node.id());
        let sibling = |facts: &GatewayFacts| gateway(facts, &facts.cluster_addrs, None, here, &paths);
        OfferDetail { offer, link: None, gateways: hub.gateways().iter().map(sibling).collect() }
    });
    Some(ServiceDetail {
        name: service.name,
        node: hub.node.id().to_string(),
        revision: revision.0,
        vips,
        offers: offers.collect(),
        left_out,
        took_us: u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
    })
}

/// The virtual addresses of the service: wherever it runs first, then in each cluster.
fn vips(hub: &Hub, catalog: &Catalog, service: &ServiceName) -> Vec<ServiceVip> {
    let clusters = catalog.links().map(|link| &link.peer.name).chain([&hub.node.cluster().name]);
    let pinned = clusters.map(|cluster| VipName { service: service.clone(), cluster: Some(cluster.clone()) });
    let mut names: Vec<VipName> = pinned.collect();
    names.push(service.clone().into());
    names.sort_unstable();
    let shown = |name: VipName| {
        let vip = catalog.vip(&name)?;
        Some(ServiceVip { name: name.to_string(), v4: vip.v4(), v6: vip.v6() })
    };
    names.into_iter().filter_map(shown).collect()
}

fn left_out(catalog: &Catalog, conflict: &Conflict) -> LeftOut {
    let link = catalog.link_by_id(conflict.cluster);
    LeftOut {
        cluster: link.map_or_else(|| conflict.cluster.to_string(), |link| link.peer.name.to_string()),
        reason: conflict.why.reason().to_owned(),
        why: conflict.why.to_string(),
    }
}

/// An endpoint of this cluster.
fn local(row: &Row, name: &ServiceName) -> Option<Endpoint> {
    let health: Health = row.service(name)?.health;
    Some(endpoint(row.workload, &row.locality, health, row.weight.clamp(1, 1000)))
}

fn over(hub: &Hub, link: &Link) -> ServiceLink {
    let (state, stale_for) = links::state(hub, link);
    ServiceLink {
        state: state.to_string(),
        stale_for: stale_for.map(|silent| silent.as_secs()),
        established_at: link.established_at,
    }
}

/// A gateway of `cluster`, or of the own one; `here` answers, and does not probe itself.
fn gateway(
    facts: &GatewayFacts,
    addrs: &[HostPort],
    cluster: Option<ClusterId>,
    here: Option<NodeId>,
    paths: &[PathStatus],
) -> PathGateway {
    if here == Some(facts.node) {
        return PathGateway { node: facts.node.to_string(), addr: None, answers: true, rtt_us: None };
    }
    let path = paths.iter().find(|path| path.cluster == cluster && path.node == facts.node);
    let named = || addrs.first().map(ToString::to_string);
    PathGateway {
        node: facts.node.to_string(),
        addr: path.map(|path| path.addr.to_string()).or_else(named),
        answers: path.is_some_and(|path| path.ports_alive > 0),
        rtt_us: path.and_then(|path| path.srtt_us),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use causeway_model::{GatewayRole, Locality};

    #[test]
    fn a_gateway_answers_when_one_of_its_ports_does() {
        let facts = GatewayFacts {
            node: NodeId(3),
            role: GatewayRole::Gateway,
            locality: Locality { region: "r".into(), zone: "z".into() },
            cluster_addrs: Vec::new(),
            link_addrs: vec!["gw.example.org:7443".parse().unwrap()],
        };
        let cluster = ClusterId::new(9);
        let path = |ports_alive| PathStatus {
            cluster,
            node: NodeId(3),
            addr: "192.0.2.1:7443".parse().unwrap(),
            ports_alive,
            ports: 2,
            srtt_us: Some(80_000),
        };
        let shown =
            |paths: &[PathStatus]| gateway(&facts, &facts.link_addrs, cluster, Some(NodeId(1)), paths);
        assert!(shown(&[path(1)]).answers && !shown(&[path(0)]).answers);
        let unknown = shown(&[]);
        assert_eq!((unknown.addr.as_deref(), unknown.answers), (Some("gw.example.org:7443"), false));
        let own = gateway(&facts, &[], None, Some(NodeId(3)), &[path(1)]);
        assert_eq!((own.addr, own.answers, own.rtt_us), (None, true, None));
    }
}
