//! The overlay as quinn's socket.

use super::watched::Waiting;
use super::{Inner, virtual_addr};
use quinn::{AsyncUdpSocket, UdpPoller};
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit};
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// How many failed receive calls are passed over in one poll before the task yields.
const MAX_FAILURES: u32 = 16;

impl AsyncUdpSocket for Inner {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Poller { socket: self, waiting: Waiting::default() })
    }

    #[inline]
    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut failures = 0;
        let count = loop {
            ready!(self.io.poll_arrival(cx))?;
            match self.receive(bufs, meta) {
                Ok(count) => break count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    // quinn would end every connection; on a UDP socket errors are of one packet, and pass
                    self.metrics.receive_errors.inc();
                    tracing::debug!(%error, "a receive call failed");
                    failures += 1;
                    if failures == MAX_FAILURES {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                }
            }
        };
        let table = self.table.load();
        for (meta, buf) in meta.iter_mut().zip(bufs).take(count) {
            self.sort(&table, meta, buf);
        }
        Poll::Ready(Ok(count))
    }

    /// Not the socket's own address but one of the family of [`virtual_addr`]: quinn maps peer addresses by it.
    fn local_addr(&self) -> io::Result<SocketAddr> {
        let mut addr = virtual_addr();
        addr.set_port(addr.port() + 1);
        Ok(addr)
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments().min(self.max_segments)
    }

    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments()
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }
}

impl Inner {
    /// Receives what there is, as much as the buffers hold. A batch that is short has emptied the socket's buffer, and tokio is told
    /// so: else the next poll would pay for a call that only finds it empty, before any connection has seen a packet. No wake-up is
    /// lost, for tokio keeps the readiness if another event has come since the call began.
    fn receive(&self, bufs: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta]) -> io::Result<usize> {
        let offered = bufs.len().min(meta.len()).min(BATCH_SIZE);
        let mut short = None;
        let result = self.io.receive(|socket| {
            let count = self.state.recv(socket.into(), bufs, meta)?;
            if count < offered {
                short = Some(count);
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(count)
        });
        short.map_or(result, Ok)
    }
}

/// Waits for room in the socket's buffer for one connection.
struct Poller {
    socket: Arc<Inner>,
    waiting: Waiting,
}

impl UdpPoller for Poller {
    fn poll_writable(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.socket.io.poll_room(cx, &mut this.waiting).map(Ok)
    }
}

impl fmt::Debug for Poller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Poller")
    }
}
