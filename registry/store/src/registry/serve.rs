//! Calls from other nodes. They are authenticated members of the cluster, and still may be of another release or in the
//! wrong: what they send is checked before openraft sees it, which would panic over some of it.

use super::members::MEMBERS_DEADLINE;
use super::{DEADLINE, Registry};
use crate::CallError;
use crate::envelope::{Kind, unseal};
use crate::format::{Ballot, EntryId, LogEntry};
use crate::machine::decode_snapshot;
use crate::member::DiskId;
use crate::message::{
    Append, AppendAnswer, AskVote, Chunk, ChunkTaken, Decline, MAX_COMMAND_LEN, MemberChange, Request, Voted,
    decode, encode, refused,
};
use crate::network::WRONG_DISK;
use crate::raft::{Entry, Snapshot};
use crate::snapshot::Taken;
use causeway_model::NodeId;
use causeway_wire::peer::Method;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest};
use std::io::Cursor;
use std::sync::PoisonError;
use tokio::time::Instant;

/// The reason of a refusal by a node that takes no part any more.
pub(super) const STOPPED: &str = "registry-stopped";

impl Registry {
    /// Answers a call of `from`, which must be the caller's authenticated node id.
    ///
    /// # Errors
    /// [`CallError::Refused`]: the body is malformed or of another release, the caller may not ask this, or this node
    /// takes no part any more.
    pub async fn handle_call(
        &self,
        from: NodeId,
        method: Method,
        body: Vec<u8>,
    ) -> Result<Vec<u8>, CallError> {
        if self.inner.disk.failure().borrow().is_some() {
            return Err(self.stopped());
        }
        match method {
            Method::Append => encode(&self.append(from, decode(&body)?).await?),
            Method::Vote => encode(&self.vote(from, decode(&body)?).await?),
            Method::Snapshot => encode(&self.take_chunk(from, &decode(&body)?).await?),
            Method::Propose => self.lead_for(from, Request::Propose(decode(&body)?), body.len()).await,
            Method::AddLearner => self.lead_for(from, Request::Members(decode(&body)?), 0).await,
            Method::ReadIndex => {
                decode::<()>(&body)?;
                self.lead_for(from, Request::ReadIndex, 0).await
            }
            Method::Elect => {
                decode::<()>(&body)?;
                encode(&self.stand(from).await?)
            }
        }
    }

    async fn append(&self, from: NodeId, append: Append) -> Result<AppendAnswer, CallError> {
        check_speaker(from, append.ballot)?;
        self.check_disk(append.disk)?;
        let entries = consecutive(&append)?;
        let request = AppendEntriesRequest {
            vote: append.ballot.into(),
            prev_log_id: append.previous.map(Into::into),
            entries,
            leader_commit: append.committed.map(Into::into),
        };
        let response = self.inner.raft.append_entries(request).await.map_err(|_| self.stopped())?;
        // one that was replaced and does not know it leads nobody
        if !matches!(response, AppendEntriesResponse::HigherVote(_)) {
            self.hear(from);
        }
        Ok(AppendAnswer { disk: self.inner.disk.id(), appended: response.into() })
    }

    async fn vote(&self, from: NodeId, ask: AskVote) -> Result<Voted, CallError> {
        check_speaker(from, ask.ballot)?;
        self.check_disk(ask.disk)?;
        let request = VoteRequest { vote: ask.ballot.into(), last_log_id: ask.last.map(Into::into) };
        self.inner.raft.vote(request).await.map(Into::into).map_err(|_| self.stopped())
    }

    async fn take_chunk(&self, from: NodeId, chunk: &Chunk) -> Result<ChunkTaken, CallError> {
        check_speaker(from, chunk.ballot)?;
        self.check_disk(chunk.disk)?;
        let own = self.inner.raft.metrics().borrow().vote;
        if own > chunk.ballot.into() {
            return Ok(ChunkTaken::Taken(own.into()));
        }
        let record = match self.inner.incoming.lock().await.take(chunk)? {
            Taken::More => {
                self.hear(from);
                return Ok(ChunkTaken::Taken(chunk.ballot));
            }
            Taken::Gap => return Ok(ChunkTaken::StartAgain),
            Taken::Whole(record) => record,
        };
        // openraft would take a snapshot that does not decode for a failure of this node
        if let Err(error) = decode_snapshot(&record) {
            return Err(refused(
                "bad-snapshot",
                &format!("the snapshot is damaged or of another release: {error}"),
            ));
        }
        let snapshot = Snapshot { meta: chunk.head.clone().into(), snapshot: Box::new(Cursor::new(record)) };
        let installed = self.inner.raft.install_full_snapshot(chunk.ballot.into(), snapshot).await;
        let vote = installed.map_err(|_| self.stopped())?.vote;
        if vote == chunk.ballot.into() {
            self.hear(from);
        }
        Ok(ChunkTaken::Taken(vote.into()))
    }

    /// A voter that has another database than the one its vote is bound to has forgotten what it acknowledged.
    fn check_disk(&self, meant: Option<DiskId>) -> Result<(), CallError> {
        let own = self.inner.disk.id();
        let Some(meant) = meant.filter(|&meant| meant != own) else { return Ok(()) };
        let node = self.inner.node;
        let message = format!(
            "gateway {node} votes with database {meant} and came back with {own}: put the lost file back, or remove the \
             gateway from the cluster and let it join again"
        );
        tracing::error!(%message, "the registry takes no part");
        Err(refused(WRONG_DISK, &message))
    }

    /// Does for another node what only the leader can, if this node leads.
    async fn lead_for(&self, from: NodeId, request: Request, size: usize) -> Result<Vec<u8>, CallError> {
        let joins = matches!(request, Request::Members(MemberChange::Add(node)) if node == from);
        if !joins && !self.is_member(from) {
            let message = format!("node {from} is not a member of this registry: let it join first");
            return Err(refused("not-a-member", &message));
        }
        if size > MAX_COMMAND_LEN + 1 {
            return Err(refused(
                "too-large",
                &format!("a command of {size} bytes; the most is {MAX_COMMAND_LEN}"),
            ));
        }
        let leads = self.inner.raft.metrics().borrow().state.is_leader();
        let deadline = if matches!(request, Request::Members(_)) { MEMBERS_DEADLINE } else { DEADLINE };
        let answer = match leads {
            true => self.lead(&request, Instant::now() + deadline).await,
            false => Err(Decline::NotLeader),
        };
        encode(&answer)
    }

    fn hear(&self, leader: NodeId) {
        let mut heard = self.inner.heard.lock().unwrap_or_else(PoisonError::into_inner);
        *heard = Some((leader, Instant::now()));
    }

    pub(super) fn stopped(&self) -> CallError {
        refused(STOPPED, &format!("node {} takes no part any more: {}", self.inner.node, self.cause_of_end()))
    }
}

/// Nobody speaks for another leader or candidate.
fn check_speaker(from: NodeId, ballot: Ballot) -> Result<(), CallError> {
    if ballot.node != from.0 {
        let message = format!("node {from} speaks for node {}", NodeId(ballot.node));
        return Err(refused("wrong-speaker", &message));
    }
    Ok(())
}

/// The entries of `append`, which must follow each other and what is said to be before them.
fn consecutive(append: &Append) -> Result<Vec<Entry>, CallError> {
    let mut previous: Option<EntryId> = append.previous;
    let mut entries = Vec::with_capacity(append.entries.len());
    for record in &append.entries {
        let entry: LogEntry = unseal(Kind::Entry, record).map_err(|error| {
            refused("bad-entry", &format!("a log entry is damaged or of another release: {error}"))
        })?;
        let expected = previous.map_or(Some(0), |previous| previous.index.checked_add(1));
        let older = previous.is_some_and(|previous| entry.id.term < previous.term);
        if expected != Some(entry.id.index) || older {
            return Err(refused(
                "bad-entry",
                &format!("log entry {} does not follow its predecessor", entry.id.index),
            ));
        }
        previous = Some(entry.id);
        entries.push(entry.into());
    }
    Ok(entries)
}
