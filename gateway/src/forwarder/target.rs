//! Other gateways that packets are sent to, and which of the paths to them live.

use super::source::Class;
use causeway_model::{ClusterId, NodeId};
use causeway_transport::forward::ForwardSocket;
use causeway_wire::cid::rendezvous;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

/// A gateway is probed fast while packets went to it within this time, in milliseconds.
pub(super) const IN_USE_MS: u64 = 100;

/// The path from one source port of this gateway to another gateway.
#[derive(Debug, Default)]
pub(super) struct PortPath {
    /// Whether it answers probes and takes packets.
    pub alive: AtomicBool,
    /// Its smoothed round-trip time in microseconds, 0 before the first answer.
    pub srtt_us: AtomicU32,
    /// When a packet last left on it, in milliseconds since the forwarder started.
    pub last_sent_ms: AtomicU64,
    /// Probes that were not answered in time.
    pub missed: AtomicU64,
}

/// A gateway of this cluster or of a linked one.
#[derive(Debug)]
pub(super) struct Target {
    /// Which gateway: [`Class::Sibling`] or [`Class::Link`].
    pub class: Class,
    /// Its address.
    pub addr: SocketAddr,
    /// The key of the probes to it.
    pub(super) key: [u8; 32],
    /// The low bits of that key's epoch.
    pub(super) epoch_bits: u8,
    /// One path for each source port, that is for each thread.
    pub ports: Box<[PortPath]>,
}

impl Target {
    pub(super) fn new(class: Class, addr: SocketAddr, key: [u8; 32], epoch_bits: u8, ports: usize) -> Self {
        Self { class, addr, key, epoch_bits, ports: (0..ports).map(|_| PortPath::default()).collect() }
    }

    /// The gateway's node id.
    pub(super) fn node(&self) -> NodeId {
        match self.class {
            Class::Sibling(node) | Class::Link(_, node) => node,
            Class::Workload(_) | Class::Control => NodeId::ANY,
        }
    }

    /// The cluster, for a gateway of a linked one.
    pub(super) fn cluster(&self) -> Option<ClusterId> {
        match self.class {
            Class::Link(cluster, _) => Some(cluster),
            _ => None,
        }
    }

    /// Whether any path to it lives.
    pub(super) fn is_alive(&self) -> bool {
        self.ports.iter().any(|port| port.alive.load(Relaxed))
    }
}

/// A target and the source port that a packet leaves from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path<'a> {
    pub(super) target: &'a Arc<Target>,
    pub(super) port: usize,
}

impl PartialEq for Path<'_> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(self.target, other.target) && self.port == other.port
    }
}

/// The path for `key` among `targets`: of the source port that the key falls on, the live gateway with the greatest
/// rendezvous weight; when none answers on that port, one that answers on another.
pub(super) fn choose(targets: &[Arc<Target>], key: u64, ports: usize) -> Option<Path<'_>> {
    let ports = ports.max(1);
    let first = usize::try_from((key >> 32) % ports as u64).unwrap_or(0);
    (0..ports).map(|step| (first + step) % ports).find_map(|port| {
        targets
            .iter()
            .filter(|target| target.ports.get(port).is_some_and(|path| path.alive.load(Relaxed)))
            .max_by_key(|target| rendezvous(key, target.node().0))
            .map(|target| Path { target, port })
    })
}

/// The sockets that packets to other gateways leave from: one for each thread and listening address.
#[derive(Debug)]
pub(super) struct LinkSockets {
    /// `[thread][listening address]`
    pub(super) sockets: Vec<Vec<Arc<ForwardSocket>>>,
}

impl LinkSockets {
    /// Which listening address's sockets reach `addr`.
    pub(super) fn family(&self, addr: SocketAddr) -> Option<usize> {
        self.sockets.first()?.iter().position(|socket| socket.reaches(addr))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(node: u64) -> Arc<Target> {
        let cluster = ClusterId::new(1).unwrap();
        Arc::new(Target::new(
            Class::Link(cluster, NodeId(node)),
            "127.0.0.1:1".parse().unwrap(),
            [0; 32],
            0,
            2,
        ))
    }

    #[test]
    fn connections_spread_over_live_gateways_and_ports_and_only_those_of_a_dead_one_move() {
        let targets = [target(1), target(2), target(3)];
        assert!(choose(&targets, 1, 2).is_none(), "nobody has answered yet");
        for path in targets.iter().flat_map(|t| &t.ports) {
            path.alive.store(true, Relaxed);
        }
        let pick = |key: u64| {
            let path = choose(&targets, causeway_wire::cid::mix(key), 2).unwrap();
            (path.target.node().0, path.port)
        };
        let before: Vec<_> = (0..6000).map(pick).collect();
        for node in 1..=3 {
            for port in 0..2 {
                let share = before.iter().filter(|&&p| p == (node, port)).count();
                assert!((850..1150).contains(&share), "{node} {port}: {share}");
            }
        }
        for path in &targets[1].ports {
            path.alive.store(false, Relaxed);
        }
        let after: Vec<_> = (0..6000).map(pick).collect();
        for (before, after) in before.iter().zip(&after) {
            assert!(after.0 != 2 && (before.0 == 2 || before == after), "{before:?} -> {after:?}");
        }
    }

    #[test]
    fn a_gateway_that_answers_on_one_port_only_is_used_from_there() {
        let targets = [target(1)];
        targets[0].ports[1].alive.store(true, Relaxed);
        for key in 0..64 {
            assert_eq!(choose(&targets, causeway_wire::cid::mix(key), 2).unwrap().port, 1);
        }
    }
}
