//! What a workload costs in memory, in a replica of its gateway's table.

#![allow(clippy::unwrap_used, reason = "test code outside test functions")]

mod counting;

use causeway_model::{Health, Locality, NodeId, PortSet, Protocol, ServicePort, WorkloadId};
use causeway_presence::{Incarnation, Message, Presence, PresenceConfig, Row, RowChange, ServedService};
use std::sync::Arc;
use std::time::Instant;

const WORKLOADS: u64 = 100_000;
/// Bytes, as asked of the allocator.
const MOST: usize = 600;

/// A row whose names are its own, as decoding makes it. Ids are random, so they come in no order.
fn row(number: u64) -> Row {
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
        weight: 100,
        overlay: vec!["192.0.2.1:7000".parse().unwrap()],
        release: "0.1.0".into(),
        svid_key: [7; 32],
        older_keys: Box::default(),
        seq: number,
        attached: true,
    }
}

#[test]
fn a_row_of_a_sibling_takes_a_few_hundred_bytes() {
    let (start, sibling, incarnation) = (Instant::now(), NodeId(2), Incarnation(1));
    let mut core = Presence::new(NodeId(1), Incarnation(1), PresenceConfig::default(), start);
    core.handle_peer_up(start, sibling);
    let before = counting::live();
    let rows = Message::MAX_ROWS as u64;
    for from in (0..WORKLOADS).step_by(Message::MAX_ROWS) {
        let to = WORKLOADS.min(from + rows);
        let changes = (from + 1..=to).map(|number| RowChange::Up(Arc::new(row(number)))).collect();
        core.handle_message(start, sibling, Message::Deltas { incarnation, from, to, changes }).unwrap();
        while core.poll_event().is_some() {}
    }
    assert_eq!(core.workload_count() as u64, WORKLOADS);
    let each = (counting::live() - before) / core.workload_count();
    println!("{each} bytes for each of {WORKLOADS} workloads");
    assert!(each < MOST, "{each} bytes a workload");
}
