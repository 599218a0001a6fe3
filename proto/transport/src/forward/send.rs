//! Batches of datagrams to send: runs for one destination leave in one GSO message, all messages in one system call.

use super::ForwardSocket;
use super::mmsg::Messages;
use quinn_udp::EcnCodepoint;
use std::marker::PhantomData;
use std::net::SocketAddr;

/// The most datagrams in one GSO message (`UDP_MAX_SEGMENTS` of older kernels).
const MAX_SEGMENTS: usize = 64;
/// The most bytes in one GSO message: an IP packet's 64 KiB less its headers, with room to spare.
const MAX_BYTES: usize = 65_000;
/// How many of the newest messages are searched for one that a run can join.
const OPEN_MESSAGES: usize = 16;

/// The memory of a [`SendBatch`], used again for the next.
#[derive(Default)]
pub struct SendQueue {
    messages: Messages,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Datagrams that the kernel took.
    pub datagrams: u64,
    /// System messages they left in.
    pub messages: u64,
    /// Datagrams that it did not take: the socket buffer was full, or the destination is unreachable or takes only smaller
    /// ones. To the connection they belong to they are lost, as on any wire.
    pub lost: u64,
}

/// Datagrams on their way out. They are borrowed until they are flushed; nothing is copied.
pub struct SendBatch<'queue, 'data> {
    queue: &'queue mut SendQueue,
    data: PhantomData<&'data [u8]>,
}

impl SendQueue {
    /// No memory yet: it grows to what a batch needs and stays.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a batch.
    pub fn begin<'data>(&mut self) -> SendBatch<'_, 'data> {
        self.messages.clear();
        SendBatch { queue: self, data: PhantomData }
    }
}

impl<'data> SendBatch<'_, 'data> {
    /// Adds a run of datagrams for one destination: each of `stride` bytes but the last, which may be shorter. The order within a
    /// destination is kept.
    pub fn push(&mut self, to: SocketAddr, ecn: Option<EcnCodepoint>, run: &'data [u8], stride: usize) {
        let messages = &mut self.queue.messages;
        let stride = stride.clamp(1, run.len().max(1));
        let mut rest = run;
        while !rest.is_empty() {
            let taken = messages.extend_open(to, ecn, rest, stride);
            rest = &rest[taken..];
            if rest.is_empty() {
                break;
            }
            let segments = (MAX_BYTES / stride).clamp(1, MAX_SEGMENTS);
            let (head, tail) = rest.split_at(rest.len().min(segments * stride));
            messages.start(to, ecn, head, stride);
            rest = tail;
        }
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.queue.messages.is_empty()
    }

    /// Sends everything through `socket`.
    pub fn flush(self, socket: &ForwardSocket) -> Sent {
        if self.is_empty() { Sent::default() } else { self.queue.messages.send(socket) }
    }
}

/// How much of a run a message of `segments` datagrams and `bytes` bytes, of `size` each, can still take.
pub(super) fn room(segments: usize, bytes: usize, size: usize) -> usize {
    let by_count = MAX_SEGMENTS.saturating_sub(segments);
    let by_bytes = MAX_BYTES.saturating_sub(bytes) / size.max(1);
    by_count.min(by_bytes)
}

pub(super) const SEARCH: usize = OPEN_MESSAGES;
