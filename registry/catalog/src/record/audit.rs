//! The audit: who asked for what, and what became of it.

use crate::Refusal;
use causeway_model::Revision;
use serde::{Deserialize, Serialize};

/// One command that was applied or refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Its revision.
    pub revision: Revision,
    /// The proposer's clock, in seconds since the Unix epoch.
    pub at: u64,
    /// Who asked, at most [`crate::MAX_ACTOR_LEN`] bytes.
    pub by: String,
    /// The command's name ([`crate::CommandBody::name`]).
    pub command: String,
    /// What it was about, at most 256 bytes.
    pub subject: String,
    /// Why it was refused, if it was.
    pub refused: Option<Refusal>,
}
