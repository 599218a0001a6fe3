//! The way out for the gateway's own packets to gateways that are reached through other clusters.

use super::Shared;
use super::counters::{DropReason, Tally};
use super::envelope::way;
use super::target::LinkSockets;
use causeway_model::ClusterId;
use causeway_transport::gateway::TransitExit;
use causeway_wire::Envelope;
use causeway_wire::envelope::MAX_HOPS;
use causeway_wire::packet::Header;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

/// Puts the packets of the gateway's own connections into envelopes, by the tables that the threads read.
pub(super) struct Exit {
    pub(super) shared: Arc<Shared>,
    pub(super) links: Arc<LinkSockets>,
}

impl fmt::Debug for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exit")
    }
}

impl Exit {
    fn send_one(&self, cluster: ClusterId, datagram: &[u8]) -> Result<(), DropReason> {
        let header = Header::parse(datagram).map_err(|_| DropReason::Malformed)?;
        let tables = self.shared.tables.load();
        let path = way(&tables, cluster, &header.dcid).ok_or(DropReason::NoPath)?;
        let sockets = self.links.sockets.get(path.port).ok_or(DropReason::NoPath)?;
        let family = self.links.family(path.target.addr).ok_or(DropReason::NoPath)?;
        let envelope = Envelope { hops: MAX_HOPS, origin: tables.cluster };
        let wrapped = [&envelope.encode()[..], datagram].concat();
        let socket = sockets.get(family).ok_or(DropReason::NoPath)?;
        socket.send_to(&wrapped, path.target.addr).map_err(|_| DropReason::SendFailed)?;
        if let Some(port) = path.target.ports.get(path.port) {
            port.last_sent_ms.store(self.shared.millis(Instant::now()), Relaxed);
        }
        Ok(())
    }
}

impl TransitExit for Exit {
    fn send(&self, cluster: ClusterId, datagrams: &[u8], stride: usize) {
        let mut tally = Tally::default();
        for datagram in datagrams.chunks(stride.max(1)) {
            match self.send_one(cluster, datagram) {
                Ok(()) => {
                    tally.wrapped += 1;
                    tally.packets_out += 1;
                    tally.messages_out += 1;
                }
                Err(reason) => tally.drop(reason, 1),
            }
        }
        if let Some(counters) = self.shared.counters.last() {
            tally.pour(counters);
        }
    }
}
