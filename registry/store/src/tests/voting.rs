//! Several voters: who they are, and how that changes.

use super::mesh::{Cut, Mesh, SOON, admit, init, port, set_port, until};
use crate::voters::choose_voters;
use crate::{Registry, RegistryRole, StoreConfig};
use causeway_model::{GatewayRole, NodeId, Revision};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub(super) fn ids(nodes: &[u64]) -> BTreeSet<NodeId> {
    nodes.iter().copied().map(NodeId).collect()
}

/// Some nodes, of which the first three vote; node 1 leads.
pub(super) struct Voters {
    pub(super) mesh: Arc<Mesh>,
    pub(super) dirs: Vec<TempDir>,
    pub(super) nodes: Vec<Registry>,
}

impl Voters {
    pub(super) async fn new(count: u64) -> Self {
        let group = Self::alone(count).await;
        group.nodes[0].set_voters(ids(&[1, 2, 3])).await.unwrap();
        group
    }

    /// Only node 1 votes.
    pub(super) async fn alone(count: u64) -> Self {
        let mut group = Self { mesh: Arc::default(), dirs: Vec::new(), nodes: Vec::new() };
        for node in 1..=count {
            group.dirs.push(tempfile::tempdir().unwrap());
            let registry = group.mesh.open_with(group.config(node)).await.unwrap();
            group.nodes.push(registry);
        }
        group.node(1).initialise(init()).await.unwrap();
        for node in 2..=count {
            group.node(1).propose(admit(node, GatewayRole::Gateway)).await.unwrap();
            group.node(1).add_learner(NodeId(node)).await.unwrap();
        }
        group.caught_up().await;
        group
    }

    fn config(&self, node: u64) -> StoreConfig {
        let index = usize::try_from(node - 1).unwrap();
        let dir = self.dirs[index].path();
        StoreConfig { snapshot_every: 50, keep_entries: 5, ..StoreConfig::new(dir, NodeId(node)) }
    }

    pub(super) fn node(&self, node: u64) -> &Registry {
        &self.nodes[usize::try_from(node - 1).unwrap()]
    }

    pub(super) async fn reopen(&mut self, node: u64) {
        self.mesh.heal(node);
        let registry = self.mesh.open_with(self.config(node)).await.unwrap();
        self.nodes[usize::try_from(node - 1).unwrap()] = registry;
    }

    pub(super) async fn caught_up(&self) {
        let all = || self.node(1).members().iter().all(|one| one.behind == Some(0));
        until("all have everything", all).await;
    }

    /// The one that leads among `nodes`, once all of them agree.
    pub(super) async fn leader(&self, nodes: &[u64]) -> u64 {
        let leader = || {
            let seen: BTreeSet<Option<NodeId>> =
                nodes.iter().map(|&node| self.node(node).status().leader).collect();
            match seen.into_iter().collect::<Vec<_>>()[..] {
                [Some(leader)] if nodes.contains(&leader.0) => Some(leader.0),
                _ => None,
            }
        };
        until("a leader", || leader().is_some()).await;
        leader().unwrap()
    }

    pub(super) async fn stop(&self, nodes: &[u64]) {
        for &node in nodes {
            self.mesh.stop(node).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn learners_become_voters_and_back() {
    let group = Voters::alone(5).await;
    let (one, four) = (group.node(1), group.node(4));
    let chosen = choose_voters(&one.voters(), &one.candidates()).unwrap();
    assert_eq!(chosen, ids(&[1, 2, 3, 4, 5]));
    // asked of a learner
    four.set_voters(chosen.clone()).await.unwrap();
    assert_eq!(one.voters(), chosen);
    assert_eq!(choose_voters(&one.voters(), &one.candidates()), None);
    four.set_voters(chosen).await.unwrap();
    assert_eq!(group.node(2).candidates(), []);

    one.set_voters(ids(&[1, 2, 3])).await.unwrap();
    let status = one.status();
    assert_eq!(
        (status.voters, status.learners),
        (ids(&[1, 2, 3]).into_iter().collect(), vec![NodeId(4), NodeId(5)])
    );
    let done = four.propose(set_port(7)).await.unwrap();
    group.node(5).wait_applied(done.revision, SOON).await.unwrap();
    group.caught_up().await;
    assert_eq!(port(group.node(5)), Some(7), "it stayed as a learner");
    let members = one.members();
    assert_eq!(members.iter().filter(|one| one.votes).count(), 3);
    assert!(members[1..].iter().all(|one| one.silent.is_some_and(|time| time < SOON)), "{members:?}");
    assert_eq!((members[0].silent, group.node(2).members()[2].silent), (None, None));
    group.stop(&[1, 2, 3, 4, 5]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vote_is_not_given_to_who_could_block_the_group() {
    let group = Voters::alone(4).await;
    let one = group.node(1);
    let refused = async |voters: &[u64], why: &str| {
        let error = one.set_voters(ids(voters)).await.unwrap_err();
        assert_eq!(error.reason(), "membership", "{error}");
        assert!(error.to_string().contains(why), "{error}");
    };
    refused(&[], "somebody has to vote").await;
    refused(&[1, 2, 9], "no member").await;
    one.propose(admit(8, GatewayRole::Forwarder)).await.unwrap();
    one.add_learner(NodeId(8)).await.unwrap();
    refused(&[1, 2, 8], "forwarder").await;
    group.mesh.cut(3, Cut::Refused);
    until("node 3 is missed", || one.candidates().iter().any(|one| one.node == NodeId(3) && !one.alive))
        .await;
    refused(&[1, 2, 3], "does not answer").await;
    one.propose(set_port(2)).await.unwrap();
    assert_eq!(one.voters(), ids(&[1]));
    group.stop(&[1, 2, 3, 4]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lead_changes_hands_within_a_second() {
    let group = Voters::new(4).await;
    let mut leader = 1;
    for round in 2..5 {
        let started = Instant::now();
        group.node(leader).transfer_leadership().await.unwrap();
        let took = started.elapsed();
        let next = group.leader(&[1, 2, 3, 4]).await;
        println!("handed over from {leader} to {next} in {took:?}");
        assert!(next != leader && took < Duration::from_secs(1), "{took:?}");
        assert_eq!(group.node(leader).status().role, RegistryRole::Follower);
        // a change that comes while it happens waits
        let writer = group.node(4).clone();
        let write = tokio::spawn(async move { writer.propose(set_port(round)).await });
        group.node(next).transfer_leadership().await.unwrap();
        write.await.unwrap().unwrap();
        leader = group.leader(&[1, 2, 3, 4]).await;
        assert_ne!(leader, next);
    }
    // one that does not lead has nothing to hand over
    group.node(4).transfer_leadership().await.unwrap();
    assert_eq!(group.leader(&[1, 2, 3, 4]).await, leader);
    group.stop(&[1, 2, 3, 4]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_hands_over_to_nobody() {
    let group = Voters::alone(2).await;
    let error = group.node(1).transfer_leadership().await.unwrap_err();
    assert_eq!(error.reason(), "membership");
    group.node(1).propose(set_port(2)).await.unwrap();
    group.stop(&[1, 2]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn voters_are_removed_alive_dead_and_leading() {
    let group = Voters::new(5).await;
    // a dead one: the learner that has everything takes its place
    group.mesh.kill(2).await;
    group.node(5).remove_member(NodeId(2)).await.unwrap();
    assert_eq!(group.node(1).voters(), ids(&[1, 3, 4]));
    // the leader: somebody else leads, and its place is taken
    group.node(1).remove_member(NodeId(1)).await.unwrap();
    let leader = group.leader(&[3, 4, 5]).await;
    assert_eq!(group.node(leader).voters(), ids(&[3, 4, 5]));
    let status = group.node(leader).status();
    assert_eq!((status.voters.len(), status.learners), (3, vec![]));
    group.node(4).remove_member(NodeId(1)).await.unwrap();
    // nobody is left to take the place: the leader alone
    let gone = [3, 4, 5].into_iter().find(|&node| node != leader).unwrap();
    group.node(leader).remove_member(NodeId(gone)).await.unwrap();
    assert_eq!(group.node(leader).voters(), ids(&[leader]));
    let done = group.node(leader).propose(set_port(9)).await.unwrap();
    // it hands over to the learner
    group.node(leader).remove_member(NodeId(leader)).await.unwrap();
    let last = [3, 4, 5].into_iter().find(|&node| node != leader && node != gone).unwrap();
    until("the last one leads", || group.node(last).status().role == RegistryRole::Leader).await;
    assert_eq!(group.node(last).voters(), ids(&[last]));
    assert!(group.node(last).propose(set_port(10)).await.unwrap().revision > done.revision);
    let error = group.node(last).remove_member(NodeId(last)).await.unwrap_err();
    assert_eq!(error.reason(), "membership");
    assert_eq!(port(group.node(last)), Some(10));
    group.stop(&[1, 3, 4, 5]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_lost_its_disk_takes_no_part_until_it_is_added_again() {
    let mut group = Voters::new(3).await;
    group.mesh.kill(3).await;
    let done = group.node(1).propose(set_port(2)).await.unwrap();
    std::fs::remove_file(group.dirs[2].path().join("registry.redb")).unwrap();
    group.reopen(3).await;
    let answers = || group.node(1).candidates().iter().any(|one| one.node == NodeId(3) && one.alive);
    until("node 3 is missed", || !answers()).await;
    group.node(1).propose(set_port(3)).await.unwrap();
    assert_eq!(group.node(3).revision(), Revision(0), "it was not filled");

    // with its help nobody is elected
    group.mesh.kill(1).await;
    until("its leader is silent", || !group.node(2).heard_lately(NodeId(1))).await;
    let error = group.node(2).propose(set_port(4)).await.unwrap_err();
    assert_eq!(error.reason(), "no-quorum", "{error}");
    let others = [group.node(2).status().leader, group.node(3).status().leader];
    assert_eq!(others, [None, None]);
    group.reopen(1).await;
    let leader = group.leader(&[1, 2]).await;
    assert_eq!(port(group.node(leader)), Some(3));

    group.node(1).remove_member(NodeId(3)).await.unwrap();
    group.node(1).add_learner(NodeId(3)).await.unwrap();
    group.node(3).wait_applied(done.revision, SOON).await.unwrap();
    let all = ids(&[1, 2, 3]);
    let leader = group.leader(&[1, 2, 3]).await;
    let ready =
        || choose_voters(&group.node(leader).voters(), &group.node(leader).candidates()) == Some(all.clone());
    until("it has caught up", ready).await;
    group.node(leader).set_voters(all.clone()).await.unwrap();
    group.node(3).propose(set_port(5)).await.unwrap();
    group.stop(&[1, 2, 3]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_lost_its_vote_may_lose_its_disk() {
    let mut group = Voters::new(4).await;
    group.node(1).set_voters(ids(&[1, 2, 4])).await.unwrap();
    group.mesh.kill(3).await;
    std::fs::remove_file(group.dirs[2].path().join("registry.redb")).unwrap();
    group.reopen(3).await;
    let done = group.node(1).propose(set_port(2)).await.unwrap();
    // it asks to join, as a gateway does that starts
    group.node(3).add_learner(NodeId(3)).await.unwrap_err();
    group.node(1).add_learner(NodeId(3)).await.unwrap();
    group.node(3).wait_applied(done.revision, SOON).await.unwrap();
    group.stop(&[1, 2, 3, 4]).await;
}
