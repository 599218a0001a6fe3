//! How a registry node is doing, for operators.

use crate::raft::Metrics;
use causeway_model::{NodeId, Revision};
use openraft::ServerState;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// What a node does in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RegistryRole {
    /// Orders the changes.
    Leader,
    /// Votes and follows.
    Follower,
    /// Votes and stands for election.
    Candidate,
    /// Follows without a vote, or is in no group yet.
    Learner,
    /// Takes no part any more: it failed or was shut down.
    Stopped,
}

impl fmt::Display for RegistryRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Leader => "leader",
            Self::Follower => "follower",
            Self::Candidate => "candidate",
            Self::Learner => "learner",
            Self::Stopped => "stopped",
        })
    }
}

/// How far a member is behind its leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LearnerLag {
    /// The member.
    pub node: NodeId,
    /// By how many log entries; `None` until it has answered this leader.
    pub behind: Option<u64>,
}

/// A member of the group, as seen from the node that is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// The member.
    pub node: NodeId,
    /// It votes; else it is a learner.
    pub votes: bool,
    /// By how many log entries it is behind the leader; only the leader knows, and it only once the member answered.
    pub behind: Option<u64>,
    /// On the leader, how long ago the member last answered it; `None` if it has not, and for the leader itself.
    pub silent: Option<Duration>,
}

/// How a registry node is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryStatus {
    /// The node.
    pub node: NodeId,
    /// What it does.
    pub role: RegistryRole,
    /// Who leads, as far as this node hears: `None` when the leader has been silent for longer than an election takes.
    pub leader: Option<NodeId>,
    /// The newest term that it knows.
    pub term: u64,
    /// The index of its last log entry.
    pub last_log: Revision,
    /// The index of the last log entry that is in its catalog.
    pub applied: Revision,
    /// The index of the last log entry that is in its snapshot.
    pub snapshot: Revision,
    /// The members that vote.
    pub voters: Vec<NodeId>,
    /// The members that do not.
    pub learners: Vec<NodeId>,
    /// On the leader, how far each other member is behind.
    pub lag: Vec<LearnerLag>,
    /// Why it takes no part any more.
    pub failure: Option<String>,
}

impl RegistryStatus {
    pub(crate) fn new(
        metrics: &Metrics,
        applied: Revision,
        leader: Option<NodeId>,
        failure: Option<String>,
    ) -> Self {
        let members = metrics.membership_config.membership();
        let last = metrics.last_log_index.unwrap_or(0);
        let lag = metrics.replication.iter().flatten().filter(|(node, _)| **node != metrics.id);
        Self {
            node: NodeId(metrics.id),
            role: role(metrics, failure.is_some()),
            leader,
            term: metrics.current_term,
            last_log: Revision(last),
            applied,
            snapshot: Revision(metrics.snapshot.map_or(0, |id| id.index)),
            voters: members.voter_ids().map(NodeId).collect(),
            learners: members.learner_ids().map(NodeId).collect(),
            lag: lag
                .map(|(&node, matched)| LearnerLag {
                    node: NodeId(node),
                    behind: matched.map(|id| last.saturating_sub(id.index)),
                })
                .collect(),
            failure,
        }
    }
}

fn role(metrics: &Metrics, failed: bool) -> RegistryRole {
    match metrics.state {
        _ if failed || metrics.running_state.is_err() => RegistryRole::Stopped,
        ServerState::Leader => RegistryRole::Leader,
        ServerState::Follower => RegistryRole::Follower,
        ServerState::Candidate => RegistryRole::Candidate,
        ServerState::Learner => RegistryRole::Learner,
        ServerState::Shutdown => RegistryRole::Stopped,
    }
}
