//! One TCP connection and one QUIC stream, carried both ways until both ends have said all.
//!
//! Owns what an end on one side means on the other: a FIN is a finished stream and the other way round, a TCP reset is a
//! reset stream, a reset or stopped stream is a TCP reset. Each side is read only as fast as the other takes it. An idle
//! relay holds no buffer: it waits for readiness first, and reads into what its thread shares.

mod quic;
mod slab;
mod tcp;

pub(crate) use quic::{Stream, read_frame};
pub(crate) use tcp::{read_most as read_tcp_most, reset as reset_tcp};

use crate::access::Meter;
use bytes::Bytes;
use causeway_transport::{ConnectionError, ReadError, RecvStream, SendStream, WriteError, close_reason};
use causeway_wire::CloseCode;
use quic::Next;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::Poll;
use std::time::Duration;
use tcp::More;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::sleep;

/// After so many bytes without having to wait, a relay lets others run.
const TURN: usize = 512 << 10;
/// Up to so many bytes, it pays to see whether they are a stream's last: then they leave in one segment with the FIN.
const SHORT: usize = 16 << 10;
/// A stream that carried so many bytes leaves room to those that did not: they are short, or wait for an answer.
const MUCH: u64 = 1 << 20;
/// The priority of such a stream; others have 0.
const LOW: i32 = -1;
/// How often an idle stream is looked at whose peer has said all.
const LOOK: Duration = Duration::from_secs(1);

/// How a relay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Both sides said all that they had.
    Done,
    /// The TCP connection on this side was reset.
    TcpReset,
    /// The peer reset the stream, or stopped reading it.
    Stream(u64),
    /// The QUIC connection is gone.
    Connection(&'static str),
    /// Nothing was carried either way for as long as may be.
    Idle,
}

impl End {
    /// The stable word for logs and metrics.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::TcpReset => CloseCode::TcpReset.reason(),
            // the same word for both sides: what the peer's application did
            Self::Stream(code) => CloseCode::from_code(code).map_or("stream-reset", CloseCode::reason),
            Self::Connection(reason) => reason,
            Self::Idle => "idle-timeout",
        }
    }
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::TcpReset
    }
}

impl From<ConnectionError> for End {
    fn from(error: ConnectionError) -> Self {
        Self::Connection(close_reason(&error))
    }
}

impl From<ReadError> for End {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Reset(code) => Self::Stream(code.into_inner()),
            ReadError::ConnectionLost(error) => error.into(),
            _ => Self::Connection("stream-closed"),
        }
    }
}

impl From<WriteError> for End {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Stopped(code) => Self::Stream(code.into_inner()),
            WriteError::ConnectionLost(error) => error.into(),
            _ => Self::Connection("stream-closed"),
        }
    }
}

/// What the TCP side said before the relay began.
#[derive(Debug, Default)]
pub(crate) struct Begun {
    /// What of it is still to be written to the stream.
    pub(crate) rest: Vec<Bytes>,
    /// It has ended: nothing follows `rest`.
    pub(crate) all: bool,
}

/// Carries bytes both ways until both sides have ended, or one has failed, or nothing was carried for `idle` (zero is for ever):
/// then what is open is reset.
///
/// Dropping the future leaves both sides as they are; a dropped [`Stream`] resets itself.
pub(crate) async fn relay(
    tcp: &TcpStream,
    stream: &mut Stream,
    begun: Begun,
    meter: &Meter,
    idle: Duration,
) -> End {
    let ended = tokio::select! {
        ended = both(tcp, stream, begun, meter) => ended,
        () = meter.idle(idle) => Err(End::Idle),
    };
    match ended {
        Ok(()) => End::Done,
        Err(end) => {
            stream.abort(CloseCode::TcpReset);
            reset_tcp(tcp);
            end
        }
    }
}

async fn both(tcp: &TcpStream, stream: &mut Stream, begun: Begun, meter: &Meter) -> Result<(), End> {
    let (send, recv) = stream.halves();
    // the halves are polled by one task, again whenever it is set, so nobody needs to be woken
    let heard_all = AtomicBool::new(false);
    let mut up = pin!(to_peer(tcp, send, begun, &heard_all, meter));
    let mut down = pin!(from_peer(recv, tcp, meter));
    let (mut up_done, mut down_done) = (false, false);
    while !(up_done && down_done) {
        tokio::select! {
            end = &mut up, if !up_done => { end?; up_done = true; }
            end = &mut down, if !down_done => {
                end?;
                down_done = true;
                heard_all.store(true, Relaxed);
                if !up_done {
                    meter.heard_all_first();
                }
            }
            // a read that has ended, or that waits until the peer has room, does not tell a reset
            _ = tcp.ready(Interest::ERROR) => return Err(End::TcpReset),
        }
    }
    Ok(())
}

async fn to_peer(
    tcp: &TcpStream,
    send: &mut SendStream,
    mut begun: Begun,
    heard_all: &AtomicBool,
    meter: &Meter,
) -> Result<(), End> {
    send.write_all_chunks(&mut begun.rest).await?;
    begun.rest = Vec::new();
    let (mut turn, mut all) = (0, begun.all);
    let (mut carried, mut low) = (0u64, false);
    while !all {
        let chunk = tokio::select! {
            biased;
            chunk = tcp::read(tcp) => chunk?,
            end = stopped(send, heard_all) => return Err(end),
        };
        let count = chunk.len();
        if count == 0 {
            all = true;
            continue;
        }
        send.write_chunk(chunk).await?;
        meter.add_to_mesh(count);
        carried += count as u64;
        if carried > MUCH && !low {
            low = true;
            // it fails only if the stream is closed
            let _ = send.set_priority(LOW);
        }
        rest(&mut turn, count).await;
    }
    // it can fail only if it was done already, or the peer stopped reading, which the other half is told as a reset
    let _ = send.finish();
    Ok(())
}

/// Resolves when the peer no longer reads, or is gone. That matters only once the peer has said all: until then, its reset is
/// noticed where it is heard.
///
/// It looks now and then: quinn's `stopped` would keep an entry for each stream that is reset here as long as the connection lives.
async fn stopped(send: &mut SendStream, heard_all: &AtomicBool) -> End {
    poll_fn(|_| if heard_all.load(Relaxed) { Poll::Ready(()) } else { Poll::Pending }).await;
    loop {
        sleep(LOOK).await;
        if let Err(error) = quic::check(send).await {
            return error.into();
        }
    }
}

async fn from_peer(recv: &mut RecvStream, tcp: &TcpStream, meter: &Meter) -> Result<(), End> {
    let (mut turn, mut next) = (0, Next::Unknown);
    while let Next::Unknown = next {
        let Some(mut chunks) = quic::read_ready(recv).await? else { break };
        if count_of(&chunks) <= SHORT {
            next = quic::look(recv, &mut chunks).await;
        }
        let mut count = count_of(&chunks);
        let more = if matches!(next, Next::End) { More::No } else { More::Perhaps };
        let lost = tokio::select! {
            biased;
            written = tcp::write_all(tcp, &mut chunks, more) => { written?; None }
            // while the application does not read, nobody reads the stream either
            end = quic::ended(recv) => Some(end),
        };
        match lost {
            None => {}
            Some(End::Connection(_)) => {
                // the peer may have said all before, and been told that all is here
                let rest = quic::read_all(recv).await?;
                count += count_of(&rest);
                chunks.extend(rest);
                tcp::write_all(tcp, &mut chunks, More::No).await?;
            }
            Some(end) => return Err(end),
        }
        meter.add_from_mesh(count);
        rest(&mut turn, count).await;
    }
    if let Next::Failed(error) = next {
        return Err(error.into());
    }
    tcp::finish(tcp);
    Ok(())
}

fn count_of(chunks: &[Bytes]) -> usize {
    chunks.iter().map(Bytes::len).sum()
}

async fn rest(turn: &mut usize, count: usize) {
    *turn += count;
    if *turn >= TURN {
        *turn = 0;
        tokio::task::yield_now().await;
    }
}
