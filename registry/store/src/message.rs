//! What the calls between nodes carry, and how large it may be.
//!
//! The first byte of every body is the version of its layout. Log entries and snapshots travel in the same records that
//! are on disk, each with a version and checksum of its own.

use crate::CallError;
use crate::format::{Ballot, EntryId, SnapshotHead};
use crate::member::DiskId;
use crate::propose::{ProposeError, Proposed};
use bytes::Bytes;
use causeway_catalog::Command;
use causeway_model::NodeId;
use causeway_wire::codec::{MAX_FRAME, from_slice, to_vec};
use causeway_wire::peer::Method;
use openraft::raft::{AppendEntriesResponse, VoteResponse};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The longest body of a call or its answer, in bytes: a frame, less what the frame itself needs.
pub const MAX_BODY: usize = MAX_FRAME - 4096;
/// The longest encoded command, in bytes.
pub(crate) const MAX_COMMAND_LEN: usize = 256 << 10;
/// How many bytes of log entries go into one call; one entry always does.
pub(crate) const MAX_ENTRIES_LEN: usize = 512 << 10;
/// How much of a snapshot goes into one call, in bytes.
pub(crate) const SNAPSHOT_CHUNK: u64 = 512 << 10;
/// The longest snapshot that is accepted, in bytes: several times the largest catalog.
pub(crate) const MAX_SNAPSHOT_LEN: usize = 256 << 20;

const VERSION: u8 = 1;

/// Raft's append-entries. Each entry is a record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Append {
    /// For which database it is meant; nothing if the receiver has no vote.
    pub(crate) disk: Option<DiskId>,
    pub(crate) ballot: Ballot,
    pub(crate) previous: Option<EntryId>,
    pub(crate) committed: Option<EntryId>,
    pub(crate) entries: Vec<Bytes>,
}

/// The answer to [`Append`], and which database it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AppendAnswer {
    pub(crate) disk: DiskId,
    pub(crate) appended: Appended,
}

/// What became of an [`Append`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Appended {
    All,
    UpTo(Option<EntryId>),
    Conflict,
    HigherVote(Ballot),
}

impl From<AppendEntriesResponse<u64>> for Appended {
    fn from(response: AppendEntriesResponse<u64>) -> Self {
        match response {
            AppendEntriesResponse::Success => Self::All,
            AppendEntriesResponse::PartialSuccess(upto) => Self::UpTo(upto.map(Into::into)),
            AppendEntriesResponse::Conflict => Self::Conflict,
            AppendEntriesResponse::HigherVote(vote) => Self::HigherVote(vote.into()),
        }
    }
}

impl From<Appended> for AppendEntriesResponse<u64> {
    fn from(appended: Appended) -> Self {
        match appended {
            Appended::All => Self::Success,
            Appended::UpTo(upto) => Self::PartialSuccess(upto.map(Into::into)),
            Appended::Conflict => Self::Conflict,
            Appended::HigherVote(ballot) => Self::HigherVote(ballot.into()),
        }
    }
}

/// Raft's request-vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AskVote {
    pub(crate) disk: Option<DiskId>,
    pub(crate) ballot: Ballot,
    pub(crate) last: Option<EntryId>,
}

/// The answer to [`AskVote`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Voted {
    ballot: Ballot,
    granted: bool,
    last: Option<EntryId>,
}

impl From<VoteResponse<u64>> for Voted {
    fn from(response: VoteResponse<u64>) -> Self {
        Self {
            ballot: response.vote.into(),
            granted: response.vote_granted,
            last: response.last_log_id.map(Into::into),
        }
    }
}

impl From<Voted> for VoteResponse<u64> {
    fn from(voted: Voted) -> Self {
        Self {
            vote: voted.ballot.into(),
            vote_granted: voted.granted,
            last_log_id: voted.last.map(Into::into),
        }
    }
}

/// A piece of a snapshot's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Chunk {
    pub(crate) disk: Option<DiskId>,
    pub(crate) ballot: Ballot,
    pub(crate) head: SnapshotHead,
    /// Where it belongs, in bytes from the record's start.
    pub(crate) offset: u64,
    pub(crate) data: Bytes,
    /// It is the last one.
    pub(crate) done: bool,
}

/// The answer to [`Chunk`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ChunkTaken {
    /// It was taken, and if it was the last one the snapshot is installed; or a higher vote says that the sender no
    /// longer leads.
    Taken(Ballot),
    /// Pieces before it are missing: start again.
    StartAgain,
}

/// A change of the group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum MemberChange {
    Add(NodeId),
    Remove(NodeId),
    Vote(BTreeSet<NodeId>),
}

/// What only the leader can do.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "one at a time")]
pub(crate) enum Request {
    Propose(Command),
    Members(MemberChange),
    ReadIndex,
}

impl Request {
    pub(crate) fn method(&self) -> Method {
        match self {
            Self::Propose(_) => Method::Propose,
            Self::Members(_) => Method::AddLearner,
            Self::ReadIndex => Method::ReadIndex,
        }
    }

    /// Doing it twice is doing it once.
    pub(crate) fn idempotent(&self) -> bool {
        !matches!(self, Self::Propose(_))
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>, CallError> {
        match self {
            Self::Propose(command) => encode(command),
            Self::Members(change) => encode(change),
            Self::ReadIndex => encode(&()),
        }
    }
}

/// What the leader did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    Proposed(Proposed),
    Done,
    /// What is committed up to this log index was committed when it was asked.
    Index(u64),
}

/// Why the leader did nothing, or could not tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Decline {
    /// Nothing was done: the node does not lead, or cannot reach a majority.
    NotLeader,
    Error(ProposeError),
}

impl From<ProposeError> for Decline {
    fn from(error: ProposeError) -> Self {
        Self::Error(error)
    }
}

pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CallError> {
    let bytes = to_vec(value).map_err(|error| refused(error.reason(), &error))?;
    if bytes.len() >= MAX_BODY {
        let size = bytes.len() + 1;
        return Err(refused("too-large", &format!("a body of {size} bytes; the most is {MAX_BODY}")));
    }
    let mut body = Vec::with_capacity(bytes.len() + 1);
    body.push(VERSION);
    body.extend_from_slice(&bytes);
    Ok(body)
}

pub(crate) fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, CallError> {
    match body.split_first() {
        Some((&VERSION, bytes)) => from_slice(bytes).map_err(|error| refused(error.reason(), &error)),
        Some((version, _)) => Err(refused(
            "unknown-version",
            &format!(
                "a body has version {version} and this release knows {VERSION}: upgrade the older gateway"
            ),
        )),
        None => Err(refused("malformed", &"an empty body")),
    }
}

pub(crate) fn refused(reason: &str, message: &impl ToString) -> CallError {
    CallError::Refused { reason: reason.to_owned(), message: message.to_string() }
}
