//! The types that openraft is instantiated with.

use crate::member::Member;
use causeway_catalog::{Command, Outcome, Refusal};
use openraft::TokioRuntime;
use openraft::error::{CheckIsLeaderError, ClientWriteError, RaftError};
use std::io::Cursor;

openraft::declare_raft_types!(
    /// The registry's group: its log holds commands.
    pub(crate) TypeConfig:
        D = Command,
        R = Answered,
        NodeId = u64,
        Node = Member,
        Entry = openraft::Entry<TypeConfig>,
        SnapshotData = Cursor<Vec<u8>>,
        AsyncRuntime = TokioRuntime,
);

/// What the catalog said to a log entry; `None` when the entry holds no command.
pub(crate) type Answered = Option<Result<Outcome, Refusal>>;

pub(crate) type Raft = openraft::Raft<TypeConfig>;
pub(crate) type Entry = openraft::Entry<TypeConfig>;
pub(crate) type EntryPayload = openraft::EntryPayload<TypeConfig>;
pub(crate) type LogId = openraft::LogId<u64>;
pub(crate) type Vote = openraft::Vote<u64>;
pub(crate) type Membership = openraft::Membership<u64, Member>;
pub(crate) type StoredMembership = openraft::StoredMembership<u64, Member>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<u64, Member>;
pub(crate) type Snapshot = openraft::Snapshot<TypeConfig>;
pub(crate) type StorageError = openraft::StorageError<u64>;
pub(crate) type Metrics = openraft::RaftMetrics<u64, Member>;
pub(crate) type WriteError = RaftError<u64, ClientWriteError<u64, Member>>;
pub(crate) type ReadError = RaftError<u64, CheckIsLeaderError<u64, Member>>;
