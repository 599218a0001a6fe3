//! What the group records of a member beside its number: whose disk it was given a vote with.
//!
//! A voter that comes back with an empty disk has forgotten what it acknowledged and whom it voted for. With its help a
//! majority could be found that knows nothing of an acknowledged change. So every database has a random number of its
//! own; the group records that of each voter when it gets its vote; every Raft call to a voter says for which database it is
//! meant, and one that has another refuses it. A member without a vote may lose its disk: it is filled again.

use causeway_model::NodeId;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The number of one database, drawn when it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DiskId(pub(crate) u64);

impl fmt::Display for DiskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Whose database it is, and which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    pub(crate) node: NodeId,
    pub(crate) disk: DiskId,
}

/// A member of the group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Member {
    /// The database that its vote is bound to; nothing for one without a vote.
    pub(crate) disk: Option<DiskId>,
}
