//! What leaves: each transmit goes to the place that its destination connection ID picks.

use super::Inner;
use super::batch::per_call;
use causeway_wire::Cid;
use causeway_wire::packet::dcid;
use quinn_udp::Transmit;
use std::io;
use std::net::SocketAddr;

impl Inner {
    /// Sends a transmit of quinn's, whose datagrams all have one destination. The only error is `WouldBlock`, before anything was
    /// sent: quinn takes every other for the end of the connection, and a path that fails is the probes' to report.
    #[inline]
    pub(super) fn send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let contents = transmit.contents;
        let size = transmit.segment_size.unwrap_or(contents.len()).max(1);
        let datagrams = contents.len().div_ceil(size) as u64;
        let table = self.table.load();
        let Some(link) = dcid(contents).and_then(|id| table.route(&Cid(*id))) else {
            self.metrics.unrouted.inc_by(datagrams);
            return Ok(());
        };
        if link.touch(self.clock()) {
            self.wake.notify_one();
        }
        if self.send_batch(transmit, link.addr, size)? {
            self.metrics.sent_datagrams.inc_by(datagrams);
            self.metrics.sent_bytes.inc_by(contents.len() as u64);
            if link.is_direct() {
                self.metrics.direct_datagrams.inc_by(datagrams);
            }
        }
        Ok(())
    }

    /// Sends in as many calls as it takes; false if the end of the batch was dropped, which happens when the socket is full after
    /// the first call: to ask for a retry would send its beginning twice.
    fn send_batch(&self, transmit: &Transmit<'_>, to: SocketAddr, size: usize) -> io::Result<bool> {
        let at_once = per_call(size) * size;
        if transmit.contents.len() > at_once {
            self.metrics.send_split.inc();
        }
        for (call, contents) in transmit.contents.chunks(at_once).enumerate() {
            let segment_size = (contents.len() > size).then_some(size);
            let part = Transmit { destination: to, ecn: transmit.ecn, contents, segment_size, src_ip: None };
            match self.io.send(|socket| self.state.send(socket.into(), &part)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.metrics.send_would_block.inc();
                    return if call == 0 { Err(error) } else { Ok(false) };
                }
                Err(error) => {
                    tracing::debug!(%error, %to, "a send failed");
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}
