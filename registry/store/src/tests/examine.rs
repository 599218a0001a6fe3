//! The look at a database whose gateway does not run.

use super::damage::{with_database, written};
use super::mesh::{Mesh, init, set_port};
use crate::disk::{Disk, LOG, STATE};
use crate::envelope::{Kind, seal, unseal};
use crate::examine::examined;
use crate::format::{Ballot, EntryId, LogEntry};
use crate::raft::{Entry, EntryPayload};
use crate::{Report, StoreConfig, StoreError, examine};
use causeway_catalog::{AllocateVips, Catalog, Command};
use causeway_model::{NodeId, Revision, VipName};
use redb::ReadableTable;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

/// The faults as what and cause.
fn faults(report: &Report) -> Vec<(String, String)> {
    let parts = |fault: &StoreError| match fault {
        StoreError::Corrupt { path, what, cause } => {
            assert_eq!(*path, report.path);
            (what.clone(), cause.clone())
        }
        other => panic!("{other}"),
    };
    report.faults.iter().map(parts).collect()
}

fn fault(what: &str, cause: &str) -> (String, String) {
    (what.to_owned(), cause.to_owned())
}

/// What a start ends with.
async fn refusal(dir: &Path) -> StoreError {
    Disk::open(dir, NodeId(1)).await.unwrap_err()
}

#[tokio::test]
async fn a_sound_database_is_described_and_left_as_it_is() {
    let (dir, path) = written().await;
    let before = std::fs::read(&path).unwrap();
    let report = examine(dir.path());
    assert_eq!(report.faults, []);
    assert!(std::fs::read(&path).unwrap() == before);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing was put beside it");
    assert_eq!((report.bytes, report.node), (before.len() as u64, Some(NodeId(1))));
    assert_eq!(report.cluster, Some("iad".parse().unwrap()));
    let (first, last) = (report.first.unwrap(), report.last.unwrap());
    assert_eq!(report.entries, last - first + 1);
    assert!(report.snapshot.is_some_and(|at| at.0 >= first && at.0 < last), "{report:?}");
    assert_eq!(report.vote, Some((1, NodeId(1))));
    assert_eq!((report.voters.as_slice(), report.changing_voters), (&[NodeId(1)][..], false));

    // what a start serves from it
    let mesh = Arc::new(Mesh::default());
    let registry = mesh.open(dir.path(), 1).await;
    assert!(registry.revision() >= report.revision && report.revision.0 >= report.snapshot.unwrap().0);
    let text = report.to_string();
    for part in
        ["gateway 0000000000000001 of cluster iad: revision ", ", snapshot at ", " log entries ", "; voters "]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    mesh.stop(1).await;
}

#[tokio::test]
async fn the_replayed_log_is_what_the_state_machine_says() {
    let (dir, mesh) = (tempfile::tempdir().unwrap(), Arc::new(Mesh::default()));
    let config =
        StoreConfig { snapshot_every: 8, keep_entries: 6, ..StoreConfig::new(dir.path(), NodeId(1)) };
    let registry = mesh.open_with(config).await.unwrap();
    registry.initialise(init()).await.unwrap();
    for port in 2..=12 {
        registry.propose(set_port(port)).await.unwrap();
    }
    let catalog = registry.catalog();
    mesh.stop(1).await;
    let (report, replayed) = examined(dir.path());
    assert_eq!((report.revision, report.faults), (catalog.revision(), vec![]));
    assert!(report.snapshot.unwrap() < report.revision, "some of it was replayed");
    assert_eq!(replayed.as_ref(), Some(&*catalog));
    // the mark of what is committed is written late, and the only voter needs none
    with_database(&dir.path().join("registry.redb"), |transaction| {
        transaction.open_table(STATE).unwrap().remove(Kind::Committed.name()).unwrap();
    });
    let (unmarked, replayed) = examined(dir.path());
    assert_eq!((unmarked.committed, replayed.as_ref()), (unmarked.last, Some(&*catalog)));
}

#[tokio::test]
async fn a_database_in_use_is_told_as_that() {
    let (dir, mesh) = (tempfile::tempdir().unwrap(), Arc::new(Mesh::default()));
    let registry = mesh.open(dir.path(), 1).await;
    registry.initialise(init()).await.unwrap();
    let report = examine(dir.path());
    assert!(report.is_in_use() && report.bytes > 0, "{report:?}");
    registry.propose(set_port(2)).await.unwrap();
    mesh.stop(1).await;
    let report = examine(dir.path());
    assert!(!report.is_in_use() && report.faults.is_empty(), "{report:?}");
}

#[tokio::test]
async fn whoever_looks_keeps_no_gateway_from_starting() {
    let (dir, path) = written().await;
    let mut opened = None;
    let looked = crate::disk::look(&path, |_, _| {
        // at the first entry: in the middle of the look
        opened
            .get_or_insert_with(|| redb::Database::open(&path).map(drop).map_err(|error| error.to_string()));
        None
    });
    assert_eq!(opened, Some(Ok(())));
    // and what it may have read half of is not called damage
    assert_eq!(looked.map(drop).unwrap_err().reason(), "locked");
    assert_eq!(examine(dir.path()).faults, []);
}

#[tokio::test]
async fn every_damaged_record_is_told_with_the_words_of_a_start() {
    let (dir, path) = written().await;
    let last = examine(dir.path()).last.unwrap();
    with_database(&path, |transaction| {
        let mut log = transaction.open_table(LOG).unwrap();
        for index in [last - 3, last] {
            let mut record = log.get(index).unwrap().unwrap().value().to_vec();
            *record.last_mut().unwrap() ^= 1;
            log.insert(index, record.as_slice()).unwrap();
        }
        let mut state = transaction.open_table(STATE).unwrap();
        let mut record = state.get(Kind::Snapshot.name()).unwrap().unwrap().value().to_vec();
        *record.last_mut().unwrap() ^= 1;
        state.insert(Kind::Snapshot.name(), record.as_slice()).unwrap();
    });
    let report = examine(dir.path());
    let checksum = "its checksum does not match";
    let expected = [
        fault("snapshot", checksum),
        fault(&format!("log entry {}", last - 3), checksum),
        fault(&format!("log entry {last}"), checksum),
    ];
    assert_eq!(faults(&report), expected);
    let said = refusal(dir.path()).await;
    assert_eq!(report.faults[0], said);
    assert!(
        said.to_string().ends_with(said.way_out()) && said.way_out().contains("restore a backup"),
        "{said}"
    );
    // the rest is told all the same
    assert_eq!((report.node, report.entries > 0), (Some(NodeId(1)), true));
}

#[tokio::test]
async fn what_does_not_fit_together_is_told() {
    let last = |path: &Path| examine(path.parent().unwrap()).last.unwrap();
    let cut_off = |path: &Path| {
        let last = last(path);
        with_database(path, |transaction| {
            transaction.open_table(LOG).unwrap().retain_in(last - 1.., |_, _| false).unwrap();
            let end = EntryId { term: 1, node: 1, index: last };
            let record = seal(Kind::Committed, &end).unwrap();
            transaction.open_table(STATE).unwrap().insert(Kind::Committed.name(), record.as_slice()).unwrap();
        });
        fault("log", &format!("its end is missing: {last} was committed"))
    };
    let gap = |path: &Path| {
        let last = last(path);
        with_database(path, |transaction| {
            transaction.open_table(LOG).unwrap().remove(last - 2).unwrap().unwrap();
        });
        fault(&format!("log entry {}", last - 1), &format!("entry {} is missing before it", last - 2))
    };
    let forgotten = |path: &Path| {
        let last = last(path);
        with_database(path, |transaction| {
            let record = seal(Kind::Vote, &Ballot { term: 0, node: 1, committed: false }).unwrap();
            transaction.open_table(STATE).unwrap().insert(Kind::Vote.name(), record.as_slice()).unwrap();
        });
        fault("vote", &format!("it is of term 0, and log entry {last} of term 1"))
    };
    let backwards = |path: &Path| {
        let last = last(path);
        with_database(path, |transaction| {
            let id = EntryId { term: 0, node: 1, index: last };
            let entry = Entry { log_id: id.into(), payload: EntryPayload::Blank };
            let record = seal(Kind::Entry, &LogEntry::from(entry)).unwrap();
            transaction.open_table(LOG).unwrap().insert(last, record.as_slice()).unwrap();
        });
        fault(&format!("log entry {last}"), "its term is 0, and 1 before it")
    };
    type Damage<'a> = &'a dyn Fn(&Path) -> (String, String);
    let damages: [(&str, Damage<'_>); 4] =
        [("cut off", &cut_off), ("gap", &gap), ("vote", &forgotten), ("term", &backwards)];
    for (name, damage) in damages {
        let (dir, path) = written().await;
        let expected = damage(&path);
        let report = examine(dir.path());
        assert_eq!(faults(&report), [expected], "{name}");
        assert_eq!(report.faults[0], refusal(dir.path()).await, "{name}");
    }
}

#[tokio::test]
async fn a_snapshot_that_is_not_of_this_log_is_told() {
    let (dir, path) = written().await;
    let report = examine(dir.path());
    let covered = report.snapshot.unwrap().0;
    assert!(report.first.unwrap() <= covered, "some entries are kept");
    with_database(&path, |transaction| {
        let mut state = transaction.open_table(STATE).unwrap();
        let other = seal(Kind::Snapshot, &Catalog::new()).unwrap();
        let right = state.get(Kind::Snapshot.name()).unwrap().unwrap().value().to_vec();
        assert!(unseal::<Catalog>(Kind::Snapshot, &right).unwrap().revision().0 <= covered);
        // a whole catalog, whose audit knows of other commands
        let mut foreign: Catalog = unseal(Kind::Snapshot, &other).unwrap();
        for revision in [1, covered] {
            drop(foreign.apply(Revision(revision), &init()));
        }
        let record = seal(Kind::Snapshot, &foreign).unwrap();
        state.insert(Kind::Snapshot.name(), record.as_slice()).unwrap();
    });
    let report = examine(dir.path());
    let named = |fault: &(String, String)| fault.0 == "snapshot" && fault.1.ends_with(", update-gateway");
    assert!(!report.faults.is_empty() && faults(&report).iter().all(named), "{:?}", report.faults);
}

/// They are not in the audit, by which a snapshot is compared with its log.
#[tokio::test]
async fn virtual_addresses_are_kept_and_no_damage() {
    let (dir, mesh) = (tempfile::tempdir().unwrap(), Arc::new(Mesh::default()));
    let config =
        StoreConfig { snapshot_every: 8, keep_entries: 6, ..StoreConfig::new(dir.path(), NodeId(1)) };
    let registry = mesh.open_with(config).await.unwrap();
    registry.initialise(init()).await.unwrap();
    let name = |n: u16| -> VipName { format!("s{n}.shop").parse().unwrap() };
    for n in 2..=30 {
        registry.propose(set_port(n)).await.unwrap();
        let allocate =
            Command { at: 1, by: "test".into(), body: AllocateVips { names: vec![name(n)] }.into() };
        registry.propose(allocate).await.unwrap();
    }
    let vips: Vec<_> = (2..=30).map(|n| registry.catalog().vip(&name(n)).unwrap()).collect();
    mesh.stop(1).await;
    let report = examine(dir.path());
    assert_eq!(report.faults, []);
    let covered = report.snapshot.unwrap().0;
    assert!(report.first.unwrap() < covered && covered < report.last.unwrap(), "{report:?}");
    let registry = Arc::new(Mesh::default()).open(dir.path(), 1).await;
    let kept: Vec<_> = (2..=30).map(|n| registry.catalog().vip(&name(n)).unwrap()).collect();
    assert_eq!(kept, vips);
}

#[tokio::test]
async fn what_is_no_database_is_told_as_a_start_does() {
    let (dir, path) = written().await;
    let whole = std::fs::read(&path).unwrap();
    let mut header = whole.clone();
    header[2] ^= 4;
    let half = &whole[..whole.len() / 2];
    for bytes in [&b""[..], b"not a database", &[0; 8192], half, &header] {
        std::fs::write(&path, bytes).unwrap();
        let report = examine(dir.path());
        assert_eq!((report.bytes, report.node), (bytes.len() as u64, None));
        assert!(std::fs::read(&path).unwrap() == bytes, "it was changed");
        assert_eq!(report.faults, [refusal(dir.path()).await], "{} bytes", bytes.len());
    }
    std::fs::remove_file(&path).unwrap();
    let report = examine(dir.path());
    assert_eq!(report.faults, [StoreError::Missing { path: path.clone() }]);
    assert!(report.faults[0].to_string().contains("put the lost file back"));
    assert!(!path.exists(), "nothing was made");

    std::fs::write(&path, &whole).unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(0o000)).unwrap();
    if std::fs::File::open(&path).is_ok() {
        eprintln!("skipped: a file that may not be read, which root always may");
        return;
    }
    let error = &examine(dir.path()).faults[0];
    assert!(error.reason() == "disk" && error.to_string().contains("ermission denied"), "{error}");
}
