//! Sockets that listen on virtual addresses, for `--capture vip`: a local route has made every one of them an address of this
//! host, so binding one needs no privilege.
//!
//! They take from loopback only. A neighbour on the same network could otherwise send packets for a virtual address to this host
//! and use the mesh in the workload's name. How differs: kernels let only the privileged attach a filter to a TCP socket, and a socket that
//! is bound to an interface cannot answer, over IPv6, who sends from an address of another. So an application that binds an IPv6 address
//! of this host other than `::1` before it connects to a virtual one is served over UDP, but not over TCP.

use crate::error::SocketError;
use crate::socket::{bind_virtual, make_room, open};
use socket2::{SockFilter, Type};
use std::net::{SocketAddr, TcpListener, UdpSocket};

/// How many connections may wait to be accepted; the kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// A non-blocking listener on a virtual address.
///
/// # Errors
/// There is no local route to it, the port is taken or needs a privilege, or the system refuses a socket.
pub fn bind_tcp(addr: SocketAddr) -> Result<TcpListener, SocketError> {
    let socket = open(addr, Type::STREAM)?;
    let bound = socket.bind_device(Some(b"lo"));
    bound.map_err(|source| SocketError::System { what: "bind to loopback", addr, source })?;
    bind_virtual(&socket, addr)?;
    socket.listen(BACKLOG).map_err(|source| SocketError::System { what: "listen on", addr, source })?;
    Ok(socket.into())
}

/// A non-blocking socket for datagrams to a virtual address; what it sends comes from that address.
///
/// # Errors
/// As for [`bind_tcp`].
pub fn bind_udp(addr: SocketAddr) -> Result<UdpSocket, SocketError> {
    let socket = open(addr, Type::DGRAM)?;
    let attached = socket.attach_filter(&FROM_LOOPBACK);
    attached.map_err(|source| SocketError::System { what: "set up", addr, source })?;
    make_room(&socket, addr);
    bind_virtual(&socket, addr)?;
    Ok(socket.into())
}

/// A filter program of socket(7), SO_ATTACH_FILTER: take a packet as a whole if its interface is loopback, else nothing of it.
const FROM_LOOPBACK: [SockFilter; 4] = [
    // load a word of ancillary data: the index of the interface (SKF_AD_OFF + SKF_AD_IFINDEX of linux/filter.h)
    SockFilter::new(0x20, 0, 0, 0xffff_f008),
    // go on if it is loopback's, which is 1 in every network namespace; else skip one
    SockFilter::new(0x15, 0, 1, 1),
    SockFilter::new(0x06, 0, 0, u32::MAX),
    SockFilter::new(0x06, 0, 0, 0),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpStream;

    #[test]
    fn without_a_route_the_step_before_is_named() {
        let addr = "[fd9c:43a6:77c1::1]:80".parse().unwrap();
        for error in [bind_tcp(addr).unwrap_err(), bind_udp(addr).unwrap_err()] {
            if error.reason() == "route_missing" {
                assert!(error.to_string().contains("causeway sidecar init --capture vip"), "{error}");
            } else {
                // a host without IPv6 has no such socket, one without CAP_NET_BIND_SERVICE no such port
                assert!(["socket_error", "address_denied"].contains(&error.reason()), "{error}");
            }
        }
    }

    #[test]
    fn what_comes_over_loopback_is_taken() {
        let listener = bind_tcp("127.0.0.61:0".parse().unwrap()).unwrap();
        listener.set_nonblocking(false).unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.write_all(b"hello").unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        let mut got = [0; 5];
        accepted.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"hello");

        let socket = bind_udp("127.0.0.61:0".parse().unwrap()).unwrap();
        socket.set_nonblocking(false).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(b"hello", socket.local_addr().unwrap()).unwrap();
        let (length, from) = socket.recv_from(&mut got).unwrap();
        assert_eq!((length, from), (5, client.local_addr().unwrap()));
    }
}
