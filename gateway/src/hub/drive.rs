//! The clocks behind the hub: presence, imports, and the forwarder's tables.

use super::{Change, Hub};
use crate::forwarder::{LinkRoute, ServiceRoute};
use crate::peers::Peers;
use causeway_catalog::Catalog;
use causeway_identity::TrustBundle;
use causeway_model::{GatewayFacts, Health, HostPort, NodeId};
use causeway_presence::Event;
use rustc_hash::FxHashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often the forwarder is asked which workloads it heard from.
const HEARD_EVERY: Duration = Duration::from_millis(200);
/// Changes of the tables within this time are made together.
const TABLES_EVERY: Duration = Duration::from_millis(5);
/// How often the names of other gateways are resolved anew.
const RESOLVE_EVERY: Duration = Duration::from_secs(30);

/// Starts the hub's tasks.
pub(crate) fn drive(hub: &Hub, peers: &Peers) {
    hub.tasks.spawn_critical("presence", presence(hub.clone(), peers.clone()));
    hub.tasks.spawn_critical("heard", heard(hub.clone()));
    hub.tasks.spawn_critical("catalog", catalog(hub.clone()));
    hub.tasks.spawn_critical("tables", tables(hub.clone()));
    hub.tasks.spawn_critical("imports", imports(hub.clone()));
}

async fn presence(hub: Hub, peers: Peers) {
    let stop = hub.tasks.token();
    while !stop.is_cancelled() {
        let due = turn_presence(&hub, &peers);
        let wait =
            due.map_or(Duration::from_millis(250), |due| due.saturating_duration_since(Instant::now()));
        tokio::select! {
            () = hub.presence_work.notified() => {}
            () = tokio::time::sleep(wait.min(Duration::from_millis(250))) => {}
            () = stop.cancelled() => {}
        }
    }
}

fn turn_presence(hub: &Hub, peers: &Peers) -> Option<Instant> {
    let mut soft = hub.soft();
    soft.presence.handle_timeout(Instant::now());
    for node in peers.ready() {
        while peers.has_room(node) {
            let Some(message) = soft.presence.poll_transmit_to(node) else { break };
            peers.send(node, &message);
        }
    }
    let events: Vec<Event> = std::iter::from_fn(|| soft.presence.poll_event()).collect();
    let due = soft.presence.poll_timeout();
    drop(soft);
    if !events.is_empty() {
        hub.tables_work.notify_one();
    }
    for event in events {
        match event {
            Event::Up(_) | Event::Changed(_) => {}
            Event::Gone(workload) => hub.tell(Change::Gone(workload)),
            Event::ServiceChanged(service) => hub.tell(Change::Service(service)),
        }
    }
    due
}

/// Probes keep a workload alive: those that the forwarder heard from within the lease are seen.
async fn heard(hub: Hub) {
    let stop = hub.tasks.token();
    let mut tick = tokio::time::interval(HEARD_EVERY);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = stop.cancelled() => return,
        }
        let workloads = hub.forwarder.heard(HEARD_EVERY * 2);
        let mut soft = hub.soft();
        let now = Instant::now();
        for workload in workloads {
            soft.presence.handle_seen(now, workload);
        }
    }
}

/// Follows the catalog: bundles, links, siblings.
async fn catalog(hub: Hub) {
    let mut watch = hub.registry.watch();
    let stop = hub.tasks.token();
    loop {
        let catalog = watch.borrow_and_update().clone();
        follow(&hub, &catalog);
        hub.tell(Change::Catalog);
        hub.tables_work.notify_one();
        tokio::select! {
            changed = watch.changed() => if changed.is_err() { return },
            () = stop.cancelled() => return,
        }
    }
}

fn follow(hub: &Hub, catalog: &Catalog) {
    let own = hub.own_bundle(catalog);
    let linked = catalog.links().map(|link| (link.peer.trust_domain.clone(), link.roots.clone()));
    let bundles: Vec<TrustBundle> = std::iter::once((own.trust_domain, own.roots))
        .chain(linked)
        .filter_map(|(domain, roots)| match TrustBundle::new(domain.clone(), roots) {
            Ok(bundle) => Some(bundle),
            Err(error) => {
                tracing::error!(trust_domain = %domain, %error, "a trust bundle of the registry is not usable");
                None
            }
        })
        .collect();
    if let Err(error) = hub.node.bundles().replace_all(bundles) {
        tracing::error!(%error, "the trust bundles of the registry are not usable; the old ones stay");
    }
    let mut changed = Vec::new();
    let mut soft = hub.soft();
    soft.peers.retain(|id, peer| {
        let kept = catalog.link_by_id(*id).is_some();
        if !kept {
            changed.extend(peer.imports.imports().map(|import| import.summary.name.clone()));
        }
        kept
    });
    for link in catalog.links() {
        soft.peers.entry(link.peer.id).or_insert_with(|| hub.new_peer(link));
    }
    let members: Vec<NodeId> = catalog.gateways().map(|gateway| gateway.node).collect();
    let strangers: Vec<NodeId> =
        soft.presence.peers().map(|peer| peer.node).filter(|node| !members.contains(node)).collect();
    for node in strangers {
        soft.presence.handle_peer_removed(Instant::now(), node);
    }
    drop(soft);
    hub.tell_services(changed);
}

/// Imports of a silent link become stale, and are withdrawn in the end.
async fn imports(hub: Hub) {
    let stop = hub.tasks.token();
    let mut tick = tokio::time::interval(Duration::from_millis(250));
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = stop.cancelled() => return,
        }
        let now = Instant::now();
        let mut changed = Vec::new();
        for peer in hub.soft().peers.values_mut() {
            if peer.imports.poll_timeout().is_some_and(|due| due <= now) {
                let change = peer.imports.handle_timeout(now);
                changed.extend(peer.learn(change));
            }
        }
        hub.tell_services(changed);
    }
}

/// Keeps the forwarder's tables as the catalog and presence say.
async fn tables(hub: Hub) {
    let stop = hub.tasks.token();
    let mut resolver = Resolver::default();
    loop {
        let catalog = hub.catalog();
        let (links, siblings) = routes(&hub, &catalog, &mut resolver).await;
        publish(&hub, &catalog, links, siblings);
        tokio::select! {
            () = hub.tables_work.notified() => tokio::time::sleep(TABLES_EVERY).await,
            () = tokio::time::sleep(RESOLVE_EVERY) => {}
            () = stop.cancelled() => return,
        }
    }
}

type Links = FxHashMap<causeway_model::ClusterId, LinkRoute>;
type Siblings = FxHashMap<NodeId, Vec<SocketAddr>>;

async fn routes(hub: &Hub, catalog: &Catalog, resolver: &mut Resolver) -> (Links, Siblings) {
    let (mut links, mut siblings) = (Links::default(), Siblings::default());
    for link in catalog.links() {
        let mut gateways = Vec::new();
        for gateway in link.gateways.values() {
            let addr = resolver.first(&gateway.link_addrs).await;
            gateways.extend(addr.map(|addr| (gateway.node, addr)));
        }
        links.insert(link.peer.id, LinkRoute { key: link.key.0, gateways });
    }
    for gateway in hub.gateways().iter().filter(|gateway| gateway.node != hub.node.id()) {
        siblings.insert(gateway.node, resolver.all(&gateway.cluster_addrs).await);
    }
    (links, siblings)
}

fn publish(hub: &Hub, catalog: &Catalog, links: Links, siblings: Siblings) {
    let keys = hub.cid_keys(catalog);
    let probe_keys =
        catalog.cluster().map(|c| c.probe_keys.iter().map(|(&epoch, key)| (epoch, key.0)).collect());
    let (mut services, mut endpoints, mut elsewhere) =
        (FxHashMap::default(), FxHashMap::default(), FxHashMap::default());
    let soft = hub.soft();
    for export in catalog.exports() {
        let healthy = |row: &&Arc<causeway_presence::Row>| {
            row.service(&export.service).is_some_and(|service| service.health == Health::Healthy)
        };
        let exported_to = catalog
            .links()
            .filter(|link| catalog.exports_to(&link.peer.name).any(|to| to.handle == export.handle))
            .map(|link| link.peer.id)
            .collect();
        let workloads =
            soft.presence.endpoints(&export.service).filter(healthy).map(|row| row.workload).collect();
        services.insert(export.handle, ServiceRoute { endpoints: workloads, exported_to });
    }
    for view in soft.presence.workloads() {
        let workload = view.row.workload;
        endpoints.extend(keys.keys().map(|key| (key.endpoint_tag(workload), workload)));
        if let Some(node) = soft.presence.gateway_of(workload).filter(|&node| node != hub.node.id()) {
            elsewhere.insert(workload, node);
        }
    }
    drop(soft);
    hub.forwarder.update(|inputs| {
        inputs.cid_keys = keys;
        inputs.probe_keys = probe_keys.unwrap_or_default();
        (inputs.services, inputs.endpoints, inputs.elsewhere) = (services, endpoints, elsewhere);
        (inputs.links, inputs.siblings) = (links, siblings);
    });
}

/// Addresses of other gateways: names are asked for again from time to time, and keep their last answer when nobody knows.
#[derive(Default)]
struct Resolver {
    known: FxHashMap<String, (Instant, Vec<SocketAddr>)>,
}

impl Resolver {
    async fn resolve(&mut self, addr: &HostPort) -> Vec<SocketAddr> {
        if let Some(addr) = addr.socket_addr() {
            return vec![addr];
        }
        let text = addr.to_string();
        if let Some((at, addrs)) = self.known.get(&text)
            && at.elapsed() < RESOLVE_EVERY
        {
            return addrs.clone();
        }
        match causeway_transport::resolve(addr).await {
            Ok(addrs) => {
                self.known.insert(text, (Instant::now(), addrs.clone()));
                addrs
            }
            Err(error) => {
                tracing::warn!(address = %addr, %error, "the address of a gateway does not resolve");
                self.known.get(&text).map(|(_, addrs)| addrs.clone()).unwrap_or_default()
            }
        }
    }

    async fn all(&mut self, addrs: &[HostPort]) -> Vec<SocketAddr> {
        let mut all = Vec::new();
        for addr in addrs {
            all.extend(self.resolve(addr).await);
        }
        all
    }

    async fn first(&mut self, addrs: &[HostPort]) -> Option<SocketAddr> {
        for addr in addrs {
            if let Some(&addr) = self.resolve(addr).await.first() {
                return Some(addr);
            }
        }
        None
    }
}

/// The addresses of a gateway of this cluster, resolved.
pub(crate) async fn cluster_addrs(gateway: &GatewayFacts) -> Vec<SocketAddr> {
    Resolver::default().all(&gateway.cluster_addrs).await
}

/// The addresses of a gateway of a linked cluster, resolved.
pub(crate) async fn link_addrs(gateway: &GatewayFacts) -> Vec<SocketAddr> {
    Resolver::default().all(&gateway.link_addrs).await
}
