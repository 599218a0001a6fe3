//! The way of a flow's payloads to its peer once the flow is accepted.

use super::counts::{Counts, DropReason};
use super::outbox::Outbox;
use bytes::Bytes;
use causeway_transport::{Connection, SendDatagramError};
use causeway_wire::datagram::{FLOW_PREFIX, FlowId};

/// The connection that an accepted flow uses, and its number there.
#[derive(Debug)]
pub(super) struct Uplink {
    connection: Connection,
    id: FlowId,
}

impl Uplink {
    pub(super) fn new(connection: &Connection, id: FlowId) -> Self {
        Self { connection: connection.clone(), id }
    }

    /// Sends the payload behind the first [`FLOW_PREFIX`] bytes of `framed`, which are written over: as a datagram if it fits, else on
    /// the stream. What fits may change with each packet, so quinn is asked each time. Never waits.
    pub(super) fn send(&self, framed: &mut [u8], outbox: &Outbox, counts: &Counts) {
        let Some((prefix, payload)) = framed.split_first_chunk_mut::<FLOW_PREFIX>() else { return };
        *prefix = self.id.prefix();
        let length = payload.len();
        // the oldest that wait make room, of which quinn says nothing
        let crowded = self.connection.datagram_send_buffer_space() < framed.len();
        match self.connection.send_datagram(Bytes::copy_from_slice(framed)) {
            Ok(()) => {
                counts.add_to_mesh(length);
                if crowded {
                    counts.dropped(DropReason::SendBuffer);
                }
            }
            // the end of the stream tells of it
            Err(SendDatagramError::ConnectionLost(_)) => {}
            Err(_) => queue(framed.get(FLOW_PREFIX..).unwrap_or_default(), outbox, counts),
        }
    }
}

/// Lets `payload` wait for the flow's stream, if there is room.
pub(super) fn queue(payload: &[u8], outbox: &Outbox, counts: &Counts) {
    if outbox.push(payload) {
        counts.add_to_mesh(payload.len());
        counts.streamed();
    } else {
        counts.dropped(DropReason::QueueFull);
    }
}
