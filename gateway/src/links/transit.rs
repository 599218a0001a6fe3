//! Which clusters this gateway reaches through others, as sessions and the forwarder say: `causeway_federation::transit` decides,
//! and the forwarder's tables follow.
//!
//! A session with a neighbour counts only if it is direct: one that itself passes through other clusters would be a path that leads
//! through itself.

mod replan;

use crate::forwarder::{Beside, TransitRoutes};
use crate::hub::Hub;
use causeway_catalog::Catalog;
use causeway_federation::transit::{News, Plan, Routing, Speaker};
use causeway_model::{ClusterId, NodeId};
use causeway_transport::gateway::transit_cluster;
use causeway_wire::link::Routes;
use causeway_wire::peer::{MAX_REACHED, Reaches};
use replan::Replan;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

/// How often it is looked which neighbours answer: three missed probes take about as long.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What another gateway of this cluster said that it reaches counts for this long: it says so twice a second.
const HEARD_WITHIN: Duration = Duration::from_secs(2);
/// The most clusters that one line of the log names.
const MAX_NAMED: usize = 8;

/// A gateway of a linked cluster.
type Gateway = (ClusterId, NodeId);

/// What is known of paths through other clusters.
pub(crate) struct Transit {
    state: Mutex<State>,
    plan: watch::Sender<Arc<Plan>>,
    work: Notify,
}

struct State {
    routing: Routing,
    connections: u64,
    /// Whether each gateway of linked clusters answers directly, and since when. One that does says nothing of the others: they may be
    /// behind another wall, or hold no links.
    direct: BTreeMap<Gateway, (bool, Instant)>,
    /// How many connections with each gateway pass through other clusters.
    roundabouts: BTreeMap<Gateway, usize>,
    /// The links with transit on, and the clusters that answer, as of the last plan.
    known: (BTreeSet<ClusterId>, BTreeSet<ClusterId>),
    replan: Replan,
    /// Which linked clusters the other gateways of this one reach, and when each said so.
    beside: BTreeMap<NodeId, (BTreeSet<ClusterId>, Instant)>,
}

impl Transit {
    /// Nothing is known to cluster `own`.
    pub(crate) fn new(own: ClusterId) -> Self {
        let state = State {
            routing: Routing::new(own),
            connections: 0,
            direct: BTreeMap::new(),
            roundabouts: BTreeMap::new(),
            known: Default::default(),
            replan: Replan::default(),
            beside: BTreeMap::new(),
        };
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

    /// For how long `gateway` has answered directly (`true`), or has not.
    pub(super) fn direct_for(&self, now: Instant, gateway: Gateway) -> (bool, Duration) {
        let known = self.state().direct.get(&gateway).copied();
        known
            .map_or((false, Duration::ZERO), |(direct, since)| (direct, now.saturating_duration_since(since)))
    }

    /// Whether a connection with `gateway` stands that passes through no other cluster.
    pub(super) fn is_straight(&self, gateway: Gateway) -> bool {
        self.state().routing.is_open(gateway.0, gateway.1)
    }

    /// The gateways of `cluster` with which all connections pass through other clusters.
    pub(super) fn roundabouts(&self, cluster: ClusterId) -> Vec<NodeId> {
        let state = self.state();
        let of = state.roundabouts.range((cluster, NodeId(0))..=(cluster, NodeId(u64::MAX)));
        of.map(|(&(_, node), _)| node).filter(|&node| !state.routing.is_open(cluster, node)).collect()
    }

    /// Who of this cluster's other gateways reaches which linked cluster, by what they said lately.
    fn beside(&self, now: Instant) -> Beside {
        let mut state = self.state();
        state.beside.retain(|_, (_, at)| now.saturating_duration_since(*at) < HEARD_WITHIN);
        let mut beside = Beside::default();
        for (&node, (clusters, _)) in &state.beside {
            clusters.iter().for_each(|&cluster| beside.entry(cluster).or_default().push(node));
        }
        beside
    }

    /// How many clusters are reached through others, and how many paths that were told made no sense.
    pub(super) fn counts(&self) -> (usize, u64) {
        let through = self.plan.borrow().routes.values().filter(|route| route.path.len() > 1).count();
        (through, self.state().routing.refused())
    }

    /// Takes note of which gateways answer directly, those that are given.
    fn observe(&self, now: Instant, answers: &BTreeMap<Gateway, bool>) {
        let mut state = self.state();
        state.direct.retain(|gateway, _| answers.contains_key(gateway));
        for (&gateway, &direct) in answers {
            let known = state.direct.entry(gateway).or_insert((direct, now));
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
        let mut state = self.hub.transit.state();
        let news = state.routing.handle_routes(self.cluster, self.speaker, routes);
        state.replan.ask(Instant::now(), news);
        drop(state);
        self.hub.transit.work.notify_one();
    }
}

impl Drop for Speaking {
    fn drop(&mut self) {
        let mut state = self.hub.transit.state();
        state.routing.close(self.cluster, self.speaker);
        state.replan.ask(Instant::now(), News::Less);
        drop(state);
        self.hub.transit.work.notify_one();
    }
}

/// A connection that passes through other clusters, for as long as this lives.
pub(super) struct Roundabout {
    hub: Hub,
    gateway: Gateway,
}

impl Roundabout {
    /// A connection with gateway `node` of `cluster` is open; `None` if it passes through no other cluster.
    pub(super) fn new(hub: &Hub, cluster: ClusterId, node: NodeId, remote: SocketAddr) -> Option<Self> {
        transit_cluster(remote)?;
        let gateway = (cluster, node);
        *hub.transit.state().roundabouts.entry(gateway).or_insert(0) += 1;
        Some(Self { hub: hub.clone(), gateway })
    }

    /// Whether a direct connection has taken its place.
    pub(super) fn is_over(&self) -> bool {
        self.hub.transit.is_straight(self.gateway)
    }
}

impl Drop for Roundabout {
    fn drop(&mut self) {
        let mut state = self.hub.transit.state();
        let Some(count) = state.roundabouts.get_mut(&self.gateway) else { return };
        *count -= 1;
        if *count == 0 {
            state.roundabouts.remove(&self.gateway);
        }
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
        let due = hub.transit.state().replan.due();
        tokio::select! {
            _ = tick.tick() => {}
            () = hub.transit.work.notified() => {}
            () = until(due) => {}
            // a registry that is gone takes everything with it
            Ok(()) = catalog.changed() => {}
            () = stop.cancelled() => return,
        }
        turn(&hub, Instant::now());
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

fn turn(hub: &Hub, now: Instant) {
    let catalog = hub.catalog();
    let answers = hub.forwarder.answers();
    hub.transit.observe(now, &answers);
    let beside = hub.transit.beside(now);
    if hub.forwarder.beside() != beside {
        hub.forwarder.update(|inputs| inputs.beside = Arc::new(beside));
    }
    // a pause is about what is shared over the link: it has no say in what others send through it
    let on: BTreeSet<ClusterId> =
        catalog.links().filter(|link| link.transit).map(|link| link.peer.id).collect();
    let up = answers.iter().filter(|(_, answers)| **answers).map(|((cluster, _), _)| *cluster).collect();
    let mut state = hub.transit.state();
    let known = (on, up);
    if state.known != known {
        state.replan.ask(now, News::Less);
    }
    if !state.replan.take(now) {
        return;
    }
    let plan = state.routing.plan(&known.0, &known.1);
    state.known = known;
    drop(state);
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

/// Says which ways through other clusters are new, or gone: in one line, however many there are.
fn report(catalog: &Catalog, before: &Plan, now: &Plan) {
    let (new, gone) = changes(before, now);
    if new.is_empty() && gone.is_empty() {
        return;
    }
    let reached = now.routes.values().filter(|route| route.path.len() > 1).count();
    let way = |&to: &ClusterId| {
        let path = now.routes.get(&to).map(|route| &route.path[..]).unwrap_or_default();
        let via = path.split_last().map_or(&[][..], |(_, via)| via);
        format!("{} via {}", name(catalog, to), names(catalog, via).join(", "))
    };
    let (new, gone) = (brief(&new, way), brief(&gone, |&to| name(catalog, to)));
    tracing::info!(reached, new, gone, "other clusters are reached through others than before");
}

/// The clusters that are reached through others by a way that is new, and those that are no longer.
fn changes(before: &Plan, now: &Plan) -> (Vec<ClusterId>, Vec<ClusterId>) {
    let through = |plan: &Plan, to: &ClusterId| {
        plan.routes.get(to).map(|route| route.path.clone()).filter(|path| path.len() > 1)
    };
    let is_new = |to: &&ClusterId| through(now, to).is_some_and(|path| through(before, to) != Some(path));
    let is_gone = |to: &&ClusterId| through(before, to).is_some() && through(now, to).is_none();
    let new = now.routes.keys().filter(is_new).copied().collect();
    (new, before.routes.keys().filter(is_gone).copied().collect())
}

/// The first few, and how many more there are.
fn brief(clusters: &[ClusterId], text: impl Fn(&ClusterId) -> String) -> String {
    let mut said = clusters.iter().take(MAX_NAMED).map(text).collect::<Vec<_>>().join("; ");
    if let Some(more) = clusters.len().checked_sub(MAX_NAMED).filter(|more| *more > 0) {
        said.push_str(&format!("; and {more} more"));
    }
    said
}

/// The clusters as operators know them: by name where they are linked, else by id.
fn names(catalog: &Catalog, clusters: &[ClusterId]) -> Vec<String> {
    clusters.iter().map(|&cluster| name(catalog, cluster)).collect()
}

fn name(catalog: &Catalog, cluster: ClusterId) -> String {
    catalog.link_by_id(cluster).map_or_else(|| cluster.to_string(), |link| link.peer.name.to_string())
}

/// The linked clusters that this gateway reaches, directly or through others.
pub(crate) fn reaches(hub: &Hub) -> Reaches {
    let linked = hub.catalog().links().map(|link| link.peer.id).collect::<Vec<_>>();
    let is_reached = |cluster: &ClusterId| {
        hub.forwarder.reaches(*cluster) == Some(true) || hub.transit.way(*cluster).is_some()
    };
    Reaches { clusters: linked.into_iter().filter(is_reached).take(MAX_REACHED).collect() }
}

/// Gateway `node` of this cluster says that it reaches these.
pub(crate) fn hear_reaches(hub: &Hub, node: NodeId, told: Reaches) {
    let reached = told.clusters.into_iter().collect();
    hub.transit.state().beside.insert(node, (reached, Instant::now()));
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
