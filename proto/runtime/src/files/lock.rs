//! One process to a data folder.

use super::DiskError;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The name of the lock file.
const NAME: &str = "lock";

/// The lock of a data folder, held until it is dropped or the process ends, however it ends. The file `lock` stays.
#[derive(Debug)]
pub struct DirLock {
    file: File,
    path: PathBuf,
}

impl DirLock {
    /// The folder that is locked.
    pub fn dir(&self) -> &Path {
        &self.path
    }

    /// Writes into the lock file that this process has the folder, for whoever finds it locked.
    ///
    /// # Errors
    /// The file cannot be written; the folder is locked all the same.
    pub fn sign(&self) -> Result<(), DiskError> {
        let mut file = &self.file;
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        written.map_err(|source| DiskError::new("lock", self.path.join(NAME), source))
    }
}

impl AsFd for DirLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Why a folder was not locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("{} is in use by {}: stop that process or choose another folder", dir.display(), process(*pid))]
    InUse {
        /// The folder.
        dir: PathBuf,
        /// The other process, as it sees itself (in a container its id may mean nothing outside).
        pid: Option<u32>,
    },
    /// The lock file cannot be opened or written.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl LockError {
    /// The stable name of this error in logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::InUse { .. } => "dir_in_use",
            Self::Disk(error) => error.reason(),
        }
    }
}

fn process(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

/// Locks an existing folder for this process, with `flock` on its file `lock`.
///
/// # Errors
/// Another process (or another lock of this one) has it, or the lock file cannot be opened or written.
pub fn lock_dir(dir: impl AsRef<Path>) -> Result<DirLock, LockError> {
    let dir = dir.as_ref();
    let path = dir.join(NAME);
    let failed = |source| DiskError::new("lock", &path, source);
    let mut options = OpenOptions::new();
    let opened = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let mut file = opened.map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(LockError::InUse { dir: dir.to_owned(), pid: owner(&mut file) });
        }
        Err(TryLockError::Error(error)) => return Err(failed(error).into()),
    }
    let lock = DirLock { file, path: dir.to_owned() };
    lock.sign()?;
    Ok(lock)
}

/// The lock of `dir` that another process has and shares: `fd` is its descriptor. Both have it then, and the folder is free once
/// neither does. The file goes on naming the other process until this one [signs](DirLock::sign) it.
///
/// # Errors
/// `fd` is not the lock file of `dir`, or does not hold the lock.
pub fn adopt_lock(dir: impl AsRef<Path>, fd: OwnedFd) -> Result<DirLock, LockError> {
    let dir = dir.as_ref();
    let path = dir.join(NAME);
    let failed = |source| DiskError::new("lock", &path, source);
    let mut file = File::from(fd);
    let (given, there) = (file.metadata().map_err(failed)?, std::fs::metadata(&path).map_err(failed)?);
    if (given.dev(), given.ino()) != (there.dev(), there.ino()) {
        let other =
            io::Error::new(io::ErrorKind::InvalidInput, "the lock that was handed over is another folder's");
        return Err(failed(other).into());
    }
    // one that is held already is had again by the same descriptor, and by no other
    match file.try_lock() {
        Ok(()) => Ok(DirLock { file, path: dir.to_owned() }),
        Err(TryLockError::WouldBlock) => Err(LockError::InUse { dir: dir.to_owned(), pid: owner(&mut file) }),
        Err(TryLockError::Error(error)) => Err(failed(error).into()),
    }
}

fn owner(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_is_refused_and_names_the_holder() {
        let dir = tempfile::tempdir().unwrap();
        let lock = lock_dir(dir.path()).unwrap();
        assert_eq!(lock.dir(), dir.path());
        let error = lock_dir(dir.path()).unwrap_err();
        assert_eq!(error.reason(), "dir_in_use");
        let said = error.to_string();
        assert!(said.contains(&format!("is in use by process {}:", std::process::id())), "{said}");
        drop(lock);
        lock_dir(dir.path()).unwrap();
    }

    #[test]
    fn a_lock_left_by_a_dead_process_does_not_matter() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("lock"), "4194304000 and more than fits\n").unwrap();
        let _lock = lock_dir(dir.path()).unwrap();
        let text = std::fs::read_to_string(dir.path().join("lock")).unwrap();
        assert_eq!(text, format!("{}\n", std::process::id()));
    }

    #[test]
    fn a_lock_that_is_shared_holds_until_both_have_let_go() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = lock_dir(dir.path()).unwrap();
        let shared = || first.as_fd().try_clone_to_owned().unwrap();
        let _other = lock_dir(other.path()).unwrap();
        assert!(adopt_lock(other.path(), shared()).unwrap_err().to_string().contains("another folder's"));
        let second = adopt_lock(dir.path(), shared()).unwrap();
        drop(first);
        assert_eq!(lock_dir(dir.path()).unwrap_err().reason(), "dir_in_use");
        let stranger = File::open(dir.path().join(NAME)).unwrap();
        assert_eq!(adopt_lock(dir.path(), stranger.into()).unwrap_err().reason(), "dir_in_use");
        drop(second);
        lock_dir(dir.path()).unwrap();
    }

    #[test]
    fn a_missing_folder_is_a_disk_error() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(lock_dir(dir.path().join("none")).unwrap_err().reason(), "disk_missing");
    }
}
