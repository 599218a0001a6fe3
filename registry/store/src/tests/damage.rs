//! Files that are not what was written.

use super::mesh::{Mesh, init, port, set_port};
use crate::disk::{Disk, LOG, STATE};
use crate::envelope::{Kind, seal};
use crate::{StoreConfig, StoreError};
use causeway_model::NodeId;
use redb::{Database, ReadableTable};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// A database with a few changes, closed.
async fn written() -> (TempDir, PathBuf) {
    let (dir, mesh) = (tempfile::tempdir().unwrap(), Arc::new(Mesh::default()));
    let config =
        StoreConfig { snapshot_every: 8, keep_entries: 2, ..StoreConfig::new(dir.path(), NodeId(1)) };
    let registry = mesh.open_with(config).await.unwrap();
    registry.initialise(init()).await.unwrap();
    for port in 2..=12 {
        registry.propose(set_port(port)).await.unwrap();
    }
    mesh.stop(1).await;
    let path = dir.path().join("registry.redb");
    (dir, path)
}

async fn open_error(dir: &Path) -> Option<StoreError> {
    Disk::open(dir, NodeId(1)).await.err()
}

fn assert_named(error: &StoreError, path: &Path) {
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
}

#[tokio::test]
async fn a_changed_bit_is_refused_or_harmless_wherever_it_is() {
    let (dir, path) = written().await;
    let whole = std::fs::read(&path).unwrap();
    let pages = whole.chunks(4096).enumerate().filter(|(_, page)| page.iter().any(|byte| *byte != 0));
    let mut refused = 0;
    for (number, page) in pages {
        // where there is something: the first bytes, and some in the middle
        let filled: Vec<usize> = (0..page.len()).filter(|&at| page[at] != 0).collect();
        for at in [filled[0], filled[filled.len() / 3], filled[filled.len() - 1]] {
            let at = number * 4096 + at;
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            std::fs::write(&path, &bytes).unwrap();
            match Disk::open(dir.path(), NodeId(1)).await {
                Err(error) => {
                    assert_eq!(error.reason(), "corrupt", "byte {at}: {error}");
                    assert_named(&error, &path);
                    refused += 1;
                }
                // a page that is free, or the half of the header that the last close replaced
                Ok(disk) => {
                    disk.close().await.unwrap();
                    let mesh = Arc::new(Mesh::default());
                    let registry = mesh.open(dir.path(), 1).await;
                    assert_eq!(port(&registry), Some(12), "byte {at}");
                    mesh.stop(1).await;
                }
            }
        }
    }
    assert!(refused > 5, "only {refused} refused");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    let (dir, path) = written().await;
    let whole = std::fs::read(&path).unwrap();
    for bytes in [&b""[..], &b"not a database"[..], &whole[..whole.len() / 2], &whole[..4096], &[0; 8192][..]]
    {
        std::fs::write(&path, bytes).unwrap();
        let error = open_error(dir.path()).await.unwrap();
        assert_eq!(error.reason(), "corrupt", "{} bytes: {error}", bytes.len());
        assert_named(&error, &path);
    }
}

/// Changes a row behind the store's back, pages and their checksums being right.
fn with_database(path: &Path, change: impl FnOnce(&redb::WriteTransaction)) {
    let database = Database::open(path).unwrap();
    let transaction = database.begin_write().unwrap();
    change(&transaction);
    transaction.commit().unwrap();
}

#[tokio::test]
async fn a_damaged_log_entry_is_refused_by_name() {
    let (dir, path) = written().await;
    with_database(&path, |transaction| {
        let mut log = transaction.open_table(LOG).unwrap();
        let mut record = log.get(12).unwrap().unwrap().value().to_vec();
        *record.last_mut().unwrap() ^= 1;
        log.insert(12, record.as_slice()).unwrap();
    });
    let error = open_error(dir.path()).await.unwrap();
    let StoreError::Corrupt { what, cause, .. } = &error else { panic!("{error}") };
    assert_eq!((what.as_str(), cause.as_str()), ("log entry 12", "its checksum does not match"));
    assert_named(&error, &path);
}

#[tokio::test]
async fn a_missing_log_entry_is_refused() {
    let (dir, path) = written().await;
    with_database(&path, |transaction| {
        transaction.open_table(LOG).unwrap().remove(12).unwrap().unwrap();
    });
    let error = open_error(dir.path()).await.unwrap();
    assert!(error.to_string().contains("entry 12 is missing"), "{error}");
}

#[tokio::test]
async fn a_missing_owner_or_snapshot_is_refused() {
    for kind in [Kind::Identity, Kind::Snapshot, Kind::SnapshotMeta] {
        let (dir, path) = written().await;
        with_database(&path, |transaction| {
            transaction.open_table(STATE).unwrap().remove(kind.name()).unwrap().unwrap();
        });
        let error = open_error(dir.path()).await.unwrap();
        assert_eq!(error.reason(), "corrupt", "{kind:?}: {error}");
        assert_named(&error, &path);
    }
}

#[tokio::test]
async fn a_later_release_is_told_from_damage() {
    let (dir, path) = written().await;
    with_database(&path, |transaction| {
        let record = crate::envelope::seal_as(Kind::Vote, 2, b"something else");
        transaction.open_table(STATE).unwrap().insert(Kind::Vote.name(), record.as_slice()).unwrap();
    });
    let error = open_error(dir.path()).await.unwrap();
    assert_eq!(error, StoreError::Newer { path, what: "vote".into(), found: 2, known: 1 });
}

#[tokio::test]
async fn a_record_in_another_ones_place_is_refused() {
    let (dir, path) = written().await;
    with_database(&path, |transaction| {
        let record = seal(Kind::Identity, &NodeId(1)).unwrap();
        transaction.open_table(STATE).unwrap().insert(Kind::Vote.name(), record.as_slice()).unwrap();
    });
    let error = open_error(dir.path()).await.unwrap();
    assert_eq!(error.reason(), "corrupt", "{error}");
}

#[tokio::test]
async fn an_unfinished_birth_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("registry.redb.new"), b"half").unwrap();
    let disk = Disk::open(dir.path(), NodeId(1)).await.unwrap();
    disk.close().await.unwrap();
    assert!(!dir.path().join("registry.redb.new").exists());
}
