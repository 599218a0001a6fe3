//! The clocks behind the hub: presence and imports; `drive/tables.rs` keeps the forwarder's tables.

mod tables;

use super::dismiss::Known;
use super::{Change, Hub, import_rules};
use crate::peers::Peers;
use causeway_catalog::{Catalog, Event as CatalogEvent, Replay};
use causeway_identity::TrustBundle;
use causeway_model::{GatewayFacts, HostPort, NodeId, Revision, Revocation, TrustDomain};
use causeway_presence::Event;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How often the forwarder is asked which workloads it heard from.
const HEARD_EVERY: Duration = Duration::from_millis(200);
/// How many workloads are marked, or events told, before others get their turn at the soft state.
const TURN: usize = 4096;

/// Starts the hub's tasks.
pub(crate) fn drive(hub: &Hub, peers: &Peers) {
    hub.tasks.spawn_critical("presence", presence(hub.clone(), peers.clone()));
    hub.tasks.spawn_critical("heard", heard(hub.clone()));
    hub.tasks.spawn_critical("catalog", catalog(hub.clone()));
    hub.tasks.spawn_critical("tables", tables::keep(hub.clone()));
    hub.tasks.spawn_critical("imports", imports(hub.clone()));
    hub.tasks.spawn_critical("virtual addresses", super::vips::allocate(hub.clone()));
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
    drop(soft);
    tell_events(hub)
}

/// Tells what changed, the forwarder first; returns when presence is due again.
fn tell_events(hub: &Hub) -> Option<Instant> {
    loop {
        let mut soft = hub.soft();
        let events: Vec<Event> = std::iter::from_fn(|| soft.presence.poll_event()).take(TURN).collect();
        tables::follow(hub, &soft.presence, &events);
        let now = Instant::now();
        for event in &events {
            if let Event::Gone(workload) = event {
                soft.lost.gone(now, *workload);
            }
        }
        let due = soft.presence.poll_timeout();
        drop(soft);
        let last = events.len() < TURN;
        let mut services = Vec::new();
        for event in events {
            match event {
                Event::Up(_) | Event::Changed(_) => {}
                Event::Gone(workload) => hub.tell(Change::Gone(workload)),
                Event::ServiceChanged(service) => services.push(service),
            }
        }
        if !services.is_empty() {
            hub.tell_services(services);
        }
        if last {
            return due;
        }
    }
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
        let now = Instant::now();
        for workloads in workloads.chunks(TURN) {
            let mut soft = hub.soft();
            workloads.iter().for_each(|&workload| soft.presence.handle_seen(now, workload));
        }
    }
}

/// Follows the catalog: bundles, links, siblings, and who has to look at what.
async fn catalog(hub: Hub) {
    let mut watch = hub.registry.watch();
    let stop = hub.tasks.token();
    let (mut seen, mut trusted, mut revoked) = (Revision(0), None, Known::default());
    loop {
        let catalog = watch.borrow_and_update().clone();
        // certificates are parsed only when there are others
        if trusted.replace(catalog.trust_revision()) != Some(catalog.trust_revision()) {
            believe(&hub, &catalog);
            hub.dismiss_revoked(&catalog, &mut revoked);
        }
        follow(&hub, &catalog);
        let replay = hub.registry.events_since(seen);
        seen = match &replay {
            Replay::Snapshot => catalog.revision(),
            Replay::Deltas(events) => events.last().map_or(seen, |(revision, _)| *revision),
        };
        for change in changes(replay) {
            hub.tell(change);
        }
        hub.tables_work.notify_one();
        tokio::select! {
            changed = watch.changed() => if changed.is_err() { return },
            () = stop.cancelled() => return,
        }
    }
}

/// What sessions have to look at. Most writes are about one service, or about tokens and virtual addresses, of which no session is told: tens of thousands
/// of sidecars need not look at everything each time.
fn changes(replay: Replay) -> Vec<Change> {
    let Replay::Deltas(events) = replay else { return vec![Change::Catalog] };
    let mut services = BTreeSet::new();
    for (_, event) in events {
        match event {
            CatalogEvent::TokensChanged | CatalogEvent::VipsAllocated => {}
            CatalogEvent::ServiceChanged(name) | CatalogEvent::ServiceRemoved(name) => {
                services.insert(name);
            }
            _ => return vec![Change::Catalog],
        }
    }
    services.into_iter().map(Change::Service).collect()
}

/// Believes the bundles of the registry, and no others.
fn believe(hub: &Hub, catalog: &Catalog) {
    let own = hub.own_bundle(catalog);
    let linked = catalog
        .links()
        .map(|link| (link.peer.trust_domain.clone(), link.roots.clone(), link.revoked.clone()));
    let bundles: Vec<TrustBundle> = std::iter::once((own.trust_domain, own.roots, own.revoked))
        .chain(linked)
        .filter_map(|(domain, roots, revoked)| match bundle(&domain, roots, revoked) {
            Ok(bundle) => Some(bundle),
            Err(error) => {
                tracing::error!(trust_domain = %domain, %error, "a trust bundle of the registry is not usable");
                None
            }
        })
        .collect();
    // without its own bundle a gateway would refuse its own cluster
    if bundles.first().is_none_or(|first| first.trust_domain != hub.node.cluster().trust_domain) {
        return tracing::error!("the trust bundle of this cluster is not usable; the old ones stay");
    }
    if let Err(error) = hub.node.bundles().replace_all(bundles) {
        tracing::error!(%error, "the trust bundles of the registry are not usable; the old ones stay");
    }
}

fn follow(hub: &Hub, catalog: &Catalog) {
    let mut changed = Vec::new();
    let mut soft = hub.soft();
    soft.peers.retain(|id, peer| {
        let kept = catalog.link_by_id(*id).is_some();
        if !kept {
            changed.extend(peer.imports.remembered(None).map(|import| import.name()));
        }
        kept
    });
    for link in catalog.links() {
        let rules = import_rules(link);
        let now = Instant::now();
        let known = soft.peers.entry(link.peer.id).or_insert_with(|| hub.new_peer(link));
        if known.rules != rules {
            known.rules = rules.clone();
            let change = known.imports.set_rules(now, rules);
            changed.extend(known.learn(change));
        }
    }
    // only who was a member can be removed: a replica that is being filled does not know everybody yet
    let members: BTreeSet<NodeId> = catalog.gateways().map(|gateway| gateway.node).collect();
    let removed: Vec<NodeId> = soft.members.difference(&members).copied().collect();
    for node in removed {
        soft.presence.handle_peer_removed(Instant::now(), node);
    }
    soft.siblings.retain(&members);
    soft.members = members;
    drop(soft);
    hub.tell_services(changed);
}

fn bundle(
    domain: &TrustDomain,
    roots: Vec<Vec<u8>>,
    revoked: Vec<Revocation>,
) -> Result<TrustBundle, causeway_identity::IdentityError> {
    TrustBundle::new(domain.clone(), roots)?.with_revoked(revoked)
}

/// Imports of a silent link become stale, and are withdrawn in the end; and whether this replica falls behind is noted.
async fn imports(hub: Hub) {
    let stop = hub.tasks.token();
    let mut tick = tokio::time::interval(Duration::from_millis(250));
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = stop.cancelled() => return,
        }
        let now = Instant::now();
        note_lag(&hub, now);
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

fn note_lag(hub: &Hub, now: Instant) {
    let status = hub.registry.status();
    let mut soft = hub.soft();
    let newest = soft.siblings.newest().unwrap_or_default().max(status.last_log);
    soft.behind.observe(now, status.applied, newest);
}

async fn all_of(addrs: &[HostPort]) -> Vec<SocketAddr> {
    let mut all = Vec::new();
    for addr in addrs {
        match addr.socket_addr() {
            Some(addr) => all.push(addr),
            None => all.extend(tables::resolved(addr).await),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_look_at_no_more_than_what_changed() {
        let deltas = |events: &[CatalogEvent]| {
            changes(Replay::Deltas(events.iter().cloned().map(|event| (Revision(1), event)).collect()))
        };
        let (web, pay) = ("web.shop".parse().unwrap(), "pay.shop".parse().unwrap());
        let changed = |name: &causeway_model::ServiceName| CatalogEvent::ServiceChanged(name.clone());
        assert_eq!(deltas(&[]), []);
        assert_eq!(deltas(&[CatalogEvent::TokensChanged, CatalogEvent::VipsAllocated]), []);
        let removed = CatalogEvent::ServiceRemoved(pay);
        let told = deltas(&[changed(&web), removed.clone(), changed(&web), CatalogEvent::TokensChanged]);
        assert_eq!(told, [Change::Service("pay.shop".parse().unwrap()), Change::Service(web.clone())]);
        assert_eq!(deltas(&[changed(&web), CatalogEvent::KeysChanged, removed]), [Change::Catalog]);
        assert_eq!(deltas(&[CatalogEvent::ExportChanged(web)]), [Change::Catalog]);
        assert_eq!(changes(Replay::Snapshot), [Change::Catalog]);
    }
}
