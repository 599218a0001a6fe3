//! Why a relay did not start.

use std::io;
use std::net::SocketAddr;

/// Why a relay did not start.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The listening socket could not be made or bound.
    #[error("cannot listen on {address}: {source}; choose a free local address, or port 0")]
    Bind {
        /// The address as asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A kernel facility that the relay waits with could not be had.
    #[error("cannot set up {what}: {source}; raise the limit of open files")]
    Setup {
        /// The facility.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl RelayError {
    /// The stable name of this error.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Bind { .. } => "bind-failed",
            Self::Setup { .. } => "setup-failed",
        }
    }
}
