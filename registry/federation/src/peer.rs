//! What is believed of one peer cluster: the imports of all of its gateways that speak, as one set.

mod adopt;
mod node;
mod silence;
mod stale;
#[cfg(test)]
mod tests;

use crate::import::{DigestVerdict, Import, ImportChange, ImportError, ImportRules, Refusals};
use crate::offers::Offers;
use crate::packed::Packed;
use causeway_model::{ClusterFacts, Epoch, NodeId, Revision, ServiceHandle, ServiceName};
use causeway_wire::link::Exports;
use node::Node;
use silence::Silence;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The most gateways of one peer whose imports are held at a time.
pub const MAX_PEER_NODES: usize = 16;

/// What a peer's digest came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerDigest {
    /// Whether to ask for a snapshot on the connection that the digest came over.
    pub verdict: DigestVerdict,
    /// Whether what the speaker has was here already, from before it restarted or from another gateway of its cluster: send
    /// `HaveExports` with the position in the digest.
    pub adopted: bool,
    /// What changed by it.
    pub change: ImportChange,
}

/// The imports of one linked cluster.
///
/// Each of the peer's gateways tells its exports in a numbering of its own, so each has a copy here; equal offers share memory. The *voices* are the gateways with an open connection whose copy was confirmed within
/// [`SILENT_AFTER`](crate::SILENT_AFTER): a service is imported while any voice offers it, with the numbers of the voice
/// where it changed last. When no gateway speaks any more the last voices stay, and so do the imports: they are stale, and
/// withdrawn after [`ImportRules::withdraw_after`]. Until then [`ImportRules::stale`] says whether they are part of the answers
/// ([`Self::imports`], [`Self::by_name`], [`Self::by_handle`], [`Self::len`]) or only remembered.
#[derive(Debug)]
pub struct PeerImports {
    rules: ImportRules,
    nodes: BTreeMap<NodeId, Node>,
    voices: BTreeSet<NodeId>,
    /// No gateway speaks: the voices are the last ones that did.
    frozen: bool,
    silence: Silence,
    stale: bool,
    /// Stale imports are no part of the answers.
    withheld: bool,
    /// Counts what arrives.
    event: u64,
    adopted: u64,
    /// Up to when the passing of time is taken into account.
    settled: Option<Instant>,
    /// What the voices offer. They may disagree for a moment, and then a name has two handles.
    merged: Arc<Offers>,
    /// When it last changed what the voices offer, until the voices and what is merged of them have one set in common.
    changed: Option<Instant>,
}

impl PeerImports {
    /// No imports yet of the cluster in `rules`.
    pub fn new(rules: ImportRules) -> Self {
        Self {
            rules,
            nodes: BTreeMap::new(),
            voices: BTreeSet::new(),
            frozen: true,
            silence: Silence::default(),
            stale: false,
            withheld: false,
            event: 0,
            adopted: 0,
            settled: None,
            merged: Arc::default(),
            changed: None,
        }
    }

    /// The peer.
    pub fn peer(&self) -> &ClusterFacts {
        &self.rules.peer
    }

    /// A connection to the peer's gateway `node` is open: returns where our copy of its exports ends, for our hello.
    ///
    /// # Errors
    ///
    /// [`ImportError::TooManyNodes`]: the connection may serve for everything else.
    pub fn handle_open(
        &mut self,
        now: Instant,
        node: NodeId,
    ) -> Result<Option<(Epoch, Revision)>, ImportError> {
        if !self.nodes.contains_key(&node) && self.nodes.len() >= MAX_PEER_NODES {
            let idle = self.nodes.iter().filter(|(id, n)| !n.is_open() && !self.voices.contains(id));
            let oldest = idle.min_by_key(|(_, n)| n.closed_at()).map(|(id, _)| *id);
            self.nodes.remove(&oldest.ok_or(ImportError::TooManyNodes(node))?);
        }
        self.silence.handle_open();
        let entry = self.nodes.entry(node).or_insert_with(|| Node::new(now, self.rules.clone()));
        Ok(entry.open())
    }

    /// A connection to `node`, reported by [`Self::handle_open`], is closed.
    pub fn handle_closed(&mut self, now: Instant, node: NodeId) -> ImportChange {
        if self.nodes.get_mut(&node).is_some_and(|n| n.close(now)) {
            self.silence.handle_closed();
        }
        self.settle(now, ImportChange::default())
    }

    /// Any frame of the peer arrived.
    pub fn handle_heard(&mut self, now: Instant) -> ImportChange {
        self.silence.handle_heard(now);
        self.settle(now, ImportChange::default())
    }

    /// Exports of the peer's gateway `node` arrived.
    ///
    /// # Errors
    ///
    /// [`ImportError::Gap`] when they do not follow from what is here; the rest when the frame breaks the protocol, and then the
    /// connection should be closed. The imports are unchanged in either case. [`ImportError::NotOpen`] without a connection.
    pub fn handle_exports(
        &mut self,
        now: Instant,
        node: NodeId,
        frame: Exports,
    ) -> Result<ImportChange, ImportError> {
        self.silence.handle_heard(now);
        self.event += 1;
        let open = self.nodes.get_mut(&node).filter(|n| n.is_open()).ok_or(ImportError::NotOpen(node))?;
        let told = open.importer.handle_exports(now, frame, &self.merged, self.event)?;
        let mut change = ImportChange::default();
        if self.voices.contains(&node) {
            self.changed = Some(now);
            told.handles.iter().for_each(|handle| self.update(*handle, &mut change));
        }
        change.absorb(told.refusals);
        Ok(self.settle(now, change))
    }

    /// The time of [`Self::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Instant) -> ImportChange {
        let voices = &self.voices;
        self.nodes.retain(|id, node| voices.contains(id) || !node.is_forgotten(now));
        self.nodes.values_mut().for_each(|node| node.importer.handle_timeout(now));
        self.settle(now, ImportChange::default())
    }

    /// The rules are others now: what exceeds new bounds is dropped at once, what they let in is fetched after the next digest of
    /// each gateway, and the policy for stale imports holds at once. The peer itself does not change: that of `rules` is ignored.
    pub fn set_rules(&mut self, now: Instant, mut rules: ImportRules) -> ImportChange {
        rules.peer = self.rules.peer.clone();
        self.rules = rules;
        self.event += 1;
        let mut handles = BTreeSet::new();
        let mut refusals = Refusals::default();
        for node in self.nodes.values_mut() {
            let told = node.importer.handle_rules(self.rules.clone());
            handles.extend(told.handles);
            refusals.over_cap += told.refusals.over_cap;
        }
        let mut change = ImportChange::default();
        change.absorb(refusals);
        handles.into_iter().for_each(|handle| self.update(handle, &mut change));
        self.judge_afresh(now, &mut change);
        self.settle(now, change)
    }

    /// When time alone changes something here.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let voices = self.voices.iter().filter(|_| !self.frozen).filter_map(|id| self.nodes.get(id));
        let withdraw = self.withdraw_at().filter(|_| self.stale);
        let passing = self.silence.next_change(self.stale).into_iter().chain(withdraw).chain(self.eject_at());
        let passing = passing.chain(voices.filter_map(Node::speaks_until));
        let nodes = self.nodes.iter().filter_map(|(id, n)| n.poll_timeout(self.voices.contains(id)));
        passing.filter(|at| self.settled.is_none_or(|settled| *at > settled)).chain(nodes).min()
    }

    /// How long no connection to the peer has said anything; `None` while one speaks, and before any has.
    ///
    /// A peer that falls silent again and again counts as stale for a while after it speaks again, twice as long each
    /// time up to 30 s, so that flapping does not reorder everybody's offers each time.
    pub fn stale_for(&self, now: Instant) -> Option<Duration> {
        self.silence.stale_for(now)
    }

    /// The rules.
    pub fn rules(&self) -> &ImportRules {
        &self.rules
    }

    /// Whether the imports are remembered only, because the peer is silent and [`ImportRules::stale`] keeps them out of the
    /// answers.
    pub fn is_withheld(&self) -> bool {
        self.withheld
    }

    /// The imports in order of their names.
    pub fn imports(&self) -> impl Iterator<Item = Import<'_>> {
        self.after(None)
    }

    /// The imports in order of their names, those after `name` only if there is one: a page of many begins here.
    pub fn after(&self, name: Option<&ServiceName>) -> impl Iterator<Item = Import<'_>> {
        self.remembered(name).filter(|_| !self.withheld)
    }

    /// The same, also while they are no part of the answers.
    pub fn remembered(&self, after: Option<&ServiceName>) -> impl Iterator<Item = Import<'_>> {
        let mut offers = self.merged.after(after).peekable();
        std::iter::from_fn(move || {
            let mut newest = offers.next()?;
            while let Some(other) = offers.next_if(|other| other.shares_name(newest)) {
                if other.changed() > newest.changed() {
                    newest = other;
                }
            }
            Some(self.import(newest))
        })
    }

    /// The import of this name.
    pub fn by_name(&self, name: &ServiceName) -> Option<Import<'_>> {
        let offers = self.merged.named(name).filter(|_| !self.withheld);
        offers.max_by_key(|offer| (offer.changed(), Reverse(*offer.handle()))).map(|offer| self.import(offer))
    }

    /// The import with this handle.
    pub fn by_handle(&self, handle: ServiceHandle) -> Option<Import<'_>> {
        self.merged.get(handle).filter(|_| !self.withheld).map(|offer| self.import(offer))
    }

    /// How many names are imported.
    pub fn len(&self) -> usize {
        if self.withheld { 0 } else { self.merged.names() }
    }

    /// Whether nothing is imported.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the cap keeps offers of a voice out.
    pub fn is_over_cap(&self) -> bool {
        self.voices.iter().filter_map(|id| self.nodes.get(id)).any(|node| node.importer.is_over_cap())
    }

    /// The gateways whose copies make up the imports.
    pub fn voices(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.voices.iter().copied()
    }

    fn import<'a>(&'a self, packed: &'a Packed) -> Import<'a> {
        Import::new(packed, &self.rules.peer)
    }

    /// Brings voices, staleness and imports to where they are at `now`.
    fn settle(&mut self, now: Instant, mut change: ImportChange) -> ImportChange {
        let speaking: BTreeSet<NodeId> =
            self.nodes.iter().filter(|(_, node)| node.speaks(now)).map(|(id, _)| *id).collect();
        self.frozen = speaking.is_empty();
        if !self.frozen && speaking != self.voices {
            self.voices = speaking;
            self.changed = Some(now);
            self.rebuild(&mut change);
        }
        let silent = self.silence.stale_for(now);
        if silent.is_some() != self.stale {
            self.stale = silent.is_some();
            change.staleness = Some(self.stale);
        }
        if self.silence.is_silent(now) && self.withdraw_at().is_some_and(|at| at <= now) {
            self.withdraw(&mut change);
        }
        let withhold = self.should_withhold(now);
        if withhold != self.withheld {
            self.set_withheld(withhold, &mut change);
        }
        self.settled = Some(now);
        change
    }

    /// When the imports are withdrawn if the peer stays silent.
    fn withdraw_at(&self) -> Option<Instant> {
        let holding = self.nodes.values().any(|node| node.importer.have().is_some());
        self.silence.last_heard().filter(|_| holding)?.checked_add(self.rules.withdraw_after)
    }

    fn withdraw(&mut self, change: &mut ImportChange) {
        self.voices.clear();
        self.frozen = true;
        self.nodes.retain(|_, node| node.is_open());
        self.nodes.values_mut().for_each(|node| node.reset(self.rules.clone()));
        self.rebuild(change);
    }

    fn rebuild(&mut self, change: &mut ImportChange) {
        if let Some(pooled) = self.pooled().map(Arc::clone) {
            let old = std::mem::replace(&mut self.merged, pooled);
            self.touch_differing(&old, change);
            return;
        }
        let voices =
            self.voices.iter().filter_map(|id| self.nodes.get(id)).map(|node| node.importer.offers());
        let offers = voices.chain([&self.merged]).flat_map(|offers| offers.iter());
        let handles: BTreeSet<ServiceHandle> = offers.map(|offer| *offer.handle()).collect();
        handles.into_iter().for_each(|handle| self.update(handle, change));
    }

    /// Brings what is merged of `handle` up to date with the voices.
    fn update(&mut self, handle: ServiceHandle, change: &mut ImportChange) {
        let voices = self.voices.iter().rev().filter_map(|id| self.nodes.get(id));
        let offers = voices.filter_map(|node| node.importer.offers().get(handle));
        let new = offers.max_by_key(|offer| offer.changed()).map(Arc::clone);
        let old = self.merged.get(handle);
        match (new, old) {
            (Some(new), Some(old)) if new.is_same(old) => {
                let old = Arc::clone(old);
                old.note_changed(new.changed());
                self.share(&old);
            }
            (new, old) => {
                let old = old.is_some().then(|| Arc::make_mut(&mut self.merged).remove(handle)).flatten();
                for gone in old.iter().chain(&new).filter(|_| !self.withheld) {
                    change.touch(gone.name(), handle);
                }
                if let Some(new) = new {
                    self.share(&new);
                    Arc::make_mut(&mut self.merged).insert(new);
                }
            }
        }
    }

    /// Lets equal offers of all voices share the memory of this one.
    fn share(&mut self, offer: &Arc<Packed>) {
        let others = self.voices.iter().filter(|_| self.voices.len() > 1);
        for id in others {
            if let Some(node) = self.nodes.get_mut(id) {
                node.importer.share(offer);
            }
        }
    }
}
