//! What the forwarder counts: packets in and out, and drops by reason.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::MetricType;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Why a packet was not forwarded.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(usize)]
        pub enum DropReason {
            $($(#[$doc])* $name,)*
        }

        impl DropReason {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The stable word for metrics.
            pub const fn reason(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }
        }
    };
}

reasons! {
    /// The source address was not admitted by a probe, and the packet is not for this gateway itself.
    UnknownSource = "unknown-source",
    /// It is not a QUIC packet with a connection ID of the mesh.
    Malformed = "malformed",
    /// The cluster in the connection ID is not linked.
    UnknownCluster = "unknown-cluster",
    /// No live workload of this cluster has the id.
    UnknownWorkload = "unknown-workload",
    /// No service of this cluster has the handle.
    UnknownService = "unknown-service",
    /// The cluster has no such gateway.
    UnknownGateway = "unknown-gateway",
    /// The source connection ID is not of the workload or cluster that the source address belongs to.
    ForeignSourceId = "foreign-source-id",
    /// The service is not exported to the cluster that the packet came from.
    NotExported = "not-exported",
    /// The service has no healthy endpoint.
    NoEndpoint = "no-endpoint",
    /// It came from another cluster's gateway and is not for this cluster; or it passed through as many clusters as it may, or would go back.
    Loop = "loop",
    /// It came in an envelope from somebody, or over a link, that has no transit.
    NoTransit = "no-transit",
    /// It came in an envelope whose origin is not reached by the link that it came over.
    ForeignOrigin = "foreign-origin",
    /// The source sends more than its rate.
    RateLimit = "rate-limit",
    /// The source starts handshakes faster than its rate.
    HandshakeLimit = "handshake-limit",
    /// No gateway of the destination cluster answers, nor one on the way to it.
    NoPath = "no-path",
    /// The socket did not take it.
    SendFailed = "send-failed",
    /// The gateway's own queue is full.
    QueueFull = "queue-full",
    /// A probe that is malformed, of an unknown sender, or whose tag is wrong.
    BadProbe = "bad-probe",
    /// The gateway has not got its tables yet.
    NotReady = "not-ready",
}

/// The number of reasons.
pub(super) const REASONS: usize = DropReason::ALL.len();

/// One thread's counters, or those of what the gateway itself sends through other clusters. A thread adds to its own, once a batch;
/// anyone may read.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Counters {
    /// Packets received.
    pub packets_in: AtomicU64,
    /// Bytes received.
    pub bytes_in: AtomicU64,
    /// Packets sent on.
    pub packets_out: AtomicU64,
    /// System messages sent.
    pub messages_out: AtomicU64,
    /// Packets for the gateway itself.
    pub own: AtomicU64,
    /// Packets that were put into an envelope here and handed to a socket.
    pub wrapped: AtomicU64,
    /// Packets in an envelope that were handed to a socket for another cluster.
    pub relayed: AtomicU64,
    /// Probes answered.
    pub probes_answered: AtomicU64,
    /// Probes sent.
    pub probes_sent: AtomicU64,
    /// Packets not forwarded, by reason.
    pub drops: [AtomicU64; REASONS],
}

/// What one batch adds to the counters.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) packets_in: u64,
    pub(super) bytes_in: u64,
    pub(super) packets_out: u64,
    pub(super) messages_out: u64,
    pub(super) own: u64,
    pub(super) wrapped: u64,
    pub(super) relayed: u64,
    pub(super) probes_answered: u64,
    pub(super) probes_sent: u64,
    drops: [u64; REASONS],
}

impl Tally {
    pub(super) fn drop(&mut self, reason: DropReason, packets: u64) {
        self.drops[reason as usize] += packets;
    }

    /// Moves everything to `counters`.
    pub(super) fn pour(&mut self, counters: &Counters) {
        let pairs = [
            (&counters.packets_in, &mut self.packets_in),
            (&counters.bytes_in, &mut self.bytes_in),
            (&counters.packets_out, &mut self.packets_out),
            (&counters.messages_out, &mut self.messages_out),
            (&counters.own, &mut self.own),
            (&counters.wrapped, &mut self.wrapped),
            (&counters.relayed, &mut self.relayed),
            (&counters.probes_answered, &mut self.probes_answered),
            (&counters.probes_sent, &mut self.probes_sent),
        ];
        for (shared, mine) in pairs.into_iter().chain(counters.drops.iter().zip(&mut self.drops)) {
            if *mine > 0 {
                shared.fetch_add(std::mem::take(mine), Relaxed);
            }
        }
    }
}

/// The sum over all threads at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Packets received.
    pub packets_in: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Packets sent on.
    pub packets_out: u64,
    /// System messages sent.
    pub messages_out: u64,
    /// Packets for the gateway itself.
    pub own: u64,
    /// Packets that were put into an envelope here and handed to a socket.
    pub wrapped: u64,
    /// Packets in an envelope that were handed to a socket for another cluster.
    pub relayed: u64,
    /// Probes answered.
    pub probes_answered: u64,
    /// Probes sent.
    pub probes_sent: u64,
    /// Packets not forwarded, by reason, in the order of [`DropReason::ALL`].
    pub drops: [u64; REASONS],
}

impl Totals {
    /// The sum of `threads`.
    pub fn of<'a>(threads: impl IntoIterator<Item = &'a Counters>) -> Self {
        let mut sum = Self::default();
        for c in threads {
            sum.packets_in += c.packets_in.load(Relaxed);
            sum.bytes_in += c.bytes_in.load(Relaxed);
            sum.packets_out += c.packets_out.load(Relaxed);
            sum.messages_out += c.messages_out.load(Relaxed);
            sum.own += c.own.load(Relaxed);
            sum.wrapped += c.wrapped.load(Relaxed);
            sum.relayed += c.relayed.load(Relaxed);
            sum.probes_answered += c.probes_answered.load(Relaxed);
            sum.probes_sent += c.probes_sent.load(Relaxed);
            for (sum, drops) in sum.drops.iter_mut().zip(&c.drops) {
                *sum += drops.load(Relaxed);
            }
        }
        sum
    }

    /// The drops for one reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize]
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// The forwarder's counters as metrics: read when they are asked for, so the packet path knows nothing of them.
#[derive(Debug)]
pub struct ForwarderCollector(pub super::Forwarder);

impl prometheus_client::collector::Collector for ForwarderCollector {
    fn encode(
        &self,
        mut encoder: prometheus_client::encoding::DescriptorEncoder<'_>,
    ) -> Result<(), std::fmt::Error> {
        use prometheus_client::encoding::EncodeMetric;
        use prometheus_client::metrics::counter::ConstCounter;
        use prometheus_client::metrics::gauge::ConstGauge;
        let totals = self.0.totals();
        for (name, help, value) in [
            ("forwarder_packets_received", "Packets received on the overlay port", totals.packets_in),
            ("forwarder_bytes_received", "Bytes received on the overlay port", totals.bytes_in),
            ("forwarder_packets_forwarded", "Packets sent on", totals.packets_out),
            ("forwarder_messages_sent", "System messages that packets were sent on in", totals.messages_out),
            ("forwarder_own_packets", "Packets for the gateway itself", totals.own),
            ("forwarder_transit_sent", "Packets sent on their way through other clusters", totals.wrapped),
            ("forwarder_transit_relayed", "Packets relayed between other clusters", totals.relayed),
            ("forwarder_probes_answered", "Probes answered", totals.probes_answered),
            ("forwarder_probes_sent", "Probes sent to other gateways", totals.probes_sent),
            ("forwarder_receive_errors", "Receive calls that failed", self.0.receive_errors()),
            (
                "forwarder_probes_missed",
                "Probes to known gateways without an answer in time",
                self.0.probes_missed(),
            ),
        ] {
            ConstCounter::new(value).encode(encoder.encode_descriptor(
                name,
                help,
                None,
                MetricType::Counter,
            )?)?;
        }
        let mut family = encoder.encode_descriptor(
            "forwarder_packets_dropped",
            "Packets not forwarded, by reason",
            None,
            MetricType::Counter,
        )?;
        for &reason in DropReason::ALL {
            let label = ReasonLabel { reason: reason.reason() };
            ConstCounter::new(totals.dropped(reason)).encode(family.encode_family(&label)?)?;
        }
        let admitted = i64::try_from(self.0.admitted_workloads()).unwrap_or(i64::MAX);
        ConstGauge::new(admitted).encode(encoder.encode_descriptor(
            "forwarder_workloads_admitted",
            "Workloads whose source address is admitted",
            None,
            MetricType::Gauge,
        )?)
    }
}
