//! A new certificate authority, while everything goes on.

use crate::traffic::Traffic;
use causeway_test_mesh::{Cluster, Mesh, SOON, Service, get, wait_until};

/// Requests in a second in each direction.
const RATE: u32 = 150;

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
        [web.addr("payments.shop:80"), pay.addr("orders.shop:80")].map(|addr| Traffic::paced(addr, RATE));
    let began = std::time::Instant::now();
    for at in ["iad", "phx"] {
        let before = roots(&mesh, at);
        mesh.ok(&["ca", "rotate", "--keep", "0s", "--wait", "50s", "--context", at]);
        let after = roots(&mesh, at);
        assert!(after.len() == 1 && before != after, "{at}: {before:?}, then {after:?}");
        println!("{at} has another root after {:?} in all", began.elapsed());
    }
    let done: u64 = traffic.iter().map(Traffic::done).sum();
    println!("{done} requests in {:?}", began.elapsed());
    traffic.iter().for_each(|traffic| traffic.go_on(30));

    // who joins now knows only the new roots
    let new = mesh.sidecar(&iad, "new").listen("payments.shop:80").start();
    wait_until(SOON, "a new sidecar calls", || {
        get(new.addr("payments.shop:80"), "/").is_ok_and(|answer| answer.text() == "payments")
    });
    traffic.into_iter().for_each(Traffic::end_well);
    for gateway in iad.gateways.iter_mut().chain(&mut phx.gateways) {
        gateway.process.assert_running();
        let log = gateway.process.log();
        let failed: Vec<&str> = log.lines().filter(|line| line.contains("a handshake failed")).collect();
        assert!(failed.is_empty(), "{}: {failed:#?}", gateway.process.name());
    }
    web.process.assert_running();
    pay.process.assert_running();
    restarted(&mesh, &mut iad);
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
