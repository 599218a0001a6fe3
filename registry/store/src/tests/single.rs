//! One node alone.

use super::mesh::{Mesh, SOON, init, port, refused_command, set_port};
use crate::{InitError, ProposeError, Registry, RegistryRole, StoreConfig, StoreError};
use causeway_catalog::{Event, Outcome, Refusal, Replay};
use causeway_model::{NodeId, Revision};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let (dir, mesh) = (tempfile::tempdir().unwrap(), Arc::new(Mesh::default()));
    let registry = mesh.open(dir.path(), 1).await;
    assert!(!registry.is_initialised());
    assert_eq!(registry.propose(set_port(2)).await, Err(ProposeError::NotInitialised));
    assert_eq!(registry.initialise(set_port(2)).await, Err(InitError::NotInit("update-gateway")));
    let first = registry.initialise(init()).await.unwrap();
    assert_eq!(first.outcome, Outcome::Done);
    assert!(registry.is_initialised());
    assert_eq!(registry.initialise(init()).await, Err(InitError::AlreadyInitialised));
    let second = registry.propose(set_port(2)).await.unwrap();
    assert!(second.revision > first.revision);
    assert_eq!((registry.revision(), port(&registry)), (second.revision, Some(2)));
    let before = registry.catalog();
    mesh.stop(1).await;
    assert_eq!(registry.propose(set_port(3)).await.unwrap_err().reason(), "registry-failed");
    assert_eq!(registry.catalog(), before, "the last catalog stays readable");
    assert_eq!(*registry.failure().borrow(), None, "a shutdown is no failure");

    let again = mesh.open(dir.path(), 1).await;
    assert_eq!(again.catalog(), before);
    assert!(again.is_initialised());
    assert_eq!(again.propose(set_port(3)).await.unwrap().outcome, Outcome::Done);
    assert_eq!(port(&again), Some(3));
    mesh.stop(1).await;
}

#[tokio::test]
async fn the_catalog_decides_and_watchers_are_told() {
    let (dir, mesh) = (tempfile::tempdir().unwrap(), Arc::new(Mesh::default()));
    let registry = mesh.open(dir.path(), 1).await;
    let mut watch = registry.watch();
    let start = registry.initialise(init()).await.unwrap().revision;
    let refused = registry.propose(init()).await.unwrap_err();
    assert!(matches!(refused, ProposeError::Refused(Refusal::AlreadyInitialised { .. })), "{refused}");
    assert_eq!(refused.reason(), "already-initialised");
    let end = registry.propose(set_port(2)).await.unwrap().revision;
    let seen = tokio::time::timeout(SOON, watch.wait_for(|catalog| catalog.revision() == end)).await;
    assert_eq!(*seen.unwrap().unwrap(), registry.catalog());
    let Replay::Deltas(deltas) = registry.events_since(start) else { panic!("the log reaches back") };
    assert_eq!(deltas, [(end, Event::GatewaysChanged)]);
    assert_eq!(registry.current().await.unwrap().revision(), end);
    let lagging = registry.wait_applied(Revision(end.0 + 1), Duration::from_millis(1)).await.unwrap_err();
    assert_eq!(lagging.wanted, Revision(end.0 + 1));
    mesh.stop(1).await;
}

#[tokio::test]
async fn the_status_tells_who_leads() {
    let (dir, mesh) = (tempfile::tempdir().unwrap(), Arc::new(Mesh::default()));
    let registry = mesh.open(dir.path(), 1).await;
    assert_eq!(registry.status().role, RegistryRole::Learner);
    registry.initialise(init()).await.unwrap();
    let status = registry.status();
    assert_eq!((status.role, status.leader), (RegistryRole::Leader, Some(NodeId(1))));
    assert_eq!((&status.voters[..], &status.learners[..]), (&[NodeId(1)][..], &[][..]));
    assert_eq!(status.applied, registry.revision());
    assert!(serde_json::to_string(&status).unwrap().contains("\"role\":\"leader\""));
    mesh.stop(1).await;
    assert_eq!(registry.status().role, RegistryRole::Stopped);
}

#[tokio::test]
async fn a_command_that_is_too_large_never_enters_the_log() {
    let (dir, mesh) = (tempfile::tempdir().unwrap(), Arc::new(Mesh::default()));
    let registry = mesh.open(dir.path(), 1).await;
    registry.initialise(init()).await.unwrap();
    let before = registry.status().last_log;
    let error = registry.propose(refused_command(300 << 10)).await.unwrap_err();
    assert_eq!(error.reason(), "too-large");
    assert_eq!(registry.status().last_log, before);
    mesh.stop(1).await;
}

#[tokio::test]
async fn a_log_that_was_compacted_comes_back_from_its_snapshot() {
    let (dir, mesh) = (tempfile::tempdir().unwrap(), Arc::new(Mesh::default()));
    let config =
        StoreConfig { snapshot_every: 10, keep_entries: 2, ..StoreConfig::new(dir.path(), NodeId(1)) };
    let registry = mesh.open_with(config.clone()).await.unwrap();
    registry.initialise(init()).await.unwrap();
    for port in 2..60 {
        registry.propose(set_port(port)).await.unwrap();
    }
    super::mesh::until("a snapshot", || registry.status().snapshot > Revision(30)).await;
    let before = registry.catalog();
    mesh.stop(1).await;
    let again = mesh.open_with(config).await.unwrap();
    assert_eq!(again.catalog(), before);
    assert_eq!(again.propose(set_port(99)).await.unwrap().outcome, Outcome::Done);
    mesh.stop(1).await;
}

#[tokio::test]
async fn an_initialisation_that_was_cut_short_is_completed() {
    let (dir, mesh) = (tempfile::tempdir().unwrap(), Arc::new(Mesh::default()));
    let registry = mesh.open(dir.path(), 1).await;
    registry.form_group_of_one().await;
    mesh.stop(1).await;
    let again = mesh.open(dir.path(), 1).await;
    assert!(!again.is_initialised());
    again.initialise(init()).await.unwrap();
    assert!(again.is_initialised());
    mesh.stop(1).await;
}

#[tokio::test]
async fn the_file_is_private_and_bound_to_its_node() {
    let (dir, mesh) = (tempfile::tempdir().unwrap(), Arc::new(Mesh::default()));
    let path = dir.path().join("registry.redb");
    let registry = mesh.open(dir.path(), 1).await;
    let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);
    let second = Registry::open(StoreConfig::new(dir.path(), NodeId(1)), mesh.port(1)).await;
    assert_eq!(second.err().unwrap().reason(), "locked");
    registry.initialise(init()).await.unwrap();
    mesh.stop(1).await;
    let other = mesh.open_with(StoreConfig::new(dir.path(), NodeId(2))).await.err().unwrap();
    assert_eq!(other, StoreError::WrongNode { path: path.clone(), found: NodeId(1), expected: NodeId(2) });
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    mesh.open(dir.path(), 1).await;
    assert_eq!(mode(), 0o600, "a mode that was too wide is corrected");
    mesh.stop(1).await;
}

#[tokio::test]
async fn a_registry_that_is_dropped_without_a_shutdown_lets_go_of_its_file() {
    let (dir, mesh) = (tempfile::tempdir().unwrap(), Arc::new(Mesh::default()));
    let open = || Registry::open(StoreConfig::new(dir.path(), NodeId(1)), mesh.port(1));
    let registry = open().await.unwrap();
    let done = registry.initialise(init()).await.unwrap();
    drop(registry);
    let deadline = Instant::now() + SOON;
    let again = loop {
        match open().await {
            Ok(registry) => break registry,
            Err(error) => assert_eq!(error.reason(), "locked"),
        }
        assert!(Instant::now() < deadline, "still locked");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(again.revision(), done.revision);
    again.shutdown().await.unwrap();
    again.shutdown().await.unwrap();
}

#[tokio::test]
async fn senseless_settings_and_missing_directories_are_refused() {
    let (dir, mesh) = (tempfile::tempdir().unwrap(), Arc::new(Mesh::default()));
    let any = mesh.open_with(StoreConfig::new(dir.path(), NodeId::ANY)).await.err().unwrap();
    assert_eq!(any.reason(), "config");
    let mut config = StoreConfig::new(dir.path(), NodeId(1));
    config.timing.heartbeat = config.timing.election_max;
    assert_eq!(mesh.open_with(config).await.err().unwrap().reason(), "config");
    let missing = dir.path().join("missing");
    let error = mesh.open_with(StoreConfig::new(&missing, NodeId(1))).await.err().unwrap();
    assert_eq!(error.reason(), "disk");
    assert!(error.to_string().contains(missing.to_str().unwrap()), "{error}");
}
