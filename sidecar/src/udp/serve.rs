//! A peer's flow: its number, the socket to the application, and the end, which comes also when the peer may not have it any more.

use super::counts::Counts;
use super::flow::tell;
use super::outbox::Outbox;
use super::pump::{Lane, Writer, pump};
use super::sink::{Sink, Socket};
use super::socket::with_scratch;
use super::table::Place;
use super::uplink::Uplink;
use crate::access::{Access, Direction};
use crate::inbound::{HEADER, Inbound, Refused, permitted, revoked, say};
use crate::peer::Peer;
use crate::relay::{Stream, read_frame};
use causeway_model::PortKey;
use causeway_transport::{Connection, ConnectionError};
use causeway_wire::CloseCode;
use causeway_wire::data::{DataMessage, FlowStart, MAX_STREAM_HEADER, StreamAnswer, StreamHeader};
use causeway_wire::datagram::FLOW_PREFIX;
use socket2::SockRef;
use std::convert::Infallible;
use std::future::pending;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Instant;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

/// So many datagrams are taken before others may run.
const TURN: usize = 64;

/// A flow that the peer may have, and all that it holds.
struct Admitted {
    socket: Arc<UdpSocket>,
    sink: Arc<Sink>,
    place: Place,
    permits: [OwnedSemaphorePermit; 2],
}

/// Reads the datagrams of a connection that may have no flows yet, and forgets them.
pub(crate) async fn discard(connection: &Connection) -> Infallible {
    let read = async {
        loop {
            connection.read_datagram().await?;
        }
    };
    // whoever uses the connection is told of its end
    let _: Result<Infallible, ConnectionError> = read.await;
    pending().await
}

/// Serves the flow whose stream began with `header`, to its end.
pub(crate) async fn serve(
    inbound: &Inbound,
    peer: &Peer,
    mut stream: Stream,
    header: &StreamHeader,
    access: &mut Access,
) {
    match admit(inbound, peer, &mut stream, header).await {
        Ok(admitted) => {
            let Admitted { socket, sink, place, permits } = admitted;
            access.connected();
            if say(&mut stream, StreamAnswer::Accepted).await {
                carry(inbound, peer, (&mut stream, header), (&socket, &sink, &place), access).await;
            } else {
                match peer.ending() {
                    Some(ending) => access.failed(ending.code.reason(), &ending.text),
                    None => access.failed("stream-closed", &"the peer did not wait for the answer"),
                }
            }
            drop(place);
            sink.counts.tell(&access.meter);
            access.datagrams = Some(sink.counts.datagrams());
            drop(permits);
        }
        Err(refused) => {
            access.failed(refused.code.reason(), &refused.detail);
            say(&mut stream, StreamAnswer::Refused(refused.code.code())).await;
            stream.refuse(refused.code);
        }
    }
}

async fn admit(
    inbound: &Inbound,
    peer: &Peer,
    stream: &mut Stream,
    header: &StreamHeader,
) -> Result<Admitted, Refused> {
    permitted(inbound, peer, header)?;
    let broken = |detail: String| Refused { code: CloseCode::ProtocolViolation, detail };
    let id = match timeout(HEADER, read_frame(stream.halves().1, MAX_STREAM_HEADER)).await {
        Ok(Ok(DataMessage::Flow(FlowStart { id }))) => id,
        Ok(Ok(_)) => return Err(broken("the header of a flow is not followed by its number".to_owned())),
        Ok(Err(error)) => return Err(broken(error.to_string())),
        Err(_) => return Err(broken(format!("no number of the flow within {HEADER:?}"))),
    };
    let overloaded = |detail: String| Refused { code: CloseCode::Overloaded, detail };
    let flow = Arc::clone(&inbound.flows.places).try_acquire_owned().map_err(|_| {
        overloaded(format!("{} flows are open: raise limits.max-flows", inbound.limits.max_flows))
    })?;
    let descriptor = inbound.descriptors.take().map_err(|error| overloaded(error.to_string()))?;
    let socket = inbound.delivery.flow(&header.service, header.port);
    let socket = socket.map_err(|error| Refused { code: error.code, detail: error.to_string() })?;
    let unreachable = |error: io::Error| Refused { code: CloseCode::Internal, detail: error.to_string() };
    let socket = Arc::new(UdpSocket::from_std(socket).map_err(unreachable)?);
    let counts = Counts::new(inbound.metrics.udp().direction(Direction::Inbound));
    let sink = Arc::new(Sink::new(Socket::Connected(Arc::clone(&socket)), counts));
    let taken = || broken(format!("another flow of the connection has number {id}"));
    let place = peer.flows.take(id, &sink).ok_or_else(taken)?;
    Ok(Admitted { socket, sink, place, permits: [flow, descriptor] })
}

/// Carries a flow that was accepted.
async fn carry(
    inbound: &Inbound,
    peer: &Peer,
    (stream, header): (&mut Stream, &StreamHeader),
    (socket, sink, place): (&UdpSocket, &Sink, &Place),
    access: &mut Access,
) {
    let (limits, outbox) = (&inbound.flows, Outbox::new(&inbound.flows.budget, false));
    let uplink = Uplink::new(&peer.connection, place.id);
    let lane = Lane { outbox: &outbox, sink, meter: &access.meter, idle: limits.idle, drain: &inbound.drain };
    // whatever it sends is an answer, as far as one can tell
    let answered = || sink.counts.datagrams()[0] > 0;
    let (code, detail) = tokio::select! {
        end = pump(stream, Writer::default(), &lane) => return tell(end, access, peer),
        refused = revoked(inbound, peer, &header.service, PortKey::udp(header.port)) => (refused.code, refused.detail),
        () = sink.gone(answered) => {
            (CloseCode::UpstreamRefused, "nobody listens on the port of the application".to_owned())
        }
        never = hear(socket, sink, &uplink, &outbox) => match never {},
    };
    access.failed(code.reason(), &detail);
    stream.abort(code);
}

/// Sends what the application says to the peer.
async fn hear(socket: &UdpSocket, sink: &Sink, uplink: &Uplink, outbox: &Outbox) -> Infallible {
    loop {
        let Ok(ready) = socket.ready(Interest::READABLE | Interest::ERROR).await else {
            // the runtime is shutting down
            return pending().await;
        };
        if ready.is_error() && is_refused(socket) {
            sink.refuse();
        }
        if take(socket, sink, uplink, outbox) {
            tokio::task::yield_now().await;
        }
    }
}

/// Whether nobody listened where an earlier payload went. Takes note that this was asked, so that it is waited for anew.
fn is_refused(socket: &UdpSocket) -> bool {
    let mut refused = false;
    let cleared: io::Result<()> = socket.try_io(Interest::ERROR, || {
        let error = SockRef::from(socket).take_error();
        refused = matches!(error, Ok(Some(error)) if error.kind() == ErrorKind::ConnectionRefused);
        Err(ErrorKind::WouldBlock.into())
    });
    // that it would block is how readiness is cleared
    drop(cleared);
    refused
}

/// Takes what is there; whether there may be more.
fn take(socket: &UdpSocket, sink: &Sink, uplink: &Uplink, outbox: &Outbox) -> bool {
    with_scratch(|scratch| {
        for taken in 0..TURN {
            match socket.try_recv(scratch.get_mut(FLOW_PREFIX..).unwrap_or_default()) {
                Ok(length) => {
                    if taken == 0 {
                        sink.answered(Instant::now());
                    }
                    let framed = scratch.get_mut(..FLOW_PREFIX + length).unwrap_or_default();
                    uplink.send(framed, outbox, &sink.counts);
                }
                // what became of an earlier payload
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => sink.refuse(),
                Err(_) => return false,
            }
        }
        true
    })
}
