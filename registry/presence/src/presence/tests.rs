use super::*;
use crate::row::tests::row;
use crate::{RowChange, TableDigest};
use proptest::prelude::*;
use std::sync::Arc;
use std::time::Duration;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn core(node: NodeId, now: Instant) -> Presence {
    Presence::new(node, Incarnation(1), PresenceConfig::default(), now)
}

/// Calls timeouts when they are due, as a driver does.
fn advance(core: &mut Presence, until: Instant) {
    while let Some(due) = core.poll_timeout().filter(|&due| due <= until) {
        core.handle_timeout(due);
    }
}

fn events(core: &mut Presence) -> Vec<Event> {
    std::iter::from_fn(|| core.poll_event()).collect()
}

fn of_workloads(core: &mut Presence) -> Vec<Event> {
    let mut events = events(core);
    events.retain(|event| !matches!(event, Event::ServiceChanged(_)));
    events
}

/// Carries messages between cores until none is left.
fn exchange(now: Instant, cores: &mut [&mut Presence]) {
    loop {
        let mut sent = Vec::new();
        for core in cores.iter_mut() {
            let from = core.node();
            sent.extend(std::iter::from_fn(|| core.poll_transmit()).map(|(to, message)| (from, to, message)));
        }
        if sent.is_empty() {
            return;
        }
        for (from, to, message) in sent {
            if let Some(core) = cores.iter_mut().find(|core| core.node() == to) {
                core.handle_message(now, from, message).unwrap();
            }
        }
    }
}

fn hello(incarnation: u64) -> Message {
    Message::Hello { incarnation: Incarnation(incarnation), version: 0, digest: TableDigest::default() }
}

fn deltas(incarnation: u64, from: u64, rows: Vec<Row>) -> Message {
    let to = from + rows.len() as u64;
    let number = |(i, row): (usize, Row)| RowChange::Up(Arc::new(Row { seq: from + 1 + i as u64, ..row }));
    let changes = rows.into_iter().enumerate().map(number).collect();
    Message::Deltas { incarnation: Incarnation(incarnation), from, to, changes }
}

fn heartbeat(incarnation: u64, version: u64) -> Message {
    Message::Heartbeat { incarnation: Incarnation(incarnation), version }
}

#[test]
fn a_silent_workload_is_gone_after_its_lease_and_a_heard_one_stays() {
    let start = Instant::now();
    let mut core = core(A, start);
    core.handle_attach(start, row(1, &["a.b"])).unwrap();
    core.handle_attach(start, row(2, &["a.b"])).unwrap();
    assert_eq!(of_workloads(&mut core), [Event::Up(WorkloadId(1)), Event::Up(WorkloadId(2))]);
    for step in 1..=10 {
        core.handle_seen(start + ms(150 * step), WorkloadId(1));
        advance(&mut core, start + ms(150 * step));
    }
    advance(&mut core, start + ms(1550));
    assert_eq!(of_workloads(&mut core), [Event::Gone(WorkloadId(2))]);
    assert!(core.is_alive(WorkloadId(1)));
    assert_eq!(core.counters().expired_leases, 1);
}

#[test]
fn a_lost_control_connection_is_no_loss_while_probes_come() {
    let start = Instant::now();
    let mut core = core(A, start);
    core.handle_attach(start, row(1, &["a.b"])).unwrap();
    core.handle_detach(start + ms(100), WorkloadId(1));
    assert!(!core.get(WorkloadId(1)).unwrap().row.attached);
    core.handle_seen(start + ms(1400), WorkloadId(1));
    advance(&mut core, start + ms(2800));
    assert!(core.is_alive(WorkloadId(1)));
    advance(&mut core, start + ms(2950));
    assert!(!core.is_alive(WorkloadId(1)));
}

#[test]
fn health_changes_the_counts_of_that_service_only() {
    let start = Instant::now();
    let (a_b, c_d): (ServiceName, ServiceName) = ("a.b".parse().unwrap(), "c.d".parse().unwrap());
    let mut core = core(A, start);
    core.handle_attach(start, row(1, &["a.b", "c.d"])).unwrap();
    events(&mut core);
    let later = start + ms(100);
    core.handle_health(later, WorkloadId(1), &a_b, Health::Unhealthy);
    core.handle_health(start, WorkloadId(1), &"e.f".parse().unwrap(), Health::Unhealthy);
    core.handle_health(start, WorkloadId(9), &a_b, Health::Unhealthy);
    assert_eq!(events(&mut core), [Event::Changed(WorkloadId(1)), Event::ServiceChanged(a_b.clone())]);
    assert_eq!((core.counts(&a_b), core.counts(&c_d)), ((0, 1), (1, 1)));
    core.handle_health(start, WorkloadId(1), &a_b, Health::Unhealthy);
    assert_eq!((events(&mut core), core.version()), (vec![], 2));
}

#[test]
fn a_workload_that_moves_between_gateways_does_not_flap() {
    let start = Instant::now();
    let (mut a, mut b, mut c) = (core(A, start), core(B, start), core(C, start));
    for core in [&mut a, &mut b, &mut c] {
        [A, B, C].into_iter().for_each(|peer| core.handle_peer_up(start, peer));
    }
    a.handle_attach(start, row(1, &["a.b"])).unwrap();
    exchange(start, &mut [&mut a, &mut b, &mut c]);
    for core in [&mut a, &mut b, &mut c] {
        assert_eq!(of_workloads(core), [Event::Up(WorkloadId(1))]);
        assert_eq!(core.gateway_of(WorkloadId(1)), Some(A));
    }
    b.handle_attach(start, row(1, &["a.b"])).unwrap();
    exchange(start, &mut [&mut a, &mut b, &mut c]);
    let later = start + ms(10);
    a.handle_goodbye(later, WorkloadId(1));
    exchange(later, &mut [&mut a, &mut b, &mut c]);
    for core in [&mut a, &mut b, &mut c] {
        assert_eq!(events(core), [Event::Changed(WorkloadId(1))]);
        assert_eq!(core.gateway_of(WorkloadId(1)), Some(B));
        assert_eq!(core.counts(&"a.b".parse().unwrap()), (1, 1));
    }
}

#[test]
fn a_gateway_that_stood_still_does_not_declare_everyone_gone() {
    let start = Instant::now();
    let mut core = core(A, start);
    core.handle_attach(start, row(1, &["a.b"])).unwrap();
    core.handle_timeout(start + Duration::from_secs(10));
    assert!(core.is_alive(WorkloadId(1)));
    assert_eq!(core.counters().stalls, 1);
    // but only once in a while, or a slow driver would keep the dead alive
    core.handle_timeout(start + Duration::from_secs(14));
    assert!(!core.is_alive(WorkloadId(1)));
}

#[test]
fn a_dead_gateway_has_its_grace_and_a_removed_one_too() {
    let start = Instant::now();
    for removed in [false, true] {
        let mut core = core(A, start);
        core.handle_peer_up(start, B);
        core.handle_message(start, B, hello(1)).unwrap();
        core.handle_message(start, B, deltas(1, 0, vec![row(1, &["a.b"])])).unwrap();
        assert_eq!(core.gateway_of(WorkloadId(1)), Some(B));
        let dead = if removed {
            core.handle_peer_removed(start, B);
            start
        } else {
            core.handle_peer_down(start, B);
            advance(&mut core, start + ms(1499));
            assert!(core.get(WorkloadId(1)).unwrap().alive);
            start + ms(1500)
        };
        advance(&mut core, dead + ms(4999));
        let grace = core.get(WorkloadId(1)).unwrap();
        assert!(!grace.alive && core.is_alive(WorkloadId(1)));
        assert_eq!(core.counts(&"a.b".parse().unwrap()), (1, 1));
        advance(&mut core, dead + ms(5000));
        assert!(!core.is_alive(WorkloadId(1)));
        assert_eq!(core.peers().count(), usize::from(!removed));
        assert_eq!(core.handle_message(dead, B, heartbeat(1, 1)).is_err(), removed);
    }
}

#[test]
fn what_is_silent_together_with_all_siblings_may_be_alive_there() {
    let start = Instant::now();
    let at = |millis: u64| start + ms(millis);
    let mut core = core(A, start);
    core.handle_attach(start, row(1, &["a.b"])).unwrap();
    for node in [B, C] {
        core.handle_peer_up(start, node);
        core.handle_message(start, node, hello(1)).unwrap();
    }
    core.handle_message(start, B, deltas(1, 0, vec![row(1, &["a.b"])])).unwrap();
    assert_eq!(core.gateway_of(WorkloadId(1)), Some(A));
    for seconds in [2, 6, 7, 60] {
        advance(&mut core, at(seconds * 1000));
        assert_eq!(core.gateway_of(WorkloadId(1)), None, "{seconds}");
        assert!(core.is_alive(WorkloadId(1)) && core.other_gateway_of(WorkloadId(1)) == Some(B), "{seconds}");
    }

    // where it is heard here all the time, the other way to it stays known, too
    let mut core = self::core(A, start);
    core.handle_attach(start, row(1, &["a.b"])).unwrap();
    for node in [B, C] {
        core.handle_peer_up(start, node);
        core.handle_message(start, node, hello(1)).unwrap();
    }
    core.handle_message(start, B, deltas(1, 0, vec![row(1, &["a.b"])])).unwrap();
    for step in 1..=100 {
        core.handle_seen(at(100 * step), WorkloadId(1));
        advance(&mut core, at(100 * step));
        assert_eq!(core.other_gateway_of(WorkloadId(1)), Some(B), "{step}");
    }
    assert_eq!(core.gateway_of(WorkloadId(1)), Some(A));
}

#[test]
fn a_gateway_that_is_cut_off_itself_calls_nobody_gone() {
    let start = Instant::now();
    let at = |millis: u64| start + ms(millis);
    let mut core = core(A, start);
    for (node, first) in [(B, 1), (C, 11)] {
        core.handle_peer_up(start, node);
        core.handle_message(start, node, hello(1)).unwrap();
        let rows = (first..first + 3).map(|workload| row(workload, &["a.b"])).collect();
        core.handle_message(start, node, deltas(1, 0, rows)).unwrap();
    }
    events(&mut core);
    advance(&mut core, at(60_000));
    assert_eq!(of_workloads(&mut core).iter().filter(|event| matches!(event, Event::Gone(_))).count(), 0);
    assert_eq!(core.counts(&"a.b".parse().unwrap()), (6, 6));

    // one comes here, and goes: then it is gone, whatever the silent ones said of it once
    core.handle_attach(at(60_000), row(1, &["a.b"])).unwrap();
    for step in 1..=70 {
        core.handle_seen(at(60_000 + 100 * step), WorkloadId(1));
        advance(&mut core, at(60_000 + 100 * step));
    }
    core.handle_goodbye(at(67_000), WorkloadId(1));
    assert!(!core.is_alive(WorkloadId(1)) && core.is_alive(WorkloadId(2)));

    // one that was heard here long after them is gone when it falls silent, as if it had said goodbye
    core.handle_attach(at(67_000), row(3, &["a.b"])).unwrap();
    advance(&mut core, at(68_400));
    assert!(core.is_alive(WorkloadId(3)));
    advance(&mut core, at(69_000));
    assert!(!core.is_alive(WorkloadId(3)));

    // the first sibling that is heard again has to say everything; the other one has its grace then
    advance(&mut core, at(70_000));
    core.handle_peer_up(at(70_000), B);
    let digest = TableDigest::default();
    let back = Message::Hello { incarnation: Incarnation(1), version: 3, digest };
    core.handle_message(at(70_000), B, back).unwrap();
    let asked = std::iter::from_fn(|| core.poll_transmit_to(B))
        .any(|message| matches!(message, Message::SnapshotRequest { .. }));
    assert!(asked, "its rows were held and are not its word any more");
    core.handle_message(at(70_000), B, deltas(1, 0, vec![row(1, &[]), row(2, &["a.b"]), row(3, &["a.b"])]))
        .unwrap();
    assert!(core.is_alive(WorkloadId(1)), "it had only moved");
    for step in 1..=49 {
        core.handle_message(at(70_000 + 100 * step), B, heartbeat(1, 3)).unwrap();
        advance(&mut core, at(70_000 + 100 * step));
        assert!(core.is_alive(WorkloadId(11)), "{step}");
    }
    assert!(core.is_alive(WorkloadId(11)));
    for step in 50..=60 {
        core.handle_message(at(70_000 + 100 * step), B, heartbeat(1, 3)).unwrap();
        advance(&mut core, at(70_000 + 100 * step));
    }
    assert!(!core.is_alive(WorkloadId(11)) && core.is_alive(WorkloadId(2)));
}

#[test]
fn an_older_incarnation_is_fenced_by_a_newer_one() {
    let start = Instant::now();
    let mut core = core(A, start);
    core.handle_peer_up(start, B);
    core.handle_message(start, B, hello(5)).unwrap();
    core.handle_message(start, B, deltas(5, 0, vec![row(1, &[]), row(2, &[])])).unwrap();
    core.handle_message(start, B, deltas(6, 0, vec![row(2, &[])])).unwrap();
    core.handle_message(start, B, deltas(5, 2, vec![row(3, &[])])).unwrap();
    assert_eq!(core.counters().fenced_messages, 1);
    assert!(!core.is_alive(WorkloadId(3)) && core.is_alive(WorkloadId(1)));
    for step in 1..=10 {
        advance(&mut core, start + ms(500 * step));
        core.handle_message(start + ms(500 * step), B, heartbeat(6, 1)).unwrap();
    }
    assert!(!core.is_alive(WorkloadId(1)) && core.get(WorkloadId(2)).unwrap().alive);
}

#[test]
fn a_workload_id_cannot_be_taken_over_by_another_identity() {
    let start = Instant::now();
    let mut core = core(A, start);
    core.handle_attach(start, row(1, &[])).unwrap();
    core.handle_peer_up(start, B);
    core.handle_message(start, B, deltas(1, 0, vec![row(2, &[])])).unwrap();
    let thief = "spiffe://iad.mesh/ns/shop/sa/thief";
    for workload in [1, 2] {
        let stolen = Row { identity: thief.parse().unwrap(), ..row(workload, &[]) };
        assert_eq!(core.handle_attach(start, stolen).unwrap_err().reason(), "workload_id_taken");
    }
}

#[test]
fn twenty_thousand_workloads_reach_a_gateway_that_comes_late() {
    let start = Instant::now();
    let (mut a, mut b) = (core(A, start), core(B, start));
    for w in 0..20_000 {
        a.handle_attach(start, row(w, &["a.b"])).unwrap();
    }
    (0..9000).for_each(|w| a.handle_goodbye(start, WorkloadId(w)));
    a.handle_peer_up(start, B);
    b.handle_peer_up(start, A);
    exchange(start, &mut [&mut a, &mut b]);
    assert_eq!((a.workload_count(), b.workload_count()), (11_000, 11_000));
    assert_eq!(b.counts(&"a.b".parse().unwrap()), (11_000, 11_000));
    assert_eq!(b.counters().requests, 1);
    let later = start + ms(1400);
    (9000..20_000).for_each(|w| a.handle_seen(later, WorkloadId(w)));
    advance(&mut a, later + ms(1400));
    assert_eq!(a.workload_count(), 11_000);
}

#[test]
fn limits_hold_for_local_workloads_and_for_siblings() {
    let start = Instant::now();
    let config = PresenceConfig { max_rows: 5, max_rows_per_gateway: 3, ..PresenceConfig::default() };
    let mut core = Presence::new(A, Incarnation(1), config, start);
    for peer in [B, C] {
        core.handle_peer_up(start, peer);
        let rows = (1..=10).map(|i| row(i + 100 * peer.0, &[])).collect();
        core.handle_message(start, peer, deltas(1, 0, rows)).unwrap();
    }
    assert_eq!(core.peers().map(|peer| peer.rows).collect::<Vec<_>>(), [3, 2]);
    assert_eq!(core.counters().refused_rows, 15);
    (1..=3).for_each(|w| core.handle_attach(start, row(w, &[])).unwrap());
    assert_eq!(core.handle_attach(start, row(4, &[])).unwrap_err().reason(), "too_many_rows");
    core.handle_attach(start, row(3, &["a.b"])).unwrap();
}

#[test]
fn a_row_as_large_as_may_be_is_exchanged_with_all_the_keys_that_it_comes_to_have() {
    let start = Instant::now();
    let (mut a, mut b) = (core(A, start), core(B, start));
    a.handle_peer_up(start, B);
    b.handle_peer_up(start, A);
    a.handle_attach(start, Row { svid_key: [9; 32], ..crate::row::tests::largest(1) }).unwrap();
    a.handle_attach(start, row(2, &["a.b"])).unwrap();
    for key in 1..=3 {
        a.handle_renewed(start, WorkloadId(1), [key; 32]);
    }
    // as changes, and as a snapshot
    exchange(start, &mut [&mut a, &mut b]);
    let mut c = core(C, start);
    c.handle_peer_up(start, A);
    a.handle_peer_up(start, C);
    let ask = Message::SnapshotRequest { incarnation: Incarnation(1), have: 0, full: true };
    a.handle_message(start, C, ask).unwrap();
    exchange(start, &mut [&mut a, &mut c]);
    for core in [&mut b, &mut c] {
        assert_eq!(core.get(WorkloadId(1)).unwrap().row.svid_keys().count(), 4);
        assert!(core.is_alive(WorkloadId(2)));
        let counters = core.counters();
        assert_eq!((counters.rejected_messages, counters.bad_rows), (0, 0));
    }
}

#[test]
fn a_row_that_breaks_a_limit_does_not_keep_those_beside_it_out() {
    let start = Instant::now();
    let mut core = core(A, start);
    core.handle_peer_up(start, B);
    let bad = |workload| Row { release: "x".repeat(65), ..row(workload, &["a.b"]) };
    core.handle_message(start, B, deltas(1, 0, vec![row(1, &["a.b"]), row(2, &["a.b"])])).unwrap();
    core.handle_message(start, B, deltas(1, 2, vec![bad(1), row(3, &["a.b"]), bad(4)])).unwrap();
    let held = |core: &Presence| core.workloads().map(|view| view.row.workload.0).collect::<Vec<_>>();
    assert_eq!(held(&core), [1, 2, 3], "of a workload that was known, what was known stays");
    assert_eq!((core.counters().bad_rows, core.counters().rejected_messages), (2, 0));
    assert_eq!(core.take_bad_row(B).unwrap().reason(), "bad_text");
    let at = |seq, row: Row| Arc::new(Row { seq, ..row });
    let snapshot = Message::Snapshot {
        incarnation: Incarnation(1),
        version: 7,
        part: 0,
        last: true,
        rows: vec![at(3, bad(1)), at(4, row(3, &["a.b"])), at(6, bad(6)), at(7, row(5, &["a.b"]))],
    };
    core.handle_message(start, B, snapshot).unwrap();
    assert_eq!(held(&core), [1, 3, 5]);
    assert_eq!((core.counters().bad_rows, core.take_bad_row(B)), (4, None), "it is told once");
    let gone = vec![RowChange::Gone { workload: WorkloadId(1), seq: 8 }];
    let incarnation = Incarnation(1);
    core.handle_message(start, B, Message::Deltas { incarnation, from: 7, to: 8, changes: gone }).unwrap();
    assert_eq!(held(&core), [3, 5]);
    core.handle_message(start, B, deltas(2, 0, vec![bad(1)])).unwrap();
    assert!(core.take_bad_row(B).is_some(), "another process may be of another release");
}

#[test]
fn a_sibling_whose_digest_never_fits_is_asked_ever_more_rarely() {
    let start = Instant::now();
    let mut core = core(A, start);
    core.handle_peer_up(start, B);
    let lie = TableDigest { count: 1, hash: 1 };
    for step in 0..6000 {
        let now = start + ms(10 * step);
        let digest = Message::Digest { incarnation: Incarnation(1), version: 0, digest: lie };
        core.handle_message(now, B, digest).unwrap();
        advance(&mut core, now);
        while core.poll_transmit().is_some() {}
    }
    assert!(core.counters().requests < 12, "{}", core.counters().requests);
}

#[test]
fn a_talkative_sibling_does_not_starve_another() {
    let start = Instant::now();
    let config = PresenceConfig { max_rows_per_message: 1, ..PresenceConfig::default() };
    let mut core = Presence::new(A, Incarnation(1), config, start);
    [B, C].into_iter().for_each(|peer| core.handle_peer_up(start, peer));
    (1..=3).for_each(|w| core.handle_attach(start, row(w, &[])).unwrap());
    let to: Vec<u64> = std::iter::from_fn(|| core.poll_transmit()).map(|(to, _)| to.0).collect();
    assert_eq!(to, [2, 3, 2, 3, 2, 3, 2, 3]);
    assert!(core.poll_transmit_to(B).is_none() && core.poll_transmit_to(NodeId(9)).is_none());
}

#[test]
fn the_keys_of_a_workload_are_those_that_any_gateway_knows() {
    let start = Instant::now();
    let (mut a, mut b) = (core(A, start), core(B, start));
    a.handle_peer_up(start, B);
    b.handle_peer_up(start, A);
    let (w, at) = (WorkloadId(1), |key: u8| Row { svid_key: [key; 32], ..row(1, &["a.b"]) });
    a.handle_attach(start, at(1)).unwrap();
    b.handle_attach(start, at(1)).unwrap();
    exchange(start, &mut [&mut a, &mut b]);
    events(&mut b);
    let later = start + ms(20);
    // it renews over its connection to a, and b hears of that without an event: nobody routes by it
    a.handle_renewed(later, w, [2; 32]);
    a.handle_renewed(later, w, [2; 32]);
    a.handle_renewed(later, WorkloadId(2), [9; 32]);
    assert_eq!(a.version(), 2);
    exchange(later, &mut [&mut a, &mut b]);
    assert_eq!(b.get(w).unwrap().row.svid_key, [1; 32], "b's own row");
    let keys = |core: &Presence| core.svid_keys(w).into_iter().map(|key| key[0]).collect::<Vec<u8>>();
    assert_eq!((keys(&a), keys(&b), events(&mut b)), (vec![1, 2], vec![1, 2], vec![]));
    // what it registers anew over the older connection brings no key back as the newest, and loses none
    a.handle_attach(later, row(1, &["a.b"])).unwrap();
    assert_eq!((a.version(), keys(&a)), (2, vec![1, 2]));
    // a gateway that it attaches to afterwards knows them, when the others are gone, too
    let mut c = core(C, start);
    c.handle_peer_up(later, A);
    a.handle_peer_up(later, C);
    exchange(later, &mut [&mut a, &mut c]);
    c.handle_attach(later, at(2)).unwrap();
    a.handle_goodbye(later, w);
    exchange(later, &mut [&mut a, &mut c]);
    assert_eq!(keys(&c), [1, 2]);
    // the newest are kept
    (3..=7).for_each(|key| c.handle_renewed(later, w, [key; 32]));
    assert_eq!((keys(&c), c.get(w).unwrap().row.svid_key), (vec![4, 5, 6, 7], [7; 32]));
}

fn any_change() -> impl Strategy<Value = RowChange> {
    let up = (0u64..6, 0u64..12, any::<bool>(), any::<bool>()).prop_map(|(workload, seq, attached, sick)| {
        let mut row = Row { seq, attached, ..row(workload, &["a.b"]) };
        row.release = if sick { "x".repeat(65) } else { "2".into() };
        RowChange::Up(Arc::new(row))
    });
    let gone = (0u64..6, 0u64..12)
        .prop_map(|(workload, seq)| RowChange::Gone { workload: WorkloadId(workload), seq });
    prop_oneof![9 => up, 3 => gone]
}

fn any_message() -> impl Strategy<Value = Message> {
    let incarnation = || (0u64..3).prop_map(Incarnation);
    let version = || prop_oneof![20 => 0u64..12, 1 => Just(u64::MAX)];
    let digest = || (0u64..3, 0u64..3).prop_map(|(count, hash)| TableDigest { count, hash });
    let changes = || {
        prop::collection::vec(any_change(), 0..4).prop_map(|mut changes| {
            changes.sort_by_key(RowChange::seq);
            changes
        })
    };
    let deltas = (incarnation(), 0u64..12, changes()).prop_map(|(incarnation, from, changes)| {
        let to = changes.last().map_or(from, RowChange::seq);
        Message::Deltas { incarnation, from, to, changes }
    });
    let snapshot = (incarnation(), version(), 0u32..3, any::<bool>(), changes()).prop_map(
        |(incarnation, version, part, last, changes)| {
            let row = |change| if let RowChange::Up(row) = change { Some(row) } else { None };
            Message::Snapshot {
                incarnation,
                version,
                part,
                last,
                rows: changes.into_iter().filter_map(row).collect(),
            }
        },
    );
    prop_oneof![
        (incarnation(), version(), digest()).prop_map(|(incarnation, version, digest)| Message::Hello {
            incarnation,
            version,
            digest
        }),
        (incarnation(), version(), digest()).prop_map(|(incarnation, version, digest)| Message::Digest {
            incarnation,
            version,
            digest
        }),
        (incarnation(), version(), any::<bool>())
            .prop_map(|(incarnation, have, full)| Message::SnapshotRequest { incarnation, have, full }),
        (incarnation(), version())
            .prop_map(|(incarnation, version)| Message::Heartbeat { incarnation, version }),
        deltas,
        snapshot,
    ]
}

proptest! {
    /// Whatever a sibling says, what this gateway and another sibling own stays, is shown as they say, and counts add up.
    #[test]
    fn a_hostile_sibling_speaks_only_for_itself(messages in prop::collection::vec((any_message(), 0u64..400), 1..60)) {
        let mut now = Instant::now();
        let config = PresenceConfig { max_rows_per_gateway: 4, max_rows: 6, ..PresenceConfig::default() };
        let mut core = Presence::new(A, Incarnation(1), config, now);
        [B, C].into_iter().for_each(|peer| core.handle_peer_up(now, peer));
        let mine = row(1, &["a.b"]);
        core.handle_attach(now, mine.clone()).unwrap();
        core.handle_message(now, B, deltas(1, 0, vec![row(2, &["a.b"])])).unwrap();
        for (message, pause) in messages {
            now += ms(pause);
            core.handle_seen(now, WorkloadId(1));
            core.handle_message(now, B, heartbeat(1, 1)).unwrap();
            drop(core.handle_message(now, C, message));
            advance(&mut core, now);
            while core.poll_transmit().is_some() {}
            let own = core.get(WorkloadId(1)).unwrap();
            prop_assert!(own.alive && own.row.says_the_same(&mine));
            prop_assert!(core.get(WorkloadId(2)).unwrap().gateways.contains(&B));
            prop_assert!(core.peers().all(|peer| peer.rows <= 4));
            prop_assert!(core.peers().map(|peer| peer.rows).sum::<usize>() <= 6);
            let a_b = "a.b".parse().unwrap();
            let serving = core.workloads().filter(|view| view.row.service(&a_b).is_some()).count();
            prop_assert_eq!(core.counts(&a_b), (serving, core.endpoints(&a_b).count()));
        }
    }
}

#[test]
fn a_workload_that_was_stopped_for_a_while_is_back_when_it_is_heard_of_again() {
    let start = Instant::now();
    let mut a = core(A, start);
    for workload in 1..=3 {
        a.handle_attach(start, row(workload, &["web.shop"])).unwrap();
    }
    a.handle_detach(start, WorkloadId(3));
    advance(&mut a, start + ms(2_000));
    assert_eq!(a.workload_count(), 0, "silent for too long");
    let later = start + ms(2_500);
    a.handle_health(later, WorkloadId(1), &"web.shop".parse().unwrap(), Health::Draining);
    a.handle_seen(later, WorkloadId(2));
    a.handle_seen(later, WorkloadId(3));
    assert!(a.is_alive(WorkloadId(1)) && a.is_alive(WorkloadId(2)));
    assert!(!a.is_alive(WorkloadId(3)), "it has no control connection");
    assert_eq!(a.get(WorkloadId(1)).unwrap().row.services[0].health, Health::Draining);
    // gone for good: the connection ends meanwhile, or it says goodbye
    advance(&mut a, later + ms(2_000));
    a.handle_detach(later + ms(2_000), WorkloadId(1));
    a.handle_goodbye(later + ms(2_000), WorkloadId(2));
    a.handle_seen(later + ms(2_100), WorkloadId(1));
    a.handle_seen(later + ms(2_100), WorkloadId(2));
    assert_eq!((a.workload_count(), a.lapsed.len()), (0, 0));
}
