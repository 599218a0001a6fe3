//! Backups and what comes of them.

use super::mesh::{Mesh, admit, init, port, set_port};
use crate::envelope::{Kind, seal, seal_as};
use crate::{Backup, BackupError, REVISION_GAP, RegistryRole, StoreConfig, StoreError, restore};
use causeway_catalog::Catalog;
use causeway_model::{GatewayRole, NodeId, Revision};
use std::sync::Arc;

/// A backup of a small cluster, and its catalog.
async fn taken() -> (Vec<u8>, Arc<Catalog>) {
    let (dir, mesh) = (tempfile::tempdir().unwrap(), Arc::new(Mesh::default()));
    let registry = mesh.open(dir.path(), 1).await;
    assert_eq!(registry.backup(), Err(StoreError::NotInitialised));
    registry.initialise(init()).await.unwrap();
    registry.propose(admit(2, GatewayRole::Gateway)).await.unwrap();
    registry.propose(set_port(2)).await.unwrap();
    let taken = (registry.backup().unwrap(), registry.catalog());
    mesh.stop(1).await;
    taken
}

#[tokio::test]
async fn a_backup_tells_what_it_is() {
    let (bytes, catalog) = taken().await;
    let backup = Backup::read(&bytes).unwrap();
    let facts = &catalog.cluster().unwrap().facts;
    assert_eq!(
        (&backup.cluster, backup.id, &backup.trust_domain),
        (&facts.name, facts.id, &facts.trust_domain)
    );
    assert_eq!((backup.revision, &backup.catalog), (catalog.revision(), &*catalog));
    assert_eq!(backup.release, env!("CARGO_PKG_VERSION"));
    assert!(backup.created_at > 1_700_000_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_restored_goes_on_after_every_revision_that_was_given_out() {
    let (bytes, catalog) = taken().await;
    let backup = Backup::read(&bytes).unwrap();
    let (dir, mesh) = (tempfile::tempdir().unwrap(), Arc::new(Mesh::default()));
    let config = StoreConfig::new(dir.path(), NodeId(7));
    let taken = backup.created_at;
    let after = restore(&config, backup.clone(), backup.catalog.clone(), taken).unwrap();
    assert_eq!(after, Revision(backup.revision.0 + REVISION_GAP));
    let again = restore(&config, backup.clone(), backup.catalog.clone(), taken).unwrap_err();
    assert_eq!(again, StoreError::Exists { path: dir.path().join("registry.redb") });
    assert_eq!(again.reason(), "exists");

    let registry = mesh.open_with(config.clone()).await.unwrap();
    let start = Revision(catalog.revision().0 + REVISION_GAP);
    let mut expected = Catalog::clone(&catalog);
    expected.rebase(start);
    assert_eq!(*registry.catalog(), expected, "all but the revision");
    assert!(registry.is_initialised());
    let done = registry.propose(set_port(3)).await.unwrap();
    assert!(done.revision > start, "{} after {start}", done.revision);
    let status = registry.status();
    assert_eq!(
        (status.role, status.voters, status.learners),
        (RegistryRole::Leader, vec![NodeId(7)], vec![])
    );

    // it is a registry like any other: it grows, and comes back
    let second = tempfile::tempdir().unwrap();
    let two = mesh.open(second.path(), 2).await;
    registry.add_learner(NodeId(2)).await.unwrap();
    two.wait_applied(done.revision, super::mesh::SOON).await.unwrap();
    assert_eq!(two.catalog(), registry.catalog());
    mesh.stop(7).await;
    let registry = mesh.open_with(config).await.unwrap();
    assert_eq!(port(&registry), Some(3));
    registry.propose(set_port(4)).await.unwrap();
    for node in [2, 7] {
        mesh.stop(node).await;
    }
}

#[tokio::test]
async fn a_directory_in_use_is_left_alone() {
    let (bytes, _) = taken().await;
    let backup = Backup::read(&bytes).unwrap();
    let (dir, mesh) = (tempfile::tempdir().unwrap(), Arc::new(Mesh::default()));
    let registry = mesh.open(dir.path(), 1).await;
    let catalog = backup.catalog.clone();
    assert_eq!(
        restore(&StoreConfig::new(dir.path(), NodeId(1)), backup, catalog, 0).unwrap_err().reason(),
        "exists"
    );
    registry.initialise(init()).await.unwrap();
    mesh.stop(1).await;
}

#[tokio::test]
async fn every_damage_is_told() {
    let (bytes, catalog) = taken().await;
    let reason = |bytes: &[u8]| Backup::read(bytes).unwrap_err().reason();
    for text in [&b""[..], b"hello", b"CAUSEWAY-BACKUQ\n0000000000000000"] {
        assert_eq!(reason(text), "not-a-backup");
    }
    for length in 1..bytes.len() {
        assert_eq!(reason(&bytes[..length]), "truncated", "{length} of {}", bytes.len());
    }
    assert_eq!(reason(&[&bytes[..], b"x"].concat()), "damaged");
    for at in 0..bytes.len() {
        for bit in [0, 3, 7] {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            let reason = reason(&changed);
            let expected: &[&str] = match at {
                0..16 => &["not-a-backup"],
                // a length that says more looks like a file that is cut off
                18..22 => &["truncated", "damaged"],
                _ => &["damaged"],
            };
            assert!(expected.contains(&reason), "bit {bit} of byte {at}: {reason}");
        }
    }
    let head = &bytes[..16];
    let later = [head, &seal_as(Kind::Backup, 2, b"something else")].concat();
    let error = Backup::read(&later).unwrap_err();
    assert_eq!(error, BackupError::Newer { what: "backup", found: 2, known: 1 });
    let foreign = [head, &seal(Kind::Snapshot, &*catalog).unwrap()].concat();
    assert_eq!(reason(&foreign), "damaged");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_restored_later_is_newer_than_what_was_restored_earlier() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let backup = Backup::read(&taken().await.0).unwrap();
    let restored = |dir: &tempfile::TempDir, after: u64| {
        let config = StoreConfig::new(dir.path(), NodeId(9));
        restore(&config, backup.clone(), backup.catalog.clone(), backup.created_at + after).unwrap()
    };
    let (early, late) = (restored(&first, 10), restored(&second, 70));
    assert_eq!(late.0 - early.0, 60_000, "more than the first one can have given out meanwhile");
}
