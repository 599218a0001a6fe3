//! What a disk refused, in words for an operator.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// A disk operation that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {op} {}: {source}{}", path.display(), hint(source))]
pub struct DiskError {
    /// What was tried: "write", "create folder", ...
    pub op: &'static str,
    /// On what.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl DiskError {
    /// An error of `op` ("write", "create folder", ...) on `path`.
    pub fn new(op: &'static str, path: impl AsRef<Path>, source: io::Error) -> Self {
        Self { op, path: path.as_ref().to_owned(), source }
    }

    /// The error without the path, for a message that begins with it.
    pub(crate) fn without_path(&self) -> String {
        format!("cannot {} it: {}{}", self.op, self.source, hint(&self.source))
    }

    /// The stable name of this error in logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self.source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "disk_full",
            ErrorKind::PermissionDenied => "disk_denied",
            ErrorKind::ReadOnlyFilesystem => "disk_read_only",
            ErrorKind::NotFound => "disk_missing",
            _ => "disk_error",
        }
    }
}

fn hint(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::StorageFull => "; free space on that file system or choose another folder".to_owned(),
        ErrorKind::QuotaExceeded => "; raise the quota of the user or choose another folder".to_owned(),
        ErrorKind::PermissionDenied => {
            let user = rustix::process::geteuid();
            format!(
                "; check owner and mode of the path and of the folders above (this process runs as uid {user})"
            )
        }
        ErrorKind::ReadOnlyFilesystem => {
            "; it is mounted read-only (after a disk error, or by the container): choose a writable folder"
                .to_owned()
        }
        ErrorKind::NotFound => "; check the path, or create its folder".to_owned(),
        ErrorKind::AlreadyExists => "; it is a file where a folder is needed: choose another path".to_owned(),
        ErrorKind::NotADirectory => "; a part of the path is a file".to_owned(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn what_operators_meet_has_a_reason_and_a_hint() {
        let cases = [
            (Errno::NOSPC, "disk_full", "free space"),
            (Errno::DQUOT, "disk_full", "quota"),
            (Errno::ACCESS, "disk_denied", "runs as uid"),
            (Errno::ROFS, "disk_read_only", "read-only"),
            (Errno::NOENT, "disk_missing", "check the path"),
            (Errno::EXIST, "disk_error", "choose another path"),
            (Errno::IO, "disk_error", "Input/output error"),
        ];
        for (errno, reason, hint) in cases {
            let error = DiskError::new("write", "/data/key", errno.into());
            assert_eq!(error.reason(), reason);
            let said = error.to_string();
            assert!(said.starts_with("cannot write /data/key: ") && said.contains(hint), "{said}");
        }
    }
}
