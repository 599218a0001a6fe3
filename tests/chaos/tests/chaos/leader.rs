//! The gateway that leads the registry is lost, and another one leads.

use causeway_test_chaos::{Fleet, View, Writes, wait_equal};
use causeway_test_mesh::{Mesh, SOON, wait_until};
use std::time::{Duration, Instant};

/// How long a gateway may take until it acknowledges writes again: three times the promise of 1 s, for the cores are shared with
/// other tests.
const RESUMED: Duration = Duration::from_secs(3);
/// After this time without an answer gateways close their connections with one that sleeps, and some more.
const GIVEN_UP: Duration = Duration::from_secs(6);
/// How long one that wakes up may take to acknowledge writes: what it knew of the others is old.
const AWAKE: Duration = Duration::from_secs(5);

/// Starts three gateways with a writer at each, does `lose` to the leader, and returns the fleet once the others acknowledge writes.
#[track_caller]
fn lose_leader(name: &str, lose: impl Fn(&mut Fleet, usize)) -> (Mesh, Fleet, Writes) {
    let mesh = Mesh::new(name);
    let mut fleet = Fleet::builder(&mesh, "iad").start();
    let writes = Writes::start_at_each(&mut fleet);
    wait_until(SOON, "writes are acknowledged", || writes.acknowledged() > 50);
    let leader = fleet.wait_leader();
    let others: Vec<usize> = (0..fleet.members.len()).filter(|index| *index != leader).collect();
    for &index in &others {
        writes.gaps_of(index).take_recent();
    }
    lose(&mut fleet, leader);
    let lost = Instant::now();
    for &index in &others {
        let gaps = writes.gaps_of(index);
        wait_until(SOON, "writes go on", || gaps.last() > lost + RESUMED);
        let gap = gaps.take_recent().length;
        println!("{} acknowledged no write for {gap:?}", fleet.members[index].name());
        assert!(gap < RESUMED, "{} acknowledged no write for {gap:?}", fleet.members[index].name());
    }
    assert_ne!(fleet.wait_leader(), leader);
    (mesh, fleet, writes)
}

#[track_caller]
fn assert_kept(fleet: &Fleet, mut writes: Writes) {
    writes.stop();
    let view: View = wait_equal(&fleet.admins(), SOON);
    let verdict = writes.judge(&view.exports);
    println!(
        "{} acknowledged, {} unknown, refused {:?}",
        verdict.acknowledged, verdict.unknown, verdict.refused
    );
    assert!(verdict.lost.is_empty() && verdict.ghosts.is_empty(), "{verdict:?}");
}

#[test]
fn a_killed_leader_is_replaced_and_no_acknowledged_write_is_lost() {
    let (_mesh, mut fleet, writes) =
        lose_leader("leader-kill", |fleet, leader| fleet.members[leader].process.kill());
    for member in &mut fleet.members {
        if !member.runs() {
            member.restart();
            member.wait_ready();
        }
    }
    assert_kept(&fleet, writes);
}

#[test]
fn a_stopped_leader_is_replaced_and_follows_when_it_wakes() {
    let (_mesh, mut fleet, writes) = lose_leader("leader-stop", |fleet, leader| fleet.members[leader].stop());
    // until the others have given up the connections that the one that sleeps still believes in
    std::thread::sleep(GIVEN_UP.saturating_sub(RESUMED));
    for index in 0..fleet.members.len() {
        let member = &mut fleet.members[index];
        if !member.runs() {
            member.go_on();
            let woke = Instant::now();
            member.wait_ready();
            let gaps = writes.gaps_of(index);
            wait_until(SOON, "it acknowledges writes again", || gaps.last() > woke);
            println!("{} acknowledges writes {:?} after it woke", member.name(), woke.elapsed());
            assert!(woke.elapsed() < AWAKE, "{:?}", woke.elapsed());
        }
    }
    assert_kept(&fleet, writes);
}
