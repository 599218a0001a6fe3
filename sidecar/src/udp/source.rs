//! What applications send datagrams to: sockets for one service port each, and the socket that rules bring all others to.

use super::socket;
use causeway_capture::{Batch, TransparentUdp, reply_socket};
use causeway_wire::datagram::FLOW_PREFIX;
use rustc_hash::FxHashMap;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Weak};

/// So many datagrams are taken before others may run.
const TURN: usize = 64;

/// Whom a flow is between: where the application sends from, and to, if that is not the same for all of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Ends {
    pub(super) from: SocketAddr,
    pub(super) to: Option<SocketAddr>,
}

/// Where an application's datagrams come from.
pub(crate) enum FlowSource {
    /// A socket of one service port.
    Port {
        /// What is read.
        socket: tokio::net::UdpSocket,
        /// The same, for answers.
        answers: Arc<UdpSocket>,
    },
    /// The socket that gets what was for virtual addresses.
    Transparent {
        /// What is read.
        socket: TransparentUdp,
        /// What was read.
        batch: Box<Batch>,
        /// What answers, by the address that it answers from.
        answers: FxHashMap<SocketAddr, Weak<UdpSocket>>,
    },
}

impl FlowSource {
    /// A bound socket for one service port. Must be called in the runtime that is to read it.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn port(socket: UdpSocket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let answers = Arc::new(socket.try_clone()?);
        Ok(Self::Port { socket: tokio::net::UdpSocket::from_std(socket)?, answers })
    }

    /// What rules bring from virtual addresses.
    pub(crate) fn transparent(socket: TransparentUdp) -> Self {
        Self::Transparent { socket, batch: Box::default(), answers: FxHashMap::default() }
    }

    /// Waits until there may be something to [take](Self::take). Cancel safe, as long as it is taken at once.
    pub(super) async fn ready(&mut self) -> io::Result<()> {
        match self {
            Self::Port { socket, .. } => socket.readable().await,
            Self::Transparent { socket, batch, .. } => socket.recv(batch).await,
        }
    }

    /// Gives `take` what is there, up to a turn's worth: between whom, and a buffer with the payload behind [`FLOW_PREFIX`] bytes.
    /// Whether there may be more.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn take(&mut self, mut take: impl FnMut(Ends, &mut [u8])) -> io::Result<bool> {
        match self {
            Self::Port { socket, .. } => socket::with_scratch(|scratch| {
                for _ in 0..TURN {
                    match socket.try_recv_from(scratch.get_mut(FLOW_PREFIX..).unwrap_or_default()) {
                        Ok((length, from)) => {
                            let framed = scratch.get_mut(..FLOW_PREFIX + length).unwrap_or_default();
                            take(Ends { from, to: None }, framed);
                        }
                        Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                        Err(error) => return Err(error),
                    }
                }
                Ok(true)
            }),
            Self::Transparent { batch, .. } => socket::with_scratch(|scratch| {
                for datagram in batch.iter() {
                    let end = FLOW_PREFIX + datagram.payload.len();
                    let Some(framed) = scratch.get_mut(..end) else { continue };
                    framed[FLOW_PREFIX..].copy_from_slice(datagram.payload);
                    take(Ends { from: datagram.source, to: Some(datagram.original) }, framed);
                }
                Ok(false)
            }),
        }
    }

    /// What answers to `ends` are sent from.
    ///
    /// # Errors
    /// What the system says: there is no route to the virtual address, or no descriptor is left.
    pub(super) fn answers(&mut self, ends: Ends) -> io::Result<Arc<UdpSocket>> {
        match (self, ends.to) {
            (Self::Port { answers, .. }, _) => Ok(Arc::clone(answers)),
            (Self::Transparent { answers, .. }, Some(to)) => {
                if let Some(socket) = answers.get(&to).and_then(Weak::upgrade) {
                    return Ok(socket);
                }
                let socket = reply_socket(to).map_err(|error| io::Error::other(error.to_string()))?;
                let socket = Arc::new(socket);
                answers.insert(to, Arc::downgrade(&socket));
                Ok(socket)
            }
            (Self::Transparent { .. }, None) => Err(ErrorKind::AddrNotAvailable.into()),
        }
    }

    /// Forgets what no flow uses any more.
    pub(super) fn sweep(&mut self) {
        if let Self::Transparent { answers, .. } = self {
            answers.retain(|_, socket| socket.strong_count() > 0);
        }
    }
}
