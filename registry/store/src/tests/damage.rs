//! Files that are not what was written.

use super::mesh::{Mesh, init, set_port};
use crate::disk::{Disk, LOG, STATE};
use crate::envelope::{Kind, seal};
use crate::member::{DiskId, Owner};
use crate::{StoreConfig, StoreError, examine};
use causeway_model::NodeId;
use redb::{Database, ReadableTable};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// A database with a few changes, closed.
pub(super) async fn written() -> (TempDir, PathBuf) {
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

/// Every row of a database.
#[derive(Debug, PartialEq)]
struct Rows {
    log: Vec<(u64, Vec<u8>)>,
    state: Vec<(String, Vec<u8>)>,
}

async fn rows(disk: &Arc<Disk>) -> Rows {
    let read = disk.read(|transaction| {
        let mut rows = Rows { log: Vec::new(), state: Vec::new() };
        for row in transaction.open_table(LOG)?.iter()? {
            let (index, record) = row?;
            rows.log.push((index.value(), record.value().to_vec()));
        }
        for row in transaction.open_table(STATE)?.iter()? {
            let (name, record) = row?;
            rows.state.push((name.value().to_owned(), record.value().to_vec()));
        }
        Ok(rows)
    });
    read.await.unwrap()
}

/// Opens what `bytes` make of the file: it is refused by name, or holds exactly what was acknowledged. True when refused.
async fn refused_or_whole(dir: &Path, bytes: &[u8], whole: &Rows, what: &str) -> bool {
    let path = dir.join("registry.redb");
    std::fs::write(&path, bytes).unwrap();
    // whoever examines the file first is told the same, and leaves it as it is
    let report = examine(dir);
    assert!(std::fs::read(&path).unwrap() == bytes, "{what}: it was changed");
    match Disk::open(dir, NodeId(1)).await {
        Err(error) => {
            assert_eq!(error.reason(), "corrupt", "{what}: {error}");
            assert_named(&error, &path);
            assert_eq!(report.faults.first(), Some(&error), "{what}");
            true
        }
        Ok(disk) => {
            assert_eq!(report.faults, [], "{what}");
            assert_eq!(rows(&disk).await, *whole, "{what}");
            disk.close().await.unwrap();
            false
        }
    }
}

/// The same file, opened and closed once more as each check does it, and its rows.
async fn settled(dir: &Path, path: &Path) -> (Vec<u8>, Rows) {
    let disk = Disk::open(dir, NodeId(1)).await.unwrap();
    let whole = rows(&disk).await;
    disk.close().await.unwrap();
    (std::fs::read(path).unwrap(), whole)
}

#[tokio::test]
async fn a_changed_bit_is_refused_or_harmless_wherever_it_is() {
    let (dir, path) = written().await;
    let (bytes, whole) = settled(dir.path(), &path).await;
    // not in memory that was never written: the file is mostly that
    let used = |at: &usize| bytes[at / 4096 * 4096..].iter().take(4096).any(|byte| *byte != 0);
    let (mut refused, mut checked) = (0, 0);
    for at in (0..bytes.len()).step_by(64).filter(used) {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at / 64 % 8);
        checked += 1;
        refused += usize::from(refused_or_whole(dir.path(), &changed, &whole, &format!("byte {at}")).await);
    }
    println!("{refused} of {checked} changed bits were refused");
    assert!(refused > 20, "only {refused} of {checked} refused");
}

#[tokio::test]
async fn a_file_that_was_cut_off_is_refused_or_whole() {
    let (dir, path) = written().await;
    let (bytes, whole) = settled(dir.path(), &path).await;
    let pages = (0..bytes.len()).step_by(1024);
    let odd = [1, 63, 64, 511, 4095, bytes.len() - 4096, bytes.len() - 1];
    let mut refused = 0;
    for length in pages.chain(odd) {
        let what = format!("{length} of {} bytes", bytes.len());
        refused += usize::from(refused_or_whole(dir.path(), &bytes[..length], &whole, &what).await);
    }
    assert!(refused > 5, "only {refused} refused");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    let (dir, path) = written().await;
    for bytes in [&b""[..], &b"not a database"[..], &[0; 8192][..]] {
        std::fs::write(&path, bytes).unwrap();
        let error = open_error(dir.path()).await.unwrap();
        assert_eq!(error.reason(), "corrupt", "{} bytes: {error}", bytes.len());
        assert_named(&error, &path);
    }
}

/// Changes a row behind the store's back, pages and their checksums being right.
pub(super) fn with_database(path: &Path, change: impl FnOnce(&redb::WriteTransaction)) {
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
        let owner = Owner { node: NodeId(1), disk: DiskId(1) };
        let record = seal(Kind::Identity, &owner).unwrap();
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
