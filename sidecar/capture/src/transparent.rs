//! Datagrams that TPROXY brings: the socket that receives them all, whatever address they are for, and the sockets that answer from
//! those addresses.

mod batch;

pub use batch::{Batch, Datagram};

use crate::error::SocketError;
use crate::socket::{bind, bind_virtual, make_room, open};
use socket2::{Domain, Socket, Type};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use tokio::io::Interest;

/// The socket that redirected datagrams come to: bound to the outbound port on `127.0.0.1` or `::1`, one for each family.
#[derive(Debug)]
pub struct TransparentUdp {
    socket: tokio::net::UdpSocket,
}

impl TransparentUdp {
    /// Binds one to `addr`. Must be called in a Tokio runtime with I/O.
    ///
    /// # Errors
    /// The process has neither CAP_NET_RAW nor CAP_NET_ADMIN, the port is taken, or the system refuses a socket.
    pub fn bind(addr: SocketAddr) -> Result<Self, SocketError> {
        let socket = bind_transparent(addr)?;
        Self::from_std(socket).map_err(|source| SocketError::System { what: "register", addr, source })
    }

    /// One that was bound before ([`bind_transparent`]), perhaps by another process, which handed it over. Must be called in a Tokio runtime with I/O.
    ///
    /// # Errors
    /// What the system says.
    pub fn from_std(socket: UdpSocket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { socket: tokio::net::UdpSocket::from_std(socket)? })
    }

    /// Where it is bound.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Waits for datagrams and takes as many as there are, up to the room of `batch`, with one system call.
    ///
    /// Cancel safe: a datagram is taken only when this returns. A batch may turn out empty, if all that came was sent straight to
    /// this socket and not to a virtual address.
    ///
    /// # Errors
    /// What the system says; the socket stays usable.
    pub async fn recv(&self, batch: &mut Batch) -> io::Result<()> {
        self.socket.async_io(Interest::READABLE, || batch.receive(self.socket.as_fd())).await
    }
}

impl AsFd for TransparentUdp {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The socket of a [`TransparentUdp`], which any process may read from then on.
///
/// # Errors
/// As for [`TransparentUdp::bind`].
pub fn bind_transparent(addr: SocketAddr) -> Result<UdpSocket, SocketError> {
    let socket = open(addr, Type::DGRAM)?;
    set_transparent(&socket, addr)?;
    make_room(&socket, addr);
    bind(&socket, addr)?;
    Ok(socket.into())
}

/// A non-blocking socket that sends from `original`, the address that a datagram was for, so that the application takes the answer
/// for one from there. It is not connected; nobody reads from it, since what is sent to `original` comes to [`TransparentUdp`].
///
/// # Errors
/// There is no local route to the address, the port is taken or needs a privilege, or the system refuses a socket.
pub fn reply_socket(original: SocketAddr) -> Result<UdpSocket, SocketError> {
    let socket = open(original, Type::DGRAM)?;
    // the least that the kernel allows
    let _ = socket.set_recv_buffer_size(0);
    bind_virtual(&socket, original)?;
    Ok(socket.into())
}

fn set_transparent(socket: &Socket, addr: SocketAddr) -> Result<(), SocketError> {
    let v4 = Domain::for_address(addr) == Domain::IPV4;
    let set = if v4 { socket.set_ip_transparent_v4(true) } else { socket.set_ip_transparent_v6(true) };
    set.map_err(|source| match source.kind() {
        io::ErrorKind::PermissionDenied => SocketError::NotTransparent { addr, source },
        _ => SocketError::System { what: "set up", addr, source },
    })?;
    batch::tell_destinations(socket.as_fd(), v4).map_err(|source| SocketError::System {
        what: "set up",
        addr,
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// A root without network namespace has the capability but no route to a virtual address; others have neither.
    #[tokio::test]
    async fn datagrams_come_with_source_and_destination() {
        for host in ["127.0.0.1", "[::1]"] {
            let captured = match TransparentUdp::bind(format!("{host}:0").parse().unwrap()) {
                Ok(captured) => captured,
                Err(error) if error.reason() == "capability_missing" => {
                    assert!(error.to_string().contains("CAP_NET_RAW or CAP_NET_ADMIN"), "{error}");
                    continue;
                }
                // no IPv6 here
                Err(error) => {
                    assert!(host == "[::1]" && error.reason() != "address_in_use", "{error}");
                    continue;
                }
            };
            let to = captured.local_addr().unwrap();
            let client = UdpSocket::bind(format!("{host}:0")).unwrap();
            let mut batch = Batch::new();
            for size in [0_usize, 1, 1400, 65_000] {
                client.send_to(&vec![7; size], to).unwrap();
                let received = captured.recv(&mut batch);
                tokio::time::timeout(Duration::from_secs(5), received).await.unwrap().unwrap();
                let got: Vec<_> = batch.all().collect();
                assert_eq!(got.len(), 1);
                assert_eq!((got[0].payload.len(), got[0].source), (size, client.local_addr().unwrap()));
                assert_eq!(got[0].original, to);
                assert_eq!(batch.iter().count(), 0, "what was not redirected is not handed on");
            }
        }
    }
}
