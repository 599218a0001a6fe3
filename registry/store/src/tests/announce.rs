//! Commands that not every member knows.

use super::mesh::{Mesh, init, later_command, set_port, until};
use crate::{ProposeError, StoreConfig};
use causeway_catalog::CommandBody;
use causeway_model::NodeId;
use std::sync::Arc;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_waits_until_every_member_knows_it() {
    let (dirs, mesh) =
        ([tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()], Arc::new(Mesh::default()));
    let known_to_all = later_command().body.number() - 1;
    let config = |node: usize| StoreConfig {
        known_to_all,
        ..StoreConfig::new(dirs[node - 1].path(), NodeId(node as u64))
    };
    let one = mesh.open_with(config(1)).await.unwrap();
    let two = mesh.open_with(config(2)).await.unwrap();
    one.initialise(init()).await.unwrap();
    one.propose(later_command()).await.unwrap();
    one.add_learner(NodeId(2)).await.unwrap();
    until("node 2 follows", || two.revision() == one.revision()).await;

    let before = one.status().last_log;
    let number = later_command().body.number();
    for asked in [&one, &two] {
        let error = asked.propose(later_command()).await.unwrap_err();
        let command = later_command().body.name().to_owned();
        assert_eq!(error, ProposeError::MemberTooOld { node: NodeId(2), command, number });
        assert_eq!(error.reason(), "member-too-old");
        assert!(error.to_string().contains("update that gateway first"), "{error}");
    }
    one.announce(NodeId(2), (1..number).collect());
    assert_eq!(one.propose(later_command()).await.unwrap_err().reason(), "member-too-old");
    assert_eq!(one.status().last_log, before, "nothing entered the log");
    one.propose(set_port(3)).await.unwrap();

    one.announce(NodeId(2), CommandBody::KNOWN.to_vec());
    two.propose(later_command()).await.unwrap();
    one.announce(NodeId(2), vec![1]);
    assert_eq!(one.propose(later_command()).await.unwrap_err().reason(), "member-too-old", "it was set back");
    one.remove_member(NodeId(2)).await.unwrap();
    one.propose(later_command()).await.unwrap();
    for node in [1, 2] {
        mesh.stop(node).await;
    }
}
