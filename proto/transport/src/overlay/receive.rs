//! What arrives: probes and answers are taken out, packets of strangers dropped, the rest is quinn's.

use super::addr::normal;
use super::batch::take_probes;
use super::link::{Link, Peer};
use super::table::Table;
use super::{Inner, virtual_addr};
use causeway_wire::probe::{Answer, PROBE_LEN, Probe, ProbeScope, ResponderState, verify};
use quinn_udp::{RecvMeta, Transmit};
use std::net::IpAddr;
use std::time::Instant;

impl Inner {
    /// Leaves in `batch` what quinn is to see; `meta.len` 0 makes quinn skip it.
    #[inline]
    pub(super) fn sort(&self, table: &Table, meta: &mut RecvMeta, batch: &mut [u8]) {
        let Some(link) = table.source(&normal(meta.addr)) else {
            self.metrics.foreign_source.inc_by(meta.len.div_ceil(meta.stride.max(1)) as u64);
            meta.len = 0;
            return;
        };
        let len = meta.len.min(batch.len());
        meta.len = take_probes(&mut batch[..len], meta.stride, |bytes| {
            if !self.on_probe(table, link, bytes, meta.dst_ip) {
                self.metrics.probes_refused.inc();
            }
        });
        if meta.len > 0 {
            self.metrics.received_datagrams.inc_by(meta.len.div_ceil(meta.stride.max(1)) as u64);
            self.metrics.received_bytes.inc_by(meta.len as u64);
        }
        meta.addr = virtual_addr();
        meta.dst_ip = None;
    }

    /// Takes a probe or an answer from the other end of `link`; false if it is malformed or forged.
    fn on_probe(&self, table: &Table, link: &Link, bytes: &[u8; PROBE_LEN], to: Option<IpAddr>) -> bool {
        if let Some(answer) = Answer::decode(bytes) {
            return self.on_answer(table, link, bytes, &answer);
        }
        match (Probe::decode(bytes), link.peer) {
            (Some(probe), Peer::Direct { workload, key })
                if probe.scope == ProbeScope::Direct && probe.sender == workload.0 && verify(bytes, &key) =>
            {
                self.answer_direct(table, link, &probe, &key, to);
                true
            }
            _ => false,
        }
    }

    fn on_answer(&self, table: &Table, link: &Link, bytes: &[u8; PROBE_LEN], answer: &Answer) -> bool {
        // a gateway may answer under another node id than it was announced by: behind a load balancer, or after it was
        // replaced. It takes packets all the same, and the key says that it is of the cluster.
        let genuine = match (link.peer, table.attached.as_deref()) {
            (Peer::Gateway, Some(attached)) => {
                answer.scope == ProbeScope::Workload && verify(bytes, &attached.key)
            }
            (Peer::Direct { workload, key }, Some(_)) => {
                answer.scope == ProbeScope::Direct && answer.responder == workload.0 && verify(bytes, &key)
            }
            (_, None) => false,
        };
        if genuine {
            let clock = self.clock();
            self.metrics.probes_answered.inc();
            let (change, due) = link.answer(Instant::now(), clock, answer);
            self.on_change(link, change, clock);
            if due {
                self.wake.notify_one();
            }
        }
        genuine
    }

    /// Answers a peer's probe from the address that it was sent to. That the peer probes means that it knows this side: the own
    /// probe, which it may have dropped before, need not wait.
    fn answer_direct(&self, table: &Table, link: &Link, probe: &Probe, key: &[u8; 32], to: Option<IpAddr>) {
        let Some(attached) = table.attached.as_deref() else { return };
        let answer = Answer {
            scope: ProbeScope::Direct,
            state: ResponderState::Ready,
            interval_ms: 0,
            responder: attached.attachment.workload.0,
            seq: probe.seq,
            cookie: [0; 16],
        };
        let bytes = answer.encode(key);
        let transmit =
            Transmit { destination: link.addr, ecn: None, contents: &bytes, segment_size: None, src_ip: to };
        // an answer that finds no room is lost like any packet: the peer asks again
        let sent = self.io.send(|socket| self.state.send(socket.into(), &transmit));
        if let Err(error) = sent {
            tracing::trace!(%error, "an answer to a direct probe was dropped");
        }
        if !link.is_alive() {
            link.step(|path| path.hurry());
            self.wake.notify_one();
        }
    }
}
