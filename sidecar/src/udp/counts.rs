//! What is counted of flows.

use crate::access::{Direction, Meter};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

type Direct<M> = Family<[(&'static str, &'static str); 1], M>;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// Why a payload was dropped.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum DropReason {
            $($(#[$doc])* $name,)*
        }

        impl DropReason {
            const ALL: &[Self] = &[$(Self::$name),*];

            /// The stable word for metrics.
            pub(crate) fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word),* }
            }
        }
    };
}

reasons! {
    /// No flow of the connection has that number: it has ended.
    FlowUnknown = "flow-unknown",
    /// Too much of the flow, or of all flows, waits for its stream.
    QueueFull = "queue-full",
    /// The oldest that wait for the connection to send made room.
    SendBuffer = "send-buffer",
    /// The application's socket is full.
    SocketFull = "socket-full",
    /// The application's socket does not take it: it is too long for IPv4, or nobody listens.
    SocketRefused = "socket-refused",
    /// There is no place for another flow.
    MaxFlows = "max-flows",
    /// The flow could not be opened a moment ago.
    FlowRefused = "flow-refused",
    /// The sidecar is about to stop and begins no flow.
    Draining = "draining",
}

/// What is counted of all flows of one direction; handles, resolved once.
#[derive(Clone, Debug)]
pub(crate) struct UdpDirection {
    flows: Counter,
    open: Gauge,
    datagrams: [Counter; 2],
    bytes: [Counter; 2],
    streamed: Counter,
    drops: Arc<[Counter]>,
}

impl UdpDirection {
    pub(crate) fn dropped(&self, reason: DropReason) {
        if let Some(counter) = self.drops.get(reason as usize) {
            counter.inc();
        }
    }
}

/// What is counted of flows. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct UdpMetrics {
    flows: Direct<Counter>,
    open: Direct<Gauge>,
    datagrams: [Direct<Counter>; 2],
    bytes: [Direct<Counter>; 2],
    streamed: Direct<Counter>,
    drops: Family<[(&'static str, &'static str); 2], Counter>,
    outbound: Arc<UdpDirection>,
    inbound: Arc<UdpDirection>,
}

impl Default for UdpMetrics {
    fn default() -> Self {
        let (flows, open) = (Direct::<Counter>::default(), Direct::<Gauge>::default());
        let (datagrams, bytes) =
            ([(); 2].map(|()| Direct::<Counter>::default()), [(); 2].map(|()| Direct::default()));
        let streamed = Direct::<Counter>::default();
        let drops = Family::<[(&'static str, &'static str); 2], Counter>::default();
        let of = |direction: Direction| {
            let label = [("direction", direction.as_str())];
            let both = |families: &[Direct<Counter>; 2]| {
                families.each_ref().map(|family| family.get_or_create_owned(&label))
            };
            let drop = |reason: &DropReason| {
                drops.get_or_create_owned(&[("direction", direction.as_str()), ("reason", reason.as_str())])
            };
            Arc::new(UdpDirection {
                flows: flows.get_or_create_owned(&label),
                open: open.get_or_create_owned(&label),
                datagrams: both(&datagrams),
                bytes: both(&bytes),
                streamed: streamed.get_or_create_owned(&label),
                drops: DropReason::ALL.iter().map(drop).collect(),
            })
        };
        Self {
            outbound: of(Direction::Outbound),
            inbound: of(Direction::Inbound),
            flows,
            open,
            datagrams,
            bytes,
            streamed,
            drops,
        }
    }
}

impl UdpMetrics {
    /// Adds them to `registry`, under `udp_`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let r = registry.sub_registry_with_prefix("udp");
        r.register("flows", "Flows of UDP that were begun", self.flows.clone());
        r.register("flows_open", "Flows of UDP that are open", self.open.clone());
        let [up, down] = &self.datagrams;
        r.register("to_mesh_datagrams", "Payloads of applications that went into the mesh", up.clone());
        r.register("from_mesh_datagrams", "Payloads that came out of the mesh", down.clone());
        let [up, down] = &self.bytes;
        r.register("to_mesh_bytes", "Bytes of the payloads that went into the mesh", up.clone());
        r.register("from_mesh_bytes", "Bytes of the payloads that came out of the mesh", down.clone());
        let streamed = self.streamed.clone();
        r.register(
            "streamed_datagrams",
            "Those into the mesh that took a stream: too long, or early",
            streamed,
        );
        r.register("dropped_datagrams", "Payloads that were dropped, by reason", self.drops.clone());
    }

    /// What is counted of `direction`.
    pub(crate) fn direction(&self, direction: Direction) -> &Arc<UdpDirection> {
        match direction {
            Direction::Outbound => &self.outbound,
            Direction::Inbound => &self.inbound,
        }
    }
}

/// What is counted of one flow, until it is dropped an open one.
#[derive(Debug)]
pub(crate) struct Counts {
    datagrams: [AtomicU64; 2],
    bytes: [AtomicU64; 2],
    dropped: AtomicU64,
    /// How many of the bytes its record has been told of.
    told: [AtomicU64; 2],
    all: Arc<UdpDirection>,
}

impl Counts {
    pub(crate) fn new(all: &Arc<UdpDirection>) -> Self {
        all.flows.inc();
        all.open.inc();
        let zeros = || [const { AtomicU64::new(0) }; 2];
        Self {
            datagrams: zeros(),
            bytes: zeros(),
            dropped: AtomicU64::new(0),
            told: zeros(),
            all: Arc::clone(all),
        }
    }

    /// A payload of the application went into the mesh.
    pub(crate) fn add_to_mesh(&self, bytes: usize) {
        self.count(0, bytes);
    }

    /// A payload came out of the mesh and went to the application.
    pub(crate) fn add_from_mesh(&self, bytes: usize) {
        self.count(1, bytes);
    }

    fn count(&self, way: usize, bytes: usize) {
        self.datagrams[way].fetch_add(1, Relaxed);
        self.bytes[way].fetch_add(bytes as u64, Relaxed);
        self.all.datagrams[way].inc();
        self.all.bytes[way].inc_by(bytes as u64);
    }

    /// One of those took the stream.
    pub(crate) fn streamed(&self) {
        self.all.streamed.inc();
    }

    pub(crate) fn dropped(&self, reason: DropReason) {
        self.dropped.fetch_add(1, Relaxed);
        self.all.dropped(reason);
    }

    /// Whether anything came out of the mesh.
    pub(crate) fn is_answered(&self) -> bool {
        self.datagrams[1].load(Relaxed) > 0
    }

    /// Payloads into the mesh, out of it, and dropped.
    pub(crate) fn datagrams(&self) -> [u64; 3] {
        let [up, down] = &self.datagrams;
        [up, down, &self.dropped].map(|count| count.load(Relaxed))
    }

    /// Tells `meter` of the bytes since the last time. Not for each payload: a flow's record counts for many.
    pub(crate) fn tell(&self, meter: &Meter) {
        let new = |way: usize| {
            let now = self.bytes[way].load(Relaxed);
            let before = self.told[way].swap(now, Relaxed);
            usize::try_from(now.saturating_sub(before)).unwrap_or(usize::MAX)
        };
        meter.add_to_mesh(new(0));
        meter.add_from_mesh(new(1));
    }
}

impl Drop for Counts {
    fn drop(&mut self) {
        self.all.open.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use causeway_runtime::Metrics;

    #[test]
    fn every_reason_has_a_counter_of_its_own() {
        let (metrics, all) = (UdpMetrics::default(), Metrics::new());
        all.registry(|registry| metrics.register(registry));
        let counts = Counts::new(metrics.direction(Direction::Outbound));
        for reason in DropReason::ALL {
            counts.dropped(*reason);
        }
        counts.add_to_mesh(7);
        assert_eq!(counts.datagrams(), [1, 0, DropReason::ALL.len() as u64]);
        assert!(!counts.is_answered());
        drop(counts);
        let text = all.encode();
        for reason in DropReason::ALL {
            let word = reason.as_str();
            let line = format!("udp_dropped_datagrams_total{{direction=\"outbound\",reason=\"{word}\"}} 1");
            assert!(text.contains(&line), "{text}");
        }
        assert!(text.contains("udp_to_mesh_bytes_total{direction=\"outbound\"} 7"), "{text}");
        assert!(text.contains("udp_flows_open{direction=\"outbound\"} 0"), "{text}");
    }
}
