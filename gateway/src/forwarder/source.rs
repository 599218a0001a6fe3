//! Source addresses that packets are taken from, and how many.

use causeway_model::{ClusterId, NodeId, WorkloadId};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Whom a source address belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// A sidecar of this cluster.
    Workload(WorkloadId),
    /// A gateway of this cluster.
    Sibling(NodeId),
    /// A gateway of a linked cluster.
    Link(ClusterId, NodeId),
    /// The other end of an authenticated control connection.
    Control,
}

/// Probes a second that are answered to one source: four times what the fastest interval needs.
const PROBES: u64 = 200;

/// How many packets and handshakes are taken from one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceLimits {
    /// Packets a second from a sidecar.
    pub workload_packets: u64,
    /// Handshakes a second from a sidecar.
    pub workload_handshakes: u64,
    /// Packets a second from a port of another gateway.
    pub gateway_packets: u64,
    /// Handshakes a second from a port of another gateway.
    pub gateway_handshakes: u64,
    /// Packets a second from an address that is not admitted (first contact: joining, linking).
    pub stranger_packets: u64,
    /// Handshakes a second from an address that is not admitted.
    pub stranger_handshakes: u64,
}

impl Default for SourceLimits {
    fn default() -> Self {
        Self {
            workload_packets: 1_000_000,
            workload_handshakes: 5_000,
            gateway_packets: 4_000_000,
            gateway_handshakes: 50_000,
            stranger_packets: 2_000,
            stranger_handshakes: 200,
        }
    }
}

/// A rate limit without a lock: the generic cell rate algorithm (ITU-T I.371) on one atomic, with a burst of a quarter
/// second. Two threads that race may both pass: a limit, not an account.
#[derive(Debug)]
pub(super) struct Rate {
    cost_ns: u64,
    burst_ns: u64,
    /// When the bucket would be full again, in nanoseconds since the forwarder started.
    full_at: AtomicU64,
}

impl Rate {
    const BURST_NS: u64 = 250_000_000;

    /// At most `per_second` a second.
    pub(super) fn new(per_second: u64) -> Self {
        let cost_ns = 1_000_000_000 / per_second.clamp(1, 1_000_000_000);
        Self { cost_ns, burst_ns: Self::BURST_NS.max(cost_ns), full_at: AtomicU64::new(0) }
    }

    /// Takes `count` at `now_ns`, or nothing.
    #[inline]
    pub(super) fn take(&self, now_ns: u64, count: u64) -> bool {
        let start = self.full_at.load(Relaxed).max(now_ns);
        if start - now_ns > self.burst_ns {
            return false;
        }
        self.full_at.store(start + count.saturating_mul(self.cost_ns), Relaxed);
        true
    }
}

/// An admitted source address.
#[derive(Debug)]
pub(super) struct Source {
    /// The address.
    pub addr: SocketAddr,
    /// Whom it belongs to.
    pub class: Class,
    /// Which of the gateway's listening addresses it talks to: answers leave from there.
    pub listener: usize,
    /// When something last came from it, in milliseconds since the forwarder started.
    pub last_seen_ms: AtomicU64,
    /// Whether what is sent there is probably lost: it says that it does not hear this gateway, or is silent.
    pub doubtful: AtomicBool,
    pub(super) packets: Rate,
    pub(super) handshakes: Rate,
    pub(super) probes: Rate,
}

impl Source {
    pub(super) fn new(
        addr: SocketAddr,
        class: Class,
        listener: usize,
        now_ms: u64,
        limits: &SourceLimits,
    ) -> Self {
        let (packets, handshakes) = match class {
            Class::Workload(_) => (limits.workload_packets, limits.workload_handshakes),
            Class::Sibling(_) | Class::Link(..) => (limits.gateway_packets, limits.gateway_handshakes),
            Class::Control => (limits.gateway_packets, limits.stranger_handshakes),
        };
        Self {
            addr,
            class,
            listener,
            last_seen_ms: AtomicU64::new(now_ms),
            doubtful: AtomicBool::new(false),
            packets: Rate::new(packets),
            handshakes: Rate::new(handshakes),
            probes: Rate::new(PROBES),
        }
    }
}

/// Rates for source addresses that are not admitted, kept per hash of the IP address: memory is fixed, whoever sends.
#[derive(Debug)]
pub(super) struct Strangers {
    seed: u64,
    cells: Box<[(Rate, Rate)]>,
}

impl Strangers {
    const CELLS: usize = 1024;

    pub(super) fn new(seed: u64, limits: &SourceLimits) -> Self {
        let cell = |_| (Rate::new(limits.stranger_packets), Rate::new(limits.stranger_handshakes));
        Self { seed, cells: (0..Self::CELLS).map(cell).collect() }
    }

    /// The packet and the handshake rate for `addr`.
    pub(super) fn rates(&self, addr: SocketAddr) -> &(Rate, Rate) {
        let ip = addr.ip().to_canonical();
        let key = match ip {
            std::net::IpAddr::V4(v4) => u64::from(v4.to_bits()),
            // the network part: one host has a whole /64
            std::net::IpAddr::V6(v6) => u64::try_from(v6.to_bits() >> 64).unwrap_or(0),
        };
        let hash = causeway_wire::cid::rendezvous(self.seed, key);
        let index = usize::try_from(hash % self.cells.len() as u64).unwrap_or(0);
        &self.cells[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_passes_its_burst_and_then_its_rate() {
        let rate = Rate::new(100);
        let second = 1_000_000_000;
        let start = 5 * second;
        let burst = (0..1000).take_while(|_| rate.take(start, 1)).count();
        assert!((25..=27).contains(&burst), "{burst}");
        let later = (1..=1000).filter(|i| rate.take(start + i * second / 1000, 1)).count();
        assert!((98..=102).contains(&later), "{later}");
    }

    #[test]
    fn strangers_of_one_network_share_a_rate() {
        let strangers = Strangers::new(7, &SourceLimits::default());
        let [a, b, c] = ["10.0.0.1:1", "10.0.0.1:2", "10.0.0.2:1"].map(|s| s.parse().unwrap());
        assert!(std::ptr::eq(strangers.rates(a), strangers.rates(b)));
        assert!(!std::ptr::eq(strangers.rates(a), strangers.rates(c)));
        let [d, e] = ["[2001:db8::1]:1", "[2001:db8::2]:9"].map(|s| s.parse().unwrap());
        assert!(std::ptr::eq(strangers.rates(d), strangers.rates(e)));
    }
}
