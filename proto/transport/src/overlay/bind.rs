//! Making the overlay's UDP socket.

use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, UdpSocket};

/// What is asked for: with the usual 208 KiB bursts are lost.
const ASKED: usize = 4 << 20;

/// The socket buffers that the system granted, in bytes; raise `net.core.rmem_max` and `net.core.wmem_max` where they are below
/// 4 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferSizes {
    /// For packets that wait to be read.
    pub receive: usize,
    /// For packets that wait to be sent.
    pub send: usize,
}

/// A non-blocking socket on `addr`, dual stack where that is `[::]`.
pub(super) fn socket(addr: SocketAddr) -> io::Result<(UdpSocket, BufferSizes)> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(!addr.ip().is_unspecified())?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    // the system grants what it allows without an error; a refusal leaves its default, which is reported
    let refused = [socket.set_recv_buffer_size(ASKED), socket.set_send_buffer_size(ASKED)];
    if let Some(error) = refused.into_iter().find_map(Result::err) {
        tracing::debug!(%error, "the system refused larger socket buffers");
    }
    // Linux reports twice what was granted, half of it for its own bookkeeping (socket(7))
    let granted = |size: usize| if cfg!(target_os = "linux") { size / 2 } else { size };
    let buffers = BufferSizes {
        receive: granted(socket.recv_buffer_size()?),
        send: granted(socket.send_buffer_size()?),
    };
    Ok((socket.into(), buffers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unspecified_ipv6_address_takes_ipv4_as_well() {
        let (socket, buffers) = socket("[::]:0".parse().unwrap()).unwrap();
        assert!(buffers.receive > 0 && buffers.send > 0);
        let port = socket.local_addr().unwrap().port();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.send_to(b"x", ("127.0.0.1", port)).unwrap();
        socket.set_nonblocking(false).unwrap();
        socket.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
        let (len, from) = socket.recv_from(&mut [0; 8]).unwrap();
        assert_eq!((len, from.ip().to_canonical()), (1, sender.local_addr().unwrap().ip()));
    }
}
