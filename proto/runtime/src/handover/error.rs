//! Why sockets were not handed over, in words for an operator.

use std::io;
use std::path::PathBuf;

/// A hand-over that did not come about.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// The running process does not hand over.
    #[error("the process that runs does not hand over: {why}")]
    Refused {
        /// Its reason.
        why: String,
    },
    /// The process at the other end belongs to another user.
    #[error("the process at the other end of {} runs as uid {uid}, not as uid {own}: start both as one user", path.display())]
    Foreign {
        /// The socket.
        path: PathBuf,
        /// Its user.
        uid: u32,
        /// The own user.
        own: u32,
    },
    /// The other end did not keep to the protocol.
    #[error("what the other process says cannot be used: {0}; stop it, then start this one")]
    Malformed(String),
    /// The other end said nothing in time.
    #[error("the process that runs did not answer: stop it, then start this one")]
    Timeout,
    /// The socket cannot be used.
    #[error("cannot {op} {}: {source}", path.display())]
    Io {
        /// What was tried.
        op: &'static str,
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl HandoverError {
    /// The stable name of this error in logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Refused { .. } => "handover_refused",
            Self::Foreign { .. } => "handover_foreign",
            Self::Malformed(_) => "handover_malformed",
            Self::Timeout => "handover_timeout",
            Self::Io { .. } => "handover_io",
        }
    }
}
