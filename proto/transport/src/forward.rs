//! The gateway's sockets: datagrams in and out in batches, with GRO and GSO.
//!
//! This module owns the sockets that packets are forwarded through and the system calls on them. Where a packet goes is the
//! forwarder's business; what is in it, too.

mod mmsg;
mod receive;
mod send;

pub use quinn_udp::EcnCodepoint;
pub use receive::{ReceiveBatch, Received};
pub use send::{SendBatch, SendQueue, Sent};

use quinn_udp::{Transmit, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// The socket buffers that are asked for, in bytes; the system may grant less (`net.core.rmem_max`, `net.core.wmem_max`).
pub const SOCKET_BUFFER: usize = 4 << 20;

/// A non-blocking UDP socket that packets are forwarded through.
#[derive(Debug)]
pub struct ForwardSocket {
    socket: UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
    v6: bool,
}

impl ForwardSocket {
    /// `count` sockets on `addr` that share its port (`SO_REUSEPORT`): the kernel spreads sources over them by a hash of their
    /// addresses. `[::]` takes IPv4 as well. With port 0 all share the port that the first one gets.
    pub fn bind_group(addr: SocketAddr, count: usize) -> io::Result<Vec<Self>> {
        // a first socket without SO_REUSEPORT finds out whether another process has the port: with it, two gateways of one
        // user would silently share their packets
        let probe = bind(addr, false)?;
        let addr = probe.local_addr()?.as_socket().ok_or(io::ErrorKind::InvalidInput)?;
        drop(probe);
        (0..count.max(1)).map(|_| Self::from_socket(bind(addr, true)?)).collect()
    }

    /// A socket on a free port of `ip`.
    pub fn bind_any_port(ip: IpAddr) -> io::Result<Self> {
        Self::from_socket(bind(SocketAddr::new(ip, 0), false)?)
    }

    fn from_socket(socket: Socket) -> io::Result<Self> {
        let socket: UdpSocket = socket.into();
        let state = UdpSocketState::new((&socket).into())?;
        let local = socket.local_addr()?;
        Ok(Self { v6: local.is_ipv6(), local, socket, state })
    }

    /// A second handle on the same socket.
    pub fn try_clone(&self) -> io::Result<Self> {
        let socket = self.socket.try_clone()?;
        let state = UdpSocketState::new((&socket).into())?;
        Ok(Self { socket, state, local: self.local, v6: self.v6 })
    }

    /// Where the socket is bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The granted receive and send buffers, in bytes as the kernel counts them.
    pub fn buffer_sizes(&self) -> io::Result<(usize, usize)> {
        Ok((
            self.state.recv_buffer_size((&self.socket).into())?,
            self.state.send_buffer_size((&self.socket).into())?,
        ))
    }

    /// Receives what is there, without waiting. Returns how many messages; 0 when nothing is there.
    pub fn receive(&self, batch: &mut ReceiveBatch) -> io::Result<usize> {
        batch.fill(&self.socket, &self.state)
    }

    /// Sends one datagram. A full socket buffer is an error of kind `WouldBlock`.
    pub fn send_to(&self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        self.socket.send_to(datagram, self.wire_addr(to)).map(drop)
    }

    /// Whether datagrams for `to` can leave through this socket: it is of the same family, or of both.
    pub fn reaches(&self, to: SocketAddr) -> bool {
        to.is_ipv4() == self.local.is_ipv4()
            || (self.v6 && self.local.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED))
    }

    /// The address as this socket's family writes it.
    fn wire_addr(&self, addr: SocketAddr) -> SocketAddr {
        match addr {
            SocketAddr::V4(v4) if self.v6 => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
            addr => addr,
        }
    }

    /// Sends what quinn wrote, as quinn's own sockets do.
    pub(crate) fn transmit(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let destination = self.wire_addr(transmit.destination);
        self.state
            .try_send((&self.socket).into(), &Transmit { destination, src_ip: None, ..transmit.clone() })
    }

    fn raw_fd(&self) -> i32 {
        self.socket.as_raw_fd()
    }
}

impl AsFd for ForwardSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The address that people write: an IPv4 address that arrived on an IPv6 socket is an IPv4 address.
pub(crate) fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

fn bind(addr: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(addr.ip() != IpAddr::V6(Ipv6Addr::UNSPECIFIED))?;
    }
    if shared {
        socket.set_reuse_port(true)?;
    }
    // refused sizes are not errors: `causeway check` reports what was granted
    let _ = (socket.set_recv_buffer_size(SOCKET_BUFFER), socket.set_send_buffer_size(SOCKET_BUFFER));
    socket.bind(&addr.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn local(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn receive_some(socket: &ForwardSocket, batch: &mut ReceiveBatch) -> usize {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let count = socket.receive(batch).unwrap();
            if count > 0 || Instant::now() > deadline {
                return count;
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_taken_port_is_refused_although_the_group_shares_one() {
        let group = ForwardSocket::bind_group(local(0), 2).unwrap();
        assert_eq!(group[0].local_addr(), group[1].local_addr());
        let error = ForwardSocket::bind_group(group[0].local_addr(), 2).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn runs_for_one_destination_leave_together_and_keep_sizes_order_and_ecn() {
        let [a, b] = [
            ForwardSocket::bind_any_port(local(0).ip()).unwrap(),
            ForwardSocket::bind_any_port(local(0).ip()).unwrap(),
        ];
        let data: Vec<u8> = (0..3 * 100 + 40).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let tail = vec![7u8; 900];
        let mut queue = SendQueue::new();
        let mut batch = queue.begin();
        batch.push(b.local_addr(), Some(EcnCodepoint::Ect0), &data, 100);
        batch.push(b.local_addr(), None, &tail, 900);
        let sent = batch.flush(&a);
        assert_eq!((sent.datagrams, sent.lost), (5, 0));
        let mut received = Vec::new();
        let mut buffers = ReceiveBatch::new();
        while received.len() < 5 {
            assert!(receive_some(&b, &mut buffers) > 0, "only {} of 5 datagrams arrived", received.len());
            for message in buffers.iter() {
                assert_eq!(message.from, a.local_addr());
                received.extend(message.data.chunks(message.stride).map(|d| (d.to_vec(), message.ecn)));
            }
        }
        let sizes: Vec<usize> = received.iter().map(|(d, _)| d.len()).collect();
        assert_eq!(sizes, [100, 100, 100, 40, 900]);
        assert_eq!(received[..4].iter().flat_map(|(d, _)| d.clone()).collect::<Vec<_>>(), data);
        assert!(received[..4].iter().all(|(_, ecn)| *ecn == Some(EcnCodepoint::Ect0)));
        assert_eq!(received[4].1, None);
    }

    #[test]
    fn more_than_64_kib_for_one_destination_is_split() {
        let [a, b] = [
            ForwardSocket::bind_any_port(local(0).ip()).unwrap(),
            ForwardSocket::bind_any_port(local(0).ip()).unwrap(),
        ];
        let data = vec![3u8; 20 * 8900];
        let mut queue = SendQueue::new();
        let mut batch = queue.begin();
        batch.push(b.local_addr(), None, &data[..7 * 8900], 8900);
        batch.push(b.local_addr(), None, &data[7 * 8900..14 * 8900], 8900);
        batch.push(b.local_addr(), None, &data[14 * 8900..], 8900);
        let sent = batch.flush(&a);
        assert_eq!((sent.datagrams, sent.lost), (20, 0));
        assert!(sent.messages >= 3);
        let mut buffers = ReceiveBatch::new();
        let mut total = 0;
        while total < data.len() {
            assert!(receive_some(&b, &mut buffers) > 0, "{total} of {} bytes arrived", data.len());
            total += buffers.iter().map(|message| message.data.len()).sum::<usize>();
        }
    }

    #[test]
    fn an_ipv6_socket_carries_ipv4_too() {
        let Ok(group) = ForwardSocket::bind_group(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)), 1) else {
            return;
        };
        let v4 = ForwardSocket::bind_any_port(local(0).ip()).unwrap();
        assert!(group[0].reaches(v4.local_addr()));
        assert!(!v4.reaches(SocketAddr::from((Ipv6Addr::LOCALHOST, 1))));
        v4.send_to(b"ping", local(group[0].local_addr().port())).unwrap();
        let mut buffers = ReceiveBatch::new();
        assert_eq!(receive_some(&group[0], &mut buffers), 1);
        let from = buffers.iter().next().unwrap().from;
        assert_eq!(from, v4.local_addr());
        let mut queue = SendQueue::new();
        let mut batch = queue.begin();
        batch.push(from, Some(EcnCodepoint::Ect1), b"pong", 4);
        assert_eq!(batch.flush(&group[0]).lost, 0);
        assert_eq!(receive_some(&v4, &mut buffers), 1);
        assert_eq!(buffers.iter().next().unwrap().ecn, Some(EcnCodepoint::Ect1));
    }
}
