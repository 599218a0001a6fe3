//! Revocations.

use causeway_model::Revocation;
use serde::{Deserialize, Serialize};

/// A revocation of this cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    /// What is refused.
    pub revocation: Revocation,
    /// When it is forgotten, in seconds since the Unix epoch: what it refuses has expired by then.
    pub ends_at: u64,
    /// Who asked for it.
    pub by: String,
}
