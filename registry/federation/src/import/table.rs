//! The offers of one gateway of a peer, judged and bounded.

use super::change::{CopyChange, Refusals};
use super::rules::ImportRules;
use crate::digest;
use crate::fault::{OfferFault, RefusedOffer, check_offer};
use crate::offers::Offers;
use crate::packed::Packed;
use causeway_model::ServiceHandle;
use causeway_wire::view::ExportSummary;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What offers are judged by, and where equal ones are found.
#[derive(Clone, Copy)]
pub(crate) struct Ground<'a> {
    pub(crate) rules: &'a ImportRules,
    /// What the peer's other gateways offer: equal offers share its memory.
    pub(crate) known: &'a Offers,
    /// The number of the event: a later one has a greater number.
    pub(crate) event: u64,
}

/// An offer that was refused: its hash is kept, so that digests can be compared.
#[derive(Clone, Copy, Debug)]
struct Refused {
    hash: u64,
    /// It was refused because its name was taken.
    clash: bool,
}

/// All offers of one gateway: the accepted ones, and the hashes of the refused. A clone shares the memory of the offers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    /// Gateways of one cluster offer the same most of the time, and then have one set in common.
    offers: Arc<Offers>,
    refused: BTreeMap<ServiceHandle, Refused>,
    bytes: usize,
    /// How many are refused because their name was taken.
    clashes: usize,
    digest: u64,
    over_cap: bool,
    /// Something that was left out could be taken now, so a snapshot is wanted.
    repair: bool,
}

impl Table {
    pub(crate) fn offers(&self) -> &Arc<Offers> {
        &self.offers
    }

    /// Lets the table have its offers in common with others: `equal` is the same set.
    pub(crate) fn pool(&mut self, equal: &Arc<Offers>) {
        self.offers = Arc::clone(equal);
    }

    pub(crate) fn is_over_cap(&self) -> bool {
        self.over_cap
    }

    pub(crate) fn wants_repair(&self) -> bool {
        self.repair
    }

    pub(crate) fn has_room(&self, rules: &ImportRules) -> bool {
        self.len() < rules.max_imports && self.bytes < rules.max_bytes
    }

    /// How many offers and what they add up to.
    pub(crate) fn digest(&self) -> (u32, u64) {
        (u32::try_from(self.len()).unwrap_or(u32::MAX), self.digest)
    }

    /// How many places are taken.
    pub(crate) fn len(&self) -> usize {
        self.offers.len() + self.refused.len()
    }

    /// Takes a delta.
    pub(crate) fn apply(
        &mut self,
        ground: Ground<'_>,
        upserts: Vec<ExportSummary>,
        removed: &[ServiceHandle],
    ) -> CopyChange {
        let mut change = CopyChange::default();
        // all old values go before the new ones come, so that two services may swap their names
        let mut old: BTreeMap<ServiceHandle, Arc<Packed>> = BTreeMap::new();
        let news: Vec<ServiceHandle> = upserts.iter().map(|summary| summary.handle).collect();
        for handle in removed.iter().chain(&news) {
            old.extend(self.detach(*handle).map(|packed| (*handle, packed)));
        }
        for summary in upserts {
            self.add(ground, summary, &mut change.refusals);
        }
        for handle in news {
            let Some(new) = self.offers.get(handle) else { continue };
            if settle(new, old.get(&handle), ground.event) {
                old.remove(&handle);
            } else {
                change.handles.insert(handle);
            }
        }
        change.handles.extend(self.enforce_cap(ground.rules, &mut change.refusals));
        for packed in old.values() {
            change.handles.insert(*packed.handle());
            self.free(packed);
        }
        self.repair |= self.over_cap && !removed.is_empty();
        change
    }

    /// Adds an offer of a handle that is not here yet; the second one of a handle is refused. The cap is enforced within one
    /// frame.
    pub(crate) fn add(&mut self, ground: Ground<'_>, summary: ExportSummary, refusals: &mut Refusals) {
        let handle = summary.handle;
        if self.offers.get(handle).is_some() || self.refused.contains_key(&handle) {
            refusals.refuse(RefusedOffer { name: summary.name, handle, fault: OfferFault::HandleClash });
            return;
        }
        let judged = match self.offers.named(&summary.name).next() {
            Some(other) => Err(OfferFault::NameClash(*other.handle())),
            None => check_offer(&ground.rules.peer, &summary),
        };
        match judged {
            Ok(()) => self.attach(ground, &summary),
            Err(fault) => {
                let hash = digest::hash(&summary);
                let clash = matches!(fault, OfferFault::NameClash(_));
                self.digest = self.digest.wrapping_add(digest::term(handle, hash));
                self.clashes += usize::from(clash);
                self.refused.insert(handle, Refused { hash, clash });
                self.bytes += size_of::<Refused>();
                refusals.refuse(RefusedOffer { name: summary.name, handle, fault });
            }
        }
    }

    fn attach(&mut self, ground: Ground<'_>, summary: &ExportSummary) {
        let packed = Packed::new(&ground.rules.peer, summary);
        self.digest = self.digest.wrapping_add(digest::term(summary.handle, packed.hash()));
        self.bytes += packed.size();
        let known = ground.known.get(summary.handle).filter(|known| known.is_same(&packed));
        Arc::make_mut(&mut self.offers).insert(known.map_or_else(|| Arc::new(packed), Arc::clone));
    }

    /// Takes out what `handle` has; returns the offer if it was an accepted one.
    fn detach(&mut self, handle: ServiceHandle) -> Option<Arc<Packed>> {
        if self.offers.get(handle).is_some()
            && let Some(packed) = Arc::make_mut(&mut self.offers).remove(handle)
        {
            self.digest = self.digest.wrapping_sub(digest::term(handle, packed.hash()));
            self.bytes -= packed.size();
            return Some(packed);
        }
        let refused = self.refused.remove(&handle)?;
        self.digest = self.digest.wrapping_sub(digest::term(handle, refused.hash));
        self.bytes -= size_of::<Refused>();
        self.clashes -= usize::from(refused.clash);
        None
    }

    /// Drops the highest handles until all are within the bounds; returns those whose offers had been accepted.
    pub(crate) fn enforce_cap(&mut self, rules: &ImportRules, refusals: &mut Refusals) -> Vec<ServiceHandle> {
        let mut dropped = Vec::new();
        while self.len() > rules.max_imports || self.bytes > rules.max_bytes {
            let refused = self.refused.last_key_value().map(|(handle, _)| *handle);
            let Some(handle) = self.offers.last().max(refused) else { break };
            dropped.extend(self.detach(handle).map(|_| handle));
            self.over_cap = true;
            refusals.over_cap += 1;
        }
        dropped
    }

    /// The bounds are others now.
    pub(crate) fn handle_rules(&mut self, rules: &ImportRules) -> CopyChange {
        let mut change = CopyChange::default();
        change.handles.extend(self.enforce_cap(rules, &mut change.refusals));
        self.repair |= self.over_cap && self.has_room(rules);
        change
    }

    /// Puts `new` in the place of this table. What is the same in both counts as unchanged.
    pub(crate) fn replace_by(&mut self, new: Self, refusals: Refusals, event: u64) -> CopyChange {
        let old = std::mem::replace(self, new);
        let mut change = CopyChange { refusals, ..CopyChange::default() };
        for new in self.offers.iter() {
            if !settle(new, old.offers.get(*new.handle()), event) {
                change.handles.insert(*new.handle());
            }
        }
        for old in old.offers.iter() {
            let new = self.offers.get(*old.handle());
            if new.is_none_or(|new| !new.is_same(old)) {
                change.handles.insert(*old.handle());
                self.free(old);
            }
        }
        change
    }

    /// Puts a copy of another gateway's table in the place of this one.
    pub(crate) fn adopt(&mut self, new: Self, event: u64) -> CopyChange {
        let old = std::mem::replace(self, new);
        let mut change = CopyChange::default();
        for new in self.offers.iter() {
            // the offer is the other gateway's, too: there it changed no earlier than here
            let here = old.offers.get(*new.handle()).filter(|old| old.is_same(new)).map(|old| old.changed());
            new.note_changed(here.unwrap_or(event).max(new.changed()));
            if here.is_none() {
                change.handles.insert(*new.handle());
            }
        }
        let gone = old.offers.iter().map(|old| *old.handle()).filter(|old| self.offers.get(*old).is_none());
        change.handles.extend(gone);
        change
    }

    /// `old` is offered no longer: if its name is free now, an offer that clashed with it could be taken.
    fn free(&mut self, old: &Packed) {
        self.repair |= self.clashes > 0 && self.offers.named(&old.name()).next().is_none();
    }

    /// Lets an offer that is here share the memory of an equal one.
    pub(crate) fn share(&mut self, equal: &Arc<Packed>) {
        let held = self.offers.get(*equal.handle());
        if held.is_some_and(|held| !Arc::ptr_eq(held, equal) && held.is_same(equal)) {
            Arc::make_mut(&mut self.offers).share(equal);
        }
    }
}

/// Notes since when `new` is offered; returns whether it is what `old` was.
fn settle(new: &Packed, old: Option<&Arc<Packed>>, event: u64) -> bool {
    let old = old.filter(|old| old.is_same(new));
    new.note_changed(old.map_or(event, |old| old.changed()));
    old.is_some()
}

#[cfg(test)]
impl Table {
    /// Whether what is derived from the entries agrees with them.
    pub(crate) fn is_consistent(&self) -> bool {
        let packed = || self.offers.iter();
        let terms = packed().map(|p| (*p.handle(), p.hash()));
        let terms = terms.chain(self.refused.iter().map(|(handle, refused)| (*handle, refused.hash)));
        let names: std::collections::BTreeSet<_> = packed().map(|p| p.name()).collect();
        self.bytes == packed().map(|p| p.size()).sum::<usize>() + self.refused.len() * size_of::<Refused>()
            && self.clashes == self.refused.values().filter(|refused| refused.clash).count()
            && self.digest == terms.fold(0, |sum: u64, (h, hash)| sum.wrapping_add(digest::term(h, hash)))
            && names.len() == self.offers.len()
            && self.offers.names() == names.len()
            && self.offers.after(None).count() == names.len()
    }
}
