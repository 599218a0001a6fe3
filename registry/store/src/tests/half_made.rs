//! A change of the voters whose leader died half-way: the old voters and the new ones both count.

use super::mesh::{SOON, port, set_port, until};
use super::voting::{Voters, ids};
use crate::RegistryRole;
use crate::disk::{Disk, Fault, LOG};
use crate::envelope::{Kind, seal};
use crate::format::{EntryId, LogEntry};
use crate::member::Member;
use crate::raft::{Entry, EntryPayload, Membership};
use causeway_model::NodeId;
use redb::ReadableTable;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// The log's end in `dir`.
async fn last(disk: &Arc<Disk>) -> EntryId {
    let read = disk.read(|transaction| {
        let log = transaction.open_table(LOG)?;
        let (_, record) = log.last()?.unwrap();
        let entry: LogEntry = crate::envelope::unseal(Kind::Entry, record.value()).unwrap();
        Ok(entry.id)
    });
    read.await.unwrap()
}

async fn open(dir: &Path, node: u64) -> Arc<Disk> {
    Disk::open(dir, NodeId(node)).await.unwrap()
}

/// Writes into every log what a leader writes there first when it gives votes to all of the nodes: 1 voted alone.
async fn begin_change(group: &Voters, nodes: &[u64]) {
    let mut disks = Vec::new();
    for (dir, &node) in group.dirs.iter().zip(nodes) {
        disks.push(open(dir.path(), node).await);
    }
    let all = nodes.iter().zip(&disks).map(|(&node, disk)| (node, Member { disk: Some(disk.id()) }));
    let joint = vec![BTreeSet::from([1]), nodes.iter().copied().collect()];
    let membership = Membership::new(joint, all.collect::<BTreeMap<_, _>>());
    for disk in disks {
        let before = last(&disk).await;
        let id = EntryId { index: before.index + 1, ..before };
        let payload = EntryPayload::Membership(membership.clone());
        let record = seal(Kind::Entry, &LogEntry::from(Entry { log_id: id.into(), payload })).unwrap();
        let written = disk.write(move |transaction| {
            transaction.open_table(LOG)?.insert(id.index, record.as_slice())?;
            Ok::<_, Fault>(())
        });
        written.await.unwrap();
        disk.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_whose_leader_died_half_way_is_completed_by_the_next_one() {
    let mut group = Voters::alone(3).await;
    let nodes = [1, 2, 3];
    group.stop(&nodes).await;
    begin_change(&group, &nodes).await;
    for node in nodes {
        let report = crate::examine(group.dirs[usize::try_from(node - 1).unwrap()].path());
        assert!(report.changing_voters && report.faults.is_empty(), "{report:?}");
        group.reopen(node).await;
    }
    let leader = group.leader(&nodes).await;
    let registry = group.node(leader).clone();
    assert!(registry.is_changing_voters());
    assert_eq!(registry.status().voters, [1, 2, 3].map(NodeId), "the status shows the new ones");
    for node in nodes.into_iter().filter(|node| *node != leader) {
        assert_eq!(group.node(node).next_voters(), None, "node {node} does not lead");
    }

    // what a leader does who looks after the group
    until("they are chosen again", || registry.next_voters() == Some(ids(&nodes))).await;
    registry.set_voters(registry.next_voters().unwrap()).await.unwrap();
    assert!(!registry.is_changing_voters());
    assert_eq!(registry.next_voters(), None);

    // the one that voted alone is needed no more
    group.mesh.kill(1).await;
    let leads = |node: u64| group.node(node).status().role == RegistryRole::Leader;
    until("another one leads", || leads(2) || leads(3)).await;
    let done = group.node(3).propose(set_port(7)).await.unwrap();
    group.node(2).wait_applied(done.revision, SOON).await.unwrap();
    assert_eq!(port(group.node(2)), Some(7));
    group.stop(&[2, 3]).await;
}
