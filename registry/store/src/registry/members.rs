//! Who is in the group and who votes. The leader changes it, one change at a time; every node can ask it to.

use super::Registry;
use super::lead::PAUSE;
use crate::member::Member;
use crate::message::{Decline, MemberChange, Request};
use crate::propose::ProposeError;
use crate::status::MemberStatus;
use crate::voters::{CAUGHT_UP, Candidate, choose_voters, without};
use causeway_model::{GatewayRole, NodeId};
use openraft::ChangeMembers;
use openraft::error::{ChangeMembershipError, ClientWriteError, RaftError};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// How long a change of the group may take: the lead may have to change hands on the way.
pub(super) const MEMBERS_DEADLINE: Duration = Duration::from_secs(6);

impl Registry {
    /// Lets `node` follow the group without a vote. Doing so twice is doing so once. Answers within 6 s, as do the others
    /// that change the group.
    ///
    /// # Errors
    /// As for [`Registry::propose`].
    pub async fn add_learner(&self, node: NodeId) -> Result<(), ProposeError> {
        self.change_group(MemberChange::Add(node)).await
    }

    /// Takes `node`, which may be dead, out of the group, as long as a majority of the voters answers. If it votes somebody
    /// else gets its vote, or the votes become as many as make an odd number; if it leads it hands over first. Removing a node
    /// that is no member does nothing.
    ///
    /// # Errors
    /// As for [`Registry::propose`]; and nobody who has everything could vote in its place.
    pub async fn remove_member(&self, node: NodeId) -> Result<(), ProposeError> {
        self.change_group(MemberChange::Remove(node)).await
    }

    /// Gives the votes to `voters` and to nobody else; those that lose theirs stay as learners. What of it was cut short is
    /// completed by asking again. If the leader loses its vote it hands over first.
    ///
    /// # Errors
    /// As for [`Registry::propose`]; and a voter is no member, is a forwarder, does not answer or has not caught up.
    pub async fn set_voters(&self, voters: BTreeSet<NodeId>) -> Result<(), ProposeError> {
        self.change_group(MemberChange::Vote(voters)).await
    }

    async fn change_group(&self, change: MemberChange) -> Result<(), ProposeError> {
        self.at_leader(Request::Members(change), MEMBERS_DEADLINE).await.map(drop)
    }

    /// The members, by their number.
    pub fn members(&self) -> Vec<MemberStatus> {
        let voters = self.voters();
        let behind = self.behind();
        let leads = !behind.is_empty();
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow();
        let nodes = metrics.membership_config.membership().nodes().map(|(&node, _)| NodeId(node));
        let status = nodes.map(|node| MemberStatus {
            node,
            votes: voters.contains(&node),
            behind: behind.get(&node).copied().flatten(),
            silent: self
                .inner
                .contacts
                .silent(node, metrics.current_term)
                .filter(|_| leads && node != self.inner.node),
        });
        status.collect()
    }

    /// The members as candidates for a vote, as this node sees them if it leads; else nobody. Who lives is who answers the
    /// calls of the group: one that speaks of itself elsewhere and refuses those, because its disk is another one, does not.
    pub(crate) fn candidates(&self) -> Vec<Candidate> {
        let (catalog, term) = (self.catalog(), self.term());
        let candidate = |(node, behind): (NodeId, Option<u64>)| {
            let facts = catalog.gateway(node);
            let alive = self.answers_lately(node);
            Candidate {
                node,
                signs: facts.is_some_and(|facts| facts.role == GatewayRole::Gateway),
                alive,
                draining: catalog.is_draining(node),
                behind,
                zone: facts
                    .map(|facts| format!("{}/{}", facts.locality.region, facts.locality.zone))
                    .unwrap_or_default(),
                dead_for: self.inner.contacts.unheard(node, term).filter(|_| !alive),
            }
        };
        self.behind().into_iter().map(candidate).collect()
    }

    /// Who should vote instead of those who do: what [`choose_voters`] makes of the members as this leader sees them. If that changes
    /// nothing, but the leader that began a change died half-way, the same ones: until [`Registry::set_voters`] completes the change
    /// the old voters count for everything, too, though the status shows the new ones. `None` when nothing is to be done, and on a
    /// node that does not lead.
    pub fn next_voters(&self) -> Option<BTreeSet<NodeId>> {
        let candidates = self.candidates();
        if candidates.is_empty() {
            return None;
        }
        let voters = self.voters();
        choose_voters(&voters, &candidates).or_else(|| self.is_changing_voters().then_some(voters))
    }

    /// On the leader, by how many entries each member is behind; else nothing.
    pub(super) fn behind(&self) -> BTreeMap<NodeId, Option<u64>> {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow();
        let last = metrics.last_log_index.unwrap_or(0);
        let members = metrics.replication.iter().flatten();
        let behind = members.map(|(&node, matched)| match NodeId(node) {
            node if node == self.inner.node => (node, Some(0)),
            node => (node, matched.map(|id| last.saturating_sub(id.index))),
        });
        behind.collect()
    }

    /// Whether a member has answered this leader within the time that an election takes.
    pub(super) fn answers_lately(&self, node: NodeId) -> bool {
        let lately = |time: Duration| time <= self.inner.timing.patience();
        node == self.inner.node || self.inner.contacts.silent(node, self.term()).is_some_and(lately)
    }

    fn term(&self) -> u64 {
        self.inner.raft.metrics().borrow().current_term
    }

    /// Makes a change as the leader.
    pub(super) async fn change_members(
        &self,
        change: &MemberChange,
        deadline: Instant,
    ) -> Result<(), Decline> {
        let late = || ProposeError::Timeout { cause: "another change of the group took too long".to_owned() };
        let _one = timeout_at(deadline, self.inner.changing.lock()).await.map_err(|_| late())?;
        match change {
            MemberChange::Add(node) => self.add(*node, deadline).await,
            MemberChange::Remove(node) => self.remove(*node, deadline).await,
            MemberChange::Vote(voters) => self.give_votes(voters, deadline).await,
        }
    }

    async fn add(&self, node: NodeId, deadline: Instant) -> Result<(), Decline> {
        if node == NodeId::ANY {
            return Err(ProposeError::membership("node id 0 stands for any gateway and cannot join").into());
        }
        let new = BTreeMap::from([(node.0, Member::default())]);
        match self.member(node) {
            None => self.change(ChangeMembers::AddNodes(new), deadline).await,
            // it lost its vote: it may also lose its disk from now on
            Some(member) if member.disk.is_some() && !self.voters().contains(&node) => {
                self.change(ChangeMembers::SetNodes(new), deadline).await
            }
            Some(_) => Ok(()),
        }
    }

    async fn remove(&self, node: NodeId, deadline: Instant) -> Result<(), Decline> {
        if !self.is_member(node) {
            return Ok(());
        }
        let voters = self.voters();
        if voters.contains(&node) {
            let rest = without(&voters, node, self.inner.node, &self.candidates());
            let rest = rest
                .filter(|rest| node != self.inner.node || rest.iter().any(|&one| self.has_everything(one)));
            let Some(rest) = rest else {
                let cause = format!(
                    "gateway {node} is the only voter that has everything: let another gateway join and catch up first"
                );
                return Err(ProposeError::Membership { cause }.into());
            };
            self.give_votes(&rest, deadline).await?;
            if node == self.inner.node {
                // whoever leads now removes it
                return Err(Decline::NotLeader);
            }
        }
        self.change(ChangeMembers::RemoveNodes(BTreeSet::from([node.0])), deadline).await?;
        self.inner.contacts.forget(node);
        Ok(())
    }

    async fn give_votes(&self, voters: &BTreeSet<NodeId>, deadline: Instant) -> Result<(), Decline> {
        if voters.is_empty() {
            return Err(ProposeError::membership("somebody has to vote").into());
        }
        if self.has_votes(voters) {
            return Ok(());
        }
        let current = self.voters();
        self.check_voters(&current, voters)?;
        if !voters.contains(&self.inner.node)
            && current.intersection(voters).any(|&one| self.has_everything(one))
        {
            self.hand_over(voters, deadline).await?;
            // whoever leads now gives the votes
            return Err(Decline::NotLeader);
        }
        self.bind_disks(voters.difference(&current), deadline).await?;
        let ids = voters.iter().map(|node| node.0).collect();
        self.change(ChangeMembers::ReplaceAllVoters(ids), deadline).await
    }

    /// Whether exactly `voters` vote, and no change of that is under way.
    fn has_votes(&self, voters: &BTreeSet<NodeId>) -> bool {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow();
        match &metrics.membership_config.membership().get_joint_config()[..] {
            [only] => only.iter().copied().map(NodeId).eq(voters.iter().copied()),
            _ => false,
        }
    }

    /// A group in which a majority does not answer could not even be changed back.
    fn check_voters(
        &self,
        current: &BTreeSet<NodeId>,
        voters: &BTreeSet<NodeId>,
    ) -> Result<(), ProposeError> {
        for &node in voters.difference(current) {
            let catalog = self.catalog();
            let forwards = catalog.gateway(node).is_some_and(|facts| facts.role != GatewayRole::Gateway);
            let why = match () {
                () if !self.is_member(node) => "is no member: let it join first",
                () if forwards => "is a forwarder, which never votes",
                () if !self.answers_lately(node) => "does not answer",
                () if !self.has_everything(node) => "has not caught up yet: try again in a moment",
                () => continue,
            };
            return Err(ProposeError::membership(format!("gateway {node} {why}")));
        }
        let answering = voters.iter().filter(|&&node| self.answers_lately(node)).count();
        if answering * 2 <= voters.len() {
            let cause = format!("only {answering} of the {} new voters answer", voters.len());
            return Err(ProposeError::Membership { cause });
        }
        Ok(())
    }

    pub(super) fn has_everything(&self, node: NodeId) -> bool {
        let behind = self.behind().get(&node).copied().flatten();
        self.answers_lately(node) && behind.is_some_and(|behind| behind <= CAUGHT_UP)
    }

    /// Records with which databases the newcomers get their votes.
    async fn bind_disks(
        &self,
        newcomers: impl Iterator<Item = &NodeId>,
        deadline: Instant,
    ) -> Result<(), Decline> {
        let mut bound = BTreeMap::new();
        for &node in newcomers {
            let disk = self.inner.contacts.disk(node);
            let disk =
                disk.ok_or_else(|| ProposeError::membership(format!("gateway {node} does not answer")))?;
            bound.insert(node.0, Member { disk: Some(disk) });
        }
        bound.retain(|&node, member| self.member(NodeId(node)) != Some(*member));
        match bound.is_empty() {
            true => Ok(()),
            false => self.change(ChangeMembers::SetNodes(bound), deadline).await,
        }
    }

    fn member(&self, node: NodeId) -> Option<Member> {
        let metrics = self.inner.raft.metrics();
        metrics.borrow().membership_config.membership().get_node(&node.0).copied()
    }

    /// Makes one change, once those before it are made.
    async fn change(&self, change: ChangeMembers<u64, Member>, deadline: Instant) -> Result<(), Decline> {
        loop {
            let changed = timeout_at(deadline, self.inner.raft.change_membership(change.clone(), true)).await;
            let Ok(changed) = changed else {
                let cause = "no majority of the voters, the old and the new, confirmed it in time".to_owned();
                return Err(ProposeError::Timeout { cause }.into());
            };
            match changed {
                Ok(_) => return Ok(()),
                Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => {
                    return Err(Decline::NotLeader);
                }
                Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(
                    ChangeMembershipError::InProgress(_),
                ))) if Instant::now() < deadline => sleep(PAUSE).await,
                Err(RaftError::APIError(error)) => return Err(ProposeError::failed(error.to_string()).into()),
                Err(RaftError::Fatal(_)) => return Err(ProposeError::failed(self.cause_of_end()).into()),
            }
        }
    }
}
