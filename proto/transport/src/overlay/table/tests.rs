//! Where packets go, as a table of cases.

use super::*;
use crate::Attachment;
use causeway_model::{ClusterId, Epoch, ServiceHandle};
use causeway_wire::CidKeys;
use causeway_wire::probe::{Answer, ProbeScope, ResponderState};
use std::time::Instant;

fn addr(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn cluster(id: u32) -> ClusterId {
    ClusterId::new(id).unwrap()
}

fn keys() -> CidKeys {
    CidKeys::new(cluster(1), [(Epoch(1), [1; 16])])
}

fn target(node: u64, ports: &[u16]) -> GatewayTarget {
    GatewayTarget { node: NodeId(node), addrs: ports.iter().map(|&port| addr(port)).collect() }
}

fn table(targets: &[GatewayTarget]) -> Table {
    let attachment = Attachment {
        cluster: cluster(1),
        workload: WorkloadId(7),
        cid_keys: keys(),
        probe_key: [0; 32],
        probe_epoch_bits: 0,
    };
    let attached = Arc::new(Attached { attachment, key: [0; 32] });
    Table::default().with_attached(attached).with_gateways(targets.to_vec(), false)
}

fn revive(link: &Link) {
    let seq = link.step(|path| path.poll_probe(Instant::now(), true)).unwrap();
    let answer = Answer {
        scope: ProbeScope::Workload,
        state: ResponderState::Ready,
        interval_ms: 0,
        responder: 0,
        seq,
        cookie: [0; 16],
    };
    link.answer(Instant::now(), 1, &answer);
    assert!(link.is_alive());
}

fn port(table: &Table, cid: Cid) -> Option<u16> {
    table.route(&cid).map(|link| link.addr.port())
}

fn service(random: u64) -> Cid {
    Cid::service(cluster(2), ServiceHandle(5), random)
}

#[test]
fn connections_spread_over_the_gateways_that_answer() {
    let table = table(&[target(1, &[1]), target(2, &[2]), target(3, &[3])]);
    let count = |table: &Table| {
        let mut counts = [0; 4];
        for random in 0..3000 {
            counts[usize::from(port(table, service(random)).unwrap())] += 1;
        }
        counts
    };
    // none answers: all are tried
    assert!(count(&table)[1..].iter().all(|&count| count > 900), "{:?}", count(&table));
    revive(&table.gateways[0].links[0]);
    assert_eq!(count(&table), [0, 3000, 0, 0]);
    revive(&table.gateways[2].links[0]);
    let counts = count(&table);
    assert!(counts[2] == 0 && counts[1] > 1400 && counts[3] > 1400, "{counts:?}");
    assert_eq!(port(&Table::default(), service(1)), None);
    assert_eq!(port(&table, Cid([0; 20])), None);
}

#[test]
fn a_gateway_id_goes_to_its_gateway_if_that_answers() {
    let table = table(&[target(1, &[1]), target(2, &[2])]);
    let ids = |node| (0..64).map(move |random| Cid::gateway(cluster(1), NodeId(node), random));
    revive(&table.gateways[0].links[0]);
    assert!(ids(2).all(|cid| port(&table, cid) == Some(1)));
    revive(&table.gateways[1].links[0]);
    assert!(ids(2).all(|cid| port(&table, cid) == Some(2)));
    // another cluster's gateway, and any gateway, go by the hash
    assert!(ids(0).any(|cid| port(&table, cid) == Some(1)));
    assert!(ids(0).any(|cid| port(&table, cid) == Some(2)));
    let foreign = |random| Cid::gateway(cluster(2), NodeId(2), random);
    assert!((0..64).any(|random| port(&table, foreign(random)) == Some(1)));
}

#[test]
fn the_first_address_that_answers_is_used() {
    let table = table(&[target(1, &[1, 2, 3])]);
    assert_eq!(port(&table, service(1)), Some(1));
    revive(&table.gateways[0].links[2]);
    assert_eq!(port(&table, service(1)), Some(3));
    revive(&table.gateways[0].links[1]);
    assert_eq!(port(&table, service(1)), Some(2));
}

#[test]
fn a_direct_address_is_used_once_it_answers() {
    let table = table(&[target(1, &[1])]).with_direct(WorkloadId(9), addr(9), [3; 32], false);
    let cid = keys().mint(WorkloadId(9), 4).unwrap();
    revive(&table.gateways[0].links[0]);
    assert_eq!(port(&table, cid), Some(1));
    revive(&table.direct[&WorkloadId(9)]);
    assert_eq!(port(&table, cid), Some(9));
    assert_eq!(port(&table, keys().mint(WorkloadId(8), 4).unwrap()), Some(1));
    assert!(table.source(&addr(9)).is_some_and(|link| link.is_direct()));
    // the same again keeps what is known, another key starts over
    let same = table.with_direct(WorkloadId(9), addr(9), [3; 32], false);
    assert!(same.direct[&WorkloadId(9)].is_alive());
    let other = table.with_direct(WorkloadId(9), addr(9), [4; 32], false);
    assert!(!other.direct[&WorkloadId(9)].is_alive());
    let gone = table.without_direct(WorkloadId(9));
    assert_eq!((port(&gone, cid), gone.source(&addr(9)).is_none()), (Some(1), true));
    // an address that the socket cannot reach ends the old one
    let unreachable = table.with_direct(WorkloadId(9), "[::1]:9".parse().unwrap(), [3; 32], false);
    assert_eq!(port(&unreachable, cid), Some(1));
}

#[test]
fn gateways_that_stay_keep_their_state_and_the_list_is_bounded() {
    let first = table(&[target(1, &[1]), target(2, &[2])]);
    revive(&first.gateways[1].links[0]);
    let next = first.with_gateways(vec![target(2, &[2, 4]), target(3, &[2]), target(4, &[])], false);
    assert_eq!(next.gateways.len(), 1);
    assert!(next.gateways[0].links[0].is_alive() && !next.gateways[0].links[1].is_alive());
    assert!(next.source(&addr(1)).is_none() && next.source(&addr(4)).is_some());
    let many: Vec<_> =
        (0..100u16).map(|n| target(n.into(), &[n * 8, n * 8 + 1, n * 8 + 2, n * 8 + 3, n * 8 + 4])).collect();
    let bounded = next.with_gateways(many, false);
    assert_eq!(bounded.gateways.len(), MAX_GATEWAYS);
    assert!(bounded.gateways.iter().all(|gateway| gateway.links.len() == MAX_ADDRESSES));
}
