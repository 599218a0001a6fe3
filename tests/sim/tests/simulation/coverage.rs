//! Which interesting states a run has reached: a simulation that never gets there proves nothing.

use std::collections::BTreeMap;

macro_rules! sometimes {
    ($($(#[$doc:meta])* $state:ident,)*) => {
        /// A state that some run must reach.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Sometimes {
            $($(#[$doc])* $state,)*
        }

        impl Sometimes {
            const ALL: &[Self] = &[$(Self::$state),*];
        }
    };
}

sometimes! {
    /// A group of registry nodes has another leader than before.
    LeaderChanged,
    /// What a deposed leader had appended was never acknowledged, and is lost.
    TailLost,
    /// A replica that was far behind got the whole catalog.
    CatalogInstalled,
    /// A client does not know what became of its write.
    WriteUnknown,
    /// Such a write was carried out all the same.
    UnknownWriteApplied,
    /// A command was refused, with the reason.
    CommandRefused,
    /// A watcher that moved to another replica got the deltas.
    WatchResumedByDeltas,
    /// A watcher that moved to another replica had to take a snapshot.
    WatchResumedBySnapshot,
    /// A watcher came to a replica that was behind what it had seen.
    WatcherAhead,
    /// A gateway of a linked cluster went on with deltas on a new connection.
    LinkResumedByDelta,
    /// No delta led on from the copy that a gateway of a linked cluster had.
    LinkResumedBySnapshot,
    /// What a gateway of a linked cluster exports was here already, from before it restarted or from another one.
    ExportsAdopted,
    /// A copy of exports that had been spoilt was found out by its digest and mended.
    MismatchHealed,
    /// A connection ended because one of its directions was dead.
    OneWayPartition,
    /// A disk failed and its node left the group.
    DiskError,
    /// A linked cluster fell silent and spoke again.
    StaleAndBack,
    /// The imports of a cluster that was silent for too long were withdrawn.
    Withdrawn,
    /// A peer offered more than the cap.
    OverCap,
    /// An offer that a peer may not make was refused.
    OfferRefused,
    /// A link was removed.
    LinkRemoved,
    /// A node's clock was set back.
    ClockSetBack,
    /// A gateway that was paused forgave the silence that was its own.
    StallForgiven,
    /// A workload whose gateway died attached to another one before anybody called it gone.
    ReattachedInTime,
    /// A workload that did not re-attach was gone after the grace of its gateway.
    GoneAfterGrace,
    /// A sibling's rows were asked for, because some were missing.
    PresenceRepaired,
}

/// How often each state was reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Coverage(BTreeMap<Sometimes, u64>);

impl Coverage {
    pub(crate) fn note(&mut self, state: Sometimes) {
        *self.0.entry(state).or_default() += 1;
    }

    pub(crate) fn absorb(&mut self, other: &Self) {
        for (state, count) in &other.0 {
            *self.0.entry(*state).or_default() += count;
        }
    }

    /// The states that were never reached.
    pub(crate) fn missing(&self) -> Vec<Sometimes> {
        Sometimes::ALL.iter().copied().filter(|state| !self.0.contains_key(state)).collect()
    }
}
