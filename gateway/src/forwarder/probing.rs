//! Probes: answering those of sidecars and gateways, and sending those of this gateway to others.
//!
//! Each forwarder thread probes every other gateway from its own source port, and decides for that port alone whether the
//! path lives: no thread waits for another.

use super::counters::{DropReason, Tally};
use super::source::Class;
use super::tables::Tables;
use super::target::{IN_USE_MS, LinkSockets, Target};
use causeway_model::{NodeId, WorkloadId};
use causeway_transport::path::{PathState, ProbeTiming};
use causeway_wire::mac_tag;
use causeway_wire::probe::{self, Answer, PROBE_LEN, Probe, ProbeScope, ResponderState};
use rustc_hash::FxHashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// What a checked probe says.
pub(super) struct Checked {
    /// The answer to send.
    pub(super) answer: [u8; PROBE_LEN],
    /// Who sent it.
    pub(super) class: Class,
    /// Whether it echoed the cookie: its source address is its own.
    pub(super) echoed: bool,
    /// Whether it says that it does not hear this gateway.
    pub(super) deaf: bool,
}

/// Checks a probe from `from`; `None` when it is malformed, of nobody known, or its tag is wrong.
pub(super) fn check(
    tables: &Tables,
    cookie_secret: &[u8; 32],
    datagram: &[u8; PROBE_LEN],
    from: SocketAddr,
    interval_ms: u32,
) -> Option<Checked> {
    let probe = Probe::decode(datagram)?;
    let (class, key) = sender(tables, &probe)?;
    if !probe::verify(datagram, &key) {
        return None;
    }
    let cookie = cookie(cookie_secret, from, &probe);
    let state =
        if tables.ready && !tables.draining { ResponderState::Ready } else { ResponderState::NotReady };
    let answer =
        Answer { scope: probe.scope, state, interval_ms, responder: tables.node.0, seq: probe.seq, cookie };
    Some(Checked { answer: answer.encode(&key), class, echoed: probe.cookie == cookie, deaf: probe.deaf })
}

fn sender(tables: &Tables, probe: &Probe) -> Option<(Class, [u8; 32])> {
    match probe.scope {
        ProbeScope::Workload if probe.cluster == tables.cluster => {
            let workload = WorkloadId(probe.sender);
            let key = probe::workload_key(tables.probe_key(probe.epoch_bits)?, workload);
            Some((Class::Workload(workload), key))
        }
        ProbeScope::Sibling if probe.cluster == tables.cluster => {
            let node = NodeId(probe.sender);
            Some((Class::Sibling(node), probe::gateway_key(tables.probe_key(probe.epoch_bits)?, node)))
        }
        ProbeScope::Link => {
            let (cluster, node) = (probe.cluster, NodeId(probe.sender));
            let (key, nodes) = tables.link_keys.get(&cluster)?;
            nodes.contains(&node).then(|| (Class::Link(cluster, node), probe::link_key(key, cluster, node)))
        }
        _ => None,
    }
}

fn cookie(secret: &[u8; 32], from: SocketAddr, probe: &Probe) -> [u8; 16] {
    let ip = match from.ip().to_canonical() {
        std::net::IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        std::net::IpAddr::V6(v6) => v6.octets(),
    };
    let scope = [u8::from(probe.scope == ProbeScope::Workload), u8::from(probe.scope == ProbeScope::Link)];
    let parts: [&[u8]; 5] = [
        &ip,
        &from.port().to_be_bytes(),
        &probe.sender.to_be_bytes(),
        &probe.cluster.get().to_be_bytes(),
        &scope,
    ];
    let mut cookie = [0; 16];
    cookie.copy_from_slice(&mac_tag(secret, &parts)[..16]);
    cookie
}

/// How often probes are answered, and the interval that is asked for so that they stay under 5 % of a core.
pub(super) struct Pace {
    window_start_ms: u64,
    answered: u64,
    asked_ms: u64,
}

impl Pace {
    /// Answers a second that cost 5 % of a core, at 3 microseconds each.
    const LIMIT: u64 = 16_000;
    const FAST_MS: u64 = 20;
    const SLOW_MS: u64 = 500;

    pub(super) fn new() -> Self {
        Self { window_start_ms: 0, answered: 0, asked_ms: Self::FAST_MS }
    }

    /// The interval to ask for, in milliseconds; 0 when the sender may choose.
    pub(super) fn interval(&self) -> u32 {
        if self.asked_ms <= Self::FAST_MS { 0 } else { u32::try_from(self.asked_ms).unwrap_or(0) }
    }

    /// Counts an answer to a probe whose sender is known and at its own address: nobody else can slow the others down.
    pub(super) fn count(&mut self, now_ms: u64) {
        self.answered += 1;
        let elapsed = now_ms.saturating_sub(self.window_start_ms);
        if elapsed >= 1000 {
            let rate = self.answered * 1000 / elapsed;
            self.asked_ms = (self.asked_ms * rate / Self::LIMIT).clamp(Self::FAST_MS, Self::SLOW_MS);
            (self.window_start_ms, self.answered) = (now_ms, 0);
        }
    }
}

/// One thread's probes to other gateways.
pub(super) struct Probing {
    port: usize,
    states: FxHashMap<(Class, SocketAddr), (Arc<Target>, PathState)>,
}

impl Probing {
    pub(super) fn new(port: usize) -> Self {
        Self { port, states: FxHashMap::default() }
    }

    /// Follows a change of the tables.
    pub(super) fn follow(&mut self, tables: &Tables) {
        self.states.retain(|_, (target, _)| tables.targets.iter().any(|t| Arc::ptr_eq(t, target)));
        for target in &tables.targets {
            let fresh = || (target.clone(), PathState::new(ProbeTiming::default()));
            self.states.entry((target.class, target.addr)).or_insert_with(fresh);
        }
    }

    /// Sends the probes that are due and counts those that were missed; returns when to call again.
    pub(super) fn run(
        &mut self,
        tables: &Tables,
        links: &LinkSockets,
        now: Instant,
        now_ms: u64,
        tally: &mut Tally,
    ) -> Duration {
        let mut wait = Duration::from_millis(50);
        for (target, state) in self.states.values_mut() {
            let Some(path) = target.ports.get(self.port) else { continue };
            if state.on_timeout(now).is_some() {
                path.alive.store(state.is_alive(), Relaxed);
            }
            path.missed.store(state.missed(), Relaxed);
            let in_use = now_ms.saturating_sub(path.last_sent_ms.load(Relaxed)) < IN_USE_MS;
            if let Some(seq) = state.poll_probe(now, in_use) {
                tally.probes_sent += 1;
                send_probe(tables, links, target, self.port, seq, state.cookie(), in_use);
            }
            let due = state.next_due(in_use).into_iter().chain(state.next_timeout()).min();
            if let Some(due) = due {
                wait = wait.min(due.saturating_duration_since(now));
            }
        }
        wait
    }

    /// Takes an answer that arrived on this thread's source port.
    pub(super) fn on_answer(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &[u8; PROBE_LEN],
    ) -> Result<(), DropReason> {
        let answer = Answer::decode(datagram).ok_or(DropReason::BadProbe)?;
        let from_target = |(target, _): &&mut (Arc<Target>, PathState)| {
            target.addr == from && target.node().0 == answer.responder && probe::verify(datagram, &target.key)
        };
        let (target, state) = self.states.values_mut().find(from_target).ok_or(DropReason::BadProbe)?;
        let _ = state.on_answer(now, answer.seq, answer.state, answer.interval_ms, answer.cookie);
        if let Some(path) = target.ports.get(self.port) {
            path.alive.store(state.is_alive(), Relaxed);
            let srtt = state.srtt().map_or(0, |srtt| u32::try_from(srtt.as_micros()).unwrap_or(u32::MAX));
            path.srtt_us.store(srtt, Relaxed);
        }
        Ok(())
    }
}

fn send_probe(
    tables: &Tables,
    links: &LinkSockets,
    target: &Target,
    port: usize,
    seq: u64,
    cookie: [u8; 16],
    in_use: bool,
) {
    let scope = if target.cluster().is_some() { ProbeScope::Link } else { ProbeScope::Sibling };
    let (cluster, sender) = (tables.cluster, tables.node.0);
    let probe =
        Probe { scope, epoch_bits: target.epoch_bits, cluster, sender, seq, cookie, in_use, deaf: false };
    let socket = links.family(target.addr).and_then(|family| links.sockets.get(port)?.get(family));
    if let Some(socket) = socket {
        // a probe that cannot be sent is a probe that is not answered
        let _ = socket.send_to(&probe.encode(&target.key), target.addr);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linked_cluster_may_probe_as_its_known_gateways_only() {
        use super::super::source::SourceLimits;
        use super::super::tables::{Fixed, Inputs, LinkRoute};
        use causeway_model::ClusterId;
        let [own, peer] = [1, 2].map(|id| ClusterId::new(id).unwrap());
        let fixed = Fixed { cluster: own, node: NodeId(1), ports: 1, limits: SourceLimits::default() };
        let mut inputs = Inputs::new(&fixed);
        let nodes = [NodeId(7)].into_iter().collect();
        let link = LinkRoute { key: [5; 32], gateways: Vec::new(), nodes };
        inputs.set_gateways([(peer, link)].into_iter().collect(), FxHashMap::default());
        let tables = Tables::build(&fixed, &inputs, None);
        let from = "127.0.0.1:9".parse().unwrap();
        let probe = |node: u64, cookie| {
            let scope = ProbeScope::Link;
            let probe = Probe {
                scope,
                epoch_bits: 0,
                cluster: peer,
                sender: node,
                seq: 1,
                cookie,
                in_use: true,
                deaf: false,
            };
            probe.encode(&probe::link_key(&[5; 32], peer, NodeId(node)))
        };
        let first = check(&tables, &[3; 32], &probe(7, [0; 16]), from, 0).unwrap();
        assert!(!first.echoed, "nobody is admitted before the cookie came back");
        let answer = Answer::decode(&first.answer).unwrap();
        assert_eq!(answer.state, ResponderState::NotReady);
        let second = check(&tables, &[3; 32], &probe(7, answer.cookie), from, 0).unwrap();
        assert!(second.echoed);
        let elsewhere =
            check(&tables, &[3; 32], &probe(7, answer.cookie), "127.0.0.1:10".parse().unwrap(), 0).unwrap();
        assert!(!elsewhere.echoed, "a cookie is worth nothing from another address");
        assert!(check(&tables, &[3; 32], &probe(8, [0; 16]), from, 0).is_none(), "no such gateway");
        let mut forged = probe(7, answer.cookie);
        forged[20] ^= 1;
        assert!(check(&tables, &[3; 32], &forged, from, 0).is_none(), "a tag that is wrong");
    }

    #[test]
    fn the_interval_grows_with_the_load_of_probes_and_shrinks_again() {
        let mut pace = Pace::new();
        let mut asked = 0;
        for i in 0..64_000u64 {
            pace.count(i / 32);
            asked = pace.interval();
        }
        assert!((35..=45).contains(&asked), "32,000 a second are twice the limit: {asked}");
        for i in 0..100u64 {
            pace.count(3000 + i * 100);
            asked = pace.interval();
        }
        assert_eq!(asked, 0);
    }
}
