//! All pairs of gateways of a link, and the verdict on each.

#[cfg(test)]
mod tests;

use super::pair::millis;
use super::{GatewayId, HEARTBEAT_INTERVAL, Hearing, Heartbeat, LOST_AFTER, PairHealth, PairReport, Verdict};
use causeway_model::{ClusterId, NodeId};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long a gateway that hears nothing waits for word that it is heard, before it calls the pair silent. With this both ends
/// come to their verdict within 3 s of the loss.
const DECIDED_AFTER: Duration = Duration::from_millis(2750);
/// What was said longer ago says nothing about now.
const FRESH: Duration = Duration::from_secs(3);
/// By how much later the one direction must have been heard than the other, for the difference to be no accident of the ways that
/// reports took: when a gateway dies, both end at once.
const MARGIN: Duration = Duration::from_millis(500);
/// The most directions of which reports are kept: those between 16 gateways of each cluster.
const MAX_STATEMENTS: usize = 512;
/// The most gateways of the peer that are measured.
const MAX_PAIRS: usize = 64;

/// What a listener said, and when.
#[derive(Clone, Copy, Debug)]
struct Statement {
    /// By the listener's clock.
    said: u64,
    /// It came from another gateway of this cluster, who tells all others itself.
    relayed: bool,
    arrived: Instant,
    said_ago: Duration,
    heard_ago: Duration,
    hearing: Hearing,
}

impl Statement {
    fn said_ago(&self, now: Instant) -> Duration {
        self.said_ago + now.saturating_duration_since(self.arrived)
    }

    fn heard_ago(&self, now: Instant) -> Duration {
        self.heard_ago + now.saturating_duration_since(self.arrived)
    }

    fn is_fresh(&self, now: Instant) -> bool {
        self.said_ago(now) < FRESH
    }
}

#[derive(Debug)]
struct Pair {
    health: PairHealth,
    /// How long ago something was heard when the other gateway was found to be deaf. From then on it gives the connection up, so
    /// that hearing nothing of it says nothing any longer.
    held: Option<Duration>,
}

/// What is to be told now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reports {
    /// To the peer cluster, over every connection.
    pub to_peer: Vec<PairReport>,
    /// To the other gateways of this cluster.
    pub to_siblings: Vec<PairReport>,
}

/// The pairs of gateways of one link, as one gateway knows them: its own pairs by heartbeats, all others by reports.
///
/// A gateway of the peer can misstate what it hears, as it could just as well not listen; of what gateways of this cluster hear
/// only they are believed.
#[derive(Debug)]
pub struct LinkHealth {
    own: GatewayId,
    peer: ClusterId,
    pairs: BTreeMap<NodeId, Pair>,
    /// By (from, to), where `to` is another gateway than this one.
    statements: BTreeMap<(GatewayId, GatewayId), Statement>,
    due: Option<Instant>,
    told: Vec<(GatewayId, GatewayId, Hearing)>,
}

impl LinkHealth {
    /// The link of the gateway `own` with the cluster `peer`.
    pub fn new(own: GatewayId, peer: ClusterId) -> Self {
        Self { own, peer, pairs: BTreeMap::new(), statements: BTreeMap::new(), due: None, told: Vec::new() }
    }

    /// A connection with the peer's gateway `node` was made. Heartbeats of more than 64 gateways are not measured.
    pub fn handle_open(&mut self, now: Instant, node: NodeId) {
        if let Some(pair) = self.pairs.get_mut(&node) {
            pair.health.handle_open(now);
            pair.held = None;
        } else if self.pairs.len() < MAX_PAIRS {
            self.pairs.insert(node, Pair { health: PairHealth::new(now), held: None });
        }
    }

    /// The peer's gateway `node` is no more, by what the peer says of its gateways.
    pub fn forget(&mut self, node: NodeId) {
        self.pairs.remove(&node);
        let gone = self.theirs(node);
        self.statements.retain(|(from, to), _| *from != gone && *to != gone);
    }

    /// A heartbeat of the peer's gateway `node` arrived.
    pub fn handle_heartbeat(&mut self, now: Instant, node: NodeId, heartbeat: &Heartbeat) {
        let (own, theirs) = (self.own, self.theirs(node));
        let Some(pair) = self.pairs.get_mut(&node) else { return };
        if pair.health.handle_heartbeat(now, heartbeat) {
            let report = PairReport {
                from: own,
                to: theirs,
                unix_ms: heartbeat.unix_ms,
                heard_ago_ms: heartbeat.heard_ago_ms,
                said_ago_ms: 0,
                hearing: heartbeat.hearing,
            };
            self.learn(now, &report, false);
        }
        self.hold(now);
    }

    /// Reports of the peer arrived, over any connection. Of the directions to this cluster the peer has no say.
    pub fn handle_peer_reports(&mut self, now: Instant, reports: &[PairReport]) {
        let (own, peer) = (self.own.cluster, self.peer);
        let theirs = |report: &&PairReport| report.from.cluster == own && report.to.cluster == peer;
        reports.iter().take(MAX_STATEMENTS).filter(theirs).for_each(|report| self.learn(now, report, false));
        self.hold(now);
    }

    /// Reports of another gateway of this cluster arrived.
    pub fn handle_sibling_reports(&mut self, now: Instant, reports: &[PairReport]) {
        let (own, peer) = (self.own, self.peer);
        let between = |report: &&PairReport| {
            let clusters = (report.from.cluster, report.to.cluster);
            report.to != own && (clusters == (own.cluster, peer) || clusters == (peer, own.cluster))
        };
        reports.iter().take(MAX_STATEMENTS).filter(between).for_each(|report| self.learn(now, report, true));
        self.hold(now);
    }

    fn learn(&mut self, now: Instant, report: &PairReport, relayed: bool) {
        let said_ago = Duration::from_millis(u64::from(report.said_ago_ms));
        let statement = Statement {
            said: report.unix_ms,
            relayed,
            arrived: now,
            said_ago,
            heard_ago: Duration::from_millis(u64::from(report.heard_ago_ms)).max(said_ago),
            hearing: report.hearing,
        };
        let key = (report.from, report.to);
        // what goes round in circles gets no younger by it; a clock that was set back is believed after a while
        let newer =
            self.statements.get(&key).is_none_or(|known| report.unix_ms > known.said || !known.is_fresh(now));
        if !newer || !statement.is_fresh(now) {
            return;
        }
        if self.statements.len() >= MAX_STATEMENTS && !self.statements.contains_key(&key) {
            self.statements.retain(|_, known| known.is_fresh(now));
        }
        if self.statements.len() < MAX_STATEMENTS || self.statements.contains_key(&key) {
            self.statements.insert(key, statement);
        }
    }

    /// Stops the clock of what is heard of gateways that were found to be deaf, and lets it run again.
    fn hold(&mut self, now: Instant) {
        let (own, peer) = (self.own, self.peer);
        for (node, pair) in &mut self.pairs {
            let said = self.statements.get(&(own, GatewayId { cluster: peer, node: *node }));
            let deaf = said.is_some_and(|said| said.is_fresh(now) && said.hearing == Hearing::OneWay);
            pair.held = deaf.then(|| pair.held.unwrap_or_else(|| pair.health.silence(now)));
        }
    }

    /// The heartbeat that is due to `node`, if one is. `unix_ms` is this gateway's clock, in milliseconds since 1970.
    pub fn poll_heartbeat(&mut self, now: Instant, unix_ms: u64, node: NodeId) -> Option<Heartbeat> {
        let hearing = self.hearing(now, node)?;
        self.pairs.get_mut(&node)?.health.poll_heartbeat(now, unix_ms, hearing)
    }

    /// The reports that are due, if they are: every [`HEARTBEAT_INTERVAL`], and at once when something was decided.
    pub fn poll_reports(&mut self, now: Instant, unix_ms: u64) -> Option<Reports> {
        self.hold(now);
        let reports = self.reports(now, unix_ms);
        let said = |report: &PairReport| (report.from, report.to, report.hearing);
        let told: Vec<_> = reports.to_peer.iter().chain(&reports.to_siblings).map(said).collect();
        if self.due.is_some_and(|due| now < due) && told == self.told {
            return None;
        }
        self.due = Some(now + HEARTBEAT_INTERVAL);
        self.told = told;
        Some(reports)
    }

    /// When to poll again: what is decided by time is decided within this time, too.
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let decisions = self.pairs.values().flat_map(|pair| {
            [LOST_AFTER, DECIDED_AFTER].map(|after| now + after.saturating_sub(pair.health.silence(now)))
        });
        let heartbeats = self.pairs.values().map(|pair| pair.health.poll_timeout());
        heartbeats.chain(decisions.filter(|at| *at > now)).chain(self.due).min()
    }

    fn reports(&self, now: Instant, unix_ms: u64) -> Reports {
        let own = self.pairs.keys().filter_map(|node| {
            Some(PairReport {
                from: self.theirs(*node),
                to: self.own,
                unix_ms,
                heard_ago_ms: millis(self.heard_ago(now, *node)?),
                said_ago_ms: 0,
                hearing: self.hearing(now, *node)?,
            })
        });
        let fresh = self.statements.iter().filter(|(_, said)| said.is_fresh(now));
        let (of_siblings, of_peer): (Vec<_>, Vec<_>) = fresh.partition(|(_, said)| said.relayed);
        let passed_on = |((from, to), said): (&(GatewayId, GatewayId), &Statement)| PairReport {
            from: *from,
            to: *to,
            unix_ms: said.said,
            heard_ago_ms: millis(said.heard_ago(now)),
            said_ago_ms: millis(said.said_ago(now)),
            hearing: said.hearing,
        };
        let own: Vec<PairReport> = own.collect();
        let ours = |((_, to), _): &(&(GatewayId, GatewayId), &Statement)| to.cluster == self.own.cluster;
        let to_peer =
            own.iter().copied().chain(of_siblings.into_iter().filter(ours).map(passed_on)).collect();
        let to_siblings = own.iter().copied().chain(of_peer.into_iter().map(passed_on)).collect();
        Reports { to_peer, to_siblings }
    }

    /// How long ago `node` was heard here.
    fn heard_ago(&self, now: Instant, node: NodeId) -> Option<Duration> {
        let pair = self.pairs.get(&node)?;
        let silence = pair.health.silence(now);
        Some(pair.held.map_or(silence, |held| held.min(silence)))
    }

    /// What this gateway says of the direction from `node`.
    fn hearing(&self, now: Instant, node: NodeId) -> Option<Hearing> {
        let silent = self.heard_ago(now, node)?;
        if silent < LOST_AFTER {
            return Some(Hearing::Hears);
        }
        let said = self.statements.get(&(self.own, self.theirs(node))).filter(|said| said.is_fresh(now));
        // heard when it was said, and later than the other direction was
        let heard = said.is_some_and(|said| {
            said.heard_ago - said.said_ago < LOST_AFTER && said.heard_ago(now) + MARGIN < silent
        });
        Some(match heard {
            true => Hearing::OneWay,
            false if silent < DECIDED_AFTER => Hearing::Undecided,
            false => Hearing::Silent,
        })
    }

    /// The verdict on this gateway and the peer's `node`; `None` when there never was a connection.
    pub fn verdict(&self, now: Instant, node: NodeId) -> Option<Verdict> {
        let theirs = self.theirs(node);
        let inward = self.hearing(now, node)?;
        Some(conclude(self.own, theirs, Some(inward), self.said(now, self.own, theirs)))
    }

    /// The verdicts on all pairs that something was said of lately: (gateway of this cluster, gateway of the peer, verdict).
    pub fn verdicts(&self, now: Instant) -> Vec<(GatewayId, GatewayId, Verdict)> {
        let own = self.pairs.keys().map(|node| (self.own, self.theirs(*node)));
        let others = self
            .statements
            .keys()
            .map(|(from, to)| if from.cluster == self.own.cluster { (*from, *to) } else { (*to, *from) });
        let mut pairs: Vec<_> = own.chain(others).collect();
        pairs.sort_unstable();
        pairs.dedup();
        let judged = pairs.into_iter().filter_map(|(ours, theirs)| {
            let verdict = if ours == self.own {
                self.verdict(now, theirs.node)?
            } else {
                conclude(ours, theirs, self.said(now, theirs, ours), self.said(now, ours, theirs))
            };
            Some((ours, theirs, verdict))
        });
        judged.collect()
    }

    /// What is measured between this gateway and the peer's `node`.
    pub fn pair(&self, node: NodeId) -> Option<&PairHealth> {
        self.pairs.get(&node).map(|pair| &pair.health)
    }

    fn said(&self, now: Instant, from: GatewayId, to: GatewayId) -> Option<Hearing> {
        self.statements.get(&(from, to)).filter(|said| said.is_fresh(now)).map(|said| said.hearing)
    }

    fn theirs(&self, node: NodeId) -> GatewayId {
        GatewayId { cluster: self.peer, node }
    }
}

/// What follows from what both listeners say: `inward` of the direction from `theirs` to `ours`, `outward` of the other one.
fn conclude(
    ours: GatewayId,
    theirs: GatewayId,
    inward: Option<Hearing>,
    outward: Option<Hearing>,
) -> Verdict {
    let (to_us, to_them) =
        (Verdict::OneWay { from: theirs, to: ours }, Verdict::OneWay { from: ours, to: theirs });
    match (inward, outward) {
        // both cannot be, and both ends name the same one
        (Some(Hearing::OneWay), Some(Hearing::OneWay)) => {
            if theirs < ours {
                to_us
            } else {
                to_them
            }
        }
        (Some(Hearing::OneWay), _) => to_us,
        (_, Some(Hearing::OneWay)) => to_them,
        (Some(Hearing::Silent), _) | (_, Some(Hearing::Silent)) | (None, None) => Verdict::Silent,
        _ => Verdict::Up,
    }
}
