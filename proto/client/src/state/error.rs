//! What is wrong with a state folder.

use causeway_runtime::{DiskError, LockError};
use std::path::PathBuf;

/// Why the state folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Another process has the folder.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A file is not what was written.
    #[error(
        "{} is damaged: {cause}; delete it and start with a token from `causeway token create`",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// A file is of another release.
    #[error(
        "{} has format {format}, and this release reads format 1; run the release that wrote it, or delete the file and \
         start with a token from `causeway token create`",
        path.display()
    )]
    OtherRelease {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
    /// The state could not be put into words.
    #[error("the state for {} cannot be encoded: {cause}", path.display())]
    Encode {
        /// The file.
        path: PathBuf,
        /// What the encoder said.
        cause: String,
    },
}

impl StateError {
    /// The stable word for logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Disk(error) => error.reason(),
            Self::Lock(error) => error.reason(),
            Self::Damaged { .. } => "state-damaged",
            Self::OtherRelease { .. } => "state-format",
            Self::Encode { .. } => "state-encode",
        }
    }
}
