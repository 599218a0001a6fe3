//! The clocks behind the hub: presence, imports, and the forwarder's tables.

use super::answers::allows;
use super::{Change, Hub};
use crate::forwarder::{LinkRoute, ServiceRoute};
use crate::peers::Peers;
use causeway_catalog::Catalog;
use causeway_identity::TrustBundle;
use causeway_model::{GatewayFacts, Health, HostPort, NodeId};
use causeway_presence::Event;
use rustc_hash::FxHashMap;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often the forwarder is asked which workloads it heard from.
const HEARD_EVERY: Duration = Duration::from_millis(200);
/// Changes of the tables within this time are made together.
const TABLES_EVERY: Duration = Duration::from_millis(5);
/// How long a name server has to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// The most names that are kept.
const MAX_NAMES: usize = 16_384;
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
    // only who was a member can be removed: a replica that is being filled does not know everybody yet
    let members: BTreeSet<NodeId> = catalog.gateways().map(|gateway| gateway.node).collect();
    let removed: Vec<NodeId> = soft.members.difference(&members).copied().collect();
    for node in removed {
        soft.presence.handle_peer_removed(Instant::now(), node);
    }
    soft.members = members;
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
    let names = Names::default();
    loop {
        let catalog = hub.catalog();
        let (links, siblings) = routes(&hub, &catalog, &names);
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
            .filter(|link| allows(&export.to, &link.peer.name))
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
async fn resolved(addr: &HostPort) -> Vec<SocketAddr> {
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

async fn all_of(addrs: &[HostPort]) -> Vec<SocketAddr> {
    let mut all = Vec::new();
    for addr in addrs {
        match addr.socket_addr() {
            Some(addr) => all.push(addr),
            None => all.extend(resolved(addr).await),
        }
    }
    all
}

/// The addresses of a gateway of this cluster, resolved.
pub(crate) async fn cluster_addrs(gateway: &GatewayFacts) -> Vec<SocketAddr> {
    all_of(&gateway.cluster_addrs).await
}

/// The addresses of a gateway of a linked cluster, resolved.
pub(crate) async fn link_addrs(gateway: &GatewayFacts) -> Vec<SocketAddr> {
    all_of(&gateway.link_addrs).await
}
