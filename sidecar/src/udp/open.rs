//! Opening a flow on a peer: the header and the flow's number, what the application said so far, and the peer's answer.

use super::flow::Flow;
use super::pump::Writer;
use super::table::Place;
use super::uplink::Uplink;
use crate::access::Meter;
use crate::failure::Failure;
use crate::outbound::{Attempt, Opening, begin, in_doubt, judge};
use crate::peer::{Lease, Peer};
use crate::relay::{Stream, read_frame};
use bytes::BytesMut;
use causeway_wire::data::{DataMessage, FlowStart, MAX_STREAM_HEADER, StreamHeader};
use causeway_wire::datagram::FlowId;
use causeway_wire::{CloseCode, CodecError, Message};
use std::convert::Infallible;
use std::future::pending;
use std::pin::pin;
use std::sync::Arc;

/// Opens one flow.
pub(super) struct FlowOpening<'a> {
    pub(super) flow: &'a Flow,
}

/// A flow that the peer accepted. The lease counts it in the peer's load.
pub(super) struct OpenedFlow {
    pub(super) stream: Stream,
    pub(super) writer: Writer,
    pub(super) lease: Lease,
    pub(super) place: Place,
}

impl Opening for FlowOpening<'_> {
    type Opened = OpenedFlow;
    const UDP: bool = true;

    /// What the application said goes on the stream until the answer is there: it cannot overtake the header then, and adds no round
    /// trip to the first payload.
    async fn open(
        &mut self,
        peer: &Arc<Peer>,
        header: &StreamHeader,
        _meter: &Meter,
        may_leave: bool,
    ) -> Result<OpenedFlow, Attempt> {
        let flow = self.flow;
        let lease = peer.lease();
        let failed = |reason: &'static str, text: String| Attempt {
            failure: Failure::Connection { endpoint: peer.to_string(), reason, text },
            harmless: true,
        };
        let full = || failed(CloseCode::Overloaded.reason(), "every number of a flow is taken".to_owned());
        let place = peer.flows.choose(&flow.sink).ok_or_else(full)?;
        let mut stream = begin(peer, may_leave).await?;
        let first = start(header, place.id).map_err(|error| failed(error.reason(), error.to_string()))?;
        flow.outbox.again();
        let mut writer = Writer::new(first.freeze());
        peer.ask();
        let answer = {
            let (send, recv) = stream.halves();
            let written = async {
                // a peer that stopped reading still answers, which says why
                writer.run(send, &flow.outbox).await;
                pending::<Infallible>().await
            };
            let mut answer = pin!(read_frame::<DataMessage>(recv, MAX_STREAM_HEADER));
            tokio::select! {
                answer = &mut answer => answer,
                never = written => match never {},
                attempt = in_doubt(may_leave.then_some(&**peer)) => return Err(attempt),
            }
        };
        // an endpoint that failed may have had the payloads, which may come twice
        judge(peer, answer, true)?;
        flow.accept(Uplink::new(&peer.connection, place.id));
        Ok(OpenedFlow { stream, writer, lease, place })
    }
}

fn start(header: &StreamHeader, id: FlowId) -> Result<BytesMut, CodecError> {
    let mut first = BytesMut::from(&DataMessage::from(header.clone()).to_frame()?[..]);
    first.extend_from_slice(&DataMessage::from(FlowStart { id }).to_frame()?);
    Ok(first)
}
