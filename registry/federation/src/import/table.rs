//! The offers of one gateway of a peer, judged and bounded.

use super::rules::ImportRules;
use crate::digest::{self, Print};
use crate::fault::{OfferFault, RefusedOffer, check_offer};
use causeway_model::{ClusterFacts, ServiceHandle, ServiceName};
use causeway_wire::view::{EndpointView, ExportSummary, MAX_ENDPOINTS, Offer};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The most refused offers that are reported at a time; the rest are only counted.
const MAX_REPORTED: usize = 1024;

/// An offer of a peer that was accepted.
#[derive(Clone, Debug)]
pub struct Import {
    /// The offer.
    pub summary: Arc<ExportSummary>,
    /// When it last changed.
    pub changed: Instant,
}

impl Import {
    /// The offer as sidecars are told of it. `stale_for` is how long `peer` has been silent.
    pub fn offer(
        &self,
        peer: &ClusterFacts,
        stale_for: Option<Duration>,
        endpoints: &[EndpointView],
    ) -> Offer {
        let summary = &*self.summary;
        Offer {
            cluster: peer.clone(),
            handle: Some(summary.handle),
            ports: summary.ports.clone(),
            identities: summary.identities.clone(),
            healthy: summary.healthy,
            total: summary.total,
            stale_for: stale_for.map(|silent| u32::try_from(silent.as_secs()).unwrap_or(u32::MAX)),
            endpoints: endpoints.iter().take(MAX_ENDPOINTS).cloned().collect(),
        }
    }
}

/// What an event changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportChange {
    /// Services whose offer of this peer is new, changed or gone.
    pub changed: BTreeSet<ServiceName>,
    /// The handles of these offers.
    pub handles: BTreeSet<ServiceHandle>,
    /// Offers that were refused, the first 1024 of them.
    pub refused: Vec<RefusedOffer>,
    /// How many offers were refused.
    pub refused_count: u64,
    /// How many offers the cap kept out.
    pub over_cap: u64,
    /// Set when all imports of the peer became stale (`true`) or are no longer (`false`).
    pub staleness: Option<bool>,
}

impl ImportChange {
    pub(crate) fn touch(&mut self, name: &ServiceName, handle: ServiceHandle) {
        if !self.changed.contains(name) {
            self.changed.insert(name.clone());
        }
        self.handles.insert(handle);
    }

    /// Takes over from `other` what was refused and kept out, not what changed.
    pub(crate) fn absorb_refusals(&mut self, other: Self) {
        self.refused_count += other.refused_count;
        self.over_cap += other.over_cap;
        let room = MAX_REPORTED.saturating_sub(self.refused.len());
        self.refused.extend(other.refused.into_iter().take(room));
    }

    fn refuse(&mut self, refused: RefusedOffer) {
        self.refused_count += 1;
        if self.refused.len() < MAX_REPORTED {
            self.refused.push(refused);
        }
    }

    /// Whether there is nothing to tell anybody.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Debug)]
enum State {
    Accepted(Import),
    Refused(OfferFault),
}

#[derive(Debug)]
struct Entry {
    print: Print,
    state: State,
}

impl Entry {
    fn import(&self) -> Option<&Import> {
        match &self.state {
            State::Accepted(import) => Some(import),
            State::Refused(_) => None,
        }
    }

    /// A refused offer keeps its hash only.
    fn bytes(&self) -> usize {
        if self.import().is_some() { self.print.size } else { size_of::<Self>() }
    }

    fn clashes(&self) -> bool {
        matches!(self.state, State::Refused(OfferFault::NameClash(_)))
    }
}

/// All offers of one gateway: the accepted ones, and the hashes of the refused.
#[derive(Debug, Default)]
pub(crate) struct Table {
    entries: BTreeMap<ServiceHandle, Entry>,
    /// The accepted offers by name.
    names: BTreeMap<ServiceName, ServiceHandle>,
    bytes: usize,
    /// How many are refused because their name was taken.
    clashes: usize,
    over_cap: bool,
    /// Something that was left out could be taken now, so a snapshot is wanted.
    repair: bool,
}

impl Table {
    pub(crate) fn imports(&self) -> impl Iterator<Item = &Import> {
        self.entries.values().filter_map(Entry::import)
    }

    pub(crate) fn get(&self, handle: ServiceHandle) -> Option<&Import> {
        self.entries.get(&handle).and_then(Entry::import)
    }

    pub(crate) fn is_over_cap(&self) -> bool {
        self.over_cap
    }

    pub(crate) fn wants_repair(&self) -> bool {
        self.repair
    }

    pub(crate) fn has_room(&self, rules: &ImportRules) -> bool {
        self.entries.len() < rules.max_imports && self.bytes < rules.max_bytes
    }

    pub(crate) fn digest(&self) -> (u32, u64) {
        let hashes = self.entries.iter().map(|(handle, entry)| (*handle, entry.print.hash));
        (u32::try_from(self.entries.len()).unwrap_or(u32::MAX), digest::fold(hashes))
    }

    /// Takes a delta.
    pub(crate) fn apply(
        &mut self,
        now: Instant,
        rules: &ImportRules,
        upserts: Vec<ExportSummary>,
        removed: &[ServiceHandle],
    ) -> ImportChange {
        let mut change = ImportChange::default();
        // all old values go before the new ones come, so that two services may swap their names
        let mut old: BTreeMap<ServiceHandle, Entry> = BTreeMap::new();
        for handle in removed.iter().copied().chain(upserts.iter().map(|summary| summary.handle)) {
            if let Some(entry) = self.detach(handle) {
                old.insert(handle, entry);
            }
        }
        for summary in upserts {
            self.add(now, rules, summary, &mut change);
        }
        self.compare(old, &mut change);
        self.repair |= self.over_cap && !removed.is_empty();
        change
    }

    /// Adds an offer of a handle that is not here yet; the second one of a handle is refused.
    pub(crate) fn add(
        &mut self,
        now: Instant,
        rules: &ImportRules,
        summary: ExportSummary,
        change: &mut ImportChange,
    ) {
        let (name, handle) = (summary.name.clone(), summary.handle);
        let mut refuse = |fault| {
            change.refuse(RefusedOffer { name: name.clone(), handle, fault });
        };
        if self.entries.contains_key(&handle) {
            return refuse(OfferFault::HandleClash);
        }
        let Some(print) = digest::print(&summary) else { return refuse(OfferFault::TooLarge) };
        let judged = match self.names.get(&summary.name) {
            Some(&other) => Err(OfferFault::NameClash(other)),
            None => check_offer(&rules.peer, &summary),
        };
        let state = match judged {
            Ok(()) => State::Accepted(Import { summary: Arc::new(summary), changed: now }),
            Err(fault) => {
                refuse(fault.clone());
                State::Refused(fault)
            }
        };
        if matches!(state, State::Accepted(_)) {
            change.touch(&name, handle);
        }
        self.attach(handle, Entry { print, state });
        self.enforce_cap(rules, change);
    }

    fn attach(&mut self, handle: ServiceHandle, entry: Entry) {
        self.bytes += entry.bytes();
        self.clashes += usize::from(entry.clashes());
        if let Some(import) = entry.import() {
            self.names.insert(import.summary.name.clone(), handle);
        }
        self.entries.insert(handle, entry);
    }

    fn detach(&mut self, handle: ServiceHandle) -> Option<Entry> {
        let entry = self.entries.remove(&handle)?;
        self.bytes -= entry.bytes();
        self.clashes -= usize::from(entry.clashes());
        if let Some(import) = entry.import() {
            self.names.remove(&import.summary.name);
        }
        Some(entry)
    }

    fn enforce_cap(&mut self, rules: &ImportRules, change: &mut ImportChange) {
        while self.entries.len() > rules.max_imports || self.bytes > rules.max_bytes {
            let Some((&handle, _)) = self.entries.last_key_value() else { return };
            if let Some(Entry { state: State::Accepted(old), .. }) = self.detach(handle) {
                change.touch(&old.summary.name, handle);
            }
            self.over_cap = true;
            change.over_cap += 1;
        }
    }

    /// Puts `new`, whose building led to `change`, in the place of this table. What is the same in both counts as
    /// unchanged.
    pub(crate) fn replace_by(&mut self, new: Self, mut change: ImportChange) -> ImportChange {
        let old = std::mem::replace(self, new);
        for (handle, import) in self.entries.iter().filter_map(|(h, e)| e.import().map(|i| (*h, i))) {
            change.touch(&import.summary.name, handle);
        }
        self.compare(old.entries, &mut change);
        change
    }

    /// Settles what changed between `old` entries and those that took their place: `change` names all new values already.
    fn compare(&mut self, old: BTreeMap<ServiceHandle, Entry>, change: &mut ImportChange) {
        for (handle, entry) in old {
            let State::Accepted(old) = entry.state else { continue };
            match self.entries.get_mut(&handle) {
                Some(Entry { print, state: State::Accepted(new) })
                    if *print == entry.print && new.summary == old.summary =>
                {
                    // names are unique, so no other handle had or has this one
                    change.changed.remove(&old.summary.name);
                    change.handles.remove(&handle);
                    *new = old;
                }
                _ => {
                    change.touch(&old.summary.name, handle);
                    self.repair |= self.clashes > 0 && !self.names.contains_key(&old.summary.name);
                }
            }
        }
    }
}

#[cfg(test)]
impl Table {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether what is derived from the entries agrees with them.
    pub(crate) fn is_consistent(&self) -> bool {
        let names = self.imports().map(|import| (import.summary.name.clone(), import.summary.handle));
        self.bytes == self.entries.values().map(Entry::bytes).sum::<usize>()
            && self.clashes == self.entries.values().filter(|entry| entry.clashes()).count()
            && self.names == names.collect()
    }
}
