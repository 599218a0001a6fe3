//! The forwarder's tables as the catalog and presence say.
//!
//! Workloads and services follow the events of presence, one by one; the catalog brings the rest. Both are written while the soft
//! state is held, so what is written last is what was read last.

use crate::forwarder::{Inputs, LinkRoute, Links, ServiceRoute, Services, Siblings};
use crate::hub::Hub;
use crate::hub::answers::allows;
use causeway_catalog::{Catalog, Exported};
use causeway_model::{
    ClusterId, GatewayFacts, Health, HostPort, NodeId, Revision, ServiceHandle, ServiceName, WorkloadId,
};
use causeway_presence::{Event, Presence, Row};
use rustc_hash::{FxHashMap, FxHashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Changes of the catalog within this time are made together.
const TABLES_EVERY: Duration = Duration::from_millis(5);
/// How long a name server has to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// The most names that are kept.
const MAX_NAMES: usize = 16_384;
/// How often the names of other gateways are resolved anew.
const RESOLVE_EVERY: Duration = Duration::from_secs(30);

/// Follows the catalog.
pub(super) async fn keep(hub: Hub) {
    let stop = hub.tasks.token();
    let names = Names::default();
    let mut published = None;
    loop {
        let catalog = hub.catalog();
        let (links, siblings) = routes(&hub, &catalog, &names);
        publish(&hub, &catalog, (links, siblings), published);
        published = Some(catalog.revision());
        tokio::select! {
            () = hub.tables_work.notified() => tokio::time::sleep(TABLES_EVERY).await,
            () = tokio::time::sleep(RESOLVE_EVERY) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Follows what presence tells. The caller holds the soft state.
pub(super) fn follow(hub: &Hub, presence: &Presence, events: &[Event]) {
    if !events.is_empty() {
        let catalog = hub.catalog();
        let offer = |service: &ServiceName| catalog.export_of(service).map(|export| offer(&catalog, export));
        hub.forwarder.update(|inputs| write(inputs, presence, offer, events));
    }
}

/// A service's handle, and the clusters it is exported to.
type Offer = (ServiceHandle, FxHashSet<ClusterId>);

fn offer(catalog: &Catalog, export: &Exported) -> Offer {
    let allowed = catalog.links().filter(|link| allows(&export.to, &link.peer.name));
    (export.handle, allowed.map(|link| link.peer.id).collect())
}

/// Writes what presence says now of everything that the events name, so neither their order nor their number matters.
fn write(
    inputs: &mut Inputs,
    presence: &Presence,
    offer: impl Fn(&ServiceName) -> Option<Offer>,
    events: &[Event],
) {
    for event in events {
        match event {
            Event::Up(workload) | Event::Changed(workload) | Event::Gone(workload) => {
                if presence.is_alive(*workload) {
                    inputs.place(*workload, through(presence, *workload));
                } else {
                    inputs.displace(*workload);
                }
            }
            Event::ServiceChanged(service) => {
                if let Some((handle, exported_to)) = offer(service) {
                    inputs.set_service(handle, service_route(presence, service, exported_to));
                }
            }
        }
    }
}

/// The other gateway through which a workload is reached, if any: also where this one reaches it, whose way may fail.
fn through(presence: &Presence, workload: WorkloadId) -> Option<NodeId> {
    presence.other_gateway_of(workload)
}

fn workloads(presence: &Presence) -> impl Iterator<Item = (WorkloadId, Option<NodeId>)> {
    presence.workloads().map(|view| (view.row.workload, through(presence, view.row.workload)))
}

fn services(catalog: &Catalog, presence: &Presence) -> Services {
    let route = |export: &Exported| {
        let (handle, exported_to) = offer(catalog, export);
        (handle, Arc::new(service_route(presence, &export.service, exported_to)))
    };
    catalog.exports().map(route).collect()
}

fn service_route(
    presence: &Presence,
    service: &ServiceName,
    exported_to: FxHashSet<ClusterId>,
) -> ServiceRoute {
    let healthy =
        |row: &&Arc<Row>| row.service(service).is_some_and(|served| served.health == Health::Healthy);
    let endpoints = presence.endpoints(service).filter(healthy).map(|row| row.workload).collect();
    ServiceRoute { endpoints, exported_to }
}

fn routes(hub: &Hub, catalog: &Catalog, names: &Names) -> (Links, Siblings) {
    let (mut links, mut siblings) = (Links::default(), Siblings::default());
    for link in catalog.links() {
        let addr = |gateway: &GatewayFacts| names.all(hub, &gateway.link_addrs).into_iter().next();
        let gateways = link
            .gateways
            .values()
            .filter_map(|gateway| addr(gateway).map(|addr| (gateway.node, addr)))
            .collect();
        let nodes = link.gateways.keys().copied().collect();
        links.insert(link.peer.id, LinkRoute { key: link.key.0, gateways, nodes });
    }
    for gateway in hub.gateways().iter().filter(|gateway| gateway.node != hub.node.id()) {
        siblings.insert(gateway.node, names.all(hub, &gateway.cluster_addrs));
    }
    (links, siblings)
}

/// Writes what the catalog says. Services are looked at only when it is not that of the revision `published`, and workloads only
/// when the keys are others: their tags are made with them.
fn publish(hub: &Hub, catalog: &Catalog, (links, siblings): (Links, Siblings), published: Option<Revision>) {
    let keys = hub.cid_keys(catalog);
    let probe_keys =
        catalog.cluster().map(|c| c.probe_keys.iter().map(|(&epoch, key)| (epoch, key.0)).collect());
    let soft = hub.soft();
    hub.forwarder.update(|inputs| {
        if inputs.set_keys(keys) {
            inputs.replace_workloads(workloads(&soft.presence));
        }
        if published != Some(catalog.revision()) {
            inputs.replace_services(services(catalog, &soft.presence));
        }
        inputs.set_gateways(links, siblings);
        inputs.probe_keys = probe_keys.unwrap_or_default();
        inputs.filled = catalog.cluster().is_some();
    });
}

/// What names of other gateways resolve to. Nobody waits for an answer: a name that is not known, or not lately, is asked for in
/// a task of its own, and the tables are made again when it has one. A name keeps its last answer when nobody knows it.
#[derive(Clone, Default)]
struct Names(Arc<Mutex<FxHashMap<String, Known>>>);

#[derive(Default)]
struct Known {
    addrs: Vec<SocketAddr>,
    asked: Option<Instant>,
}

impl Names {
    fn lock(&self) -> MutexGuard<'_, FxHashMap<String, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self, hub: &Hub, addrs: &[HostPort]) -> Vec<SocketAddr> {
        addrs
            .iter()
            .flat_map(|addr| addr.socket_addr().map_or_else(|| self.named(hub, addr), |addr| vec![addr]))
            .collect()
    }

    fn named(&self, hub: &Hub, addr: &HostPort) -> Vec<SocketAddr> {
        let mut names = self.lock();
        if names.len() >= MAX_NAMES && !names.contains_key(&addr.to_string()) {
            return Vec::new();
        }
        let known = names.entry(addr.to_string()).or_default();
        if known.asked.is_none_or(|at| at.elapsed() >= RESOLVE_EVERY) {
            known.asked = Some(Instant::now());
            hub.tasks.spawn(format!("resolve {addr}"), self.clone().ask(hub.clone(), addr.clone()));
        }
        known.addrs.clone()
    }

    async fn ask(self, hub: Hub, addr: HostPort) {
        let stop = hub.tasks.token();
        let found = tokio::select! {
            found = resolved(&addr) => found,
            () = stop.cancelled() => return,
        };
        if found.is_empty() {
            return;
        }
        let mut names = self.lock();
        let known = names.entry(addr.to_string()).or_default();
        if known.addrs != found {
            known.addrs = found;
            hub.tables_work.notify_one();
        }
    }
}

/// What `addr` resolves to, within [`PATIENCE`]; nothing when nobody knows.
pub(super) async fn resolved(addr: &HostPort) -> Vec<SocketAddr> {
    match tokio::time::timeout(PATIENCE, causeway_transport::resolve(addr)).await {
        Ok(Ok(addrs)) => addrs,
        Ok(Err(error)) => {
            tracing::warn!(address = %addr, %error, "the address of a gateway does not resolve");
            Vec::new()
        }
        Err(_) => {
            tracing::warn!(address = %addr, "the address of a gateway does not resolve: the name server does not answer");
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests;
