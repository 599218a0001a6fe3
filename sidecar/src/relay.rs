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
use causeway_transport::{ConnectionError, ReadError, WriteError, close_reason};
use causeway_wire::CloseCode;
use std::io;
use std::pin::pin;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// After so many bytes without having to wait, a relay lets others run.
const TURN: usize = 512 << 10;

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

/// Carries bytes both ways until both sides have ended, or one has failed: then the other is reset too. With `said_all` the TCP
/// side has already ended and the stream is finished.
///
/// Dropping the future leaves both sides as they are; a dropped [`Stream`] resets itself.
pub(crate) async fn relay(tcp: &TcpStream, stream: &mut Stream, said_all: bool, meter: &Meter) -> End {
    match both(tcp, stream, said_all, meter).await {
        Ok(()) => End::Done,
        Err(end) => {
            stream.abort(CloseCode::TcpReset);
            reset_tcp(tcp);
            end
        }
    }
}

async fn both(tcp: &TcpStream, stream: &mut Stream, said_all: bool, meter: &Meter) -> Result<(), End> {
    let (send, recv) = stream.halves();
    let mut up = pin!(async { if said_all { Ok(()) } else { to_peer(tcp, send, meter).await } });
    let mut down = pin!(from_peer(recv, tcp, meter));
    let (mut up_done, mut down_done) = (false, false);
    while !(up_done && down_done) {
        tokio::select! {
            end = &mut up, if !up_done => { end?; up_done = true; }
            end = &mut down, if !down_done => { end?; down_done = true; }
            // nobody reads this side any more, so only this tells a reset while the other side is silent
            _ = tcp.ready(Interest::ERROR), if up_done => return Err(End::TcpReset),
        }
    }
    Ok(())
}

async fn to_peer(
    tcp: &TcpStream,
    send: &mut causeway_transport::SendStream,
    meter: &Meter,
) -> Result<(), End> {
    let mut turn = 0;
    loop {
        let chunk = tcp::read(tcp).await?;
        let count = chunk.len();
        if count == 0 {
            // it can fail only if the peer stopped reading, which the other half is told as a reset
            let _ = send.finish();
            return Ok(());
        }
        send.write_chunk(chunk).await?;
        meter.add_to_mesh(count);
        rest(&mut turn, count).await;
    }
}

async fn from_peer(
    recv: &mut causeway_transport::RecvStream,
    tcp: &TcpStream,
    meter: &Meter,
) -> Result<(), End> {
    let mut turn = 0;
    while let Some(mut chunks) = quic::read_ready(recv).await? {
        let count = chunks.iter().map(bytes::Bytes::len).sum();
        tcp::write_all(tcp, &mut chunks).await?;
        meter.add_from_mesh(count);
        rest(&mut turn, count).await;
    }
    tcp::finish(tcp);
    Ok(())
}

async fn rest(turn: &mut usize, count: usize) {
    *turn += count;
    if *turn >= TURN {
        *turn = 0;
        tokio::task::yield_now().await;
    }
}
