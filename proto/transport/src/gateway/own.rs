//! The queue between the forwarder and the gateway's own endpoint, as a socket for quinn.

use super::transit::{TransitExit, transit_cluster};
use crate::forward::{EcnCodepoint, ForwardSocket, canonical};
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

/// The longest packet that is taken, in bytes: control connections agree on no more.
const LONGEST: usize = 9000;
/// The most packets that wait for the endpoint; more are dropped, as a full socket buffer would.
const CAPACITY: usize = 4096;

struct Packet {
    from: SocketAddr,
    to: Option<IpAddr>,
    ecn: Option<EcnCodepoint>,
    data: Box<[u8]>,
}

#[derive(Default)]
struct Queue {
    packets: VecDeque<Packet>,
    waker: Option<Waker>,
}

/// Packets for the gateway itself: the forwarder's threads put them in, the endpoint takes them out. It also knows the way out to
/// gateways that are reached through other clusters.
#[derive(Clone, Default)]
pub struct OwnPackets {
    queue: Arc<Mutex<Queue>>,
    exit: Arc<OnceLock<Arc<dyn TransitExit>>>,
}

impl OwnPackets {
    /// An empty queue.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the endpoint sends to [`super::transit_addr`] leaves by `exit`; the first one that is told stays. Without any it is lost.
    pub fn leave_by(&self, exit: Arc<dyn TransitExit>) {
        let _ = self.exit.set(exit);
    }

    /// Adds the datagrams of one source, which came in on one of this host's addresses where that is known; returns how many
    /// found no room or are too long to be of a control connection.
    pub fn push(
        &self,
        (from, to): (SocketAddr, Option<IpAddr>),
        ecn: Option<EcnCodepoint>,
        run: &[u8],
        stride: usize,
    ) -> u64 {
        let mut dropped = 0;
        let mut queue = self.lock();
        for datagram in run.chunks(stride.max(1)) {
            if queue.packets.len() < CAPACITY && datagram.len() <= LONGEST {
                queue.packets.push_back(Packet { from, to, ecn, data: datagram.into() });
            } else {
                dropped += 1;
            }
        }
        let waker = queue.waker.take();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
        dropped
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for OwnPackets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnPackets({})", self.lock().packets.len())
    }
}

/// The endpoint's socket.
#[derive(Debug)]
pub(super) struct OwnSocket {
    packets: OwnPackets,
    sockets: Vec<ForwardSocket>,
}

impl OwnSocket {
    pub(super) fn new(packets: OwnPackets, sockets: Vec<ForwardSocket>) -> Self {
        Self { packets, sockets }
    }

    /// A source in the form in which quinn has the addresses that it was told to call: it maps them by the family of the socket, and
    /// takes a packet from elsewhere for somebody else's.
    fn shown(&self, from: SocketAddr) -> SocketAddr {
        let v6 = self.first().is_some_and(|socket| socket.local_addr().is_ipv6());
        match from {
            SocketAddr::V4(v4) if v6 => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
            addr => addr,
        }
    }

    /// The socket that quinn takes for the only one: of IPv6 if there is any, as quinn calls no IPv6 address from one of IPv4.
    fn first(&self) -> Option<&ForwardSocket> {
        self.sockets.iter().find(|socket| socket.local_addr().is_ipv6()).or_else(|| self.sockets.first())
    }

    /// The socket from which packets for `to` leave: the one at the address at which the connection is, if it can.
    fn leaves_by(&self, to: SocketAddr, src_ip: Option<IpAddr>) -> Option<&ForwardSocket> {
        let mut able = self.sockets.iter().filter(|socket| socket.reaches(to));
        let at = src_ip.map(|ip| ip.to_canonical());
        let named = at.and_then(|ip| able.clone().find(|socket| socket.local_addr().ip() == ip));
        named.or_else(|| able.next())
    }
}

/// Always writable: a full socket buffer is treated as loss, which control connections recover from.
#[derive(Debug)]
struct Writable;

impl UdpPoller for Writable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncUdpSocket for OwnSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let to = canonical(transmit.destination);
        if let Some(cluster) = transit_cluster(to) {
            if let Some(exit) = self.packets.exit.get() {
                let stride = transmit.segment_size.unwrap_or(transmit.contents.len());
                exit.send(cluster, transmit.contents, stride.max(1));
            }
            return Ok(());
        }
        // an error here would end every connection of the endpoint: an unreachable peer is that peer's loss
        if let Some(socket) = self.leaves_by(to, transmit.src_ip) {
            // the form in which quinn has the address is of its first socket, and this one may be of the other family
            let _ = socket.transmit(&Transmit { destination: to, ..transmit.clone() });
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut queue = self.packets.lock();
        let mut count = 0;
        for (buffer, meta) in bufs.iter_mut().zip(meta) {
            let Some(packet) = queue.packets.pop_front() else { break };
            let len = packet.data.len();
            // quinn skips a slot of length 0: a packet longer than was agreed is no packet of ours
            let fits = len <= buffer.len();
            if fits {
                buffer[..len].copy_from_slice(&packet.data);
            }
            let len = if fits { len } else { 0 };
            let addr = self.shown(packet.from);
            *meta = RecvMeta { addr, len, stride: len, ecn: packet.ecn, dst_ip: packet.to };
            count += 1;
        }
        if count == 0 {
            queue.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(count))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.first().map(ForwardSocket::local_addr).ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::super::transit::transit_addr;
    use super::*;
    use causeway_model::ClusterId;

    #[derive(Debug, Default)]
    struct Sent(Mutex<Vec<(ClusterId, usize, usize)>>);

    impl TransitExit for Sent {
        fn send(&self, cluster: ClusterId, datagrams: &[u8], stride: usize) {
            self.0.lock().unwrap().push((cluster, datagrams.len(), stride));
        }
    }

    fn socket(packets: &OwnPackets, listen: &str) -> OwnSocket {
        let socket = ForwardSocket::bind_any_port(listen.parse().unwrap()).unwrap();
        OwnSocket::new(packets.clone(), vec![socket])
    }

    fn transmit(destination: SocketAddr, segment_size: Option<usize>) -> Transmit<'static> {
        Transmit { destination, ecn: None, contents: &[7; 250], segment_size, src_ip: None }
    }

    #[test]
    fn what_is_for_a_gateway_behind_others_leaves_by_the_exit_and_by_nothing_else() {
        let (packets, sent) = (OwnPackets::new(), Arc::new(Sent::default()));
        let own = socket(&packets, "127.0.0.1");
        let cluster = ClusterId::new(9).unwrap();
        own.try_send(&transmit(transit_addr(cluster), None)).unwrap();
        packets.leave_by(sent.clone());
        own.try_send(&transmit(transit_addr(cluster), None)).unwrap();
        own.try_send(&transmit(transit_addr(cluster), Some(100))).unwrap();
        own.try_send(&transmit("127.0.0.1:9".parse().unwrap(), None)).unwrap();
        assert_eq!(*sent.0.lock().unwrap(), [(cluster, 250, 250), (cluster, 250, 100)]);
    }

    #[test]
    fn with_a_listener_of_either_family_both_are_answered_in_either_order() {
        let bind = |ip: &str| ForwardSocket::bind_any_port(ip.parse().unwrap());
        if bind("::1").is_err() {
            return;
        }
        for order in [["::1", "127.0.0.1"], ["127.0.0.1", "::1"]] {
            let sockets: Vec<ForwardSocket> = order.iter().map(|ip| bind(ip).unwrap()).collect();
            let ports: Vec<SocketAddr> = sockets.iter().map(ForwardSocket::local_addr).collect();
            let own = OwnSocket::new(OwnPackets::new(), sockets);
            assert!(own.local_addr().unwrap().is_ipv6(), "quinn calls no IPv6 address from {order:?}");
            for ip in ["127.0.0.1", "::1"] {
                let ip: IpAddr = ip.parse().unwrap();
                let peer = std::net::UdpSocket::bind((ip, 0)).unwrap();
                peer.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
                let called = peer.local_addr().unwrap();
                for (destination, src_ip) in
                    [(own.shown(called), None), (own.shown(called), Some(ip)), (called, None)]
                {
                    own.try_send(&Transmit { src_ip, ..transmit(destination, None) }).unwrap();
                    let mut packet = [0; 300];
                    let (len, from) = peer.recv_from(&mut packet).unwrap();
                    assert_eq!(len, 250, "{order:?} {destination}");
                    assert!(ports.contains(&from) && from.ip() == ip, "{from} {ports:?}");
                }
            }
        }
    }

    #[test]
    fn sources_are_shown_as_quinn_has_the_addresses_it_calls() {
        let from: SocketAddr = "192.0.2.1:7443".parse().unwrap();
        let packets = OwnPackets::new();
        assert_eq!(socket(&packets, "127.0.0.1").shown(from), from);
        let Ok(v6) = ForwardSocket::bind_any_port("::".parse().unwrap()) else { return };
        let v6 = OwnSocket::new(packets, vec![v6]);
        assert_eq!(v6.shown(from), "[::ffff:192.0.2.1]:7443".parse().unwrap());
        assert_eq!(v6.shown("[::1]:5".parse().unwrap()), "[::1]:5".parse().unwrap());
    }
}
