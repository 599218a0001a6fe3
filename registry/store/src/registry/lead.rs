//! What only a leader can do: done here when this node leads, else asked of the one that does.

use super::Registry;
use crate::CallError;
use crate::message::{Answer, Decline, MAX_COMMAND_LEN, MemberChange, Request, decode};
use crate::network::answers;
use crate::propose::{ProposeError, Proposed};
use crate::raft::{Answered, ReadError, WriteError};
use causeway_catalog::Command;
use causeway_model::{NodeId, Revision};
use causeway_wire::codec::to_vec_unlimited;
use futures_util::future::join_all;
use openraft::error::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::{ChangeMembers, EmptyNode};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// Between two looks for a leader.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a node may take to show that it answers at all.
const PING: Duration = Duration::from_millis(250);

impl Registry {
    /// Has the leader do `request`, waiting for one to be elected as long as an election takes.
    pub(super) async fn at_leader(&self, request: Request, within: Duration) -> Result<Answer, ProposeError> {
        check_size(&request)?;
        let deadline = Instant::now() + within;
        let give_up = Instant::now() + self.inner.timing.patience().min(within.saturating_sub(PING));
        loop {
            let attempt = match self.leader()? {
                Some(node) if node == self.inner.node => self.lead(&request, deadline).await,
                Some(node) => self.ask(node, &request, deadline).await,
                None => Err(Decline::NotLeader),
            };
            match attempt {
                Ok(answer) => return Ok(answer),
                Err(Decline::Error(error)) => return Err(error),
                Err(Decline::NotLeader) if Instant::now() >= give_up => return Err(self.no_leader().await),
                Err(Decline::NotLeader) => sleep(PAUSE).await,
            }
        }
    }

    /// The leader that this node knows of.
    fn leader(&self) -> Result<Option<NodeId>, ProposeError> {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow();
        if metrics.running_state.is_err() || self.inner.disk.failure().borrow().is_some() {
            return Err(ProposeError::failed(self.cause_of_end()));
        }
        Ok(metrics.current_leader.map(NodeId))
    }

    /// Does `request` as the leader. The whole of it happens here or nothing: it is never passed on.
    pub(super) async fn lead(&self, request: &Request, deadline: Instant) -> Result<Answer, Decline> {
        // a leader that has lost its majority does not know it: find out before anything enters the log
        let index = self.confirm_leadership(deadline).await?;
        match request {
            Request::ReadIndex => Ok(Answer::Index(index)),
            Request::Propose(command) => self.write(command.clone(), deadline).await.map(Answer::Proposed),
            Request::Members(change) => self.change_members(*change, deadline).await.map(|()| Answer::Done),
        }
    }

    /// Makes sure that a majority follows this node, and returns the index up to which everything is committed.
    async fn confirm_leadership(&self, deadline: Instant) -> Result<u64, Decline> {
        let until = deadline.min(Instant::now() + self.inner.timing.election_max);
        match timeout_at(until, self.inner.raft.get_read_log_id()).await {
            Ok(Ok((index, _))) => Ok(index.map_or(0, |id| id.index)),
            Ok(Err(ReadError::Fatal(_))) => Err(ProposeError::failed(self.cause_of_end()).into()),
            Ok(Err(ReadError::APIError(_))) | Err(_) => Err(Decline::NotLeader),
        }
    }

    async fn write(&self, command: Command, deadline: Instant) -> Result<Proposed, Decline> {
        let written = timeout_at(deadline, self.inner.raft.client_write(command)).await;
        let response = match written {
            Ok(Ok(response)) => response,
            // a group of one cannot lose the entry after it was taken: it never was
            Ok(Err(WriteError::APIError(_))) if self.votes_alone() => return Err(Decline::NotLeader),
            Ok(Err(WriteError::APIError(error))) => {
                return Err(ProposeError::Timeout {
                    cause: format!("leadership was lost meanwhile ({error})"),
                }
                .into());
            }
            Ok(Err(WriteError::Fatal(_))) => return Err(ProposeError::failed(self.cause_of_end()).into()),
            Err(_) => {
                return Err(
                    ProposeError::Timeout { cause: "no majority confirmed it in time".to_owned() }.into()
                );
            }
        };
        proposed(Revision(response.log_id.index), response.data).map_err(Decline::Error)
    }

    async fn change_members(&self, change: MemberChange, deadline: Instant) -> Result<(), Decline> {
        loop {
            let changed = match change {
                MemberChange::Add(node) if self.is_member(node) => return Ok(()),
                MemberChange::Add(NodeId::ANY) => {
                    return Err(
                        ProposeError::failed("node id 0 stands for any gateway and cannot join").into()
                    );
                }
                MemberChange::Add(node) => self.inner.raft.add_learner(node.0, EmptyNode {}, false).await,
                MemberChange::Remove(node) if !self.is_member(node) => return Ok(()),
                MemberChange::Remove(node) if self.voters().contains(&node) => {
                    let cause = format!("node {node} votes: only nodes without a vote can be removed");
                    return Err(ProposeError::failed(cause).into());
                }
                MemberChange::Remove(node) => {
                    let gone = ChangeMembers::RemoveNodes(BTreeSet::from([node.0]));
                    self.inner.raft.change_membership(gone, true).await
                }
            };
            match changed {
                Ok(_) => return Ok(()),
                Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => {
                    return Err(Decline::NotLeader);
                }
                // one change at a time
                Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(
                    ChangeMembershipError::InProgress(_),
                ))) if Instant::now() < deadline => sleep(PAUSE).await,
                Err(RaftError::APIError(error)) => return Err(ProposeError::failed(error.to_string()).into()),
                Err(RaftError::Fatal(_)) => return Err(ProposeError::failed(self.cause_of_end()).into()),
            }
        }
    }

    /// Asks `leader` to do `request`.
    async fn ask(&self, leader: NodeId, request: &Request, deadline: Instant) -> Result<Answer, Decline> {
        // a call into the void would leave the outcome unknown, so a leader that fell silent first has to show that it
        // is there
        let silent = !self.heard_within(leader, self.inner.timing.election_max);
        if silent && !answers(&*self.inner.peers, leader, PING).await {
            return Err(Decline::NotLeader);
        }
        let body = request.encode().map_err(|error| ProposeError::failed(error.to_string()))?;
        let left = deadline.saturating_duration_since(Instant::now());
        let call = self.inner.peers.call(leader, request.method(), body, left);
        match timeout(left, call).await.unwrap_or(Err(CallError::Timeout)) {
            Ok(answer) => decode::<Result<Answer, Decline>>(&answer)
                .map_err(|error| ProposeError::failed(error.to_string()))?,
            Err(CallError::Unreachable(_)) => Err(Decline::NotLeader),
            Err(CallError::Timeout) if request.idempotent() => Err(Decline::NotLeader),
            Err(CallError::Timeout) => {
                Err(ProposeError::Timeout { cause: format!("the leader, node {leader}, did not answer") }
                    .into())
            }
            // said before anything was done
            Err(CallError::Refused { reason, .. }) if reason == super::serve::STOPPED => {
                Err(Decline::NotLeader)
            }
            Err(error) => Err(ProposeError::failed(format!("node {leader}: {error}")).into()),
        }
    }

    /// Counts the voters that answer, for the operator.
    async fn no_leader(&self) -> ProposeError {
        let voters = self.voters();
        if voters.is_empty() {
            return ProposeError::NotInitialised;
        }
        let others = voters.iter().filter(|&&voter| voter != self.inner.node);
        let pings = others.map(|&voter| answers(&*self.inner.peers, voter, PING));
        let others = join_all(pings).await.into_iter().filter(|&answered| answered).count();
        let answering = others + usize::from(voters.contains(&self.inner.node));
        ProposeError::NoLeader { answering, voters: voters.len() }
    }
}

fn check_size(request: &Request) -> Result<(), ProposeError> {
    let Request::Propose(command) = request else { return Ok(()) };
    let size = to_vec_unlimited(command).map_err(|error| ProposeError::failed(error.to_string()))?.len();
    if size > MAX_COMMAND_LEN {
        return Err(ProposeError::TooLarge { size, max: MAX_COMMAND_LEN });
    }
    Ok(())
}

fn proposed(revision: Revision, answer: Answered) -> Result<Proposed, ProposeError> {
    match answer {
        Some(Ok(outcome)) => Ok(Proposed { revision, outcome }),
        Some(Err(refusal)) => Err(refusal.into()),
        None => Err(ProposeError::failed("the log holds no command where this one was put")),
    }
}
