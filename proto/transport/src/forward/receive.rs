//! Batches of received datagrams.

use super::canonical;
use quinn_udp::{BATCH_SIZE, EcnCodepoint, RecvMeta, UdpSocketState};
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};

/// The room for one message: the kernel hands over up to 64 KiB of datagrams of one source at once (GRO).
const MESSAGE: usize = 1 << 16;

/// The buffers of one receive call, used again for the next. About 2 MiB, of which only what was used is resident.
pub struct ReceiveBatch {
    storage: Box<[u8]>,
    metas: [RecvMeta; BATCH_SIZE],
    filled: usize,
}

/// One message: one or more datagrams of one source, each of `stride` bytes but the last, which may be shorter.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// Where it came from.
    pub from: SocketAddr,
    /// The ECN mark of its packets (RFC 3168).
    pub ecn: Option<EcnCodepoint>,
    /// The size of each datagram but the last, in bytes; never 0.
    pub stride: usize,
    /// The datagrams.
    pub data: &'a [u8],
}

impl ReceiveBatch {
    /// Room for one call.
    pub fn new() -> Self {
        Self {
            storage: vec![0; MESSAGE * BATCH_SIZE].into_boxed_slice(),
            metas: [RecvMeta::default(); BATCH_SIZE],
            filled: 0,
        }
    }

    pub(super) fn fill(&mut self, socket: &UdpSocket, state: &UdpSocketState) -> io::Result<usize> {
        self.filled = 0;
        let mut rest = self.storage.chunks_exact_mut(MESSAGE);
        let mut buffers: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| IoSliceMut::new(rest.next().unwrap_or_default()));
        self.filled = match state.recv(socket.into(), &mut buffers, &mut self.metas) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            // an ICMP error for something that was sent earlier is no reason to stop receiving
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset
                ) =>
            {
                0
            }
            Err(error) => return Err(error),
        };
        Ok(self.filled)
    }

    /// Whether every slot was used, so that more may be waiting.
    pub fn is_full(&self) -> bool {
        self.filled == BATCH_SIZE
    }

    /// The messages of the last call; empty datagrams are left out.
    pub fn iter(&self) -> impl Iterator<Item = Received<'_>> {
        self.metas[..self.filled]
            .iter()
            .zip(self.storage.chunks_exact(MESSAGE))
            .filter(|(meta, _)| meta.len > 0)
            .map(|(meta, buffer)| Received {
                from: canonical(meta.addr),
                ecn: meta.ecn,
                stride: meta.stride.max(1),
                data: &buffer[..meta.len.min(MESSAGE)],
            })
    }
}

impl Default for ReceiveBatch {
    fn default() -> Self {
        Self::new()
    }
}
