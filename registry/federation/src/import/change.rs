//! What an event changed.

use crate::fault::RefusedOffer;
use causeway_model::{ServiceHandle, ServiceName};
use std::collections::BTreeSet;

/// The most refused offers that are reported at a time; the rest are only counted.
const MAX_REPORTED: usize = 1024;

/// What an event changed in the imports of a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportChange {
    /// Services whose offer of this peer is new, changed or gone, as [`PeerImports`](crate::PeerImports) answers.
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
    pub(crate) fn touch(&mut self, name: ServiceName, handle: ServiceHandle) {
        self.changed.insert(name);
        self.handles.insert(handle);
    }

    /// Takes over what was refused and kept out.
    pub(crate) fn absorb(&mut self, refusals: Refusals) {
        self.refused_count += refusals.count;
        self.over_cap += refusals.over_cap;
        let room = MAX_REPORTED.saturating_sub(self.refused.len());
        self.refused.extend(refusals.reported.into_iter().take(room));
    }

    /// Whether there is nothing to tell anybody.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Offers that were not taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Refusals {
    pub(crate) reported: Vec<RefusedOffer>,
    pub(crate) count: u64,
    pub(crate) over_cap: u64,
}

impl Refusals {
    pub(crate) fn refuse(&mut self, refused: RefusedOffer) {
        self.count += 1;
        if self.reported.len() < MAX_REPORTED {
            self.reported.push(refused);
        }
    }
}

/// What an event changed in the copy of one gateway's exports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CopyChange {
    /// The handles whose accepted offer is new, changed or gone.
    pub(crate) handles: BTreeSet<ServiceHandle>,
    pub(crate) refusals: Refusals,
}
