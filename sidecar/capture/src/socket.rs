//! Sockets bound to virtual addresses, and what it means when one cannot be.

use crate::error::SocketError;
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

/// How many bytes of datagrams may wait in the kernel: 100 ms of 300 Mbit/s. It is cut to `net.core.rmem_max`.
const RECEIVE_BUFFER: usize = 4 << 20;
/// Less than this loses datagrams in a burst.
const ENOUGH: usize = 1 << 20;

/// A non-blocking socket, not bound yet.
pub(crate) fn open(addr: SocketAddr, kind: Type) -> Result<Socket, SocketError> {
    let protocol = if kind == Type::STREAM { Protocol::TCP } else { Protocol::UDP };
    let failed = |what| move |source| SocketError::System { what, addr, source };
    let socket =
        Socket::new(Domain::for_address(addr), kind.nonblocking(), Some(protocol)).map_err(failed("open"))?;
    if addr.is_ipv6() {
        socket.set_only_v6(true).map_err(failed("set up"))?;
    }
    // connections of a former process may still be closing, and a process that is replaced still has its datagram socket
    socket.set_reuse_address(true).map_err(failed("set up"))?;
    Ok(socket)
}

/// Binds, with an error that says what is missing.
pub(crate) fn bind(socket: &Socket, addr: SocketAddr) -> Result<(), SocketError> {
    socket.bind(&addr.into()).map_err(|source| bind_error(addr, source))
}

/// The same for a virtual address.
pub(crate) fn bind_virtual(socket: &Socket, addr: SocketAddr) -> Result<(), SocketError> {
    // for IPv6 a local route alone makes no address of this host (for IPv4 it does), so the kernel is told not to ask
    if addr.is_ipv6() && !addr.ip().is_loopback() {
        if !leads_here(addr) {
            return Err(SocketError::NoRoute { addr });
        }
        socket.set_freebind_v6(true).map_err(|source| SocketError::System {
            what: "set up",
            addr,
            source,
        })?;
    }
    bind(socket, addr)
}

/// Whether what is sent to `addr` comes from loopback, as the local route has it. Nothing is sent.
fn leads_here(addr: SocketAddr) -> bool {
    let source = || {
        let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        socket.connect(&SocketAddr::new(addr.ip(), 9).into())?;
        socket.local_addr()
    };
    source().ok().and_then(|source| source.as_socket()).is_some_and(|source| source.ip().is_loopback())
}

fn bind_error(addr: SocketAddr, source: io::Error) -> SocketError {
    match source.kind() {
        ErrorKind::AddrNotAvailable => SocketError::NoRoute { addr },
        ErrorKind::PermissionDenied => SocketError::PortDenied { addr },
        ErrorKind::AddrInUse => SocketError::InUse { addr },
        _ => SocketError::System { what: "bind", addr, source },
    }
}

/// Makes room for bursts of datagrams, as far as the system allows.
pub(crate) fn make_room(socket: &Socket, addr: SocketAddr) {
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    // the kernel counts its own book-keeping and tells twice what was asked for
    let got = socket.recv_buffer_size().unwrap_or_default() / 2;
    if got < ENOUGH {
        tracing::warn!(
            %addr,
            bytes = got,
            wanted = ENOUGH,
            "small receive buffer for UDP, bursts may be lost: raise net.core.rmem_max"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_its_word() {
        let addr: SocketAddr = "240.0.0.1:80".parse().unwrap();
        for (errno, reason) in [
            (libc::EADDRNOTAVAIL, "route_missing"),
            (libc::EACCES, "address_denied"),
            (libc::EADDRINUSE, "address_in_use"),
            (libc::EMFILE, "socket_error"),
        ] {
            assert_eq!(bind_error(addr, io::Error::from_raw_os_error(errno)).reason(), reason);
        }
    }
}
