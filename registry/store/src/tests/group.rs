//! One voter and its learners.

use super::mesh::{Cut, Mesh, init, port, refused_command, set_port, until};
use crate::{ProposeError, Registry, RegistryRole, StoreConfig};
use causeway_catalog::Outcome;
use causeway_model::{NodeId, Revision};
use causeway_wire::peer::Method;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

struct Group {
    mesh: Arc<Mesh>,
    dirs: Vec<TempDir>,
    nodes: Vec<Registry>,
}

impl Group {
    /// Node 1 votes; 2 and 3 learn.
    async fn new() -> Self {
        let mesh = Arc::new(Mesh::default());
        let dirs: Vec<TempDir> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
        let mut nodes = Vec::new();
        for (dir, node) in dirs.iter().zip(1..) {
            nodes.push(mesh.open(dir.path(), node).await);
        }
        nodes[0].initialise(init()).await.unwrap();
        for node in [2, 3] {
            nodes[0].add_learner(NodeId(node)).await.unwrap();
        }
        let group = Self { mesh, dirs, nodes };
        group.all_at(group.nodes[0].status().last_log).await;
        group
    }

    async fn all_at(&self, revision: Revision) {
        for node in &self.nodes {
            node.wait_applied(revision, super::mesh::SOON).await.unwrap();
        }
    }

    async fn reopen(&mut self, node: u64) {
        let index = usize::try_from(node - 1).unwrap();
        self.nodes[index] = self.mesh.open(self.dirs[index].path(), node).await;
    }

    async fn stop(&self) {
        for node in 1..=3 {
            self.mesh.stop(node).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn learners_follow_and_pass_changes_on() {
    let group = Group::new().await;
    let [one, two, three] = &group.nodes[..] else { panic!("three nodes") };
    let done = one.propose(set_port(2)).await.unwrap();
    group.all_at(done.revision).await;
    assert_eq!(two.catalog(), one.catalog());

    let done = three.propose(set_port(3)).await.unwrap();
    assert_eq!(done.outcome, Outcome::Done);
    assert!(group.mesh.seen.lock().unwrap().contains(&(NodeId(3), Method::Propose)));
    group.all_at(done.revision).await;
    assert_eq!([port(one), port(two), port(three)], [Some(3); 3]);
    let refused = two.propose(init()).await.unwrap_err();
    assert_eq!(refused.reason(), "already-initialised");

    let latest = one.propose(set_port(4)).await.unwrap().revision;
    assert!(two.current().await.unwrap().revision() >= latest);
    assert!(two.is_initialised());
    assert_eq!((two.status().role, two.status().leader), (RegistryRole::Learner, Some(NodeId(1))));
    until("no lag", || one.status().lag.iter().all(|lag| lag.behind == Some(0))).await;
    let status = one.status();
    assert_eq!((status.voters, status.learners), (vec![NodeId(1)], vec![NodeId(2), NodeId(3)]));
    group.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_voter_changes_are_refused_soon_and_reads_go_on() {
    for how in [Cut::Refused, Cut::Swallowed] {
        let group = Group::new().await;
        let two = &group.nodes[1];
        let done = two.propose(set_port(2)).await.unwrap();
        group.all_at(done.revision).await;
        group.mesh.cut(1, how);
        // a leader that was heard a moment ago gets the benefit of the doubt: then the outcome of a call is unknown
        until("the leader is silent", || !two.heard_lately(NodeId(1))).await;
        let asked = Instant::now();
        let error = two.propose(set_port(3)).await.unwrap_err();
        assert!(asked.elapsed() < Duration::from_secs(3), "{how:?}: {:?}", asked.elapsed());
        assert_eq!(error, ProposeError::NoLeader { answering: 0, voters: 1 });
        assert_eq!(error.reason(), "no-quorum");
        assert_eq!(two.current().await.unwrap_err().reason(), "no-quorum");
        assert_eq!(two.add_learner(NodeId(4)).await.unwrap_err().reason(), "no-quorum");
        assert_eq!(port(two), Some(2), "the catalog is still served");
        until("no leader is shown", || two.status().leader.is_none()).await;

        group.mesh.heal(1);
        until("the leader is back", || two.status().leader == Some(NodeId(1))).await;
        assert_eq!(two.propose(set_port(4)).await.unwrap().outcome, Outcome::Done);
        group.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_is_restarted_leads_again() {
    let mut group = Group::new().await;
    group.mesh.stop(1).await;
    let error = group.nodes[2].propose(set_port(2)).await.unwrap_err();
    assert_eq!(error.reason(), "no-quorum");
    group.reopen(1).await;
    let done = group.nodes[2].propose(set_port(3)).await.unwrap();
    group.all_at(done.revision).await;
    assert_eq!(port(&group.nodes[1]), Some(3));
    group.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_comes_back_from_its_disk_even_without_its_leader() {
    let mut group = Group::new().await;
    let done = group.nodes[0].propose(set_port(2)).await.unwrap();
    group.all_at(done.revision).await;
    group.mesh.stop(2).await;
    group.mesh.cut(1, Cut::Refused);
    group.reopen(2).await;
    assert!(group.nodes[1].is_initialised());
    assert_eq!(port(&group.nodes[1]), Some(2));
    group.mesh.heal(1);
    let done = group.nodes[0].propose(set_port(3)).await.unwrap();
    group.all_at(done.revision).await;
    group.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_that_lost_its_disk_is_filled_again() {
    let mut group = Group::new().await;
    let done = group.nodes[0].propose(set_port(2)).await.unwrap();
    group.all_at(done.revision).await;
    group.mesh.stop(2).await;
    std::fs::remove_file(group.dirs[1].path().join("registry.redb")).unwrap();
    group.reopen(2).await;
    let done = group.nodes[0].propose(set_port(3)).await.unwrap();
    group.all_at(done.revision).await;
    assert_eq!(group.nodes[1].catalog(), group.nodes[0].catalog());
    assert_eq!(group.nodes[1].propose(set_port(4)).await.unwrap().outcome, Outcome::Done);
    group.stop().await;
}

/// Makes changes until there is a snapshot that holds `revision`.
async fn until_snapshot(registry: &Registry, revision: Revision) {
    for number in 1000..2000 {
        if registry.status().snapshot >= revision {
            return;
        }
        registry.propose(set_port(number)).await.unwrap();
    }
    panic!("no snapshot at {revision} after a thousand changes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newcomer_gets_a_snapshot_in_chunks_once_the_log_is_compacted() {
    let mesh = Arc::new(Mesh::default());
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let config = |node: u64, dir: &TempDir| StoreConfig {
        snapshot_every: 20,
        keep_entries: 1,
        ..StoreConfig::new(dir.path(), NodeId(node))
    };
    let one = mesh.open_with(config(1, &dirs[0])).await.unwrap();
    one.initialise(init()).await.unwrap();
    for number in 2..100 {
        one.propose(set_port(number)).await.unwrap();
    }
    super::mesh::fill(&one).await;
    let full = one.revision();
    until_snapshot(&one, Revision(full.0 + 1)).await;
    let two = mesh.open_with(config(2, &dirs[1])).await.unwrap();
    one.add_learner(NodeId(2)).await.unwrap();
    let done = one.propose(set_port(200)).await.unwrap();
    two.wait_applied(done.revision, super::mesh::SOON).await.unwrap();
    assert_eq!(two.catalog(), one.catalog());
    assert!(mesh.seen.lock().unwrap().contains(&(NodeId(1), Method::Snapshot)));
    let before = two.catalog();
    mesh.stop(2).await;
    let two = mesh.open_with(config(2, &dirs[1])).await.unwrap();
    assert_eq!(two.catalog(), before, "the snapshot was kept");
    for node in [1, 2] {
        mesh.stop(node).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_backlog_travels_in_calls_of_bounded_size() {
    let group = Group::new().await;
    group.mesh.cut(2, Cut::Refused);
    for _ in 0..8 {
        let error = group.nodes[0].propose(refused_command(200 << 10)).await.unwrap_err();
        assert_eq!(error.reason(), "already-initialised");
    }
    group.mesh.heal(2);
    group.all_at(group.nodes[0].status().last_log).await;
    group.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn learners_join_by_themselves_and_leave() {
    let group = Group::new().await;
    let (one, two) = (&group.nodes[0], &group.nodes[1]);
    two.add_learner(NodeId(3)).await.unwrap();
    two.remove_member(NodeId(3)).await.unwrap();
    until("node 3 is out", || one.status().learners == [NodeId(2)]).await;
    two.remove_member(NodeId(3)).await.unwrap();
    let error = one.remove_member(NodeId(1)).await.unwrap_err();
    assert_eq!(error.reason(), "membership");
    assert!(error.to_string().contains("only voter"), "{error}");
    let before = group.nodes[2].revision();
    let done = one.propose(set_port(9)).await.unwrap();
    two.wait_applied(done.revision, super::mesh::SOON).await.unwrap();
    assert_eq!(group.nodes[2].revision(), before);
    one.add_learner(NodeId(3)).await.unwrap();
    group.all_at(done.revision).await;
    group.stop().await;
}
