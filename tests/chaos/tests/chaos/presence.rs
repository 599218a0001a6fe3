//! Who is alive is known everywhere, and the death of a gateway is nobody's death but its own.

use causeway_test_chaos::{Admin, Answer, Fleet, Side, View};
use causeway_test_mesh::{Mesh, SOON, Service, wait_until};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How long a dead workload may be told of: the promise of 2 s, and one more for cores that are shared with other tests.
const GONE: Duration = Duration::from_secs(3);
/// For how long a workload is watched after its gateway died: its rows stay 5 s without an owner.
const WATCHED: Duration = Duration::from_secs(9);
const SERVICE: &str = "payments.shop";

/// Three gateways and a workload that they all know.
fn setting(name: &str) -> (Mesh, Fleet, Service, Side) {
    let mesh = Mesh::new(name);
    let mut fleet = Fleet::builder(&mesh, "iad").start();
    let service = Service::http("payments");
    let side = Side::builder(&mut fleet, "pay").serve(&format!("{SERVICE}:80"), service.addr()).start();
    for admin in fleet.admins() {
        wait_until(SOON, &format!("{} knows the workload", admin.name()), || is_found(&admin) == Some(true));
    }
    (mesh, fleet, service, side)
}

/// Whether a gateway answers with the workload, and with a healthy endpoint for it; nothing if it does not answer.
fn is_found(admin: &Admin) -> Option<bool> {
    let view = View::of(admin).ok()?;
    Some(view.workloads.len() == 1 && view.healthy(SERVICE, "iad") == 1)
}

/// Whether a gateway still tells of the workload in any way.
fn is_told_of(admin: &Admin) -> bool {
    View::of(admin).is_ok_and(|view| !view.workloads.is_empty() || view.healthy(SERVICE, "iad") > 0)
}

#[test]
fn a_workload_that_dies_is_gone_from_every_gateways_answers() {
    let (_mesh, fleet, _service, mut side) = setting("workload-death");
    let admins = fleet.admins();
    side.process.kill();
    let died = Instant::now();
    for admin in &admins {
        wait_until(SOON, &format!("{} forgets the workload", admin.name()), || !is_told_of(admin));
    }
    let took = died.elapsed();
    println!("gone everywhere after {took:?}");
    assert!(took < GONE, "{took:?}");
    // and comes back with what is on its disk
    side.restart();
    side.wait_ready();
    for admin in &admins {
        wait_until(SOON, &format!("{} knows the workload again", admin.name()), || {
            is_found(admin) == Some(true)
        });
    }
}

#[test]
fn a_workload_whose_gateway_dies_is_never_gone() {
    let (_mesh, mut fleet, _service, _side) = setting("gateway-of-workload");
    let Answer::Done(workloads) = fleet.members[0].admin().get("/v1/workloads") else { panic!("no answer") };
    let vouching: BTreeSet<String> = workloads[0]["gateways"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| node.as_str().unwrap().to_owned())
        .collect();
    let of = fleet.members.iter().rposition(|member| vouching.contains(member.node()));
    let of = of.expect("a gateway vouches for the workload");
    println!("{} of {vouching:?} is killed", fleet.members[of].node());
    fleet.members[of].process.kill();
    let died = Instant::now();
    let others: Vec<Admin> = fleet
        .admins()
        .into_iter()
        .enumerate()
        .filter(|(index, _)| *index != of)
        .map(|(_, admin)| admin)
        .collect();
    let mut looks = 0;
    while died.elapsed() < WATCHED {
        for admin in &others {
            let found = is_found(admin);
            assert_eq!(
                found,
                Some(true),
                "{} after {:?}: {:?}",
                admin.name(),
                died.elapsed(),
                View::of(admin)
            );
            looks += 1;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    println!("found each time of {looks}");
    // the dead one vouches for nobody in the end
    let node = fleet.members[of].node();
    for admin in &others {
        wait_until(SOON, &format!("{} knows who vouches", admin.name()), || {
            let view = View::of(admin).unwrap_or_default();
            view.workloads
                .values()
                .all(|workload| !workload["gateways"].as_array().unwrap().iter().any(|by| by == node))
        });
    }
}
