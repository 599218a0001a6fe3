//! Which directions between this cluster's gateways and a linked one's work, as far as this gateway knows.
//!
//! What to make of what is heard is decided by the federation crate ([`LinkHealth`]); here is who hears it from whom, when it is
//! told to whom, and what keeps a peer from making this gateway talk without end. A session hears for its pair and sends what its
//! [`Pulse`] has; `peers.rs` sends to the other gateways of this cluster what [`Bulletin`] has.

mod convert;

use super::dial::WANTED;
use crate::hub::Hub;
use causeway_catalog::{Catalog, Link};
use causeway_federation::path::{GatewayId, HEARTBEAT_INTERVAL, LinkHealth, PairReport, Reports, Verdict};
use causeway_model::{ClusterFacts, ClusterId, ClusterName, GatewayRole, NodeId};
use causeway_runtime::clock::unix_now_ms;
use causeway_wire::link::{Heartbeat, MAX_PAIR_REPORTS, PairReports};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, broadcast, watch};

/// The least time between two looks at what is to be told of a link: whatever a peer says, it causes no more messages than that.
pub(super) const TOLD_EVERY: Duration = Duration::from_millis(100);
/// The most gateways of a linked cluster with which this one has pairs.
const MAX_PAIRS: usize = 64;
/// How often gateways that are no more are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// For how long a pair without a connection is judged when it needs none, because enough others stand: after that nobody knows.
const REMEMBERED: Duration = Duration::from_secs(60);
/// Reports that may wait for one sibling: of a hundred links, twice.
const WAITING: usize = 256;

/// What this gateway tells the others of its cluster, and what wakes the task that does.
pub(crate) struct Bulletin {
    work: Notify,
    reports: broadcast::Sender<Arc<PairReports>>,
}

impl Default for Bulletin {
    fn default() -> Self {
        Self { work: Notify::new(), reports: broadcast::Sender::new(WAITING) }
    }
}

impl Bulletin {
    /// What is told from now on.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Arc<PairReports>> {
        self.reports.subscribe()
    }

    /// Something was heard.
    pub(super) fn wake(&self) {
        self.work.notify_one();
    }
}

/// What one connection is to send.
pub(super) struct Pulse {
    pub(super) heartbeats: watch::Receiver<Option<Heartbeat>>,
    pub(super) reports: watch::Receiver<Arc<PairReports>>,
}

/// What is known of one pair of gateways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PairStatus {
    /// The smoothed round trip of heartbeats.
    pub(crate) rtt: Option<Duration>,
    /// What is lost of the other's heartbeats, in percent.
    pub(crate) loss_in: Option<u8>,
    /// What is lost of ours, in percent.
    pub(crate) loss_out: Option<u8>,
    pub(crate) verdict: Option<Verdict>,
}

struct Pair {
    /// The newest heartbeat: each connection of the pair sends it, so that one that is dead costs none.
    heartbeats: watch::Sender<Option<Heartbeat>>,
    connections: usize,
    /// When the last connection ended.
    ended: Instant,
    /// The verdict that was logged last.
    logged: Option<Verdict>,
}

/// One link's pairs.
pub(crate) struct Health {
    core: LinkHealth,
    own: ClusterId,
    /// The names of this cluster and of the peer.
    names: (ClusterName, ClusterName),
    pairs: BTreeMap<NodeId, Pair>,
    reports: watch::Sender<Arc<PairReports>>,
    /// Something was heard since the last look.
    heard: bool,
    looked: Option<Instant>,
    wake: Option<Instant>,
}

impl Health {
    /// The link of gateway `node` of cluster `own` with the cluster `peer`.
    pub(crate) fn new((own, node): (&ClusterFacts, NodeId), peer: &ClusterFacts) -> Self {
        Self {
            core: LinkHealth::new(GatewayId { cluster: own.id, node }, peer.id),
            own: own.id,
            names: (own.name.clone(), peer.name.clone()),
            pairs: BTreeMap::new(),
            reports: watch::Sender::new(Arc::new(PairReports { reports: Vec::new() })),
            heard: false,
            looked: None,
            wake: None,
        }
    }

    /// A connection with the peer's gateway `node` was made, and both have said hello.
    pub(super) fn handle_open(&mut self, now: Instant, node: NodeId) -> Pulse {
        self.heard = true;
        self.core.handle_open(now, node);
        let full = self.pairs.len() >= MAX_PAIRS && !self.pairs.contains_key(&node);
        let heartbeats = if full {
            watch::Sender::new(None).subscribe()
        } else {
            let new =
                || Pair { heartbeats: watch::Sender::new(None), connections: 0, ended: now, logged: None };
            let pair = self.pairs.entry(node).or_insert_with(new);
            pair.connections += 1;
            pair.heartbeats.subscribe()
        };
        Pulse { heartbeats, reports: self.reports.subscribe() }
    }

    /// A connection with `node` ended.
    pub(super) fn handle_closed(&mut self, now: Instant, node: NodeId) {
        if let Some(pair) = self.pairs.get_mut(&node) {
            pair.connections = pair.connections.saturating_sub(1);
            pair.ended = now;
        }
    }

    /// A heartbeat of `node` came.
    pub(super) fn handle_heartbeat(&mut self, now: Instant, node: NodeId, heartbeat: &Heartbeat) {
        self.heard = true;
        self.core.handle_heartbeat(now, node, &convert::heartbeat(heartbeat));
    }

    /// A gateway of the peer says what its cluster hears. `knows` says whether a gateway is one of the two clusters'.
    pub(super) fn handle_peer_reports(
        &mut self,
        now: Instant,
        reports: &PairReports,
        knows: impl Fn(GatewayId) -> bool,
    ) {
        self.heard = true;
        self.core.handle_peer_reports(now, &believed(reports, knows));
    }

    fn handle_sibling_reports(
        &mut self,
        now: Instant,
        reports: &PairReports,
        knows: impl Fn(GatewayId) -> bool,
    ) {
        self.heard = true;
        self.core.handle_sibling_reports(now, &believed(reports, knows));
    }

    /// Looks what is to be told if it is time to: connections find it in their [`Pulse`], and what is returned is for the other
    /// gateways of this cluster.
    fn poll(&mut self, now: Instant, unix_ms: u64) -> Option<PairReports> {
        let rested = self.looked.is_none_or(|looked| now >= looked + TOLD_EVERY);
        let due = self.heard || self.wake.is_none_or(|wake| now >= wake);
        if !rested || !due {
            return None;
        }
        self.looked = Some(now);
        self.heard = false;
        for (node, pair) in self.pairs.iter_mut().filter(|(_, pair)| pair.connections > 0) {
            if let Some(heartbeat) = self.core.poll_heartbeat(now, unix_ms, *node) {
                pair.heartbeats.send_replace(Some(convert::told(&heartbeat)));
            }
        }
        let told = self.core.poll_reports(now, unix_ms);
        self.wake = self.core.poll_timeout(now);
        self.log(now);
        let Reports { to_peer, to_siblings } = told?;
        self.reports.send_replace(Arc::new(message(&to_peer)));
        Some(message(&to_siblings)).filter(|message| !message.reports.is_empty())
    }

    /// When to look again at the latest.
    fn poll_timeout(&self, now: Instant) -> Instant {
        let rested = self.looked.map_or(now, |looked| looked + TOLD_EVERY);
        let due = if self.heard { now } else { self.wake.unwrap_or(now + HEARTBEAT_INTERVAL) };
        due.max(rested)
    }

    /// Forgets gateways without a connection that the peer does not have any more (`has` says so), or with which none is wanted.
    fn sweep(&mut self, now: Instant, has: impl Fn(NodeId) -> bool) {
        let standing = self.pairs.values().filter(|pair| pair.connections > 0).count();
        let gone = |node: &NodeId, pair: &Pair| {
            let unwanted = standing >= WANTED && now >= pair.ended + REMEMBERED;
            pair.connections == 0 && (unwanted || !has(*node))
        };
        let core = &mut self.core;
        for (node, _) in self.pairs.extract_if(.., |node, pair| gone(node, pair)) {
            core.forget(node);
        }
    }

    fn log(&mut self, now: Instant) {
        let (own, peer) = &self.names;
        for (node, pair) in &mut self.pairs {
            let verdict = self.core.verdict(now, *node);
            if verdict == pair.logged {
                continue;
            }
            pair.logged = verdict;
            match verdict {
                Some(Verdict::OneWay { from, .. }) => {
                    let lost = if from.cluster == self.own { own } else { peer };
                    tracing::warn!(
                        cluster = %peer, gateway = %node, lost_from = %lost, reason = "one-way-loss",
                        "packets with a gateway of a linked cluster are lost in one direction: look for a firewall or a route that drops them"
                    );
                }
                Some(verdict) => {
                    tracing::info!(cluster = %peer, gateway = %node, verdict = verdict.reason(), "a pair of gateways is judged anew");
                }
                None => {}
            }
        }
    }

    /// What is known of the pair with the peer's gateway `node`.
    pub(crate) fn pair(&self, now: Instant, node: NodeId) -> Option<PairStatus> {
        let pair = self.core.pair(node)?;
        Some(PairStatus {
            rtt: pair.rtt(),
            loss_in: pair.loss_in(now),
            loss_out: pair.loss_out(now),
            verdict: self.core.verdict(now, node),
        })
    }

    /// The pairs of this gateway.
    pub(crate) fn pairs(&self, now: Instant) -> Vec<(NodeId, PairStatus)> {
        self.pairs.keys().filter_map(|node| Some((*node, self.pair(now, *node)?))).collect()
    }

    /// Whether some pair of gateways of the two clusters hears in one direction only, and none in both.
    pub(crate) fn is_one_way(&self, now: Instant) -> bool {
        let verdicts = self.core.verdicts(now);
        let one_way = verdicts.iter().any(|(.., verdict)| matches!(verdict, Verdict::OneWay { .. }));
        one_way && verdicts.iter().all(|(.., verdict)| *verdict != Verdict::Up)
    }

    /// A verdict as operators read it: `up`, `silent`, or `one-way: iad/0001 -> phx/0002 is lost`.
    pub(crate) fn words(&self, verdict: Verdict) -> String {
        let named = |gateway: GatewayId| {
            let name = if gateway.cluster == self.own { &self.names.0 } else { &self.names.1 };
            format!("{name}/{}", gateway.node)
        };
        match verdict {
            Verdict::Up => "up".to_owned(),
            Verdict::OneWay { from, to } => format!("one-way: {} -> {} is lost", named(from), named(to)),
            Verdict::Silent => "silent".to_owned(),
        }
    }
}

/// Reports of gateways that are known.
fn believed(reports: &PairReports, knows: impl Fn(GatewayId) -> bool) -> Vec<PairReport> {
    let reports = reports.reports.iter().take(MAX_PAIR_REPORTS).map(convert::report);
    reports.filter(|report| knows(report.from) && knows(report.to)).collect()
}

fn message(reports: &[PairReport]) -> PairReports {
    PairReports { reports: reports.iter().take(MAX_PAIR_REPORTS).map(convert::passed_on).collect() }
}

/// Whether `gateway` is one of this cluster or of `link`'s peer that hold links, by the registry.
pub(super) fn is_known(catalog: &Catalog, own: ClusterId, link: &Link, gateway: GatewayId) -> bool {
    let facts = if gateway.cluster == own {
        catalog.gateway(gateway.node)
    } else {
        link.gateways.get(&gateway.node).filter(|_| gateway.cluster == link.peer.id)
    };
    facts.is_some_and(|facts| facts.role == GatewayRole::Gateway)
}

/// Takes what the gateway `node` of this cluster, whose certificate gives it `role`, says of links. Whoever is not known to hold
/// links has no say, as a forwarder.
pub(crate) fn hear_sibling(hub: &Hub, node: NodeId, role: GatewayRole, reports: &PairReports) {
    let (catalog, own) = (hub.catalog(), hub.node.cluster().id);
    let known = catalog.gateway(node).map(|known| known.role);
    if role != GatewayRole::Gateway || known != Some(GatewayRole::Gateway) {
        tracing::debug!(gateway = %node, %role, reason = "wrong-role", "what it says of links was not believed");
        return;
    }
    // a message is of one link
    let other = |report: &causeway_wire::link::PairReport| {
        if report.from.cluster == own { report.to.cluster } else { report.from.cluster }
    };
    let Some(link) = reports.reports.first().and_then(|report| catalog.link_by_id(other(report))) else {
        return;
    };
    if let Some(peer) = hub.soft().peers.get_mut(&link.peer.id) {
        let knows = |gateway| is_known(&catalog, own, link, gateway);
        peer.health.handle_sibling_reports(Instant::now(), reports, knows);
    }
    hub.bulletin.wake();
}

/// Starts telling. A forwarder has nothing to tell.
pub(super) fn start(hub: &Hub) {
    if hub.node.role() != GatewayRole::Forwarder {
        hub.tasks.spawn_critical("link health", keep(hub.clone()));
    }
}

async fn keep(hub: Hub) {
    let stop = hub.tasks.token();
    let mut swept = Instant::now();
    loop {
        let now = Instant::now();
        if now >= swept + SWEEP_EVERY {
            swept = now;
            sweep(&hub, now);
        }
        let wake = turn(&hub, now);
        tokio::select! {
            () = hub.bulletin.work.notified() => {}
            () = tokio::time::sleep_until(wake.into()) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Tells what is due of all links; returns when to look again.
fn turn(hub: &Hub, now: Instant) -> Instant {
    let unix_ms = unix_now_ms();
    let mut wake = now + HEARTBEAT_INTERVAL;
    let mut told = Vec::new();
    for peer in hub.soft().peers.values_mut() {
        told.extend(peer.health.poll(now, unix_ms));
        wake = wake.min(peer.health.poll_timeout(now));
    }
    for reports in told {
        // nobody listens while there is no sibling
        let _ = hub.bulletin.reports.send(Arc::new(reports));
    }
    wake
}

fn sweep(hub: &Hub, now: Instant) {
    let catalog = hub.catalog();
    let mut soft = hub.soft();
    for link in catalog.links() {
        if let Some(peer) = soft.peers.get_mut(&link.peer.id) {
            peer.health.sweep(now, |node| link.gateways.contains_key(&node));
        }
    }
}

#[cfg(test)]
mod tests;
