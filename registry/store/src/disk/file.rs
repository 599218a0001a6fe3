//! The file on the file system: its name, mode and birth.

use super::overlay::Overlay;
use super::{Fault, LOG, STATE, check, named, put};
use crate::StoreError;
use crate::envelope::Kind;
use crate::member::{DiskId, Owner};
use causeway_model::NodeId;
use redb::backends::FileBackend;
use redb::{Builder, Database, StorageBackend, WriteTransaction};
use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::ops::Bound;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Only the owner reads it: it holds the keys of connection IDs and probes.
const MODE: u32 = 0o600;
/// What redb may keep in memory, in bytes. The catalog is in memory anyway; this is for the log that is replicated.
const CACHE: usize = 8 << 20;

pub(crate) fn path_in(dir: &Path) -> PathBuf {
    dir.join("registry.redb")
}

/// The settings of every open: all pages are checked, since redb otherwise trusts a file that was closed cleanly.
pub(super) fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE).set_check_integrity_on_open(true);
    builder
}

pub(super) fn open_or_make(dir: &Path, node: NodeId) -> Result<(Database, Owner), StoreError> {
    let path = path_in(dir);
    let exists = path.try_exists().map_err(|error| named(&path, "find", error.into()))?;
    if !exists {
        make(dir, &path, node, |_, _| Ok(()))?;
    }
    let database = open(&path).map_err(|fault| named(&path, "open", fault))?;
    let found = check::check(&database).map_err(|fault| named(&path, "read", fault))?;
    if found.node != node {
        return Err(StoreError::WrongNode { path, found: found.node, expected: node });
    }
    Ok((database, found))
}

fn open(path: &Path) -> Result<Database, Fault> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let metadata = file.metadata()?;
    if metadata.len() == 0 {
        // redb would make a new database of it, and this node would have forgotten its votes
        return Err(empty());
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(MODE))?;
    }
    Ok(builder().create_with_backend(FileBackend::new(file)?)?)
}

/// Opens the database at `path` without changing it, and returns its size with what `read` makes of it.
pub(super) fn look<T>(path: &Path, read: impl FnOnce(&Database) -> T) -> Result<(u64, T), StoreError> {
    let failed = |fault: Fault| named(path, "open", fault);
    let locked = || StoreError::Locked { path: path.to_owned() };
    let file = File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => StoreError::Missing { path: path.to_owned() },
        _ => failed(error.into()),
    })?;
    let state = || file.metadata().and_then(|metadata| Ok((metadata.len(), metadata.modified()?)));
    let before = state().map_err(|error| failed(error.into()))?;
    if before.0 == 0 {
        return Err(failed(empty()));
    }
    let used = || file.try_clone().is_ok_and(is_in_use);
    if used() {
        return Err(locked());
    }
    let looked = || -> Result<T, Fault> {
        let database = builder().create_with_backend(Overlay::new(file.try_clone()?)?)?;
        Ok(read(&database))
    };
    let looked = looked();
    // what a gateway changes meanwhile looks like damage
    if used() || state().ok() != Some(before) {
        return Err(locked());
    }
    Ok((before.0, looked.map_err(failed)?))
}

/// Whether a process has the file open as its database. No lock is taken where the system can be asked.
fn is_in_use(file: File) -> bool {
    let probe = file.try_clone();
    let asked =
        FileBackend::new(file).map(|backend| backend.query_lock_range(Bound::Unbounded, Bound::Unbounded));
    match asked {
        Ok(Ok(used)) => used,
        // a file system that has no locks of ranges
        _ => probe.is_ok_and(|file| is_locked(&file)),
    }
}

/// Whether another process has locked the file for itself. The probe's own lock does not outlast it: every handle that was cloned
/// of the file shares it, and a gateway that starts meanwhile would be kept out.
fn is_locked(file: &File) -> bool {
    match file.try_lock_shared() {
        Ok(()) => {
            // one that cannot be released ends with the file
            let _ = file.unlock();
            false
        }
        Err(error) => matches!(error, TryLockError::WouldBlock),
    }
}

fn empty() -> Fault {
    Fault::damaged("pages", "the file is empty")
}

/// Makes the database beside its place, fills it and moves it there whole, so that a crash leaves none or a good one.
pub(super) fn make(
    dir: &Path,
    path: &Path,
    node: NodeId,
    content: impl FnOnce(&WriteTransaction, DiskId) -> Result<(), Fault>,
) -> Result<(), StoreError> {
    let new = dir.join("registry.redb.new");
    let fill = || -> Result<(), Fault> {
        let owner = Owner {
            node,
            disk: DiskId(getrandom::u64().map_err(|error| io::Error::other(error.to_string()))?),
        };
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(MODE).open(&new)?;
        let database = builder().create_with_backend(FileBackend::new(file)?)?;
        prepare(&database, owner)?;
        let mut transaction = database.begin_write()?;
        transaction.set_two_phase_commit(true);
        content(&transaction, owner.disk)?;
        transaction.commit()?;
        database.close()?;
        Ok(())
    };
    fill().map_err(|fault| named(&new, "make", fault))?;
    let place = || -> io::Result<()> {
        fs::rename(&new, path)?;
        File::open(dir)?.sync_all()
    };
    place().map_err(|error| named(path, "make", error.into()))
}

/// Gives a new database its tables and its owner.
pub(super) fn prepare(database: &Database, owner: Owner) -> Result<(), Fault> {
    let mut transaction = database.begin_write()?;
    transaction.set_two_phase_commit(true);
    transaction.open_table(LOG)?;
    transaction.open_table(STATE)?;
    put(&transaction, Kind::Identity, &owner)?;
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_for_a_lock_leaves_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, [1]).unwrap();
        let (looks, other) = (File::open(&path).unwrap(), File::open(&path).unwrap());
        assert!(!is_locked(&looks.try_clone().unwrap()));
        other.try_lock().unwrap();
        assert!(is_locked(&looks));
        other.unlock().unwrap();
        assert!(!is_locked(&looks));
    }
}
