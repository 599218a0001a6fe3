//! The stream of a flow once it is opened: capsules both ways, and the end.

use super::outbox::Outbox;
use super::sink::Sink;
use crate::access::Meter;
use crate::relay::{End, Stream};
use bytes::Bytes;
use causeway_runtime::Drain;
use causeway_transport::{RecvStream, SendStream};
use causeway_wire::CloseCode;
use causeway_wire::datagram::CapsuleDecoder;
use std::pin::pin;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// How much of the stream is read at a time.
const READ: usize = 64 << 10;
/// How long a flow may be quiet while the sidecar drains: long enough for an answer over any distance.
const QUIET_IN_DRAIN: Duration = Duration::from_secs(1);
/// How often a flow's record is told how many bytes it carried.
const TELL: Duration = Duration::from_secs(5);

/// How a flow ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FlowEnd {
    /// The peer ended it.
    Done,
    /// Nothing was carried for as long as a flow may be quiet.
    Idle,
    /// The peer reset it, or the connection is gone.
    Relay(End),
    /// The peer broke the protocol.
    Broken,
}

impl FlowEnd {
    fn of(end: End) -> Self {
        match end {
            End::Stream(code) if code == u64::from(CloseCode::Done.code()) => Self::Done,
            end => Self::Relay(end),
        }
    }
}

/// What is written to a flow's stream. Cancelling a write loses nothing.
#[derive(Debug, Default)]
pub(super) struct Writer {
    rest: Vec<Bytes>,
}

impl Writer {
    /// Begins with `first`.
    pub(super) fn new(first: Bytes) -> Self {
        Self { rest: vec![first] }
    }

    /// Writes what waits, and what comes to wait, until the stream takes no more. Cancel safe.
    pub(super) async fn run(&mut self, send: &mut SendStream, outbox: &Outbox) -> End {
        loop {
            let capsules = outbox.capsules();
            if !capsules.is_empty() {
                self.rest.push(capsules);
            }
            if self.rest.is_empty() {
                outbox.wait().await;
                continue;
            }
            match send.write_chunks(&mut self.rest).await {
                Ok(written) => drop(self.rest.drain(..written.chunks)),
                Err(error) => return error.into(),
            }
        }
    }
}

/// What a flow is besides its stream.
pub(super) struct Lane<'a> {
    pub(super) outbox: &'a Outbox,
    pub(super) sink: &'a Sink,
    /// Its record's count of bytes.
    pub(super) meter: &'a Meter,
    /// How long it may be quiet.
    pub(super) idle: Duration,
    pub(super) drain: &'a Drain,
}

/// Carries capsules both ways until the flow ends, and ends the stream if that is this side's part.
pub(super) async fn pump(stream: &mut Stream, mut writer: Writer, lane: &Lane<'_>) -> FlowEnd {
    let (send, recv) = stream.halves();
    let end = tokio::select! {
        end = writer.run(send, lane.outbox) => FlowEnd::of(end),
        end = read(recv, lane.sink) => end,
        () = lane.quiet() => FlowEnd::Idle,
    };
    match end {
        FlowEnd::Done | FlowEnd::Idle => stream.refuse(CloseCode::Done),
        FlowEnd::Broken => stream.abort(CloseCode::ProtocolViolation),
        FlowEnd::Relay(_) => stream.abort(CloseCode::Done),
    }
    end
}

async fn read(recv: &mut RecvStream, sink: &Sink) -> FlowEnd {
    let mut decoder = CapsuleDecoder::new();
    loop {
        let chunk = match recv.read_chunk(READ, true).await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => return FlowEnd::Done,
            Err(error) => return FlowEnd::of(error.into()),
        };
        decoder.push(&chunk.bytes);
        let now = Instant::now();
        loop {
            match decoder.next_payload() {
                Ok(Some(payload)) => sink.deliver(&payload, now),
                Ok(None) => break,
                Err(_) => return FlowEnd::Broken,
            }
        }
    }
}

impl Lane<'_> {
    /// Resolves when nothing was carried for as long as a flow may be quiet, or for a moment while the sidecar drains: then
    /// nobody would know otherwise that a flow is over. Tells the record of what is carried meanwhile.
    async fn quiet(&self) {
        let mut draining = pin!(self.drain.started());
        loop {
            let limit = if self.drain.is_draining() { self.idle.min(QUIET_IN_DRAIN) } else { self.idle };
            let left = limit.saturating_sub(self.sink.activity.quiet());
            if left.is_zero() {
                return;
            }
            tokio::select! {
                () = sleep(left.min(TELL)) => self.sink.counts.tell(self.meter),
                () = &mut draining, if !self.drain.is_draining() => {}
            }
        }
    }
}
