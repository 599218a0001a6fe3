//! A new certificate authority, while everything goes on.

use crate::traffic::Traffic;
use causeway_test_mesh::{Cluster, Mesh, SOON, Service, get, wait_until};

/// Requests in a second in each direction: what two cores do with binaries that are not optimised, and beside other tests.
const RATE: u32 = 150;
/// The same with `CAUSEWAY_SLOW=1`, for optimised binaries on a machine that does nothing else: 2,000 in all.
const FULL_RATE: u32 = 1_000;

fn roots(mesh: &Mesh, at: &str) -> Vec<String> {
    let ca = mesh.json(&["ca", "show", "--context", at]);
    ca["roots"]
        .as_array()
        .unwrap()
        .iter()
        .map(|root| root["fingerprint"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn roots_are_replaced_under_load_and_nobody_notices() {
    let slow = std::env::var("CAUSEWAY_SLOW").as_deref() == Ok("1");
    let rate = if slow { FULL_RATE } else { RATE };
    let mesh = Mesh::new("ca-rotate");
    let (mut iad, mut phx) = (mesh.cluster("iad").gateways(2).start(), mesh.cluster("phx").start());
    mesh.link(&iad, &phx);
    let (orders, payments) = (Service::http("orders"), Service::http("payments"));
    let mut web =
        mesh.sidecar(&iad, "web").serve("orders.shop:80", orders.addr()).listen("payments.shop:80").start();
    let mut pay =
        mesh.sidecar(&phx, "pay").serve("payments.shop:80", payments.addr()).listen("orders.shop:80").start();
    for (service, from, at) in [("payments.shop", "phx", "iad"), ("orders.shop", "iad", "phx")] {
        mesh.ok(&["export", service, "--context", from]);
        mesh.wait_offer(at, service, from, 1);
    }
    let traffic =
        [web.addr("payments.shop:80"), pay.addr("orders.shop:80")].map(|addr| Traffic::paced(addr, rate));
    // while the link is made one cluster may call before the other one has it
    let before = failed_handshakes(&iad, &phx);
    let began = std::time::Instant::now();
    for at in ["iad", "phx"] {
        let before = roots(&mesh, at);
        mesh.ok(&["ca", "rotate", "--keep", "0s", "--wait", "50s", "--context", at]);
        let after = roots(&mesh, at);
        assert!(after.len() == 1 && before != after, "{at}: {before:?}, then {after:?}");
        println!("{at} has another root after {:?} in all", began.elapsed());
    }
    let done: u64 = traffic.iter().map(Traffic::done).sum();
    let reached = done as f64 / began.elapsed().as_secs_f64();
    println!("{done} requests in {:?}: {reached:.0} a second", began.elapsed());
    assert!(
        !slow || reached > 0.95 * f64::from(2 * rate),
        "{reached:.0} requests a second are not what was asked for"
    );
    traffic.iter().for_each(|traffic| traffic.go_on(30));

    // who joins now knows only the new roots
    let new = mesh.sidecar(&iad, "new").listen("payments.shop:80").start();
    wait_until(SOON, "a new sidecar calls", || {
        get(new.addr("payments.shop:80"), "/").is_ok_and(|answer| answer.text() == "payments")
    });
    traffic.into_iter().for_each(Traffic::end_well);
    assert_eq!(failed_handshakes(&iad, &phx), before);
    iad.gateways.iter_mut().chain(&mut phx.gateways).for_each(|gateway| gateway.process.assert_running());
    web.process.assert_running();
    pay.process.assert_running();
    restarted(&mesh, &mut iad);
}

fn failed_handshakes(iad: &Cluster, phx: &Cluster) -> Vec<String> {
    let said = iad.gateways.iter().chain(&phx.gateways).flat_map(|gateway| {
        let (name, log) = (gateway.process.name().to_owned(), gateway.process.log());
        let failed = log.lines().filter(|line| line.contains("a handshake failed")).map(str::to_owned);
        failed.map(|line| format!("{name}: {line}")).collect::<Vec<_>>()
    });
    said.collect()
}

/// Gateways that start again come up with what they have on disk, and so does a whole cluster.
fn restarted(mesh: &Mesh, iad: &mut Cluster) {
    for gateway in &mut iad.gateways {
        gateway.restart();
        gateway.wait_ready();
    }
    for context in ["iad", "iad-2"] {
        wait_until(SOON, "changes are taken", || {
            mesh.run(&["token", "create", "--service", "a.b:80", "--context", context]).code == Some(0)
        });
        mesh.wait_offer(context, "payments.shop", "phx", 1);
    }
}
