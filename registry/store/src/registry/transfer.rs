//! The lead changes hands, on purpose. openraft has no such thing; this is made of what it has.
//!
//! The leader takes nothing more, lets a voter catch up with the last of its log, and falls silent. Once its lease has run
//! out at every voter, it asks the one that it chose to stand for election, which wins: it has the whole log. If anything
//! goes wrong the leader speaks again, or the voters elect another one, as if it had died.

use super::Registry;
use super::lead::PAUSE;
use crate::CallError;
use crate::message::{Decline, encode, refused};
use crate::propose::ProposeError;
use causeway_model::NodeId;
use causeway_wire::peer::Method;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// How much longer than the lease a leader stays silent: what it said last may still be on the way.
const MARGIN: Duration = Duration::from_millis(30);
/// How long the lead may take to change hands.
const HAND_OVER: Duration = Duration::from_millis(950);

/// The leader's silence, which ends with this value.
struct Silence<'a> {
    registry: &'a Registry,
}

impl<'a> Silence<'a> {
    fn new(registry: &'a Registry) -> Self {
        registry.inner.handing_over.store(true, Ordering::SeqCst);
        registry.inner.raft.runtime_config().heartbeat(false);
        Self { registry }
    }
}

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        self.registry.inner.raft.runtime_config().heartbeat(true);
        self.registry.inner.handing_over.store(false, Ordering::SeqCst);
    }
}

impl Registry {
    /// Hands the lead to another voter if this node has it, within a second; else does nothing. Changes that are proposed
    /// meanwhile wait for the new leader.
    ///
    /// # Errors
    /// No other voter answers and has caught up, or nobody took over in time: then this node goes on leading.
    pub async fn transfer_leadership(&self) -> Result<(), ProposeError> {
        let deadline = Instant::now() + HAND_OVER;
        let late = || ProposeError::Timeout { cause: "another change of the group took too long".to_owned() };
        let _one = timeout_at(deadline, self.inner.changing.lock()).await.map_err(|_| late())?;
        if !self.leads() {
            return Ok(());
        }
        match self.hand_over(&self.voters(), deadline).await {
            Ok(()) | Err(Decline::NotLeader) => Ok(()),
            Err(Decline::Error(error)) => Err(error),
        }
    }

    fn leads(&self) -> bool {
        self.inner.raft.metrics().borrow().state.is_leader()
    }

    /// Hands over to the best of `to`.
    pub(super) async fn hand_over(&self, to: &BTreeSet<NodeId>, deadline: Instant) -> Result<(), Decline> {
        let deadline = deadline.min(Instant::now() + HAND_OVER);
        let heir = self.wait_for_heir(to).await?;
        let _silence = Silence::new(self);
        let mut metrics = self.inner.raft.metrics();
        loop {
            let index = timeout_at(deadline, self.caught_up(heir)).await.map_err(|_| late(heir))?;
            sleep(self.inner.timing.election_max + MARGIN).await;
            // what was on its way into the log when the silence began
            if metrics.borrow().last_log_index == index {
                break;
            }
        }
        tracing::info!(to = %heir, "hands over the registry's lead");
        loop {
            let asked = self.ask_to_stand(heir, deadline).await;
            let me = self.inner.node.0;
            let step = deadline.min(Instant::now() + self.inner.timing.election_min);
            let other = metrics.wait_for(|metrics| metrics.current_leader.is_some_and(|leads| leads != me));
            match timeout_at(step, other).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(_)) => return Err(ProposeError::failed(self.cause_of_end()).into()),
                Err(_) if Instant::now() < deadline => tracing::debug!(?asked, "asks again"),
                Err(_) => return Err(late(heir).into()),
            }
        }
    }

    /// The best of `to`; a leader that is new has yet to hear from them.
    async fn wait_for_heir(&self, to: &BTreeSet<NodeId>) -> Result<NodeId, ProposeError> {
        let give_up = Instant::now() + self.inner.timing.heartbeat * 3;
        loop {
            match self.heir(to) {
                Some(heir) => return Ok(heir),
                None if Instant::now() < give_up => sleep(PAUSE).await,
                None => {
                    let cause = "no other voter answers and has caught up: there is nobody to hand over to";
                    return Err(ProposeError::membership(cause));
                }
            }
        }
    }

    /// Which of `to` is best to lead.
    fn heir(&self, to: &BTreeSet<NodeId>) -> Option<NodeId> {
        let behind = self.behind();
        let voters = self.voters();
        let able = to
            .iter()
            .copied()
            .filter(|&node| node != self.inner.node && voters.contains(&node) && self.has_everything(node));
        let draining = |node| self.catalog().is_draining(node);
        able.min_by_key(|&node| (draining(node), behind.get(&node).copied().flatten(), node))
    }

    /// Waits until `node` has the whole log, and returns its last index.
    async fn caught_up(&self, node: NodeId) -> Option<u64> {
        let mut metrics = self.inner.raft.metrics();
        let done = metrics.wait_for(|metrics| {
            let matched =
                metrics.replication.as_ref().and_then(|members| members.get(&node.0).copied().flatten());
            matched.map(|id| id.index) == metrics.last_log_index || !metrics.state.is_leader()
        });
        done.await.ok().and_then(|metrics| metrics.last_log_index)
    }

    async fn ask_to_stand(&self, heir: NodeId, deadline: Instant) -> Result<(), CallError> {
        let left = deadline.saturating_duration_since(Instant::now()).min(self.inner.timing.election_min);
        let call = self.inner.peers.call(heir, Method::Elect, encode(&())?, left);
        timeout(left, call).await.unwrap_or(Err(CallError::Timeout)).map(drop)
    }

    /// Stands for election at the wish of the leader.
    pub(super) async fn stand(&self, from: NodeId) -> Result<(), CallError> {
        let metrics = self.inner.raft.metrics();
        let leader = metrics.borrow().current_leader;
        if leader != Some(from.0) {
            return Err(refused(
                "not-the-leader",
                &format!("node {from} does not lead and cannot hand over"),
            ));
        }
        self.inner.raft.trigger().elect().await.map_err(|_| self.stopped())
    }
}

fn late(heir: NodeId) -> ProposeError {
    ProposeError::Timeout { cause: format!("gateway {heir} did not take over the lead in time") }
}
