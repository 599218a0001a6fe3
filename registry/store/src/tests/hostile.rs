//! Calls that no honest member of this release makes.

use super::mesh::{Mesh, init, set_port};
use crate::envelope::{Kind, seal};
use crate::format::{Ballot, EntryId, LogEntry};
use crate::member::DiskId;
use crate::message::{Append, AppendAnswer, Appended, AskVote, Chunk, ChunkTaken, decode, encode};
use crate::raft::{Entry, LogId, SnapshotMeta};
use crate::{CallError, Registry};
use bytes::Bytes;
use causeway_model::NodeId;
use causeway_wire::peer::Method;
use openraft::CommittedLeaderId;
use openraft::entry::RaftEntry;
use proptest::prelude::*;
use std::sync::Arc;
use tempfile::TempDir;

const METHODS: [Method; 7] = [
    Method::Append,
    Method::Vote,
    Method::Snapshot,
    Method::Propose,
    Method::AddLearner,
    Method::ReadIndex,
    Method::Elect,
];

async fn node() -> (TempDir, Arc<Mesh>, Registry) {
    let (dir, mesh) = (tempfile::tempdir().unwrap(), Arc::new(Mesh::default()));
    let registry = mesh.open(dir.path(), 1).await;
    registry.initialise(init()).await.unwrap();
    (dir, mesh, registry)
}

fn ballot(node: u64) -> Ballot {
    Ballot { term: 9, node, committed: true }
}

fn record(index: u64) -> Bytes {
    let entry = Entry::new_blank(LogId::new(CommittedLeaderId::new(9, 2), index));
    seal(Kind::Entry, &LogEntry::from(entry)).unwrap().into()
}

fn append(previous: Option<u64>, entries: Vec<Bytes>) -> Vec<u8> {
    let previous = previous.map(|index| EntryId { term: 1, node: 1, index });
    encode(&Append { disk: None, ballot: ballot(2), previous, committed: None, entries }).unwrap()
}

async fn refusal(registry: &Registry, from: u64, method: Method, body: Vec<u8>) -> String {
    match registry.handle_call(NodeId(from), method, body).await {
        Err(CallError::Refused { reason, .. }) => reason,
        other => panic!("{method:?} from {from}: {other:?}"),
    }
}

#[tokio::test]
async fn what_does_not_belong_together_is_refused() {
    let (_dir, mesh, registry) = node().await;
    let vote = encode(&AskVote { disk: None, ballot: ballot(2), last: None }).unwrap();
    assert_eq!(refusal(&registry, 3, Method::Vote, vote).await, "wrong-speaker");
    assert_eq!(refusal(&registry, 3, Method::Append, append(None, vec![])).await, "wrong-speaker");
    for (previous, entries) in [
        (None, vec![record(1)]),
        (Some(3), vec![record(3)]),
        (Some(3), vec![record(4), record(6)]),
        (Some(u64::MAX), vec![record(0)]),
        (Some(3), vec![Bytes::from_static(b"noise")]),
    ] {
        assert_eq!(refusal(&registry, 2, Method::Append, append(previous, entries)).await, "bad-entry");
    }
    let elect = encode(&()).unwrap();
    assert_eq!(refusal(&registry, 2, Method::Elect, elect).await, "not-the-leader");
    let mut vote = AskVote { disk: Some(DiskId(1)), ballot: ballot(2), last: None };
    assert_eq!(refusal(&registry, 2, Method::Vote, encode(&vote).unwrap()).await, "wrong-disk");
    vote.disk = None;
    assert!(registry.handle_call(NodeId(2), Method::Vote, encode(&vote).unwrap()).await.is_ok());
    let propose = encode(&set_port(2)).unwrap();
    assert_eq!(refusal(&registry, 7, Method::Propose, propose).await, "not-a-member");
    let add = encode(&crate::message::MemberChange::Add(NodeId(8))).unwrap();
    assert_eq!(refusal(&registry, 7, Method::AddLearner, add).await, "not-a-member");
    assert_eq!(refusal(&registry, 1, Method::ReadIndex, vec![2]).await, "unknown-version");
    assert_eq!(refusal(&registry, 1, Method::ReadIndex, vec![]).await, "malformed");
    assert_eq!(registry.propose(set_port(5)).await.unwrap().outcome, causeway_catalog::Outcome::Done);
    mesh.stop(1).await;
}

#[tokio::test]
async fn a_snapshot_that_is_none_does_not_end_the_node() {
    let (_dir, mesh, registry) = node().await;
    let meta = SnapshotMeta {
        last_log_id: Some(LogId::new(CommittedLeaderId::new(9, 2), 500)),
        ..SnapshotMeta::default()
    };
    let data = Bytes::from_static(b"noise");
    let chunk = Chunk { disk: None, ballot: ballot(2), head: (&meta).into(), offset: 0, data, done: true };
    assert_eq!(refusal(&registry, 2, Method::Snapshot, encode(&chunk).unwrap()).await, "bad-snapshot");
    assert_eq!(*registry.failure().borrow(), None);
    assert_eq!(registry.propose(set_port(5)).await.unwrap().outcome, causeway_catalog::Outcome::Done);
    mesh.stop(1).await;
}

#[tokio::test]
async fn a_leader_that_was_replaced_is_not_heard() {
    let (_dir, mesh, registry) = node().await;
    let stale = Ballot { term: 0, ..ballot(2) };
    let append = |ballot| {
        let append = Append { disk: None, ballot, previous: None, committed: None, entries: vec![] };
        encode(&append).unwrap()
    };
    let chunk = |ballot, done| {
        let (head, data) = ((&SnapshotMeta::default()).into(), Bytes::from_static(b"the beginning of one"));
        encode(&Chunk { disk: None, ballot, head, offset: 0, data, done }).unwrap()
    };
    let call = async |method, body| registry.handle_call(NodeId(2), method, body).await.unwrap();
    let appended = decode::<AppendAnswer>(&call(Method::Append, append(stale)).await).unwrap().appended;
    let Appended::HigherVote(own) = appended else { panic!("{appended:?}") };
    for done in [false, true] {
        let taken = decode::<ChunkTaken>(&call(Method::Snapshot, chunk(stale, done)).await).unwrap();
        assert_eq!(taken, ChunkTaken::Taken(own), "it is told of the vote");
    }
    assert!(!registry.heard_lately(NodeId(2)));
    assert_eq!(registry.status().leader, Some(NodeId(1)));

    // one of a newer term is heard, by each of its words
    let newer = Ballot { term: own.term + 1, ..ballot(2) };
    let taken = decode::<ChunkTaken>(&call(Method::Snapshot, chunk(newer, false)).await).unwrap();
    assert_eq!(taken, ChunkTaken::Taken(newer));
    assert!(registry.heard_lately(NodeId(2)));
    mesh.stop(1).await;

    let (_dir, mesh, registry) = node().await;
    let appended = registry.handle_call(NodeId(2), Method::Append, append(newer)).await.unwrap();
    let appended = decode::<AppendAnswer>(&appended).unwrap().appended;
    assert!(!matches!(appended, Appended::HigherVote(_)), "{appended:?}");
    assert!(registry.heard_lately(NodeId(2)));
    mesh.stop(1).await;
}

#[test]
fn noise_is_refused() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (_dir, mesh, registry) = runtime.block_on(node());
    proptest!(|(method in prop::sample::select(&METHODS[..]), noise: Vec<u8>, versioned: bool)| {
        let mut body = noise;
        if versioned {
            body.insert(0, 1);
        }
        // an empty read index is the one call that is right by chance, and node 2 does not lead
        if !(method == Method::ReadIndex && body == [1]) {
            prop_assert!(runtime.block_on(registry.handle_call(NodeId(2), method, body)).is_err());
        }
    });
    assert_eq!(*registry.failure().borrow(), None);
    runtime.block_on(mesh.stop(1));
}
