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
use causeway_transport::{FrameError, SendStream, close_reason, close_reason_text};
use causeway_wire::data::{DataMessage, MAX_STREAM_HEADER, StreamAnswer, StreamHeader};
use causeway_wire::{CloseCode, Message};
use std::pin::pin;
use std::sync::Arc;
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

/// A stream that the peer accepted. The lease counts it in the peer's load.
pub(crate) struct Opened {
    pub(crate) stream: Stream,
    pub(crate) lease: Lease,
}

/// An attempt that failed.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) failure: Failure,
    /// Whether the application cannot have seen anything of it, so that another endpoint may be tried.
    pub(crate) harmless: bool,
}

/// Opens a stream to `peer` for `header` and sends what the application says, until the peer has answered.
pub(crate) async fn open(
    peer: &Arc<Peer>,
    header: &StreamHeader,
    tcp: &TcpStream,
    said: &mut Said,
    meter: &Meter,
) -> Result<Opened, Attempt> {
    let lease = peer.lease();
    let halves = peer.connection.open_bi().await.map_err(|error| Attempt {
        failure: lost(peer, close_reason(&error), close_reason_text(&error)),
        harmless: true,
    })?;
    let mut stream = Stream::new(halves);
    let frame = DataMessage::from(header.clone()).to_frame().map_err(|error| Attempt {
        failure: lost(peer, error.reason(), error.to_string()),
        harmless: true,
    })?;
    let answer = {
        let (send, recv) = stream.halves();
        let mut answer = pin!(read_frame::<DataMessage>(recv, MAX_STREAM_HEADER));
        let talk = talk(send, frame, tcp, said, meter);
        tokio::select! {
            answer = &mut answer => answer,
            gone = talk => match gone {
                Talk::Told => answer.await,
                Talk::ClientGone => return Err(Attempt { failure: Failure::ClientGone, harmless: false }),
            }
        }
    };
    judge(peer, answer, said).map(|()| Opened { stream, lease })
}

/// How the application's first words ended.
enum Talk {
    /// All that may be sent before the answer is on its way, or the peer does not listen: the answer says why.
    Told,
    ClientGone,
}

async fn talk(send: &mut SendStream, frame: Bytes, tcp: &TcpStream, said: &mut Said, meter: &Meter) -> Talk {
    let again: Vec<Bytes> = std::iter::once(frame).chain(said.chunks.iter().cloned()).collect();
    for chunk in again {
        if send.write_chunk(chunk).await.is_err() {
            return Talk::Told;
        }
    }
    while !said.all && said.bytes < RETAINED {
        let Ok(chunk) = read_tcp_most(tcp, RETAINED - said.bytes).await else { return Talk::ClientGone };
        if chunk.is_empty() {
            said.all = true;
            break;
        }
        meter.add_to_mesh(chunk.len());
        said.bytes += chunk.len();
        said.chunks.push(chunk.clone());
        if send.write_chunk(chunk).await.is_err() {
            return Talk::Told;
        }
    }
    if said.all {
        // it fails only if the peer stopped reading: the answer says why
        let _ = send.finish();
    }
    Talk::Told
}

fn judge(peer: &Peer, answer: Result<DataMessage, FrameError>, said: &Said) -> Result<(), Attempt> {
    let silent = said.bytes == 0;
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
fn elsewhere(code: u64) -> bool {
    !matches!(
        CloseCode::from_code(code),
        Some(CloseCode::Denied | CloseCode::NotAWorkload | CloseCode::DeadlineExceeded)
    )
}

fn lost(peer: &Peer, reason: &'static str, text: String) -> Failure {
    Failure::Connection { endpoint: peer.to_string(), reason, text }
}

/// The header of a stream for a port of `service`.
pub(crate) fn header(service: &ServiceName, port: u16, protocol: Protocol, deadline_ms: u32) -> StreamHeader {
    StreamHeader { service: service.clone(), port, protocol, trace: None, deadline_ms }
}
