//! What gateways of one cluster tell each other about their tables.

use crate::{Row, TableDigest};
use causeway_model::{NodeId, WorkloadId};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// One process of a gateway node. A newer one of the same node fences the older: what the older says is not believed any
/// more, and its rows go after the grace of a dead gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub u64);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A change of the sender's table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RowChange {
    /// The row is new or changed; its `seq` is the version of the change.
    Up(Arc<Row>),
    /// The sender no longer vouches for the workload.
    Gone {
        /// The workload.
        workload: WorkloadId,
        /// The version of the change.
        seq: u64,
    },
}

impl RowChange {
    /// The version of the change.
    pub fn seq(&self) -> u64 {
        match self {
            Self::Up(row) => row.seq,
            Self::Gone { seq, .. } => *seq,
        }
    }

    pub(crate) fn encoded_len(&self) -> usize {
        match self {
            Self::Up(row) => row.encoded_len() + 9,
            Self::Gone { .. } => 27,
        }
    }
}

/// A message between sibling gateways. Each speaks of the *sender's* table only, except `SnapshotRequest`, which is about
/// the receiver's. The transport says who the sender is. At most [`Message::MAX_ROWS`] rows and about
/// [`Message::MAX_BYTES`] in one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// The first message on a new connection: which process this is and what its table looks like.
    Hello {
        /// The sender's process.
        incarnation: Incarnation,
        /// The version of the sender's table: how often it changed.
        version: u64,
        /// The digest of the sender's table at that version.
        digest: TableDigest,
    },
    /// What changed from one version to another. Of several changes of one workload only the last is sent.
    Deltas {
        /// The sender's process.
        incarnation: Incarnation,
        /// Applies to a copy of this version, or of a later one.
        from: u64,
        /// The version of the copy afterwards.
        to: u64,
        /// The changes, in the order of their versions, all in (`from`, `to`].
        changes: Vec<RowChange>,
    },
    /// What the sender's table looks like, sent now and then.
    Digest {
        /// The sender's process.
        incarnation: Incarnation,
        /// The version of the sender's table.
        version: u64,
        /// The digest of the sender's table at that version.
        digest: TableDigest,
    },
    /// The sender misses some of the receiver's rows. The answer is deltas, or a snapshot when `full` or too much has
    /// happened since.
    SnapshotRequest {
        /// The receiver's process as the sender knows it.
        incarnation: Incarnation,
        /// The version of the sender's copy; 0 when it has none.
        have: u64,
        /// The digests differ, so only the whole table helps.
        full: bool,
    },
    /// A part of the sender's whole table.
    Snapshot {
        /// The sender's process.
        incarnation: Incarnation,
        /// The version at which the snapshot was taken.
        version: u64,
        /// The number of this part, from 0.
        part: u32,
        /// Whether this is the last part. Rows that were in no part are gone.
        last: bool,
        /// Rows, each with its `seq` at most `version`.
        rows: Vec<Arc<Row>>,
    },
    /// The sender is alive.
    Heartbeat {
        /// The sender's process.
        incarnation: Incarnation,
        /// The version of the sender's table.
        version: u64,
    },
}

/// Why a message was not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The sender is not known as a sibling.
    #[error(
        "message about liveness from node {node}, which is not a gateway of this cluster or was removed from it"
    )]
    NotASibling {
        /// The sender.
        node: NodeId,
    },
    /// More rows than a message may carry.
    #[error(
        "message carries {count} rows, of at most 256: the sender is broken or of an incompatible release"
    )]
    TooManyRows {
        /// How many.
        count: usize,
    },
    /// Numbers that contradict each other.
    #[error(
        "message of versions {from} to {to} is inconsistent: the sender is broken or of an incompatible release"
    )]
    BadVersions {
        /// The lower version.
        from: u64,
        /// The upper version.
        to: u64,
    },
}

impl MessageError {
    /// A stable word for logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotASibling { .. } => "not_a_sibling",
            Self::TooManyRows { .. } => "too_many_rows",
            Self::BadVersions { .. } => "bad_versions",
        }
    }
}

impl Message {
    /// The most rows in a message.
    pub const MAX_ROWS: usize = 256;
    /// Rows are added to a message only up to this many bytes: a quarter of what a control frame may hold.
    pub const MAX_BYTES: usize = 256 * 1024;

    /// Checks the bounds of a message: the number of rows, the order of versions. Each row is looked at by itself when it is taken:
    /// one that breaks a limit must not keep those beside it out.
    ///
    /// # Errors
    /// The first bound that it breaks.
    pub fn check(&self) -> Result<(), MessageError> {
        match self {
            Self::Deltas { from, to, changes, .. } => check_deltas(*from, *to, changes),
            Self::Snapshot { version, last, rows, .. } => check_snapshot(*version, *last, rows),
            Self::Hello { .. }
            | Self::Digest { .. }
            | Self::SnapshotRequest { .. }
            | Self::Heartbeat { .. } => Ok(()),
        }
    }
}

fn check_deltas(from: u64, to: u64, changes: &[RowChange]) -> Result<(), MessageError> {
    if changes.len() > Message::MAX_ROWS {
        return Err(MessageError::TooManyRows { count: changes.len() });
    }
    let mut previous = from;
    for change in changes {
        if change.seq() <= previous {
            return Err(MessageError::BadVersions { from, to });
        }
        previous = change.seq();
    }
    if changes.is_empty() || previous != to {
        return Err(MessageError::BadVersions { from, to });
    }
    Ok(())
}

fn check_snapshot(version: u64, last: bool, rows: &[Arc<Row>]) -> Result<(), MessageError> {
    if rows.len() > Message::MAX_ROWS {
        return Err(MessageError::TooManyRows { count: rows.len() });
    }
    // an empty part that is not the last would let a sender go on for ever
    if rows.is_empty() && !last {
        return Err(MessageError::BadVersions { from: 0, to: version });
    }
    for row in rows {
        if row.seq == 0 || row.seq > version {
            return Err(MessageError::BadVersions { from: row.seq, to: version });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::tests::row;

    fn up(workload: u64, seq: u64) -> RowChange {
        RowChange::Up(Arc::new(Row { seq, ..row(workload, &["a.b"]) }))
    }

    fn deltas(from: u64, to: u64, changes: Vec<RowChange>) -> Message {
        Message::Deltas { incarnation: Incarnation(1), from, to, changes }
    }

    #[test]
    fn versions_of_deltas_ascend_and_end_at_the_upper_one() {
        assert_eq!(deltas(3, 9, vec![up(1, 5), up(2, 9)]).check(), Ok(()));
        for bad in [
            deltas(3, 3, vec![]),
            deltas(3, 9, vec![up(1, 3), up(2, 9)]),
            deltas(3, 9, vec![up(1, 6), up(2, 6), up(3, 9)]),
            deltas(3, 9, vec![up(1, 8)]),
            deltas(3, 9, vec![up(1, 10)]),
        ] {
            assert_eq!(bad.check().unwrap_err().reason(), "bad_versions");
        }
        let many = (4..=260).map(|seq| up(seq, seq)).collect();
        assert_eq!(deltas(3, 260, many).check().unwrap_err().reason(), "too_many_rows");
    }

    #[test]
    fn a_snapshot_part_is_not_empty_and_not_from_the_future() {
        let part =
            |last, rows| Message::Snapshot { incarnation: Incarnation(1), version: 5, part: 0, last, rows };
        let at = |seq| Arc::new(Row { seq, ..row(1, &[]) });
        assert_eq!(part(true, vec![]).check(), Ok(()));
        assert_eq!(part(false, vec![at(5)]).check(), Ok(()));
        assert!(part(false, vec![]).check().is_err());
        assert!(part(true, vec![at(6)]).check().is_err());
        assert!(part(true, vec![at(0)]).check().is_err());
    }

    #[test]
    fn the_largest_message_fits_a_control_frame() {
        let largest = Message::MAX_BYTES + Row::MAX_ENCODED + 64;
        assert!(largest < 1 << 20);
        let message = deltas(3, 9, vec![up(1, 5), RowChange::Gone { workload: WorkloadId(2), seq: 9 }]);
        let back: Message = serde_json::from_slice(&serde_json::to_vec(&message).unwrap()).unwrap();
        assert_eq!(back, message);
    }
}
