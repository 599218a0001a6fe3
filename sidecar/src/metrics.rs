//! What a sidecar counts. The overlay's own metrics (datagrams, probes, gateway switches) are `causeway-transport`'s.

mod pairs;

pub(crate) use pairs::{Pair, Pairs};

use crate::access::Direction;
use crate::balance::BalanceMetrics;
use crate::udp::UdpMetrics;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::ops::Deref;
use std::sync::Arc;

type Direct<M> = Family<[(&'static str, &'static str); 1], M>;

/// The metrics of one direction; handles, resolved once.
#[derive(Clone, Debug)]
pub struct DirectionMetrics {
    /// Connections of applications that were begun.
    pub connections: Counter,
    /// Those that are open.
    pub open: Gauge,
    /// Bytes of applications that went into the mesh.
    pub bytes_to_mesh: Counter,
    /// Bytes that came out of the mesh for applications.
    pub bytes_from_mesh: Counter,
    /// QUIC connections to peers that are open.
    pub peers: Gauge,
}

/// The metrics of a sidecar. Clones share their values, and cost one counter: each connection has one.
#[derive(Clone, Debug)]
pub struct SidecarMetrics(Arc<Handles>);

/// What [`SidecarMetrics`] shares.
#[derive(Debug)]
pub struct Handles {
    connections: Direct<Counter>,
    open: Direct<Gauge>,
    bytes_to_mesh: Direct<Counter>,
    bytes_from_mesh: Direct<Counter>,
    peers: Direct<Gauge>,
    outcomes: Family<[(&'static str, &'static str); 2], Counter>,
    pairs: Pairs,
    udp: UdpMetrics,
    balance: BalanceMetrics,
    outbound: Arc<DirectionMetrics>,
    inbound: Arc<DirectionMetrics>,
    /// Attempts to carry a connection beyond its first.
    pub retries: Counter,
    /// QUIC connections to peers that could not be made, by reason.
    pub connect_failures: Direct<Counter>,
    /// How long a QUIC connection to a peer took, hello included, in seconds.
    pub connect_seconds: Histogram,
    /// How long the application that is served took to accept, in seconds.
    pub upstream_seconds: Histogram,
    /// QUIC connections of peers that were refused or broke the protocol, by reason.
    pub peers_refused: Direct<Counter>,
}

impl Deref for SidecarMetrics {
    type Target = Handles;

    fn deref(&self) -> &Handles {
        &self.0
    }
}

impl Default for SidecarMetrics {
    fn default() -> Self {
        Self::new()
    }
}

impl SidecarMetrics {
    /// Metrics at zero.
    pub fn new() -> Self {
        let (connections, open) = (Direct::<Counter>::default(), Direct::<Gauge>::default());
        let (bytes_to_mesh, bytes_from_mesh) = (Direct::<Counter>::default(), Direct::<Counter>::default());
        let peers = Direct::<Gauge>::default();
        let of = |direction: Direction| {
            let label = [("direction", direction.as_str())];
            Arc::new(DirectionMetrics {
                connections: connections.get_or_create_owned(&label),
                open: open.get_or_create_owned(&label),
                bytes_to_mesh: bytes_to_mesh.get_or_create_owned(&label),
                bytes_from_mesh: bytes_from_mesh.get_or_create_owned(&label),
                peers: peers.get_or_create_owned(&label),
            })
        };
        Self(Arc::new(Handles {
            outbound: of(Direction::Outbound),
            inbound: of(Direction::Inbound),
            connections,
            open,
            bytes_to_mesh,
            bytes_from_mesh,
            peers,
            outcomes: Family::default(),
            pairs: Pairs::default(),
            udp: UdpMetrics::default(),
            balance: BalanceMetrics::default(),
            retries: Counter::default(),
            connect_failures: Family::default(),
            // from 1 ms, a peer in the same rack, to 8 s, beyond the usual timeout
            connect_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 14)),
            upstream_seconds: Histogram::new(exponential_buckets(0.0001, 4.0, 9)),
            peers_refused: Family::default(),
        }))
    }

    /// Adds the metrics to `registry`, under `sidecar_`.
    pub fn register(&self, registry: &mut Registry) {
        let r = registry.sub_registry_with_prefix("sidecar");
        r.register("connections", "Connections of applications", self.connections.clone());
        r.register("connections_open", "Connections of applications that are open", self.open.clone());
        r.register(
            "to_mesh_bytes",
            "Bytes of applications that went into the mesh",
            self.bytes_to_mesh.clone(),
        );
        r.register("from_mesh_bytes", "Bytes that came out of the mesh", self.bytes_from_mesh.clone());
        r.register("peers_open", "QUIC connections to peers that are open", self.peers.clone());
        r.register("outcomes", "Connections of applications by how they ended", self.outcomes.clone());
        r.register("retries", "Attempts to carry a connection beyond its first", self.retries.clone());
        r.register("connect_failures", "Peers that could not be connected to", self.connect_failures.clone());
        r.register("connect_seconds", "Time to connect to a peer", self.connect_seconds.clone());
        r.register(
            "upstream_seconds",
            "Time until the application served accepted",
            self.upstream_seconds.clone(),
        );
        r.register("peers_refused", "Peers that were refused", self.peers_refused.clone());
        self.pairs.register(r);
        self.udp.register(r);
        self.balance.register(r);
    }

    /// The metrics of `direction`.
    pub(crate) fn direction(&self, direction: Direction) -> Arc<DirectionMetrics> {
        Arc::clone(match direction {
            Direction::Outbound => &self.outbound,
            Direction::Inbound => &self.inbound,
        })
    }

    /// What is counted by source and destination.
    pub(crate) fn pairs(&self) -> &Pairs {
        &self.pairs
    }

    /// What is counted of flows of UDP.
    pub(crate) fn udp(&self) -> &UdpMetrics {
        &self.udp
    }

    /// What is counted of the choice of endpoints.
    pub(crate) fn balance(&self) -> &BalanceMetrics {
        &self.balance
    }

    pub(crate) fn outcome(&self, direction: Direction, reason: &'static str) {
        self.outcomes.get_or_create(&[("direction", direction.as_str()), ("reason", reason)]).inc();
    }

    pub(crate) fn connect_failed(&self, reason: &'static str) {
        self.connect_failures.get_or_create(&[("reason", reason)]).inc();
    }

    pub(crate) fn peer_refused(&self, reason: &'static str) {
        self.peers_refused.get_or_create(&[("reason", reason)]).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Access;
    use causeway_runtime::{Drain, Metrics};

    #[test]
    fn a_record_counts_until_it_is_dropped() {
        let (metrics, all) = (SidecarMetrics::new(), Metrics::new());
        all.registry(|registry| metrics.register(registry));
        let (_trigger, drain) = Drain::new();
        let mut access = Access::begin(Direction::Inbound, &metrics, drain.guard());
        access.meter.add_to_mesh(5);
        access.ended("done");
        assert_eq!((drain.live(), metrics.direction(Direction::Inbound).open.get()), (1, 1));
        drop(access);
        assert_eq!(drain.live(), 0);
        let text = all.encode();
        for line in [
            "causeway_sidecar_connections_total{direction=\"inbound\"} 1",
            "causeway_sidecar_connections_open{direction=\"inbound\"} 0",
            "causeway_sidecar_to_mesh_bytes_total{direction=\"inbound\"} 5",
            "causeway_sidecar_outcomes_total{direction=\"inbound\",reason=\"done\"} 1",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
