//! Files and folders that a process keeps for itself: private, whole or not there at all, and locked against a second
//! process.
//!
//! Owns how they are written and the words in which a disk's refusal is told. What is in them is not its concern. All
//! calls block; from async code use `spawn_blocking` for anything that is not done once at the start.

mod error;
mod lock;

pub use error::DiskError;
pub use lock::{DirLock, LockError, adopt_lock, lock_dir};

use rustix::fs::{Access, access};
use std::fs::{DirBuilder, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

/// Writes a file with mode 0600 so that a crash leaves either the old or the new content, never a part: a temporary file
/// in the same folder is written, flushed to disk and renamed, and the folder is flushed.
///
/// # Errors
/// A step failed; the old content is then still there.
pub fn write_private(path: impl AsRef<Path>, bytes: &[u8]) -> Result<(), DiskError> {
    let path = path.as_ref();
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let write = || -> io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(".causeway-").suffix(".tmp").tempfile_in(dir)?;
        file.as_file().set_permissions(PermissionsExt::from_mode(0o600))?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|failed| failed.error)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(|source| DiskError::new("write", path, source))
}

/// The content of a file that must have at most `max` bytes.
///
/// # Errors
/// It cannot be read or is larger.
pub fn read_limited(path: impl AsRef<Path>, max: u64) -> Result<Vec<u8>, DiskError> {
    let path = path.as_ref();
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(max.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > max {
            return Err(io::Error::new(ErrorKind::FileTooLarge, format!("it is larger than {max} bytes")));
        }
        Ok(bytes)
    };
    read().map_err(|source| DiskError::new("read", path, source))
}

/// Makes sure that a folder exists and can be written. What it creates has mode 0700; a folder that is there keeps its
/// mode, as it may not be ours alone.
///
/// # Errors
/// It cannot be created, is not a folder, or cannot be written.
pub fn create_private_dir(path: impl AsRef<Path>) -> Result<(), DiskError> {
    let path = path.as_ref();
    let created = DirBuilder::new().recursive(true).mode(0o700).create(path);
    created.map_err(|source| DiskError::new("create folder", path, source))?;
    let writable = access(path, Access::WRITE_OK | Access::EXEC_OK);
    writable.map_err(|errno| DiskError::new("write into folder", path, errno.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_private_file_is_replaced_whole_with_mode_0600() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, "old and longer").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        write_private(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(mode(&path), 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_failed_write_leaves_the_old_state_and_names_the_path() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("folder");
        std::fs::create_dir(&folder).unwrap();
        let error = write_private(&folder, b"x").unwrap_err();
        assert!(error.to_string().contains(folder.to_str().unwrap()), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
        assert_eq!(write_private(dir.path().join("none/file"), b"x").unwrap_err().reason(), "disk_missing");
    }

    #[test]
    fn reading_stops_at_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(read_limited(&path, 5).unwrap(), b"12345");
        let error = read_limited(&path, 4).unwrap_err();
        assert!(error.to_string().ends_with("file: it is larger than 4 bytes"), "{error}");
    }

    #[test]
    fn a_private_folder_is_created_with_mode_0700_and_an_old_one_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        create_private_dir(&path).unwrap();
        assert_eq!((mode(&path), mode(&dir.path().join("a"))), (0o700, 0o700));
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        create_private_dir(&path).unwrap();
        assert_eq!(mode(&path), 0o755);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        for path in [file.clone(), file.join("below")] {
            let error = create_private_dir(&path).unwrap_err();
            assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        }
        let error = create_private_dir("/proc/causeway").unwrap_err().to_string();
        assert!(error.starts_with("cannot create folder /proc/causeway: "), "{error}");
    }
}
