//! What the peer says, and what comes of it.

use super::end::End;
use super::tell::Voice;
use super::{PeerGateway, update};
use crate::hub::{Hub, Peer};
use crate::links::health::is_known;
use crate::links::introduction::{check_bundle, check_gateways};
use crate::links::transit::Speaking;
use causeway_federation::{DigestVerdict, ImportChange};
use causeway_model::{NodeId, Revision, ServiceHandle, WorkloadId};
use causeway_wire::link::{
    Endpoints, Exports, ExportsDigest, Facts, FactsTaken, HaveExports, Heartbeat, LinkMessage,
    MAX_PAIR_REPORTS, MAX_PATHS, PairReports, PeerInstancesGone, UseServices, WatchPeerInstances,
};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// The most services in use that a peer may name.
const MAX_USED: usize = 4096;
/// The most instances that a peer may watch, or say are gone, at a time.
const MAX_INSTANCES: usize = 65_536;
/// How long a gateway that does not lead the registry waits for one that does to record a peer's facts; as much again at
/// random.
const FACTS_PATIENCE: Duration = Duration::from_millis(500);
/// How often it is looked whether everybody here has taken what the peer said.
const TAKEN_EVERY: Duration = Duration::from_millis(250);
/// How often it is said again.
const TAKEN_AGAIN: Duration = Duration::from_secs(5);
/// From how many linked clusters a snapshot of their exports is fetched at a time: a gateway that starts has hundreds to fetch, and
/// what comes all at once finds no room.
const MAX_FETCHED: usize = 16;
/// When to try again to record a peer's facts.
const FACTS_AGAIN: Duration = Duration::from_secs(5);

/// Takes what one connection hears.
pub(super) struct Ear<'h> {
    hub: &'h Hub,
    peer: &'h PeerGateway,
    /// Whether the peer's exports are taken over this connection.
    imports: bool,
    /// What it says of paths; nothing is taken on a connection that passes through other clusters.
    speaking: Option<Speaking>,
    /// The peer's facts, while the registry may lack them.
    facts: Option<Facts>,
    /// The revision of the newest facts that came.
    newest: Option<Revision>,
    facts_due: Option<Instant>,
    update: Option<JoinHandle<()>>,
    /// What the peer said of itself last, until everybody here has taken it.
    untaken: Option<(Facts, Instant)>,
}

impl<'h> Ear<'h> {
    pub(super) fn new(
        hub: &'h Hub,
        peer: &'h PeerGateway,
        imports: bool,
        speaking: Option<Speaking>,
    ) -> Self {
        Self {
            hub,
            peer,
            imports,
            speaking,
            facts: None,
            newest: None,
            facts_due: None,
            update: None,
            untaken: None,
        }
    }

    /// Takes `message`; an error ends the connection.
    pub(super) fn hear(
        &mut self,
        now: Instant,
        message: LinkMessage,
        voice: &mut Voice<'_>,
    ) -> Result<(), End> {
        self.with_peer(|known| ((), known.imports.handle_heard(now)));
        match message {
            LinkMessage::Facts(facts) => self.facts(now, facts)?,
            LinkMessage::Exports(exports) => self.exports(now, exports, voice)?,
            LinkMessage::Digest(digest) => self.digest(now, &digest, voice),
            LinkMessage::SendSnapshot(_) => voice.peer_asks(),
            LinkMessage::HaveExports(HaveExports { epoch, revision }) => voice.peer_has((epoch, revision)),
            LinkMessage::UseServices(UseServices { handles }) => {
                bound("services in use", handles.len(), MAX_USED)?;
                voice.peer_uses(handles);
            }
            LinkMessage::Endpoints(endpoints) => self.endpoints(now, endpoints),
            LinkMessage::WatchInstances(WatchPeerInstances { instances }) => {
                bound("watched instances", instances.len(), MAX_INSTANCES)?;
                voice.peer_watches(now, instances);
            }
            LinkMessage::InstancesGone(PeerInstancesGone { instances }) => {
                bound("gone instances", instances.len(), MAX_INSTANCES)?;
                self.gone(instances);
            }
            LinkMessage::FactsTaken(FactsTaken { revision }) => {
                update::record_taken(self.hub, self.peer, revision);
            }
            LinkMessage::Heartbeat(heartbeat) => self.heartbeat(now, &heartbeat),
            LinkMessage::PairReports(reports) => {
                bound("reports on pairs of gateways", reports.reports.len(), MAX_PAIR_REPORTS)?;
                self.reports(now, &reports);
            }
            LinkMessage::Routes(routes) => {
                bound("paths through its cluster", routes.paths.len(), MAX_PATHS)?;
                if let Some(speaking) = &self.speaking {
                    speaking.hear(&routes);
                }
            }
            LinkMessage::Unlink(_) => return Err(End::Unlinked),
            LinkMessage::Hello(_) => return Err(End::Violation("it said hello twice".to_owned())),
            LinkMessage::Pair(_) | LinkMessage::Paired(_) | LinkMessage::Refused(_) => {
                let what = "it speaks of a token on a connection of a link that stands";
                return Err(End::Violation(what.to_owned()));
            }
        }
        Ok(())
    }

    /// Time has passed.
    pub(super) fn handle_timeout(&mut self, now: Instant, voice: &mut Voice<'_>) {
        if let Some((facts, due)) = self.untaken.as_mut().filter(|(_, due)| *due <= now) {
            *due = now + TAKEN_EVERY;
            if update::is_taken(self.hub, self.peer, facts, now) {
                voice.facts_taken(facts.revision);
                // said again from time to time: who hears it may be without a leader to record it
                *due = now + TAKEN_AGAIN;
            }
        }
        if self.facts_due.is_some_and(|due| due <= now) {
            self.record_facts(now);
        }
    }

    /// When time alone changes something here.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.facts_due.into_iter().chain(self.untaken.as_ref().map(|(_, due)| *due)).min()
    }

    fn with_peer<T>(&self, change: impl FnOnce(&mut Peer) -> (T, ImportChange)) -> Option<T> {
        self.hub.with_peer_mut(self.peer.cluster.id, change)
    }

    fn facts(&mut self, now: Instant, facts: Facts) -> Result<(), End> {
        check_bundle(&self.peer.cluster.trust_domain, &facts.bundle)
            .and_then(|()| check_gateways(&facts.gateways))
            .map_err(|what| End::Violation(format!("its facts are not accepted: {what}")))?;
        if self.newest.is_some_and(|newest| newest >= facts.revision) {
            return Ok(());
        }
        self.newest = Some(facts.revision);
        self.untaken = Some((facts.clone(), now));
        // what waits is out of date, whether this is news to the registry or what it has already
        (self.facts, self.facts_due) = (None, None);
        if update::is_news(&self.hub.catalog(), self.peer, &facts) {
            let leads = self.hub.registry.status().leader == Some(self.hub.node.id());
            let patience =
                if leads { Duration::ZERO } else { FACTS_PATIENCE.mul_f64(1.0 + rand::random::<f64>()) };
            self.facts = Some(facts);
            self.facts_due = Some(now + patience);
        }
        Ok(())
    }

    fn record_facts(&mut self, now: Instant) {
        self.facts_due = None;
        let Some(facts) = &self.facts else { return };
        if !update::is_news(&self.hub.catalog(), self.peer, facts) {
            self.facts = None;
            return;
        }
        self.facts_due = Some(now + FACTS_AGAIN);
        if self.update.as_ref().is_some_and(|update| !update.is_finished()) {
            return;
        }
        // all connections of the link share one allowance; what comes while it is used up takes the place of what waits
        match self.with_peer(|known| (known.take_facts(now), ImportChange::default())) {
            Some(Ok(())) => self.update = Some(update::record_facts(self.hub, self.peer, facts.clone())),
            Some(Err(due)) => self.facts_due = Some(due),
            None => self.facts_due = None,
        }
    }

    fn exports(&self, now: Instant, exports: Exports, voice: &mut Voice<'_>) -> Result<(), End> {
        if !self.imports {
            return Ok(());
        }
        let node = self.peer.node;
        let taken = self.with_peer(|known| match known.imports.handle_exports(now, node, exports) {
            Ok(change) => (Ok(()), change),
            Err(error) => (Err(error), ImportChange::default()),
        });
        let Some(Err(error)) = taken else { return Ok(()) };
        if error.is_violation() {
            return Err(End::Violation(error.to_string()));
        }
        if matches!(error, causeway_federation::ImportError::NotOpen(_)) {
            return Err(End::Confused);
        }
        tracing::debug!(cluster = %self.peer.cluster.name, %node, reason = error.reason(), "{error}");
        if error.ask() {
            voice.ask_snapshot();
        }
        Ok(())
    }

    fn digest(&self, now: Instant, digest: &ExportsDigest, voice: &mut Voice<'_>) {
        if !self.imports {
            return;
        }
        let node: NodeId = self.peer.node;
        let room = self.hub.fetching(now) < MAX_FETCHED;
        let verdict = self.with_peer(|known| {
            let judged = known.imports.handle_digest(now, node, digest, room);
            ((judged.verdict, judged.adopted), judged.change)
        });
        match verdict {
            Some((DigestVerdict::Ask, _)) => voice.ask_snapshot(),
            Some((DigestVerdict::InStep, adopted)) => {
                voice.have_exports((digest.epoch, digest.revision), adopted);
            }
            Some((DigestVerdict::Wait, _)) | None => {}
        }
    }

    fn endpoints(&self, now: Instant, told: Endpoints) {
        let handle: ServiceHandle = told.handle;
        let result = self.with_peer(|known| {
            let result = known.endpoints.handle_endpoints(now, told);
            let mut change = ImportChange::default();
            if let Some(import) = known.imports.by_handle(handle).filter(|_| result.changed) {
                change.changed.insert(import.name());
            }
            (result, change)
        });
        if let Some(result) = result.filter(|result| result.dropped > 0) {
            let (cluster, node) = (&self.peer.cluster.name, self.peer.node);
            tracing::debug!(%cluster, %node, %handle, dropped = result.dropped, unasked = result.unasked, "endpoints not taken");
        }
    }

    fn heartbeat(&self, now: Instant, heartbeat: &Heartbeat) {
        let node = self.peer.node;
        self.with_peer(|known| {
            (known.health.handle_heartbeat(now, node, heartbeat), ImportChange::default())
        });
        self.hub.bulletin.wake();
    }

    fn reports(&self, now: Instant, reports: &PairReports) {
        let (catalog, own) = (self.hub.catalog(), self.hub.node.cluster().id);
        let Some(link) = catalog.link_by_id(self.peer.cluster.id) else { return };
        let knows = |gateway| is_known(&catalog, own, link, gateway);
        self.with_peer(|known| {
            (known.health.handle_peer_reports(now, reports, knows), ImportChange::default())
        });
        self.hub.bulletin.wake();
    }

    fn gone(&self, instances: Vec<WorkloadId>) {
        for instance in instances {
            self.hub.peer_gone(self.peer.cluster.id, instance);
        }
    }
}

fn bound(what: &str, count: usize, most: usize) -> Result<(), End> {
    if count > most {
        return Err(End::Violation(format!("it names {count} {what}, at most {most} are taken")));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
