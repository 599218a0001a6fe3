//! Raft's calls to other nodes, over whatever carries them.

use crate::contacts::Contacts;
use crate::envelope::{Kind, seal};
use crate::format::LogEntry;
use crate::member::Member;
use crate::message::{self, Append, AppendAnswer, AskVote, Chunk, ChunkTaken, Voted, decode, encode};
use crate::raft::TypeConfig;
use bytes::Bytes;
use causeway_model::NodeId;
use causeway_wire::peer::Method;
use openraft::error::{
    InstallSnapshotError, RPCError, RaftError, RemoteError, SnapshotMismatch, Timeout, Unreachable,
};
use openraft::network::{Backoff, RPCOption};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use openraft::{RPCTypes, RaftNetwork, RaftNetworkFactory, SnapshotSegmentId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// How long a leader leaves a member alone that it could not reach: less than it takes the member to miss it.
const UNREACHABLE_PAUSE: Duration = Duration::from_millis(150);

/// The reason of a refusal by a node that has another database than its vote is bound to.
pub(crate) const WRONG_DISK: &str = "wrong-disk";

/// Why a call to another node brought no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// It was not sent: there is no connection to the node. The other side did nothing.
    #[error("the node is not reachable: {0}")]
    Unreachable(String),
    /// It may have been sent, and no answer came in time.
    #[error("the node did not answer in time")]
    Timeout,
    /// The other side answered that it does not do this.
    #[error("refused ({reason}): {message}")]
    Refused {
        /// A stable word.
        reason: String,
        /// For the operator.
        message: String,
    },
}

impl CallError {
    /// The stable word for logs, metrics and answers.
    pub fn reason(&self) -> &str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Timeout => "timeout",
            Self::Refused { reason, .. } => reason,
        }
    }
}

/// The answer to a call, to come.
pub type CallFuture = Pin<Box<dyn Future<Output = Result<Vec<u8>, CallError>> + Send>>;

/// Carries calls to the other nodes of the group. Whoever receives one hands it to [`crate::Registry::handle_call`], with
/// the caller's *authenticated* node id.
///
/// A call is answered or fails within `timeout`; an answer that comes later is dropped. Calls may overtake each other.
/// Bodies have at most [`crate::MAX_BODY`] bytes.
pub trait PeerCalls: Send + Sync + 'static {
    /// Calls `method` of `to`.
    fn call(&self, to: NodeId, method: Method, body: Vec<u8>, timeout: Duration) -> CallFuture;
}

/// Makes the clients that openraft calls other nodes with.
pub(crate) struct Network {
    me: NodeId,
    peers: Arc<dyn PeerCalls>,
    contacts: Arc<Contacts>,
}

impl Network {
    pub(crate) fn new(me: NodeId, peers: Arc<dyn PeerCalls>, contacts: Arc<Contacts>) -> Self {
        Self { me, peers, contacts }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = PeerClient;

    async fn new_client(&mut self, target: u64, member: &Member) -> PeerClient {
        PeerClient {
            me: self.me,
            target: NodeId(target),
            member: *member,
            peers: self.peers.clone(),
            contacts: self.contacts.clone(),
        }
    }
}

/// Calls one other node.
pub(crate) struct PeerClient {
    me: NodeId,
    target: NodeId,
    member: Member,
    peers: Arc<dyn PeerCalls>,
    contacts: Arc<Contacts>,
}

type RpcError<E> = RPCError<u64, Member, E>;

impl PeerClient {
    async fn call<Q, A, E>(
        &self,
        method: Method,
        action: RPCTypes,
        (term, question): (u64, &Q),
        timeout: Duration,
    ) -> Result<A, RpcError<E>>
    where
        Q: Serialize + Sync,
        A: DeserializeOwned,
        E: std::error::Error,
    {
        self.contacts.asked(self.target, term);
        let asked = async {
            let body = encode(question)?;
            decode(&self.peers.call(self.target, method, body, timeout).await?)
        };
        let answer = asked.await.inspect(|_| self.contacts.answered(self.target, term));
        answer.map_err(|error| match error {
            CallError::Refused { reason, message } if reason == WRONG_DISK => {
                tracing::warn!(to = %self.target, %message, "a member came back without its disk");
                Unreachable::new(&CallError::Refused { reason, message }).into()
            }
            CallError::Timeout => Timeout { action, id: self.me.0, target: self.target.0, timeout }.into(),
            // openraft answers this with a pause; what was refused once would be refused again at once
            error => {
                tracing::debug!(to = %self.target, ?method, %error, "a call to a member failed");
                Unreachable::new(&error).into()
            }
        })
    }
}

impl RaftNetwork<TypeConfig> for PeerClient {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RpcError<RaftError<u64>>> {
        let term = rpc.vote.leader_id.term;
        let record = |entry| seal(Kind::Entry, &LogEntry::from(entry)).map(Bytes::from);
        let records: Result<Vec<Bytes>, _> = rpc.entries.into_iter().map(record).collect();
        let append = Append {
            disk: self.member.disk,
            ballot: rpc.vote.into(),
            previous: rpc.prev_log_id.map(Into::into),
            committed: rpc.leader_commit.map(Into::into),
            entries: records.map_err(|error| Unreachable::new(&error))?,
        };
        let answer: AppendAnswer =
            self.call(Method::Append, RPCTypes::AppendEntries, (term, &append), option.hard_ttl()).await?;
        self.contacts.has_disk(self.target, answer.disk);
        Ok(answer.appended.into())
    }

    async fn install_snapshot(
        &mut self,
        rpc: InstallSnapshotRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<InstallSnapshotResponse<u64>, RpcError<RaftError<u64, InstallSnapshotError>>> {
        let term = rpc.vote.leader_id.term;
        let chunk = Chunk {
            disk: self.member.disk,
            ballot: rpc.vote.into(),
            head: (&rpc.meta).into(),
            offset: rpc.offset,
            data: rpc.data.into(),
            done: rpc.done,
        };
        let taken: ChunkTaken =
            self.call(Method::Snapshot, RPCTypes::InstallSnapshot, (term, &chunk), option.hard_ttl()).await?;
        match taken {
            ChunkTaken::Taken(ballot) => Ok(InstallSnapshotResponse { vote: ballot.into() }),
            ChunkTaken::StartAgain => {
                let segment = |offset| SnapshotSegmentId { id: rpc.meta.snapshot_id.clone(), offset };
                let mismatch = SnapshotMismatch { expect: segment(0), got: segment(rpc.offset) };
                let error = RaftError::APIError(InstallSnapshotError::SnapshotMismatch(mismatch));
                Err(RemoteError::new(self.target.0, error).into())
            }
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<u64>,
        option: RPCOption,
    ) -> Result<VoteResponse<u64>, RpcError<RaftError<u64>>> {
        let term = rpc.vote.leader_id.term;
        let ask = AskVote {
            disk: self.member.disk,
            ballot: rpc.vote.into(),
            last: rpc.last_log_id.map(Into::into),
        };
        let voted: Voted = self.call(Method::Vote, RPCTypes::Vote, (term, &ask), option.hard_ttl()).await?;
        Ok(voted.into())
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(UNREACHABLE_PAUSE))
    }
}

/// Whether the node answers calls at all, be it with a refusal.
pub(crate) async fn answers(peers: &dyn PeerCalls, node: NodeId, within: Duration) -> bool {
    let Ok(body) = message::Request::ReadIndex.encode() else { return false };
    let call = peers.call(node, Method::ReadIndex, body, within);
    matches!(tokio::time::timeout(within, call).await, Ok(Ok(_) | Err(CallError::Refused { .. })))
}
