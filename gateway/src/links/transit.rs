//! Which clusters this gateway reaches through others, as sessions and the forwarder say: `causeway_federation::transit` decides,
//! and the forwarder's tables follow.
//!
//! A session with a neighbour counts only if it is direct: one that itself passes through other clusters would be a path that leads
//! through itself.

use crate::forwarder::TransitRoutes;
use crate::hub::Hub;
use causeway_catalog::Catalog;
use causeway_federation::transit::{Plan, Routing, Speaker};
use causeway_model::{ClusterId, NodeId};
use causeway_transport::gateway::transit_cluster;
use causeway_wire::link::Routes;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

/// How often it is looked which neighbours answer: three missed probes take about as long.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What is known of paths through other clusters.
pub(crate) struct Transit {
    state: Mutex<State>,
    plan: watch::Sender<Arc<Plan>>,
    work: Notify,
}

struct State {
    routing: Routing,
    connections: u64,
    /// Whether each linked cluster answers directly, and since when.
    direct: BTreeMap<ClusterId, (bool, Instant)>,
}

impl Transit {
    /// Nothing is known to cluster `own`.
    pub(crate) fn new(own: ClusterId) -> Self {
        let state = State { routing: Routing::new(own), connections: 0, direct: BTreeMap::new() };
        Self { state: Mutex::new(state), plan: watch::Sender::default(), work: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The plan as it is now, and as it changes.
    pub(super) fn watch(&self) -> watch::Receiver<Arc<Plan>> {
        self.plan.subscribe()
    }

    /// The clusters that are passed through on the way to `cluster`; `None` when there is no such way.
    pub(super) fn way(&self, cluster: ClusterId) -> Option<Vec<ClusterId>> {
        let plan = self.plan.borrow();
        let (_, through) = plan.routes.get(&cluster)?.path.split_last()?;
        (!through.is_empty()).then(|| through.to_vec())
    }

    /// For how long `cluster` has answered directly (`true`), or has not.
    pub(super) fn direct_for(&self, now: Instant, cluster: ClusterId) -> (bool, Duration) {
        let known = self.state().direct.get(&cluster).copied();
        known
            .map_or((false, Duration::ZERO), |(direct, since)| (direct, now.saturating_duration_since(since)))
    }

    /// How many clusters are reached through others, and how many paths that were told made no sense.
    pub(super) fn counts(&self) -> (usize, u64) {
        let through = self.plan.borrow().routes.values().filter(|route| route.path.len() > 1).count();
        (through, self.state().routing.refused())
    }

    /// Takes note of which linked clusters answer directly, those that are given.
    fn observe(&self, now: Instant, answers: &BTreeMap<ClusterId, bool>) {
        let mut state = self.state();
        state.direct.retain(|cluster, _| answers.contains_key(cluster));
        for (&cluster, &direct) in answers {
            let known = state.direct.entry(cluster).or_insert((direct, now));
            if known.0 != direct {
                *known = (direct, now);
            }
        }
    }
}

/// A direct connection with a neighbour's gateway. What it says counts for as long as this lives.
pub(super) struct Speaking {
    hub: Hub,
    cluster: ClusterId,
    speaker: Speaker,
}

impl Speaking {
    /// A connection with gateway `node` of `cluster` is open; `None` if it passes through other clusters.
    pub(super) fn new(hub: &Hub, cluster: ClusterId, node: NodeId, remote: SocketAddr) -> Option<Self> {
        if transit_cluster(remote).is_some() {
            return None;
        }
        let mut state = hub.transit.state();
        state.connections += 1;
        let speaker = (node, state.connections);
        state.routing.open(cluster, speaker);
        drop(state);
        Some(Self { hub: hub.clone(), cluster, speaker })
    }

    /// It said so.
    pub(super) fn hear(&self, routes: &Routes) {
        self.hub.transit.state().routing.handle_routes(self.cluster, self.speaker, routes);
        self.hub.transit.work.notify_one();
    }
}

impl Drop for Speaking {
    fn drop(&mut self) {
        self.hub.transit.state().routing.close(self.cluster, self.speaker);
        self.hub.transit.work.notify_one();
    }
}

/// Starts what keeps the plan and the forwarder's tables.
pub(super) fn start(hub: &Hub) {
    hub.tasks.spawn_critical("transit", keep(hub.clone()));
}

async fn keep(hub: Hub) {
    let stop = hub.tasks.token();
    let mut catalog = hub.registry.watch();
    let mut tick = tokio::time::interval(LOOK_EVERY);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = hub.transit.work.notified() => {}
            // a registry that is gone takes everything with it
            Ok(()) = catalog.changed() => {}
            () = stop.cancelled() => return,
        }
        turn(&hub, Instant::now());
    }
}

fn turn(hub: &Hub, now: Instant) {
    let catalog = hub.catalog();
    let answers = catalog.links().map(|link| {
        let id = link.peer.id;
        (id, hub.forwarder.reaches(id).unwrap_or(false))
    });
    let answers: BTreeMap<ClusterId, bool> = answers.collect();
    hub.transit.observe(now, &answers);
    let on = catalog.links().filter(|link| link.transit && !link.paused && !link.peer_paused);
    let on: BTreeSet<ClusterId> = on.map(|link| link.peer.id).collect();
    let up = answers.iter().filter(|(_, answers)| **answers).map(|(&id, _)| id).collect();
    let plan = hub.transit.state().routing.plan(&on, &up);
    let before = hub.transit.plan.borrow().clone();
    if *before == plan {
        return;
    }
    report(&catalog, &before, &plan);
    let routes = Arc::new(tables(&plan));
    hub.forwarder.update(|inputs| inputs.transit = routes);
    hub.transit.plan.send_replace(Arc::new(plan));
}

fn tables(plan: &Plan) -> TransitRoutes {
    let next = plan.routes.iter().filter_map(|(&to, route)| {
        let nodes = route.nodes.iter().copied().collect();
        route.next().map(|next| (to, (next, nodes)))
    });
    let origins = plan.origins.iter().map(|(&from, origins)| (from, origins.iter().copied().collect()));
    TransitRoutes { next: next.collect(), origins: origins.collect() }
}

/// Says which ways through other clusters are new, or gone.
fn report(catalog: &Catalog, before: &Plan, now: &Plan) {
    let through = |plan: &Plan, to: ClusterId| {
        plan.routes.get(&to).map(|route| route.path.clone()).filter(|path| path.len() > 1)
    };
    let all: BTreeSet<ClusterId> = before.routes.keys().chain(now.routes.keys()).copied().collect();
    for to in all {
        match (through(before, to), through(now, to)) {
            (old, Some(path)) if old.as_ref() != Some(&path) => {
                let via = names(catalog, &path[..path.len() - 1]).join(", ");
                tracing::info!(cluster = name(catalog, to), via, "a cluster is reached through others");
            }
            (Some(_), None) => {
                tracing::info!(cluster = name(catalog, to), "a cluster is no longer reached through others");
            }
            _ => {}
        }
    }
}

/// The clusters as operators know them: by name where they are linked, else by id.
fn names(catalog: &Catalog, clusters: &[ClusterId]) -> Vec<String> {
    clusters.iter().map(|&cluster| name(catalog, cluster)).collect()
}

fn name(catalog: &Catalog, cluster: ClusterId) -> String {
    catalog.link_by_id(cluster).map_or_else(|| cluster.to_string(), |link| link.peer.name.to_string())
}

/// Through which clusters packets to `cluster` go; empty while it answers directly, or there is no way.
pub(crate) fn via(hub: &Hub, cluster: ClusterId) -> Vec<String> {
    if hub.forwarder.reaches(cluster) == Some(true) {
        return Vec::new();
    }
    hub.transit.way(cluster).map(|through| names(&hub.catalog(), &through)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
