//! What this side says next.

use super::PeerGateway;
use super::pace::Pace;
use crate::hub::{Change, Hub};
use crate::links::introduction::told_gateways;
use crate::watched::Watched;
use causeway_catalog::Catalog;
use causeway_federation::{DIGEST_INTERVAL, ExportCursor, ImportChange, LeftOut};
use causeway_model::{Epoch, GatewayFacts, Revision, ServiceHandle, ServiceName, WorkloadId};
use causeway_wire::codec::to_vec;
use causeway_wire::link::{
    Endpoints, Facts, FactsTaken, HaveExports, LinkMessage, PeerInstancesGone, SendSnapshot, UseServices,
    WatchPeerInstances,
};
use causeway_wire::view::BundleView;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

/// Changes of exports within this time are told together.
const EXPORTS_DELAY: Duration = Duration::from_millis(20);
/// Adding up the exports takes at most one part in so many of the time.
const EXPORTS_SHARE: u32 = 20;
/// Changes of endpoints within this time are told together.
const ENDPOINTS_DELAY: Duration = Duration::from_millis(5);
/// The least time between two lists of services in use.
const USES_EVERY: Duration = Duration::from_millis(50);
/// The least time between two lists of watched instances, which are long.
const WATCHES_EVERY: Duration = Duration::from_millis(250);
/// The least time between two messages of facts.
const FACTS_EVERY: Duration = Duration::from_millis(100);

/// A service that the peer uses.
#[derive(Default)]
struct Used {
    /// What the registry said when the endpoints were last looked up: the export's revision, and the key of the ids.
    basis: Basis,
    /// A hash of the endpoints that were told.
    told: Option<u64>,
}

type Basis = (Option<Revision>, Option<Epoch>);

/// What one connection is yet to say: what has changed, and what was said last.
pub(super) struct Voice<'h> {
    hub: &'h Hub,
    peer: &'h PeerGateway,
    cursor: ExportCursor,
    /// The peer asked for all exports or said what it has, and nobody looked whether something is to be told now.
    asked: bool,
    /// Frames of exports that are cut already.
    frames: VecDeque<LinkMessage>,
    exports: Pace,
    left_out: BTreeSet<ServiceName>,
    digest: Instant,
    facts: Pace,
    facts_told: Option<(BundleView, Vec<GatewayFacts>, bool, Option<Revision>)>,
    uses: Pace,
    uses_told: Option<UseServices>,
    watches: Pace,
    watches_told: Option<u64>,
    used: BTreeMap<ServiceHandle, Used>,
    /// The services in use whose endpoints may have changed.
    changed: BTreeSet<ServiceHandle>,
    endpoints: Pace,
    telling: BTreeSet<ServiceHandle>,
    watched: Watched,
    /// The peer is to be asked for all exports.
    ask: bool,
    /// The peer is to be told that its exports are here up to this position.
    have: Option<(Epoch, Revision)>,
    /// That was said: it needs to know once, and again when something came from elsewhere.
    have_said: bool,
    /// The peer's facts that everybody here has taken, until it is told.
    taken: Option<Revision>,
}

impl<'h> Voice<'h> {
    /// What is to be said to a peer whose copy of our exports ends at `have`: everything, to begin with.
    pub(super) fn new(
        hub: &'h Hub,
        peer: &'h PeerGateway,
        have: Option<(Epoch, Revision)>,
        now: Instant,
    ) -> Self {
        let mut voice = Self {
            hub,
            peer,
            cursor: ExportCursor::new(have),
            asked: false,
            frames: VecDeque::new(),
            exports: Pace::new(EXPORTS_DELAY, EXPORTS_DELAY),
            left_out: BTreeSet::new(),
            digest: now,
            facts: Pace::new(Duration::ZERO, FACTS_EVERY),
            facts_told: None,
            uses: Pace::new(Duration::ZERO, USES_EVERY),
            uses_told: None,
            watches: Pace::new(Duration::ZERO, WATCHES_EVERY),
            watches_told: None,
            used: BTreeMap::new(),
            changed: BTreeSet::new(),
            endpoints: Pace::new(ENDPOINTS_DELAY, ENDPOINTS_DELAY),
            telling: BTreeSet::new(),
            watched: Watched::of_process(now, hub.up()),
            ask: false,
            have: None,
            have_said: false,
            taken: None,
        };
        voice.tell_everything(now);
        voice.exports.ask_now(now);
        voice
    }

    /// Anything may have changed: what differs from what was said last is said.
    pub(super) fn tell_everything(&mut self, now: Instant) {
        for pace in [&mut self.exports, &mut self.facts, &mut self.uses, &mut self.watches] {
            pace.ask(now);
        }
        self.changed.extend(self.used.keys());
        self.endpoints.ask(now);
        let soft = self.hub.soft();
        self.watched.check(now, |instance| soft.presence.is_alive(instance));
    }

    /// Something changed.
    pub(super) fn follow(&mut self, now: Instant, change: &Change) {
        match change {
            Change::Catalog => {
                self.facts.ask(now);
                self.exports.ask(now);
                self.catalog_changed(now);
            }
            Change::Service(name) => self.service_changed(now, name),
            Change::Gone(instance) => self.watched.handle_gone(*instance),
            Change::Wants(cluster) if *cluster == self.peer.cluster.id => {
                self.uses.ask(now);
                self.watches.ask(now);
            }
            Change::Wants(_) | Change::PeerGone(..) => {}
        }
    }

    fn service_changed(&mut self, now: Instant, name: &ServiceName) {
        let catalog = self.hub.catalog();
        let Some(export) = catalog.export_of(name).filter(|e| e.to.includes(&self.peer.cluster.name)) else {
            return;
        };
        self.exports.ask(now);
        if self.used.contains_key(&export.handle) {
            self.changed.insert(export.handle);
            self.endpoints.ask(now);
        }
    }

    /// The endpoints of services in use may have changed by what the registry says now.
    fn catalog_changed(&mut self, now: Instant) {
        let catalog = self.hub.catalog();
        let changed = self.used.iter().filter(|(handle, used)| used.basis != basis(&catalog, **handle));
        self.changed.extend(changed.map(|(handle, _)| handle));
        if !self.changed.is_empty() {
            self.endpoints.ask(now);
        }
    }

    /// The peer uses these services and no others.
    pub(super) fn peer_uses(&mut self, handles: Vec<ServiceHandle>) {
        let handles: BTreeSet<ServiceHandle> = handles.into_iter().collect();
        self.used.retain(|handle, _| handles.contains(handle));
        for handle in handles {
            if let std::collections::btree_map::Entry::Vacant(entry) = self.used.entry(handle) {
                entry.insert(Used::default());
                self.telling.insert(handle);
            }
        }
    }

    /// The peer watches these instances of this cluster and no others.
    pub(super) fn peer_watches(&mut self, now: Instant, instances: Vec<WorkloadId>) {
        let soft = self.hub.soft();
        self.watched.set(now, instances, |instance| soft.presence.is_alive(instance));
    }

    /// The peer asks for all exports.
    pub(super) fn peer_asks(&mut self) {
        self.cursor.handle_send_snapshot();
        self.asked = true;
    }

    /// What it told a digest of is what the peer has.
    pub(super) fn peer_has(&mut self, at: (Epoch, Revision)) {
        // to look what leads on from there is little work; to look what the exports are has a pace of its own
        self.asked |= self.cursor.handle_have(at);
    }

    /// Everybody here trusts whom the peer said at `revision`.
    pub(super) fn facts_taken(&mut self, revision: Revision) {
        self.taken = Some(revision);
    }

    /// Our copy of the peer's exports is not what it has: all of them are asked for.
    pub(super) fn ask_snapshot(&mut self) {
        self.ask = true;
    }

    /// Our copy of the peer's exports is what it has at `at`, wherever it came from.
    pub(super) fn have_exports(&mut self, at: (Epoch, Revision), anew: bool) {
        if !std::mem::replace(&mut self.have_said, true) || anew {
            self.have = Some(at);
        }
    }

    /// When there is something to say although nothing happens.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let paces = [&self.exports, &self.facts, &self.uses, &self.watches, &self.endpoints];
        let due = paces.into_iter().filter_map(Pace::due);
        let others = [self.watched.poll_timeout(), self.cursor.poll_timeout()];
        due.chain(others.into_iter().flatten()).chain([self.digest]).min()
    }

    /// The next message, the most urgent first.
    pub(super) fn next(&mut self, now: Instant) -> Option<LinkMessage> {
        if self.watched.poll_timeout().is_some_and(|due| due <= now) {
            let soft = self.hub.soft();
            self.watched.handle_timeout(now, |instance| soft.presence.is_alive(instance));
        }
        if let Some(instances) = self.watched.take_gone() {
            return Some(PeerInstancesGone { instances }.into());
        }
        if let Some((epoch, revision)) = self.have.take() {
            return Some(HaveExports { epoch, revision }.into());
        }
        if std::mem::take(&mut self.ask) {
            return Some(SendSnapshot {}.into());
        }
        if let Some(revision) = self.taken.take() {
            return Some(FactsTaken { revision }.into());
        }
        self.next_facts(now)
            .or_else(|| self.next_uses(now))
            .or_else(|| self.next_watches(now))
            .or_else(|| self.next_endpoints(now))
            .or_else(|| self.next_exports(now))
    }

    /// When what is exported is looked at again, if that was asked for.
    #[cfg(test)]
    pub(super) fn exports_due(&self) -> Option<Instant> {
        self.exports.due()
    }

    fn next_facts(&mut self, now: Instant) -> Option<LinkMessage> {
        if !self.facts.take(now) {
            return None;
        }
        let catalog = self.hub.catalog();
        // a replica that is empty yet knows of no gateway but those it joined through
        catalog.cluster()?;
        let paused = catalog.link_by_id(self.peer.cluster.id).is_some_and(|link| link.paused);
        let gateways = told_gateways(catalog.gateways().cloned().collect());
        // a list of roots that changed back has to be confirmed, too
        let roots = catalog.cluster().map(|cluster| cluster.ca.roots_changed);
        let told = (self.hub.own_bundle(&catalog), gateways, paused, roots);
        if told.1.is_empty() {
            return None;
        }
        if self.facts_told.as_ref() == Some(&told) {
            return None;
        }
        let (bundle, gateways, paused, _) = told.clone();
        self.facts_told = Some(told);
        Some(Facts { revision: catalog.revision(), bundle, gateways, paused }.into())
    }

    fn next_uses(&mut self, now: Instant) -> Option<LinkMessage> {
        if !self.uses.take(now) {
            return None;
        }
        let uses = self.hub.use_services(self.peer.cluster.id);
        if self.uses_told.as_ref() == Some(&uses) {
            return None;
        }
        self.uses_told = Some(uses.clone());
        Some(uses.into())
    }

    fn next_watches(&mut self, now: Instant) -> Option<LinkMessage> {
        if !self.watches.take(now) {
            return None;
        }
        let (_, watches): (_, WatchPeerInstances) = self.hub.wanted(self.peer.cluster.id);
        let hash = hash(&watches.instances);
        if self.watches_told.replace(hash) == Some(hash) {
            return None;
        }
        Some(watches.into())
    }

    fn next_endpoints(&mut self, now: Instant) -> Option<LinkMessage> {
        if self.endpoints.take(now) {
            self.telling.append(&mut self.changed);
        }
        while let Some(handle) = self.telling.pop_first() {
            let Some(used) = self.used.get_mut(&handle) else { continue };
            used.basis = basis(&self.hub.catalog(), handle);
            let endpoints = self.hub.endpoints_for(&self.peer.cluster.name, handle);
            // what cannot be encoded is not sent either
            let Ok(bytes) = to_vec(&endpoints) else { continue };
            let hash = hash(&bytes);
            if used.told.replace(hash) != Some(hash) {
                return Some(Endpoints { handle, endpoints }.into());
            }
        }
        None
    }

    /// Exports that changed; once all are told, from time to time what they add up to.
    fn next_exports(&mut self, now: Instant) -> Option<LinkMessage> {
        if let Some(frame) = self.frames.pop_front() {
            return Some(frame);
        }
        let refreshed = self.exports.take(now);
        if refreshed {
            self.refresh_exports();
        }
        let asked =
            std::mem::take(&mut self.asked) || self.cursor.poll_timeout().is_some_and(|due| due <= now);
        let due = now >= self.digest;
        if !(refreshed || asked || due) {
            return None;
        }
        let cursor = &mut self.cursor;
        let polled = self.hub.with_peer_mut(self.peer.cluster.id, |known| {
            // in one go: a digest is of what was told before it
            ((known.exporter.poll(now, cursor), known.exporter.digest()), ImportChange::default())
        });
        let Some((frames, digest)) = polled else {
            // the link was removed a moment ago: word of it is on its way
            self.digest = now + DIGEST_INTERVAL;
            return None;
        };
        self.frames.extend(frames.into_iter().map(LinkMessage::from));
        if let Some(frame) = self.frames.pop_front() {
            return Some(frame);
        }
        if due {
            self.digest = now + DIGEST_INTERVAL;
            return Some(digest.into());
        }
        None
    }

    fn refresh_exports(&mut self) {
        let begun = Instant::now();
        let left_out = self.hub.refresh_exports(&self.peer.cluster);
        self.exports.slow_to(EXPORTS_DELAY.max(begun.elapsed() * EXPORTS_SHARE));
        for LeftOut { name, fault, .. } in &left_out {
            if !self.left_out.contains(name) {
                let reason = fault.reason();
                tracing::warn!(cluster = %self.peer.cluster.name, service = %name, reason, "not exported: {fault}");
            }
        }
        self.left_out = left_out.into_iter().map(|left| left.name).collect();
    }
}

fn basis(catalog: &Catalog, handle: ServiceHandle) -> Basis {
    let export = catalog.service_by_handle(handle).map(|export| export.changed);
    let key = catalog.cluster().and_then(|cluster| cluster.newest_cid_key());
    (export, key.map(|(epoch, _)| epoch))
}

/// Tells accidents apart, within this process.
fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
