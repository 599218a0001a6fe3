//! Worlds that are broken on purpose: what the simulation would be worth nothing if it did not find.
//!
//! The plumbing around the cores does the damage, never the cores themselves.

use crate::invariants::Invariant;

/// What is broken in a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// Nothing.
    None,
    /// A leader acknowledges what only it has.
    AckBeforeMajority,
    /// A follower acknowledges what is not on its disk yet.
    AckBeforeSync,
    /// A watcher's deltas lose an event now and then.
    SkipWatchEvent,
    /// A watcher that moves is told its last revision again.
    RepeatWatchEvent,
    /// A watcher that moves takes over where its new replica is, even if that is behind.
    TurnBack,
    /// A replica applies commands at the time of its own clock.
    LocalClock,
    /// Digests of exports do not arrive.
    ForgetDigest,
    /// Nobody answers the request for a snapshot.
    ForgetSnapshot,
    /// Exports that were taken back are still told.
    DropDelete,
    /// A gateway goes on hearing workloads that are dead.
    ImmortalLease,
    /// The cap of imports is not what was configured.
    RaiseCap,
    /// A gateway takes a link's peer for whatever cluster its offers name.
    TrustAnyone,
    /// The rows of a dead gateway go at once.
    EagerDeath,
}

impl Sabotage {
    /// Every way to break a world, and the invariant that must notice.
    pub(crate) const ALL: &[(Self, Invariant)] = &[
        (Self::AckBeforeMajority, Invariant::AcknowledgedWritesSurvive),
        (Self::AckBeforeSync, Invariant::AcknowledgedWritesSurvive),
        (Self::SkipWatchEvent, Invariant::WatchesSeeEachChangeOnce),
        (Self::RepeatWatchEvent, Invariant::WatchesSeeEachChangeOnce),
        (Self::TurnBack, Invariant::RevisionsNeverGoBack),
        (Self::LocalClock, Invariant::EqualRevisionsAreEqual),
        (Self::ForgetDigest, Invariant::LinksConverge),
        (Self::ForgetSnapshot, Invariant::LinksConverge),
        (Self::DropDelete, Invariant::NoGhosts),
        (Self::ImmortalLease, Invariant::NoGhosts),
        (Self::RaiseCap, Invariant::ImportsAreBounded),
        (Self::TrustAnyone, Invariant::ImportsAreBounded),
        (Self::EagerDeath, Invariant::NobodyIsGoneTooEarly),
    ];
}
