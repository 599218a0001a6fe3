//! What the overlay counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The overlay socket's metrics. Clones share their values.
#[derive(Clone, Debug, Default)]
pub struct OverlayMetrics {
    /// QUIC datagrams handed to the kernel.
    pub sent_datagrams: Counter,
    /// Their bytes of UDP payload.
    pub sent_bytes: Counter,
    /// Of these, datagrams that went straight to a peer of the own cluster.
    pub direct_datagrams: Counter,
    /// QUIC datagrams received from gateways and direct peers.
    pub received_datagrams: Counter,
    /// Their bytes of UDP payload.
    pub received_bytes: Counter,
    /// Datagrams that quinn sent and that had nowhere to go: no gateway is known, or the destination is no connection ID of the mesh.
    pub unrouted: Counter,
    /// Datagrams dropped because they came from an address that is neither a gateway's nor a direct peer's.
    pub foreign_source: Counter,
    /// Sends that found the socket's buffer full.
    pub send_would_block: Counter,
    /// Batches that were split because they would not fit in one system call.
    pub send_split: Counter,
    /// Receive calls that failed for another reason than an empty socket.
    pub receive_errors: Counter,
    /// Probes sent to gateways and direct peers.
    pub probes_sent: Counter,
    /// Answers to them that were verified.
    pub probes_answered: Counter,
    /// Probes whose answer was overdue.
    pub probes_missed: Counter,
    /// Probes and answers that were dropped: malformed, or with a wrong tag.
    pub probes_refused: Counter,
    /// Times that a gateway which packets went to stopped answering, so that they went to another.
    pub gateway_switches: Counter,
    /// Gateways that answer now.
    pub gateways_alive: Gauge,
    /// Direct peers that answer now.
    pub direct_alive: Gauge,
}

impl OverlayMetrics {
    /// Adds the metrics to `registry`, under `overlay_`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("overlay");
        for (name, help, counter) in [
            ("sent_datagrams", "QUIC datagrams sent", &self.sent_datagrams),
            ("sent_bytes", "Bytes of QUIC datagrams sent", &self.sent_bytes),
            ("direct_datagrams", "QUIC datagrams sent straight to a peer", &self.direct_datagrams),
            ("received_datagrams", "QUIC datagrams received", &self.received_datagrams),
            ("received_bytes", "Bytes of QUIC datagrams received", &self.received_bytes),
            ("unrouted", "Datagrams to send that had nowhere to go", &self.unrouted),
            ("foreign_source", "Datagrams dropped for an unknown source address", &self.foreign_source),
            ("send_would_block", "Sends that found the socket buffer full", &self.send_would_block),
            ("send_split", "Batches split to fit in a system call", &self.send_split),
            ("receive_errors", "Receive calls that failed", &self.receive_errors),
            ("probes_sent", "Probes sent", &self.probes_sent),
            ("probes_answered", "Probes answered", &self.probes_answered),
            ("probes_missed", "Probes whose answer was overdue", &self.probes_missed),
            ("probes_refused", "Probes and answers dropped as malformed or forged", &self.probes_refused),
            ("gateway_switches", "Times a gateway in use stopped answering", &self.gateway_switches),
        ] {
            registry.register(name, help, counter.clone());
        }
        registry.register("gateways_alive", "Gateways that answer", self.gateways_alive.clone());
        registry.register("direct_alive", "Direct peers that answer", self.direct_alive.clone());
    }
}
