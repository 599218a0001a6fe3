//! Listening sockets, and the error for an address that cannot be had. Owns the words of that error for TCP and UDP
//! alike; UDP sockets of the mesh are made elsewhere.

use rustix::io::Result as Rustix;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};

/// How many connections may wait to be accepted; the kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// An address that could not be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for {what} on {addr}: {source}{}", hint(source, flag))]
pub struct BindError {
    /// What would have listened there: "telemetry", "the overlay", ...
    pub what: &'static str,
    /// The flag that chooses the address, with its dashes.
    pub flag: &'static str,
    /// The address.
    pub addr: SocketAddr,
    /// What the system said.
    pub source: io::Error,
}

impl BindError {
    /// The stable name of this error in logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self.source.kind() {
            ErrorKind::AddrInUse => "address_in_use",
            ErrorKind::AddrNotAvailable => "address_not_here",
            ErrorKind::PermissionDenied => "address_denied",
            _ => "bind_error",
        }
    }
}

fn hint(error: &io::Error, flag: &str) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => {
            format!("; another process listens there: choose another address with {flag}")
        }
        ErrorKind::AddrNotAvailable => {
            format!("; this host has no such address: choose one it has with {flag}")
        }
        ErrorKind::PermissionDenied => {
            format!(
                "; ports below 1024 need CAP_NET_BIND_SERVICE: grant it or choose a higher port with {flag}"
            )
        }
        _ => format!("; choose another address with {flag}"),
    }
}

/// The error for an address that `what` could not be bound to; `flag` (with its dashes) is how to choose another.
pub fn bind_error(what: &'static str, flag: &'static str, addr: SocketAddr, source: io::Error) -> BindError {
    BindError { what, flag, addr, source }
}

/// A non-blocking TCP listener. `[::]` takes IPv4 too, whatever the system's default; port 0 lets the system choose.
///
/// # Errors
/// The address cannot be had.
pub fn bind_tcp(what: &'static str, flag: &'static str, addr: SocketAddr) -> Result<TcpListener, BindError> {
    listen(addr).map_err(|errno| bind_error(what, flag, addr, errno.into()))
}

fn listen(addr: SocketAddr) -> Rustix<TcpListener> {
    let family = if addr.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(family, SocketType::STREAM, flags, None)?;
    // connections of a former process may still be closing on the port
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if addr.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    net::bind(&socket, &addr)?;
    net::listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn a_taken_port_is_named_with_its_flag() {
        let first = bind_tcp("telemetry", "--telemetry", "127.0.0.1:0".parse().unwrap()).unwrap();
        let addr = first.local_addr().unwrap();
        let error = bind_tcp("telemetry", "--telemetry", addr).unwrap_err();
        assert_eq!(error.reason(), "address_in_use");
        let said = error.to_string();
        assert!(said.starts_with(&format!("cannot listen for telemetry on {addr}: ")), "{said}");
        assert!(
            said.ends_with("another process listens there: choose another address with --telemetry"),
            "{said}"
        );
    }

    #[test]
    fn an_address_of_another_host_is_named() {
        let error = bind_tcp("admin", "--admin", "192.0.2.1:0".parse().unwrap()).unwrap_err();
        assert_eq!(error.reason(), "address_not_here");
    }

    #[test]
    fn a_port_is_free_again_at_once_and_the_unspecified_ipv6_address_takes_ipv4() {
        let mut addr: SocketAddr = "[::]:0".parse().unwrap();
        for _ in 0..3 {
            let listener = bind_tcp("test", "--test", addr).unwrap();
            addr = listener.local_addr().unwrap();
            listener.set_nonblocking(false).unwrap();
            let _client = TcpStream::connect(("127.0.0.1", addr.port())).unwrap();
            drop(listener.accept().unwrap());
        }
    }
}
