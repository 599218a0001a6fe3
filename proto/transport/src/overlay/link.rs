//! One way to send packets: an address of a gateway, or of a direct peer, with the state of its probes.

use super::{Attached, GatewayStatus};
use crate::path::{PathState, ProbeTiming, Transition};
use causeway_model::{NodeId, WorkloadId};
use causeway_wire::probe::{Answer, Probe, ProbeScope};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A link counts as in use this long after a packet, in milliseconds: some round trips, so that a request and its answer's
/// acknowledgement are one use.
const IN_USE_MS: u64 = 100;
/// The interval of probes to direct peers that no packets go to: a sidecar may have a thousand of them, and the start of use
/// probes at once.
const DIRECT_SLOW: Duration = Duration::from_secs(2);

/// Who is at the other end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    Gateway,
    Direct { workload: WorkloadId, key: [u8; 32] },
}

pub(super) struct Link {
    pub(super) peer: Peer,
    /// In the form of the socket's family.
    pub(super) addr: SocketAddr,
    path: Mutex<PathState>,
    /// What `path` says, for the senders, who take no lock.
    alive: AtomicBool,
    /// When a packet was sent last, on [`super::Inner::clock`]; 0 is never.
    last_sent: AtomicU64,
    /// When an answer came last, likewise.
    last_answer: AtomicU64,
}

impl Link {
    pub(super) fn new(peer: Peer, addr: SocketAddr) -> Self {
        let mut timing = ProbeTiming::default();
        if matches!(peer, Peer::Direct { .. }) {
            timing.slow = DIRECT_SLOW;
        }
        Self {
            peer,
            addr,
            path: Mutex::new(PathState::new(timing)),
            alive: AtomicBool::new(false),
            last_sent: AtomicU64::new(0),
            last_answer: AtomicU64::new(0),
        }
    }

    #[inline]
    pub(super) fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Relaxed)
    }

    pub(super) fn is_direct(&self) -> bool {
        matches!(self.peer, Peer::Direct { .. })
    }

    /// For logs.
    pub(super) fn peer_name(&self) -> String {
        match self.peer {
            Peer::Gateway => "gateway".to_owned(),
            Peer::Direct { workload, .. } => format!("workload {workload}"),
        }
    }

    /// When it answered last, on the overlay's clock; 0 is never.
    pub(super) fn last_answer(&self) -> u64 {
        self.last_answer.load(Ordering::Relaxed)
    }

    /// Notes that a packet goes out; true when that begins a new use.
    #[inline]
    pub(super) fn touch(&self, clock: u64) -> bool {
        let last = self.last_sent.swap(clock, Ordering::Relaxed);
        last == 0 || clock.saturating_sub(last) > IN_USE_MS
    }

    pub(super) fn in_use(&self, clock: u64) -> bool {
        let last = self.last_sent.load(Ordering::Relaxed);
        last != 0 && clock.saturating_sub(last) <= IN_USE_MS
    }

    /// Runs `step` on the path state and publishes what comes out.
    pub(super) fn step<T>(&self, step: impl FnOnce(&mut PathState) -> T) -> T {
        let mut path = self.lock();
        let result = step(&mut path);
        self.alive.store(path.is_alive(), Ordering::Relaxed);
        result
    }

    /// The probe with sequence number `seq`, and the key of its tag.
    pub(super) fn probe(&self, attached: &Attached, seq: u64, in_use: bool) -> (Probe, [u8; 32]) {
        let attachment = &attached.attachment;
        let (scope, epoch_bits, key) = match self.peer {
            Peer::Gateway => (ProbeScope::Workload, attachment.probe_epoch_bits, attached.key),
            Peer::Direct { key, .. } => (ProbeScope::Direct, 0, key),
        };
        let (cookie, deaf) = {
            let path = self.lock();
            (path.cookie(), path.is_unanswered())
        };
        let (cluster, sender) = (attachment.cluster, attachment.workload.0);
        (Probe { scope, epoch_bits, cluster, sender, seq, cookie, in_use, deaf }, key)
    }

    /// Takes an answer whose tag was verified. Also says whether a probe is due at once.
    pub(super) fn answer(&self, now: Instant, clock: u64, answer: &Answer) -> (Option<Transition>, bool) {
        self.last_answer.store(clock, Ordering::Relaxed);
        self.step(|path| {
            let change = path.on_answer(now, answer.seq, answer.state, answer.interval_ms, answer.cookie);
            (change, path.next_due(false).is_none())
        })
    }

    pub(super) fn status(&self, node: NodeId) -> GatewayStatus {
        let path = self.lock();
        GatewayStatus {
            node,
            addr: SocketAddr::new(self.addr.ip().to_canonical(), self.addr.port()),
            alive: path.is_alive(),
            generation: path.generation(),
            srtt: path.srtt(),
            loss: path.loss(),
            last_answer: path.last_answer(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, PathState> {
        self.path.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_lasts_a_while_and_its_start_is_seen_once() {
        let link = Link::new(Peer::Gateway, "127.0.0.1:1".parse().unwrap());
        assert!(!link.in_use(1));
        assert!(link.touch(1));
        assert!(!link.touch(50) && link.in_use(150));
        assert!(!link.in_use(151) && link.touch(151));
    }
}
