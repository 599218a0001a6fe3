//! Keeps enough connections with every linked cluster open.
//!
//! Each gateway that holds links needs connections of its own: imports are not shared between gateways. Of two clusters the one
//! with the smaller id calls at once, and the other one only if that does not help, as behind a NAT or a one-way firewall.

mod choose;

use super::introduction::is_reachable;
use super::session::{self, PeerGateway};
use super::{CONNECT_WITHIN, SERVER_NAME};
use crate::hub::{self, Change, Hub};
use causeway_catalog::Link;
use causeway_identity::{ServerRule, client_config};
use causeway_model::{ClusterId, GatewayFacts, GatewayRole, NodeId, SpiffeId};
use causeway_runtime::Backoff;
use causeway_transport::gateway::transit_addr;
use causeway_transport::{Connection, close_reason_text};
use causeway_wire::alpn;
use choose::{Candidate, Line, choose};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};
use tokio::time::timeout;

/// With how many gateways of a linked cluster each gateway keeps a connection, if it has so many.
pub(super) const WANTED: usize = 2;
/// How long the cluster with the greater id waits for the other one to call.
const COURTESY: Duration = Duration::from_secs(1);
/// How often to look whether connections are missing.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The shortest and the longest wait before a gateway is called again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// A connection that lived this long makes up for failures before it.
const STEADY: Duration = Duration::from_secs(5);
/// The failure in a row that is reported: the first ones are to be expected while both clusters learn of a new link.
const LOUD_AT: u32 = 3;
/// A gateway that has not answered directly for this long is called through others first, if there is a way.
const ROUND_AFTER: Duration = Duration::from_secs(1);
/// A gateway that has answered directly for this long is called directly although there is a connection with it through others, which
/// ends when the direct one stands. The cluster with the greater id waits as long again.
const DIRECT_AGAIN: Duration = Duration::from_secs(10);
/// The most addresses of one gateway that are tried in a row.
const MAX_ADDRESSES: usize = 8;
/// Calls that may end at the same time without waiting for each other.
const ENDED: usize = 64;

/// Starts calling the gateways of linked clusters. A forwarder calls nobody.
pub(super) fn start(hub: &Hub) {
    if hub.node.role() == GatewayRole::Forwarder {
        return;
    }
    let (ended, ends) = mpsc::channel(ENDED);
    let dialler = Dialler { hub: hub.clone(), calls: BTreeMap::new(), missing: BTreeMap::new(), ended };
    hub.tasks.spawn_critical("link dialler", dialler.run(ends));
}

type Target = (ClusterId, NodeId, Way);

/// How a gateway is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    /// As it answers.
    Any,
    /// At its addresses only: to take the place of a connection through other clusters, which stands meanwhile.
    Direct,
}

/// What is known of calling one gateway.
struct Call {
    line: Line,
    backoff: Backoff,
    failures: u32,
}

/// A call that ended.
struct Ended {
    target: Target,
    /// For how long the two gateways talked; `None` if they never did.
    talked: Option<Duration>,
}

struct Dialler {
    hub: Hub,
    calls: BTreeMap<Target, Call>,
    /// Since when connections with a cluster are missing.
    missing: BTreeMap<ClusterId, Instant>,
    ended: mpsc::Sender<Ended>,
}

impl Dialler {
    async fn run(mut self, mut ends: mpsc::Receiver<Ended>) {
        let stop = self.hub.tasks.token();
        let mut changes = self.hub.changes();
        loop {
            let wake = self.turn(Instant::now());
            tokio::select! {
                () = catalog_changed(&mut changes) => {}
                Some(end) = ends.recv() => self.handle_end(Instant::now(), &end),
                () = tokio::time::sleep_until(wake.into()) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Calls whom it is time to call; returns when to look again.
    fn turn(&mut self, now: Instant) -> Instant {
        if self.hub.drain.is_draining() {
            return now + LOOK_EVERY;
        }
        let catalog = self.hub.catalog();
        let mut known = BTreeSet::new();
        let mut wake = now + LOOK_EVERY;
        for link in catalog.links() {
            known.extend(link.gateways.keys().map(|&node| (link.peer.id, node)));
            self.straighten(now, link);
            wake = wake.min(self.turn_link(now, link));
        }
        self.calls.retain(|target, call| call.line == Line::Busy || known.contains(&(target.0, target.1)));
        self.missing.retain(|&cluster, _| catalog.link_by_id(cluster).is_some());
        wake
    }

    fn turn_link(&mut self, now: Instant, link: &Link) -> Instant {
        let cluster = link.peer.id;
        let sessions: BTreeSet<NodeId> =
            self.hub.with_peer(cluster, |peer| peer.sessions.keys().copied().collect()).unwrap_or_default();
        let reachable = link.gateways.values().filter(|gateway| is_reachable(gateway));
        let candidates: Vec<Candidate> =
            reachable.map(|gateway| self.candidate(cluster, gateway.node, &sessions)).collect();
        if sessions.len() >= WANTED.min(candidates.len()) {
            self.missing.remove(&cluster);
            return now + LOOK_EVERY;
        }
        let since = *self.missing.entry(cluster).or_insert(now);
        let first = self.hub.node.cluster().id < cluster;
        if !first && now < since + COURTESY {
            return since + COURTESY;
        }
        for node in choose(self.hub.node.id(), WANTED, sessions.len(), &candidates, now) {
            if let Some(gateway) = link.gateways.get(&node) {
                self.call(link, gateway, Way::Any);
            }
        }
        let waits = candidates.iter().filter_map(|candidate| match candidate.line {
            Line::Resting(until) => Some(until),
            Line::Free | Line::Busy => None,
        });
        waits.filter(|until| *until > now).min().unwrap_or(now + LOOK_EVERY)
    }

    /// Calls directly those gateways with which all connections pass through other clusters, though they answer.
    fn straighten(&mut self, now: Instant, link: &Link) {
        let cluster = link.peer.id;
        let first = self.hub.node.cluster().id < cluster;
        for node in self.hub.transit.roundabouts(cluster) {
            let gateway = link.gateways.get(&node).filter(|gateway| is_reachable(gateway));
            let line = self.calls.get(&(cluster, node, Way::Direct)).map_or(Line::Free, |call| call.line);
            if let Some(gateway) = gateway
                && is_due(now, line, self.hub.transit.direct_for(now, (cluster, node)), first)
            {
                self.call(link, gateway, Way::Direct);
            }
        }
    }

    fn candidate(&self, cluster: ClusterId, node: NodeId, sessions: &BTreeSet<NodeId>) -> Candidate {
        let line = self.calls.get(&(cluster, node, Way::Any)).map_or(Line::Free, |call| call.line);
        Candidate { node, connected: sessions.contains(&node), line }
    }

    fn call(&mut self, link: &Link, gateway: &GatewayFacts, way: Way) {
        let target = (link.peer.id, gateway.node, way);
        let (min, max) = BACKOFF;
        let new = || Call { line: Line::Busy, backoff: Backoff::new(min, max), failures: 0 };
        let call = self.calls.entry(target).or_insert_with(new);
        call.line = Line::Busy;
        let loud = way == Way::Any && call.failures + 1 == LOUD_AT;
        let (hub, ended, gateway) = (self.hub.clone(), self.ended.clone(), gateway.clone());
        let peer = PeerGateway::of(link, gateway.node, true);
        self.hub.tasks.spawn("link connection", async move {
            let talked = dial(&hub, peer, &gateway, (way, loud)).await;
            // the dialler is gone only when everything stops
            let _ = ended.send(Ended { target, talked }).await;
        });
    }

    fn handle_end(&mut self, now: Instant, end: &Ended) {
        let Some(call) = self.calls.get_mut(&end.target) else { return };
        if end.talked.is_some_and(|talked| talked >= STEADY) {
            call.backoff.reset();
        }
        call.failures = if end.talked.is_some() { 0 } else { call.failures.saturating_add(1) };
        call.line = Line::Resting(now + call.backoff.next_delay(rand::random()));
    }
}

async fn catalog_changed(changes: &mut broadcast::Receiver<Change>) {
    loop {
        match changes.recv().await {
            Ok(Change::Catalog) | Err(RecvError::Lagged(_)) => return,
            Ok(_) => {}
            // the hub is gone, and so is everything else in a moment
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// Calls `gateway` and speaks with it until the connection ends; returns for how long they talked.
async fn dial(
    hub: &Hub,
    peer: PeerGateway,
    gateway: &GatewayFacts,
    (way, loud): (Way, bool),
) -> Option<Duration> {
    let (cluster, node) = (peer.cluster.name.clone(), peer.node);
    let connection = match connect(hub, &peer, gateway, way).await {
        Ok(connection) => connection,
        Err(tried) if loud => {
            tracing::warn!(%cluster, %node, tried, "a gateway of a linked cluster does not answer; it is tried again and again");
            return None;
        }
        Err(tried) => {
            tracing::debug!(%cluster, %node, tried, "a gateway of a linked cluster does not answer");
            return None;
        }
    };
    let (send, recv) = match connection.open_bi().await {
        Ok(streams) => streams,
        Err(error) => {
            tracing::debug!(%cluster, %node, cause = close_reason_text(&error), "a link connection ended at once");
            return None;
        }
    };
    let begun = Instant::now();
    session::run(hub, &connection, peer, send, recv).await.then(|| begun.elapsed())
}

/// Whether to call a gateway directly with which all connections pass through others, if it has answered, or has not, as `direct` says.
fn is_due(now: Instant, line: Line, direct: (bool, Duration), first: bool) -> bool {
    let wait = if first { DIRECT_AGAIN } else { 2 * DIRECT_AGAIN };
    let free = match line {
        Line::Free => true,
        Line::Busy => false,
        Line::Resting(until) => until <= now,
    };
    let (answers, since) = direct;
    free && answers && since >= wait
}

/// Where `gateway` may be: its addresses, and what stands for the way through other clusters.
async fn addresses(hub: &Hub, cluster: ClusterId, gateway: &GatewayFacts, way: Way) -> Vec<SocketAddr> {
    let mut addrs = timeout(CONNECT_WITHIN, hub::link_addrs(gateway)).await.unwrap_or_default();
    addrs.truncate(MAX_ADDRESSES);
    let through = hub.transit.way(cluster).filter(|_| way == Way::Any).map(|_| transit_addr(cluster));
    in_order(addrs, through, hub.transit.direct_for(Instant::now(), (cluster, gateway.node)))
}

/// The way through others comes first if the gateway has not answered directly for a while, and else last. For how long it has answered,
/// or has not, says `direct`.
fn in_order(
    mut addrs: Vec<SocketAddr>,
    through: Option<SocketAddr>,
    direct: (bool, Duration),
) -> Vec<SocketAddr> {
    if let Some(through) = through {
        let (answers, since) = direct;
        let place = if answers || since < ROUND_AFTER { addrs.len() } else { 0 };
        addrs.insert(place, through);
    }
    addrs
}

/// A connection to `gateway` at one of its addresses, or what was tried.
async fn connect(
    hub: &Hub,
    peer: &PeerGateway,
    gateway: &GatewayFacts,
    way: Way,
) -> Result<Connection, String> {
    let addrs = addresses(hub, peer.cluster.id, gateway, way).await;
    let rule = ServerRule::GatewayNode(SpiffeId::gateway(&peer.cluster.trust_domain, peer.node));
    let tls = client_config(rule, hub.node.bundles(), Some(hub.node.svid()), alpn::LINK);
    let tls = tls.map_err(|error| error.to_string())?;
    let mut tried = Vec::new();
    for addr in addrs {
        match hub.endpoint.connect(addr, (peer.cluster.id, peer.node), tls.clone(), SERVER_NAME) {
            Ok(connecting) => match timeout(CONNECT_WITHIN, connecting).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => tried.push(format!("{addr}: {}", close_reason_text(&error))),
                Err(_) => tried.push(format!("{addr}: no answer within {} s", CONNECT_WITHIN.as_secs())),
            },
            Err(error) => tried.push(format!("{addr}: {error}")),
        }
    }
    let none = || format!("none of its addresses resolves: {:?}", gateway.link_addrs);
    Err(if tried.is_empty() { none() } else { tried.join("; ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_direct_connection_is_made_in_place_of_one_through_others_by_one_side_first() {
        let now = Instant::now();
        let due = |line, answers, secs, first| is_due(now, line, (answers, Duration::from_secs(secs)), first);
        assert!(due(Line::Free, true, 10, true) && due(Line::Resting(now), true, 10, true));
        assert!(!due(Line::Free, true, 9, true) && !due(Line::Free, false, 60, true));
        assert!(!due(Line::Busy, true, 60, true));
        assert!(!due(Line::Resting(now + Duration::from_secs(1)), true, 60, true));
        assert!(!due(Line::Free, true, 10, false) && due(Line::Free, true, 20, false));
    }

    #[test]
    fn the_way_through_others_is_tried_first_only_where_the_gateway_has_not_answered_for_a_while() {
        let direct: SocketAddr = "192.0.2.1:7443".parse().unwrap();
        let through = transit_addr(ClusterId::new(9).unwrap());
        let tried = |answers, millis, through| {
            in_order(vec![direct], through, (answers, Duration::from_millis(millis)))
        };
        assert_eq!(tried(true, 0, Some(through)), [direct, through]);
        assert_eq!(tried(true, 60_000, Some(through)), [direct, through]);
        assert_eq!(tried(false, 900, Some(through)), [direct, through]);
        assert_eq!(tried(false, 1_000, Some(through)), [through, direct]);
        assert_eq!(tried(false, 60_000, None), [direct]);
    }
}
