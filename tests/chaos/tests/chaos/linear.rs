//! Reads and writes through any gateway are linearizable, whoever leads.

use causeway_test_chaos::exports::{Export, ExportSpec, Withdrawn};
use causeway_test_chaos::history::Calls;
use causeway_test_chaos::{Clients, Fleet};
use causeway_test_mesh::{Mesh, SOON, wait_until};
use std::collections::BTreeMap;
use std::time::Duration;

/// How many clients call at the same time.
const CLIENTS: u64 = 6;

type Histories = BTreeMap<String, Calls<Export>>;

#[track_caller]
fn assert_linearizable(histories: &Histories) {
    for (key, calls) in histories {
        assert!(
            calls.is_linearizable::<ExportSpec>(),
            "the history of {key} is not linearizable:\n{}",
            calls.text()
        );
    }
    let calls: usize = histories.values().map(Calls::len).sum();
    let open: usize = histories.values().map(Calls::open).sum();
    println!("{calls} calls for {} keys, {open} without a known outcome", histories.len());
}

/// Changes one outcome in each history in a way that cannot have happened, and returns how many were changed and how many of
/// those the checker takes nevertheless.
fn forge(histories: &Histories, change: impl Fn(&mut Export) -> bool) -> (usize, usize) {
    let (mut changed, mut taken) = (0, 0);
    for calls in histories.values() {
        let mut calls = calls.clone();
        if calls.operations().any(&change) {
            changed += 1;
            taken += usize::from(calls.is_linearizable::<ExportSpec>());
        }
    }
    (changed, taken)
}

#[test]
fn reads_and_writes_through_any_gateway_are_linearizable() {
    let mesh = Mesh::new("linear");
    let mut fleet = Fleet::builder(&mesh, "iad").start();
    let clients = Clients::start(&mut fleet, CLIENTS, 1);
    let go_on = |calls: usize| {
        let goal = clients.calls() + calls;
        wait_until(SOON, "calls go on", || clients.calls() >= goal);
    };
    go_on(300);
    let leader = fleet.wait_leader();
    fleet.members[leader].process.kill();
    go_on(300);
    fleet.members[leader].restart();
    fleet.members[leader].wait_ready();
    let leader = fleet.wait_leader();
    // long enough for the others to elect one, so that it wakes up in the belief that it leads
    fleet.members[leader].stop();
    std::thread::sleep(Duration::from_millis(1_500));
    go_on(100);
    fleet.members[leader].go_on();
    go_on(300);
    let histories = clients.end();
    assert_linearizable(&histories);
    let calls: usize = histories.values().map(Calls::len).sum();
    assert!(calls > 400, "only {calls} calls had an outcome or may have had an effect");

    // the test of the test: the same histories with one answer that cannot be
    let never = 99;
    let (changed, taken) = forge(&histories, |operation| match operation {
        Export::Read(Some(seen)) => seen.insert(never),
        _ => false,
    });
    assert!(changed > 3 && taken == 0, "{taken} of {changed} reads of what nobody wrote were taken");
    let (changed, taken) = forge(&histories, |operation| match operation {
        Export::Remove(cluster, outcome @ Withdrawn::NotExported) => {
            (*cluster, *outcome) = (never, Withdrawn::Done);
            true
        }
        _ => false,
    });
    assert!(changed > 3 && taken == 0, "{taken} of {changed} withdrawals of what nobody wrote were taken");
}
