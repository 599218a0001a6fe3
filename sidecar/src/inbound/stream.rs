//! One stream of a peer: its header, the decision, the delivery, and the relay, which ends when the decision changes.

use super::Inbound;
use crate::access::{Access, Direction};
use crate::peer::Peer;
use crate::relay::{Begun, End, Stream, read_frame, relay, reset_tcp};
use causeway_model::{PortKey, Protocol, ServiceName};
use causeway_policy::{Decision, RefuseReason};
use causeway_transport::{RecvStream, SendStream};
use causeway_wire::data::{DataMessage, MAX_STREAM_HEADER, StreamAnswer, StreamHeader};
use causeway_wire::{CloseCode, Message};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

/// How long a peer may take to send the header of a stream that it opened.
pub(crate) const HEADER: Duration = Duration::from_secs(5);

/// A stream that is not served: what the peer is told, and what the operator is.
pub(crate) struct Refused {
    pub(crate) code: CloseCode,
    pub(crate) detail: String,
}

impl From<CloseCode> for Refused {
    fn from(code: CloseCode) -> Self {
        Self { code, detail: String::new() }
    }
}

impl From<RefuseReason> for Refused {
    fn from(reason: RefuseReason) -> Self {
        let code = CloseCode::from_reason(reason.reason()).unwrap_or(CloseCode::Denied);
        Self { code, detail: reason.to_string() }
    }
}

/// Serves a stream to its end.
pub(crate) async fn serve(inbound: &Inbound, peer: &Peer, halves: (SendStream, RecvStream)) {
    let mut stream = Stream::new(halves);
    let mut access = Access::begin(Direction::Inbound, &inbound.metrics, inbound.drain.guard());
    access.src = Some(peer.identity.clone());
    access.src_instance = Some((peer.cluster, peer.instance));
    access.dst_identity = Some(inbound.membership.svid.current().id().clone());
    match timeout(HEADER, read_frame(stream.halves().1, MAX_STREAM_HEADER)).await {
        Ok(Ok(DataMessage::Header(header))) => answer(inbound, peer, stream, header, &mut access).await,
        Ok(Ok(_)) => {
            access.failed(CloseCode::ProtocolViolation.reason(), &"the stream did not begin with its header");
            stream.abort(CloseCode::ProtocolViolation);
        }
        Ok(Err(error)) => match peer.ending() {
            Some(ending) => access.failed(ending.code.reason(), &ending.text),
            None => access.failed(error.reason(), &error),
        },
        Err(_) => {
            access.failed("header-timeout", &format!("no header within {HEADER:?}"));
            stream.abort(CloseCode::ProtocolViolation);
        }
    }
}

async fn answer(
    inbound: &Inbound,
    peer: &Peer,
    mut stream: Stream,
    header: StreamHeader,
    access: &mut Access,
) {
    let (service, port) = (header.service.clone(), header.port);
    access.service = Some((service.clone(), port));
    access.protocol = header.protocol;
    if header.protocol == Protocol::Udp {
        // in memory of its own, for streams of connections are many more
        return Box::pin(crate::udp::serve(inbound, peer, stream, &header, access)).await;
    }
    match admit(inbound, peer, &header).await {
        Ok((tcp, _permit, descriptor)) => {
            access.descriptor = Some(descriptor);
            access.connected();
            if !say(&mut stream, StreamAnswer::Accepted).await {
                match peer.ending() {
                    Some(ending) => access.failed(ending.code.reason(), &ending.text),
                    None => access.failed("stream-closed", &"the peer did not wait for the answer"),
                }
                return reset_tcp(&tcp);
            }
            let revoked = revoked(inbound, peer, &service, PortKey::tcp(port));
            let idle = inbound.limits.idle_timeout.get();
            tokio::select! {
                end = relay(&tcp, &mut stream, Begun::default(), &access.meter, idle) => {
                    drop(tcp);
                    access.relayed(end, peer);
                    if end == End::Done {
                        stream.done().await;
                    }
                }
                refused = revoked => {
                    access.failed(refused.code.reason(), &refused.detail);
                    stream.abort(refused.code);
                    reset_tcp(&tcp);
                }
            }
        }
        Err(refused) => {
            access.failed(refused.code.reason(), &refused.detail);
            say(&mut stream, StreamAnswer::Refused(refused.code.code())).await;
            stream.refuse(refused.code);
        }
    }
}

/// The port that `header` asks for.
fn key(header: &StreamHeader) -> PortKey {
    PortKey { port: header.port, transport: header.protocol.transport() }
}

/// Whether the peer may have what `header` asks for, now.
pub(crate) fn permitted(inbound: &Inbound, peer: &Peer, header: &StreamHeader) -> Result<(), Refused> {
    // those who may not have heard of the drain yet are served
    if inbound.drain.is_closed() {
        return Err(CloseCode::Draining.into());
    }
    if peer.is_expired() {
        let detail = "the certificate that the peer connected with has expired".to_owned();
        return Err(Refused { code: CloseCode::Draining, detail });
    }
    if let Decision::Refuse(reason) =
        inbound.policy.borrow().decide(&peer.identity, &header.service, key(header))
    {
        return Err(reason.into());
    }
    Ok(())
}

/// A connection to the application, if this peer may have one.
async fn admit(
    inbound: &Inbound,
    peer: &Peer,
    header: &StreamHeader,
) -> Result<(TcpStream, OwnedSemaphorePermit, OwnedSemaphorePermit), Refused> {
    let began = Instant::now();
    permitted(inbound, peer, header)?;
    let permit = Arc::clone(&inbound.streams).try_acquire_owned().map_err(|_| CloseCode::Overloaded)?;
    let descriptor = inbound
        .descriptors
        .take()
        .map_err(|error| Refused { code: CloseCode::Overloaded, detail: error.to_string() })?;
    let own = inbound.limits.upstream_connect_timeout.get();
    let theirs = match header.deadline_ms {
        0 => own,
        ms => Duration::from_millis(ms.into()),
    };
    let dialled = inbound.delivery.dial(&header.service, header.port, own.min(theirs)).await;
    let tcp = dialled.map_err(|error| {
        let late = error.code == CloseCode::UpstreamTimeout && theirs < own;
        let code = if late { CloseCode::DeadlineExceeded } else { error.code };
        Refused { code, detail: error.to_string() }
    })?;
    inbound.metrics.upstream_seconds.observe(began.elapsed().as_secs_f64());
    Ok((tcp, permit, descriptor))
}

/// Resolves when the peer may no longer have this stream.
pub(crate) async fn revoked(inbound: &Inbound, peer: &Peer, service: &ServiceName, port: PortKey) -> Refused {
    let mut policy = inbound.policy.clone();
    loop {
        if let Decision::Refuse(reason) = policy.borrow_and_update().decide(&peer.identity, service, port) {
            return reason.into();
        }
        if policy.changed().await.is_err() {
            // the control plane has stopped, so nothing changes any more
            return std::future::pending().await;
        }
    }
}

/// Whether the peer could be told.
pub(crate) async fn say(stream: &mut Stream, answer: StreamAnswer) -> bool {
    match DataMessage::from(answer).to_frame() {
        Ok(frame) => stream.halves().0.write_chunk(frame).await.is_ok(),
        Err(_) => false,
    }
}
