//! The queue between the forwarder and the gateway's own endpoint, as a socket for quinn.

use crate::forward::{EcnCodepoint, ForwardSocket};
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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

/// Packets for the gateway itself: the forwarder's threads put them in, the endpoint takes them out.
#[derive(Clone, Default)]
pub struct OwnPackets {
    queue: Arc<Mutex<Queue>>,
}

impl OwnPackets {
    /// An empty queue.
    pub fn new() -> Self {
        Self::default()
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
        let to = transmit.destination;
        let from_ip =
            |socket: &&ForwardSocket| transmit.src_ip.is_some_and(|ip| socket.local_addr().ip() == ip);
        let socket = self
            .sockets
            .iter()
            .find(from_ip)
            .or_else(|| self.sockets.iter().find(|socket| socket.reaches(to)));
        // an error here would end every connection of the endpoint: an unreachable peer is that peer's loss
        if let Some(socket) = socket {
            let _ = socket.transmit(transmit);
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
            *meta = RecvMeta { addr: packet.from, len, stride: len, ecn: packet.ecn, dst_ip: packet.to };
            count += 1;
        }
        if count == 0 {
            queue.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(count))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.sockets
            .first()
            .map(ForwardSocket::local_addr)
            .ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
    }

    fn may_fragment(&self) -> bool {
        false
    }
}
