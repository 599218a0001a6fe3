//! Hand-over: a process gives its listening sockets, and the lock of its folder, to the one that takes its place.
//!
//! Owns how the two talk: the running process listens on the Unix socket `handover.sock` in its folder; the new one connects,
//! gets the sockets and the lock (`SCM_RIGHTS`, see unix(7)), makes itself ready, and says so; only then does the old one
//! stop. A connection that is made meanwhile waits in a socket that both have, so none is refused. If the new one ends before
//! it is ready, the old one goes on as if nothing had been. Only processes of one user talk to each other. What the sockets
//! are for, and how a process stops, is the caller's business.

mod channel;
mod error;
mod message;
mod offer;
mod take;

pub use error::HandoverError;
pub use offer::{HandoverListener, Offers, Successor};
pub use take::{Predecessor, take_over};

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};

/// The name of the socket in the folder.
const SOCKET: &str = "handover.sock";
/// The most sockets that are handed over; further ones are bound anew by the new process, once the old one has ended.
pub const MAX_SOCKETS: usize = 4096;
/// The longest name of a socket, in bytes.
pub const MAX_NAME: usize = 512;

/// A socket that is handed over.
#[derive(Debug)]
pub enum Socket {
    /// One that listens for connections.
    Tcp(TcpListener),
    /// One that receives datagrams.
    Udp(UdpSocket),
}

impl Socket {
    /// Where it is bound; `None` if the system does not say.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(socket) => socket.local_addr().ok(),
            Self::Udp(socket) => socket.local_addr().ok(),
        }
    }
}

fn path(dir: &Path) -> PathBuf {
    dir.join(SOCKET)
}

#[cfg(test)]
mod tests;
