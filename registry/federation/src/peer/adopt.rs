//! What one gateway of a peer has may be here already: gateways of one cluster offer the same most of the time, and so does one
//! that restarted.

use super::{PeerDigest, PeerImports};
use crate::import::{DigestVerdict, ImportChange};
use crate::offers::Offers;
use crate::packed::Packed;
use causeway_model::NodeId;
use causeway_wire::link::ExportsDigest;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Gateways that offered the same for so long share the memory of the whole set.
pub(super) const POOL_AFTER: Duration = Duration::from_secs(10);

impl PeerImports {
    /// A digest of the peer's gateway `node` arrived. What differs is asked for if there is `room` for a snapshot, and from one
    /// gateway at a time: what that brings is most often what the others have.
    pub fn handle_digest(
        &mut self,
        now: Instant,
        node: NodeId,
        digest: &ExportsDigest,
        room: bool,
    ) -> PeerDigest {
        self.silence.handle_heard(now);
        let mut change = ImportChange::default();
        let adopted = self.adopted;
        let verdict = self.judge_digest(now, node, digest, room, &mut change);
        let change = self.settle(now, change);
        let quiet = |at: Instant| now.saturating_duration_since(at) >= POOL_AFTER;
        if verdict == DigestVerdict::InStep && self.changed.is_some_and(quiet) {
            self.pool();
        }
        PeerDigest { verdict, adopted: self.adopted > adopted, change }
    }

    fn judge_digest(
        &mut self,
        now: Instant,
        node: NodeId,
        digest: &ExportsDigest,
        room: bool,
        change: &mut ImportChange,
    ) -> DigestVerdict {
        let Some(open) = self.nodes.get(&node).filter(|n| n.is_open()) else { return DigestVerdict::Wait };
        let behind = open.importer.is_behind(now, digest);
        let own = behind && open.importer.equals(digest).is_some();
        let may_adopt = open.importer.may_adopt(now);
        let mut others = self.nodes.iter().filter(|(id, n)| **id != node && n.is_open());
        let room = room && may_adopt && !others.any(|(_, n)| n.importer.is_fetching(now));
        let all = self.nodes.values().filter(|_| behind && may_adopt && !own);
        let equal = all.filter_map(|n| n.importer.equals(digest)).next().cloned();
        match (self.nodes.get_mut(&node), equal) {
            (Some(open), _) if own => {
                self.adopted += 1;
                open.importer.renumber(now, digest);
                DigestVerdict::InStep
            }
            (Some(open), Some(table)) => {
                self.event += 1;
                self.adopted += 1;
                let told = open.importer.adopt(now, digest, table, self.event);
                if self.voices.contains(&node) {
                    self.changed = Some(now);
                    told.handles.iter().for_each(|handle| self.update(*handle, change));
                }
                DigestVerdict::InStep
            }
            (Some(open), None) => open.importer.handle_digest(now, digest, room),
            (None, _) => DigestVerdict::Wait,
        }
    }

    /// How often what a gateway has was here already, from before it restarted or from another gateway of its cluster, so that no
    /// snapshot had to be asked for.
    pub fn adopted(&self) -> u64 {
        self.adopted
    }

    /// Whether a snapshot of the peer is asked for or under way.
    pub fn is_fetching(&self, now: Instant) -> bool {
        self.nodes.values().any(|node| node.is_open() && node.importer.is_fetching(now))
    }

    /// Lets the voices and what is merged of them have one set in common where they are the same. The next change takes it apart
    /// again, which costs as much as a look at all of them.
    fn pool(&mut self) {
        self.changed = None;
        for id in &self.voices {
            let Some(node) = self.nodes.get_mut(id) else { continue };
            if node.importer.offers().is_same(&self.merged) {
                node.importer.pool(&self.merged);
            }
        }
    }

    /// What all voices offer, if they have it in common.
    pub(super) fn pooled(&self) -> Option<&Arc<Offers>> {
        let mut sets =
            self.voices.iter().filter_map(|id| self.nodes.get(id)).map(|node| node.importer.offers());
        let first = sets.next()?;
        sets.all(|other| Arc::ptr_eq(first, other)).then_some(first)
    }

    pub(super) fn touch_differing(&self, old: &Offers, change: &mut ImportChange) {
        if self.withheld || std::ptr::eq(old, &*self.merged) {
            return;
        }
        for (these, those) in [(old, &*self.merged), (&*self.merged, old)] {
            let differs =
                |offer: &&Arc<Packed>| those.get(*offer.handle()).is_none_or(|other| !offer.is_same(other));
            these.iter().filter(differs).for_each(|offer| change.touch(offer.name(), *offer.handle()));
        }
    }
}
