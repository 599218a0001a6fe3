//! What becomes of a change that is proposed.

use causeway_catalog::{Outcome, Refusal};
use causeway_model::{NodeId, Revision};
use serde::{Deserialize, Serialize};

/// A change that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposed {
    /// The revision that it made. The local replica may reach it a little later.
    pub revision: Revision,
    /// What the catalog answered.
    pub outcome: Outcome,
}

/// Why a change was not made, or is not known to have been.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ProposeError {
    /// The catalog refused it. Nothing changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No leader with a majority behind it was found. Nothing changed.
    #[error(
        "the registry has no leader: {answering} of {voters} voters answer; changes are refused until a majority is back; \
         running traffic and discovery go on"
    )]
    NoLeader {
        /// How many voters answered a moment ago, this node among them if it votes.
        answering: usize,
        /// How many there are.
        voters: usize,
    },
    /// This node is in no group. Nothing changed.
    #[error("this gateway has no registry yet: initialise a cluster with it, or let it join one")]
    NotInitialised,
    /// The command is larger than the log takes. Nothing changed.
    #[error("the command has {size} bytes and the most is {max}: split it into several")]
    TooLarge {
        /// Its encoded size in bytes.
        size: usize,
        /// The most.
        max: usize,
    },
    /// It may or may not have been made, or may still be.
    #[error("whether the change was made is unknown: {cause}; read the current state before asking again")]
    Timeout {
        /// What happened.
        cause: String,
    },
    /// The registry does not work here or at the leader. Whether the change was made is unknown.
    #[error("the registry could not make the change: {cause}")]
    Failed {
        /// Why.
        cause: String,
    },
    /// A member of the group would not understand the command. Nothing changed.
    #[error(
        "gateway {node} does not know the command {command} (number {number}): update that gateway first, or remove it if it \
         is gone"
    )]
    MemberTooOld {
        /// The member, which has not announced the command.
        node: NodeId,
        /// The command's name.
        command: String,
        /// Its number.
        number: u16,
    },
    /// The group cannot be changed in this way. Nothing changed.
    #[error("the registry's members stay as they are: {cause}")]
    Membership {
        /// Why.
        cause: String,
    },
}

impl ProposeError {
    /// The stable word for logs, metrics and answers.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.reason(),
            Self::NoLeader { .. } => "no-quorum",
            Self::NotInitialised => "not-initialised",
            Self::TooLarge { .. } => "too-large",
            Self::Timeout { .. } => "timeout",
            Self::Failed { .. } => "registry-failed",
            Self::MemberTooOld { .. } => "member-too-old",
            Self::Membership { .. } => "membership",
        }
    }

    pub(crate) fn membership(cause: impl Into<String>) -> Self {
        Self::Membership { cause: cause.into() }
    }

    pub(crate) fn failed(cause: impl Into<String>) -> Self {
        Self::Failed { cause: cause.into() }
    }
}
