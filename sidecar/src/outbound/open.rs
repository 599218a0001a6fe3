//! Opening a stream for a TCP connection: the header, then what the application says, and the peer's answer.
//!
//! The application's first bytes follow the header at once. Up to [`RETAINED`] of them are kept until the answer is there, so
//! that they can be said again to another endpoint if this one refuses; more are not taken before.

use crate::access::Meter;
use crate::failure::Failure;
use crate::peer::{Lease, Peer};
use crate::relay::{Stream, read_frame, read_tcp_most};
use bytes::Bytes;
use causeway_model::{Protocol, ServiceName};
use causeway_transport::{FrameError, close_reason, close_reason_text};
use causeway_wire::data::{DataMessage, MAX_STREAM_HEADER, StreamAnswer, StreamHeader};
use causeway_wire::{CloseCode, Message};
use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// How many of the application's bytes are sent before the answer.
const RETAINED: usize = 64 << 10;

/// What the application said so far.
#[derive(Debug, Default)]
pub(crate) struct Said {
    chunks: Vec<Bytes>,
    bytes: usize,
    /// It has said all.
    pub(crate) all: bool,
}

impl Said {
    fn add(&mut self, chunk: &Bytes, meter: &Meter) {
        if chunk.is_empty() {
            self.all = true;
            return;
        }
        meter.add_to_mesh(chunk.len());
        self.bytes += chunk.len();
        self.chunks.push(chunk.clone());
    }
}

/// A stream that the peer accepted. The lease counts it in the peer's load.
pub(crate) struct Opened {
    pub(crate) stream: Stream,
    pub(crate) lease: Lease,
    /// What was heard of the application and not written yet, for want of room.
    pub(crate) rest: Vec<Bytes>,
}

/// An attempt that failed.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) failure: Failure,
    /// Whether the application cannot have seen anything of it, so that another endpoint may be tried.
    pub(crate) harmless: bool,
}

/// Something that is opened on an endpoint: a stream for a TCP connection, or one for a flow of UDP.
pub(crate) trait Opening: Send {
    /// What it is then.
    type Opened: Send;
    /// Whether it is a flow.
    const UDP: bool;

    /// Opens it on `peer` for `header`. If `may_leave`, it gives up a connection that comes in doubt.
    fn open(
        &mut self,
        peer: &Arc<Peer>,
        header: &StreamHeader,
        meter: &Meter,
        may_leave: bool,
    ) -> impl Future<Output = Result<Self::Opened, Attempt>> + Send;
}

/// Opens a stream for a TCP connection.
pub(crate) struct TcpOpening<'a> {
    pub(crate) tcp: &'a TcpStream,
    pub(crate) said: &'a mut Said,
}

impl Opening for TcpOpening<'_> {
    type Opened = Opened;
    const UDP: bool = false;

    async fn open(
        &mut self,
        peer: &Arc<Peer>,
        header: &StreamHeader,
        meter: &Meter,
        may_leave: bool,
    ) -> Result<Opened, Attempt> {
        open(peer, header, self.tcp, self.said, meter, may_leave).await
    }
}

/// A stream to `peer` that nothing was said on. If `may_leave`, it gives up a connection that comes in doubt.
pub(crate) async fn begin(peer: &Peer, may_leave: bool) -> Result<Stream, Attempt> {
    let opened = tokio::select! {
        opened = peer.connection.open_bi() => opened,
        // there is no room for another stream, and nobody who could make it
        () = peer.doubt(true), if may_leave => return Err(silent(peer)),
    };
    let halves = opened.map_err(|error| Attempt {
        failure: lost(peer, close_reason(&error), close_reason_text(&error)),
        harmless: true,
    })?;
    Ok(Stream::new(halves))
}

/// Opens a stream to `peer` for `header` and sends what the application says, until the peer has answered. If `may_leave`, it
/// gives up a connection that comes in doubt, unless the application said something already: that must not be said twice.
async fn open(
    peer: &Arc<Peer>,
    header: &StreamHeader,
    tcp: &TcpStream,
    said: &mut Said,
    meter: &Meter,
    may_leave: bool,
) -> Result<Opened, Attempt> {
    let lease = peer.lease();
    let mut stream = begin(peer, may_leave).await?;
    let frame = DataMessage::from(header.clone()).to_frame().map_err(|error| Attempt {
        failure: lost(peer, error.reason(), error.to_string()),
        harmless: true,
    })?;
    let mut rest: Vec<Bytes> = std::iter::once(frame).chain(said.chunks.iter().cloned()).collect();
    peer.ask();
    let leave = may_leave.then_some(&**peer);
    let answer = talk(&mut stream, &mut rest, (tcp, meter), said, leave).await?;
    judge(peer, answer, said.bytes == 0).map(|()| Opened { stream, lease, rest })
}

/// Says `rest` and what the application adds to it, until the peer answers; what is left of `rest` then is still to be said.
/// Every wait is cancel safe: the answer may come at any moment, and no byte may be lost by it. It gives `leave` up when that
/// is in doubt.
async fn talk(
    stream: &mut Stream,
    rest: &mut Vec<Bytes>,
    (tcp, meter): (&TcpStream, &Meter),
    said: &mut Said,
    leave: Option<&Peer>,
) -> Result<Result<DataMessage, FrameError>, Attempt> {
    let (send, recv) = stream.halves();
    let mut answer = pin!(read_frame::<DataMessage>(recv, MAX_STREAM_HEADER));
    // a peer that stopped reading still answers, which says why
    let mut heard = true;
    loop {
        let more = RETAINED - said.bytes;
        tokio::select! {
            answer = &mut answer => return Ok(answer),
            written = send.write_chunks(rest), if heard && !rest.is_empty() => match written {
                Ok(written) => drop(rest.drain(..written.chunks)),
                Err(_) => heard = false,
            },
            read = read_tcp_most(tcp, more), if heard && rest.is_empty() && !said.all && more > 0 => {
                let chunk = read.map_err(|_| client_gone())?;
                said.add(&chunk, meter);
                if !said.all {
                    rest.push(chunk);
                }
            }
            attempt = in_doubt(leave), if said.bytes == 0 => return Err(attempt),
            // nobody reads the connection while the peer does not listen, so only this tells its reset
            _ = tcp.ready(Interest::ERROR) => return Err(client_gone()),
        }
        if said.all && rest.is_empty() {
            // it fails only if that was done already, or the peer stopped reading
            let _ = send.finish();
        }
    }
}

/// Waits until `peer` is in doubt, if there is one.
pub(crate) async fn in_doubt(peer: Option<&Peer>) -> Attempt {
    let Some(peer) = peer else { return pending().await };
    peer.doubt(true).await;
    silent(peer)
}

fn silent(peer: &Peer) -> Attempt {
    Attempt { failure: Failure::Silent { endpoint: peer.to_string() }, harmless: true }
}

fn client_gone() -> Attempt {
    Attempt { failure: Failure::ClientGone, harmless: false }
}

/// What a peer's answer means for the attempt; `silent` is whether the application said nothing that must not be said twice.
pub(crate) fn judge(
    peer: &Peer,
    answer: Result<DataMessage, FrameError>,
    silent: bool,
) -> Result<(), Attempt> {
    match answer {
        Ok(DataMessage::Answer(StreamAnswer::Accepted)) => Ok(()),
        Ok(DataMessage::Answer(StreamAnswer::Refused(code))) => {
            let code = u64::from(code);
            let failure = Failure::Refused { endpoint: peer.to_string(), code };
            Err(Attempt { failure, harmless: elsewhere(code) })
        }
        Ok(other) => {
            let text = format!("it said message {} instead of an answer", other.kind());
            let failure = lost(peer, CloseCode::ProtocolViolation.reason(), text);
            Err(Attempt { failure, harmless: silent })
        }
        // the application may have got what was said, so it must not be said again
        Err(error) => {
            Err(Attempt { failure: lost(peer, error.reason(), error.to_string()), harmless: silent })
        }
    }
}

/// Whether another endpoint may take what one refused with `code`: the refusals that are not about the caller.
pub(crate) fn elsewhere(code: u64) -> bool {
    !matches!(
        CloseCode::from_code(code),
        Some(CloseCode::Denied | CloseCode::NotAWorkload | CloseCode::DeadlineExceeded)
    )
}

fn lost(peer: &Peer, reason: &'static str, text: String) -> Failure {
    let (reason, text) = match peer.ending() {
        Some(ending) => (ending.code.reason(), ending.text.clone()),
        None => (reason, text),
    };
    Failure::Connection { endpoint: peer.to_string(), reason, text }
}

/// The header of a stream for a port of `service`.
pub(crate) fn header(service: &ServiceName, port: u16, protocol: Protocol, deadline_ms: u32) -> StreamHeader {
    StreamHeader { service: service.clone(), port, protocol, trace: None, deadline_ms }
}
