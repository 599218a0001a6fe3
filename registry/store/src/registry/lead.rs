//! What only a leader can do: done here when this node leads, else asked of the one that does.

use super::Registry;
use crate::CallError;
use crate::message::{Answer, Decline, MAX_COMMAND_LEN, Request, decode};
use crate::network::answers;
use crate::propose::{ProposeError, Proposed};
use crate::raft::{Answered, ReadError, WriteError};
use causeway_catalog::Command;
use causeway_model::{NodeId, Revision};
use causeway_wire::codec::to_vec_unlimited;
use futures_util::future::join_all;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// Between two looks for a leader.
pub(super) const PAUSE: Duration = Duration::from_millis(25);
/// How long a node may take to show that it answers at all.
const PING: Duration = Duration::from_millis(250);

impl Registry {
    /// Has the leader do `request`, waiting for one to be elected as long as an election takes.
    pub(super) async fn at_leader(&self, request: Request, within: Duration) -> Result<Answer, ProposeError> {
        check_size(&request)?;
        let deadline = Instant::now() + within;
        let patience = match request {
            // the lead may have to change hands on the way
            Request::Members(_) => within,
            Request::Propose(_) | Request::ReadIndex => self.inner.timing.patience(),
        };
        let give_up = Instant::now() + patience.min(within.saturating_sub(PING));
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
        if self.inner.handing_over.load(Ordering::SeqCst) {
            return Err(Decline::NotLeader);
        }
        match request {
            Request::ReadIndex => self.confirm_leadership(deadline).await.map(Answer::Index),
            Request::Propose(command) => {
                self.check_known(&command.body)?;
                self.check_majority(deadline).await?;
                self.write(command.clone(), deadline).await.map(Answer::Proposed)
            }
            Request::Members(change) => {
                self.confirm_leadership(deadline).await?;
                self.change_members(change, deadline).await.map(|()| Answer::Done)
            }
        }
    }

    /// A leader that has lost its majority does not know it: finds out before anything enters the log.
    async fn check_majority(&self, deadline: Instant) -> Result<(), Decline> {
        let answered = self.inner.raft.metrics().borrow().millis_since_quorum_ack.map(Duration::from_millis);
        if answered.is_some_and(|time| time <= self.inner.timing.heartbeat * 2) {
            return Ok(());
        }
        self.confirm_leadership(deadline).await.map(drop)
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

    /// Asks `leader` to do `request`.
    async fn ask(&self, leader: NodeId, request: &Request, deadline: Instant) -> Result<Answer, Decline> {
        // a call into the void would leave the outcome unknown, so a leader that fell silent first has to show that it
        // is there
        let silent = !self.heard_lately(leader);
        if silent && !answers(&*self.inner.peers, leader, PING).await {
            return Err(Decline::NotLeader);
        }
        let body = request.encode().map_err(|error| ProposeError::failed(error.to_string()))?;
        let left = deadline.saturating_duration_since(Instant::now());
        let call = timeout(left, self.inner.peers.call(leader, request.method(), body, left));
        let answer = tokio::select! {
            biased;
            answer = call => answer.unwrap_or(Err(CallError::Timeout)),
            () = self.replaced(leader) => Err(CallError::Timeout),
        };
        match answer {
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

    /// Waits until somebody else leads and `leader` has had the time to say so.
    async fn replaced(&self, leader: NodeId) {
        let mut metrics = self.inner.raft.metrics();
        let other = |leads: Option<u64>| leads.is_some_and(|leads| leads != leader.0);
        let replaced = metrics.wait_for(|metrics| other(metrics.current_leader)).await.is_ok();
        match replaced {
            true => sleep(PAUSE).await,
            // the engine ended: the call has its own end
            false => std::future::pending().await,
        }
    }

    /// Whether `leader` spoke so lately that it is asked without looking whether it is there.
    pub(crate) fn heard_lately(&self, leader: NodeId) -> bool {
        self.heard_within(leader, self.inner.timing.heartbeat * 2)
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
