//! What happens to a write loop when nodes die, links break and members fall behind.

use super::mesh::{Cut, SOON, port, set_port, until};
use super::voting::Voters;
use crate::{Registry, RegistryRole};
use causeway_model::Revision;
use causeway_wire::peer::Method;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// A loop of writes through one node: each is another number.
struct Writer {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU16>,
    task: JoinHandle<Written>,
}

#[derive(Debug)]
struct Written {
    /// What was acknowledged, with its revision.
    acknowledged: Vec<(u16, Revision)>,
    failed: usize,
    /// The longest time between two acknowledgements.
    gap: Duration,
}

impl Writer {
    fn start(registry: &Registry) -> Self {
        let (registry, stop) = (registry.clone(), Arc::<AtomicBool>::default());
        let (acknowledged, seen) = (Arc::new(AtomicU16::new(0)), stop.clone());
        let count = acknowledged.clone();
        let task = tokio::spawn(async move {
            let mut written = Written { acknowledged: Vec::new(), failed: 0, gap: Duration::ZERO };
            let (mut number, mut last) = (1000, Instant::now());
            while !seen.load(Ordering::Relaxed) {
                number += 1;
                match registry.propose(set_port(number)).await {
                    Ok(done) => {
                        written.gap = written.gap.max(last.elapsed());
                        last = Instant::now();
                        written.acknowledged.push((number, done.revision));
                        count.store(number, Ordering::Relaxed);
                    }
                    Err(_) => written.failed += 1,
                }
            }
            written
        });
        Self { stop, acknowledged, task }
    }

    /// Waits for some more writes.
    async fn more(&self, count: u16) {
        let goal = self.acknowledged.load(Ordering::Relaxed).max(1000) + count;
        until("more is written", || self.acknowledged.load(Ordering::Relaxed) >= goal).await;
    }

    async fn end(self) -> Written {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

/// Everything that was acknowledged is in the audit of `registry`, as far as that goes back.
fn assert_kept(written: &Written, registry: &Registry) {
    let catalog = registry.catalog();
    let audited: Vec<Revision> = catalog.audit().map(|entry| entry.revision).collect();
    for (number, revision) in written.acknowledged.iter().filter(|(_, revision)| *revision >= audited[0]) {
        assert!(audited.contains(revision), "{number}, acknowledged at {revision}, is lost");
    }
    let revisions = written.acknowledged.iter().map(|(_, revision)| revision);
    assert!(revisions.is_sorted(), "out of order");
    let last = written.acknowledged.last().unwrap();
    assert!(port(registry).unwrap() >= last.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_is_killed_under_a_write_loop() {
    let mut group = Voters::new(4).await;
    let writer = Writer::start(group.node(4));
    writer.more(20).await;
    group.mesh.kill(1).await;
    let killed = Instant::now();
    let leads = |node: u64| group.node(node).status().role == RegistryRole::Leader;
    until("another leader", || leads(2) || leads(3)).await;
    let elected = killed.elapsed();
    writer.more(20).await;
    let written = writer.end().await;
    println!(
        "elected after {elected:?}, writes resumed after {:?}; {} acknowledged, {} unknown",
        written.gap,
        written.acknowledged.len(),
        written.failed
    );
    assert!(elected < Duration::from_secs(2) && written.gap < Duration::from_secs(2));
    // the leader had one write of the loop at most
    assert!(written.failed <= 1, "{written:?}");
    let end = group.node(4).current().await.unwrap().revision();
    group.reopen(1).await;
    for node in 1..=4 {
        group.node(node).wait_applied(end, SOON).await.unwrap();
        assert_kept(&written, group.node(node));
        assert_eq!(group.node(node).catalog(), group.node(4).catalog());
    }
    group.stop(&[1, 2, 3, 4]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_that_come_and_go_hold_nothing_up() {
    let mut group = Voters::new(3).await;
    let writer = Writer::start(group.node(1));
    for node in [2, 3, 2] {
        writer.more(10).await;
        group.mesh.kill(node).await;
        writer.more(10).await;
        group.reopen(node).await;
        let end = group.node(1).revision();
        group.node(node).wait_applied(end, SOON).await.unwrap();
    }
    let written = writer.end().await;
    assert_eq!(written.failed, 0);
    println!("the longest pause was {:?}", written.gap);
    let end = group.node(1).current().await.unwrap().revision();
    for node in 1..=3 {
        group.node(node).wait_applied(end, SOON).await.unwrap();
        assert_kept(&written, group.node(node));
    }
    group.stop(&[1, 2, 3]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_nobody_hears_is_replaced() {
    let group = Voters::new(4).await;
    // it hears the others, and they do not hear it
    for other in [2, 3, 4] {
        group.mesh.cut_one_way(1, other, true);
    }
    let leader = group.leader(&[2, 3, 4]).await;
    let done = group.node(4).propose(set_port(5)).await.unwrap();
    for other in [2, 3, 4] {
        group.mesh.cut_one_way(1, other, false);
    }
    group.node(1).wait_applied(done.revision, SOON).await.unwrap();
    assert_eq!(port(group.node(1)), Some(5));
    println!("{leader} led instead, {} leads now", group.leader(&[1, 2, 3, 4]).await);
    group.stop(&[1, 2, 3, 4]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_hears_nobody_acknowledges_nothing() {
    let group = Voters::new(3).await;
    // it is heard, and hears no answer: it cannot count a majority
    for other in [2, 3] {
        group.mesh.cut_one_way(other, 1, true);
    }
    let error = group.node(1).propose(set_port(5)).await.unwrap_err();
    assert!(["timeout", "no-quorum"].contains(&error.reason()), "{error}");
    for other in [2, 3] {
        group.mesh.cut_one_way(other, 1, false);
    }
    until("it is heard again", || group.node(3).status().leader.is_some()).await;
    let done = group.node(3).propose(set_port(6)).await.unwrap();
    for node in 1..=3 {
        group.node(node).wait_applied(done.revision, SOON).await.unwrap();
        assert_eq!(port(group.node(node)), Some(6));
    }
    group.stop(&[1, 2, 3]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_broken_link_between_voters_is_survived() {
    let group = Voters::new(3).await;
    group.mesh.cut_one_way(1, 3, true);
    group.mesh.cut_one_way(3, 1, true);
    let writer = Writer::start(group.node(2));
    writer.more(30).await;
    let written = writer.end().await;
    group.mesh.cut_one_way(1, 3, false);
    group.mesh.cut_one_way(3, 1, false);
    let end = group.node(2).current().await.unwrap().revision();
    for node in 1..=3 {
        group.node(node).wait_applied(end, SOON).await.unwrap();
        assert_kept(&written, group.node(node));
    }
    group.stop(&[1, 2, 3]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_was_away_for_long_gets_a_snapshot() {
    let group = Voters::new(4).await;
    for slow in [4, 3] {
        group.mesh.cut(slow, Cut::Swallowed);
        let writer = Writer::start(group.node(2));
        writer.more(150).await;
        let written = writer.end().await;
        until("the log is compacted", || {
            group.node(1).status().snapshot.0 > group.node(slow).revision().0 + 60
        })
        .await;
        group.mesh.seen.lock().unwrap().clear();
        group.mesh.heal(slow);
        let end = group.node(1).current().await.unwrap().revision();
        group.node(slow).wait_applied(end, SOON).await.unwrap();
        // a voter that was cut off may come back with a newer term, and depose the leader
        let mut seen = group.mesh.seen.lock().unwrap().clone().into_iter();
        assert!(seen.any(|(_, method)| method == Method::Snapshot), "node {slow}");
        assert_kept(&written, group.node(slow));
    }
    group.stop(&[1, 2, 3, 4]).await;
}
