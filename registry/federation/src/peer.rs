//! What is believed of one peer cluster: the imports of all of its gateways that speak, as one set.

mod node;
mod silence;
#[cfg(test)]
mod tests;

use crate::import::{DigestVerdict, Import, ImportChange, ImportError, ImportRules};
use causeway_model::{ClusterFacts, Epoch, NodeId, Revision, ServiceHandle, ServiceName};
use causeway_wire::link::{Exports, ExportsDigest};
use node::Node;
use silence::Silence;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// The most gateways of one peer whose imports are held at a time.
pub const MAX_PEER_NODES: usize = 16;

/// What a peer's digest came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerDigest {
    /// Whether to ask for a snapshot on the connection that the digest came over.
    pub verdict: DigestVerdict,
    /// What changed by it.
    pub change: ImportChange,
}

/// The imports of one linked cluster.
///
/// Each of the peer's gateways tells its exports in a numbering of its own, so each has an [`Importer`](crate::Importer)
/// here. The *voices* are the gateways with an open connection whose copy was confirmed within
/// [`SILENT_AFTER`](crate::SILENT_AFTER): a service is imported while any voice offers it, with the numbers of the voice
/// where it changed last. When no gateway speaks any more the last voices stay, and so do the imports: they are stale, and
/// withdrawn after [`ImportRules::withdraw_after`].
#[derive(Debug)]
pub struct PeerImports {
    rules: ImportRules,
    nodes: BTreeMap<NodeId, Node>,
    voices: BTreeSet<NodeId>,
    /// No gateway speaks: the voices are the last ones that did.
    frozen: bool,
    silence: Silence,
    stale: bool,
    /// Up to when the passing of time is taken into account.
    settled: Option<Instant>,
    merged: BTreeMap<ServiceHandle, Import>,
    /// Gateways may disagree for a moment, and then a name has two handles.
    names: BTreeMap<ServiceName, BTreeSet<ServiceHandle>>,
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
            settled: None,
            merged: BTreeMap::new(),
            names: BTreeMap::new(),
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
    /// As [`Importer::handle_exports`](crate::Importer::handle_exports); [`ImportError::NotOpen`] without a connection.
    pub fn handle_exports(
        &mut self,
        now: Instant,
        node: NodeId,
        frame: Exports,
    ) -> Result<ImportChange, ImportError> {
        self.silence.handle_heard(now);
        let open = self.nodes.get_mut(&node).filter(|n| n.is_open());
        let told = open.ok_or(ImportError::NotOpen(node))?.importer.handle_exports(now, frame)?;
        let mut change = ImportChange::default();
        if self.voices.contains(&node) {
            told.handles.iter().for_each(|handle| self.update(*handle, &mut change));
        }
        change.absorb_refusals(told);
        Ok(self.settle(now, change))
    }

    /// A digest of the peer's gateway `node` arrived.
    pub fn handle_digest(&mut self, now: Instant, node: NodeId, digest: &ExportsDigest) -> PeerDigest {
        self.silence.handle_heard(now);
        let verdict = match self.nodes.get_mut(&node).filter(|n| n.is_open()) {
            Some(open) => open.importer.handle_digest(now, digest),
            None => DigestVerdict::Wait,
        };
        PeerDigest { verdict, change: self.settle(now, ImportChange::default()) }
    }

    /// The time of [`Self::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Instant) -> ImportChange {
        let voices = &self.voices;
        self.nodes.retain(|id, node| voices.contains(id) || !node.is_forgotten(now));
        self.nodes.values_mut().for_each(|node| node.importer.handle_timeout(now));
        self.settle(now, ImportChange::default())
    }

    /// When time alone changes something here.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let voices = self.voices.iter().filter(|_| !self.frozen).filter_map(|id| self.nodes.get(id));
        let withdraw = self.withdraw_at().filter(|_| self.stale);
        let passing = self.silence.next_change(self.stale).into_iter().chain(withdraw);
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

    /// The imports in order of their names.
    pub fn imports(&self) -> impl Iterator<Item = &Import> {
        self.names.values().filter_map(|handles| self.newest(handles))
    }

    /// The import of this name.
    pub fn by_name(&self, name: &ServiceName) -> Option<&Import> {
        self.newest(self.names.get(name)?)
    }

    /// The import with this handle.
    pub fn by_handle(&self, handle: ServiceHandle) -> Option<&Import> {
        self.merged.get(&handle)
    }

    /// How many names are imported.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether nothing is imported.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Whether the cap keeps offers of a voice out.
    pub fn is_over_cap(&self) -> bool {
        self.voices.iter().filter_map(|id| self.nodes.get(id)).any(|node| node.importer.is_over_cap())
    }

    /// The gateways whose copies make up the imports.
    pub fn voices(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.voices.iter().copied()
    }

    fn newest<'a>(&'a self, handles: &BTreeSet<ServiceHandle>) -> Option<&'a Import> {
        handles.iter().rev().filter_map(|handle| self.merged.get(handle)).max_by_key(|import| import.changed)
    }

    /// Brings voices, staleness and imports to where they are at `now`.
    fn settle(&mut self, now: Instant, mut change: ImportChange) -> ImportChange {
        let speaking: BTreeSet<NodeId> =
            self.nodes.iter().filter(|(_, node)| node.speaks(now)).map(|(id, _)| *id).collect();
        self.frozen = speaking.is_empty();
        if !self.frozen && speaking != self.voices {
            self.voices = speaking;
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
        let mut handles: BTreeSet<ServiceHandle> = self.merged.keys().copied().collect();
        let voices = self.voices.iter().filter_map(|id| self.nodes.get(id));
        handles.extend(voices.flat_map(|node| node.importer.imports()).map(|import| import.summary.handle));
        handles.into_iter().for_each(|handle| self.update(handle, change));
    }

    fn update(&mut self, handle: ServiceHandle, change: &mut ImportChange) {
        let offers = self.voices.iter().rev().filter_map(|id| self.nodes.get(id)?.importer.by_handle(handle));
        let new = offers.max_by_key(|import| import.changed).cloned();
        let old = match &new {
            Some(import) => self.merged.insert(handle, import.clone()),
            None => self.merged.remove(&handle),
        };
        if old.as_ref().map(|import| &import.summary) == new.as_ref().map(|import| &import.summary) {
            return;
        }
        if let Some(old) = old {
            change.touch(&old.summary.name, handle);
            self.unname(&old.summary.name, handle);
        }
        if let Some(new) = new {
            change.touch(&new.summary.name, handle);
            self.names.entry(new.summary.name.clone()).or_default().insert(handle);
        }
    }

    fn unname(&mut self, name: &ServiceName, handle: ServiceHandle) {
        if let Some(handles) = self.names.get_mut(name) {
            handles.remove(&handle);
            if handles.is_empty() {
                self.names.remove(name);
            }
        }
    }
}
