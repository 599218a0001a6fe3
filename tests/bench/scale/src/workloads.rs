//! The core that knows who is alive: a gateway with many workloads, and another one that learns of them.

use crate::args::Args;
use crate::figures::Figures;
use crate::{memory, process};
use causeway_model::{Health, Locality, NodeId, PortSet, Protocol, ServicePort, WorkloadId};
use causeway_presence::{Incarnation, Message, Presence, PresenceConfig, Row, RowChange, ServedService};
use causeway_wire::codec::{from_slice, to_vec};
use std::time::{Duration, Instant};

const OWNER: NodeId = NodeId(1);
const OTHER: NodeId = NodeId(2);

/// A row whose names are its own, as decoding makes it. Ids are random, so they come in no order.
fn row(number: u64, weight: u16) -> Row {
    let port = ServicePort { port: 80, protocol: Protocol::Http };
    let served = ServedService {
        name: format!("payments.shop{}", number % 100).parse().unwrap(),
        ports: PortSet::try_from(vec![port]).unwrap(),
        health: Health::Healthy,
    };
    let id = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Row {
        workload: WorkloadId(id ^ (id >> 29)),
        identity: format!("spiffe://iad.mesh/ns/shop{}/sa/payments", number % 100).parse().unwrap(),
        services: vec![served],
        locality: Locality { region: "us-ashburn-1".into(), zone: "AD-1".into() },
        weight,
        overlay: vec!["192.0.2.1:7000".parse().unwrap()],
        release: "0.1.0".into(),
        svid_key: [7; 32],
        older_keys: Box::default(),
        seq: 0,
        attached: true,
    }
}

/// Two gateways and the wire between them.
struct Pair {
    now: Instant,
    owner: Presence,
    other: Presence,
    bytes: usize,
    messages: u64,
}

/// Measures a cold sync and a repair of everything.
pub(crate) fn run(args: &Args, figures: &mut Figures) {
    let now = Instant::now();
    // the sidecars of this test do not probe
    let config = || PresenceConfig { lease: Duration::from_secs(86_400), ..PresenceConfig::default() };
    let core = |node| Presence::new(node, Incarnation(1), config(), now);
    let mut pair = Pair { now, owner: core(OWNER), other: core(OTHER), bytes: 0, messages: 0 };
    let (count, of) = (args.workloads as f64, args.workloads);
    let before = memory::in_use();
    for number in 1..=args.workloads {
        pair.owner.handle_attach(now, row(number, 100)).unwrap();
        while pair.owner.poll_event().is_some() {}
    }
    figures.note(
        format!("{of} workloads: allocated for each, their own gateway"),
        (memory::in_use() - before) as f64 / count,
        "bytes",
    );

    let (before, resident) = (memory::in_use(), process::resident(std::process::id()));
    let begun = process::thread_worked();
    pair.owner.handle_peer_up(now, OTHER);
    pair.other.handle_peer_up(now, OWNER);
    pair.pump();
    let synced = process::thread_worked() - begun;
    assert_eq!(pair.other.workload_count() as u64, args.workloads);
    figures.note(
        format!("{of} workloads: allocated for each, another gateway"),
        (memory::in_use() - before) as f64 / count,
        "bytes",
    );
    let resident = (process::resident(std::process::id()) - resident) / count;
    figures.note(format!("{of} workloads: resident for each, another gateway"), resident, "bytes");
    figures.note(
        format!("{of} workloads: CPU time of a cold sync, both gateways"),
        synced.as_secs_f64(),
        "s",
    );
    figures.note(
        format!("{of} workloads: a workload in a cold sync, on the wire"),
        pair.bytes as f64 / count,
        "bytes",
    );
    figures.note(format!("{of} workloads: messages of a cold sync"), pair.messages as f64, "");
    repair(&mut pair, args, figures);
}

/// The other gateway is told something wrong, and finds out by the next digest.
fn repair(pair: &mut Pair, args: &Args, figures: &mut Figures) {
    let of = args.workloads;
    pair.owner.handle_attach(pair.now, row(1, 7)).unwrap();
    pair.now += PresenceConfig::default().delta_interval;
    pair.owner.handle_timeout(pair.now);
    let Some(Message::Deltas { incarnation, from, to, changes }) = pair.owner.poll_transmit_to(OTHER) else {
        panic!("a change is told");
    };
    let wrong = RowChange::Gone { workload: row(2, 0).workload, seq: changes[0].seq() };
    pair.other
        .handle_message(pair.now, OWNER, Message::Deltas { incarnation, from, to, changes: vec![wrong] })
        .unwrap();
    assert_eq!(pair.other.workload_count() as u64, of - 1);
    (pair.bytes, pair.messages) = (0, 0);
    let begun = process::thread_worked();
    let mut steps = 0;
    while pair.other.workload_count() as u64 != of {
        pair.now += Duration::from_millis(100);
        pair.owner.handle_timeout(pair.now);
        pair.other.handle_timeout(pair.now);
        pair.pump();
        steps += 1;
        assert!(steps < 100, "the other gateway does not find out");
    }
    let took = process::thread_worked() - begun;
    figures.note(
        format!("{of} workloads: CPU time of a repair of everything, both gateways"),
        took.as_secs_f64(),
        "s",
    );
    figures.note(
        format!("{of} workloads: a repair of everything, on the wire"),
        pair.bytes as f64 / 1e6,
        "MB",
    );
    figures.note("found out after at most", f64::from(steps) * 0.1, "s");
}

impl Pair {
    /// Carries what they say, as bytes, until both are silent.
    fn pump(&mut self) {
        loop {
            let (said, answered) = (self.owner.poll_transmit_to(OTHER), self.other.poll_transmit_to(OWNER));
            if said.is_none() && answered.is_none() {
                return;
            }
            if let Some(message) = said {
                let message = self.carry(&message);
                self.other.handle_message(self.now, OWNER, message).unwrap();
            }
            if let Some(message) = answered {
                let message = self.carry(&message);
                self.owner.handle_message(self.now, OTHER, message).unwrap();
            }
            while self.owner.poll_event().is_some() {}
            while self.other.poll_event().is_some() {}
        }
    }

    fn carry(&mut self, message: &Message) -> Message {
        let bytes = to_vec(message).unwrap();
        self.bytes += bytes.len();
        self.messages += 1;
        from_slice(&bytes).unwrap()
    }
}
