//! What must hold in every run, one promise a file.

pub(crate) mod acknowledged;
pub(crate) mod bounds;
pub(crate) mod convergence;
pub(crate) mod ghosts;
pub(crate) mod reattached;
pub(crate) mod replicas;
pub(crate) mod revisions;
pub(crate) mod watches;

use std::fmt;

/// A promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Invariant {
    AcknowledgedWritesSurvive,
    WatchesSeeEachChangeOnce,
    EqualRevisionsAreEqual,
    LinksConverge,
    NoGhosts,
    RevisionsNeverGoBack,
    ImportsAreBounded,
    NobodyIsGoneTooEarly,
}

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) invariant: Invariant,
    pub(crate) what: String,
}

impl Violation {
    pub(crate) fn new(invariant: Invariant, what: impl Into<String>) -> Self {
        Self { invariant, what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.invariant, self.what)
    }
}

pub(crate) type Verdict = Result<(), Violation>;
