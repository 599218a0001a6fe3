//! A gateway dies, and nobody who uses the mesh notices.

use crate::traffic::Traffic;
use causeway_test_mesh::{Mesh, SOON, Service, wait_until};
use rustix::process::Signal;
use std::time::{Duration, Instant};

#[test]
fn a_killed_gateway_breaks_nothing_and_the_learner_goes_on_serving() {
    let mesh = Mesh::new("gateway-kill");
    let (mut iad, mut phx) = mesh.pair(2);
    let service = Service::http("payments");
    let mut pay = mesh.sidecar(&phx, "pay").serve("payments.shop:80", service.addr()).start();
    let web = mesh.sidecar(&iad, "web").listen("payments.shop:80").start();
    mesh.ok(&["export", "payments.shop", "--context", "phx"]);
    mesh.wait_offer("iad", "payments.shop", "phx", 1);
    mesh.wait_offer("iad-2", "payments.shop", "phx", 1);
    let traffic = Traffic::start(web.addr("payments.shop:80"));
    traffic.go_on(50);

    // the voters of both clusters
    phx.gateways[0].process.kill();
    traffic.go_on(200);
    iad.gateways[0].process.kill();
    traffic.go_on(200);

    // discovery goes on at the learners, and says what dies and what comes
    mesh.wait_offer("iad-2", "payments.shop", "phx", 1);
    mesh.wait_offer("phx-2", "payments.shop", "phx", 1);
    for args in [&["token", "create", "--service", "a.b:80"][..], &["export", "payments.shop", "--to", "fra"]]
    {
        let args: Vec<&str> = args.iter().copied().chain(["--context", "phx-2"]).collect();
        mesh.run(&args).refused(&["no-quorum"]);
    }
    let failures = traffic.end();
    assert!(failures.is_empty(), "{} failures: {failures:?}", failures.len());
    pay.process.kill();
    mesh.wait_offer("phx-2", "payments.shop", "phx", 0);
    mesh.wait_offer("iad-2", "payments.shop", "phx", 0);
    // an identity that is on disk needs no registry
    pay.restart();
    pay.wait_ready();
    mesh.wait_offer("iad-2", "payments.shop", "phx", 1);
    let traffic = Traffic::start(web.addr("payments.shop:80"));
    traffic.go_on(50);

    // the voters come back with what they had, and changes are taken again
    for cluster in [&mut phx, &mut iad] {
        cluster.gateways[0].restart();
        cluster.gateways[0].wait_ready();
    }
    wait_until(SOON, "phx takes changes again", || {
        mesh.run(&["token", "create", "--service", "a.b:80", "--context", "phx-2"]).code == Some(0)
    });
    traffic.go_on(50);
    // the learners
    phx.gateways[1].process.kill();
    iad.gateways[1].process.kill();
    traffic.go_on(200);
    let failures = traffic.end();
    assert!(failures.is_empty(), "{} failures: {failures:?}", failures.len());
    // that one is away is said once, not at each heartbeat
    let voter = &iad.gateways[0].process;
    wait_until(SOON, "the voter says that the learner is away", || {
        voter.log().contains("lost a gateway of this cluster")
    });
    assert!(!voter.log().contains("openraft::"), "{}", voter.tail());
}

#[test]
fn a_gateway_that_hangs_is_passed_by() {
    let mesh = Mesh::new("gateway-hang");
    let (iad, phx) = mesh.pair(2);
    let service = Service::http("payments");
    let _pay = mesh.sidecar(&phx, "pay").serve("payments.shop:80", service.addr()).start();
    let web = mesh.sidecar(&iad, "web").listen("payments.shop:80").start();
    mesh.ok(&["export", "payments.shop", "--context", "phx"]);
    mesh.wait_offer("iad", "payments.shop", "phx", 1);
    let traffic = Traffic::start(web.addr("payments.shop:80"));
    traffic.go_on(50);
    for gateway in [&iad.gateways[1], &phx.gateways[1], &iad.gateways[0]] {
        gateway.process.signal(Signal::STOP);
        traffic.go_on(100);
        gateway.process.signal(Signal::CONT);
        traffic.go_on(50);
    }
    let failures = traffic.end();
    assert!(failures.is_empty(), "{} failures: {failures:?}", failures.len());
}

#[test]
fn a_gateway_that_is_told_to_stop_drains_and_exits_0() {
    let mesh = Mesh::new("gateway-drain");
    let (mut iad, phx) = mesh.pair(2);
    let service = Service::http("payments");
    let mut pay = mesh.sidecar(&phx, "pay").serve("payments.shop:80", service.addr()).start();
    let web = mesh.sidecar(&iad, "web").listen("payments.shop:80").start();
    mesh.ok(&["export", "payments.shop", "--context", "phx"]);
    mesh.wait_offer("iad", "payments.shop", "phx", 1);
    let traffic = Traffic::start(web.addr("payments.shop:80"));
    traffic.go_on(50);
    let exit = iad.gateways[1].process.terminate(SOON);
    assert_eq!(exit.code(), Some(0), "{}", iad.gateways[1].process.tail());
    traffic.go_on(100);
    let failures = traffic.end();
    assert!(failures.is_empty(), "{} failures: {failures:?}", failures.len());
    let exit = pay.process.terminate(SOON);
    assert_eq!(exit.code(), Some(0), "{}", pay.process.tail());
    for process in [&pay.process, &iad.gateways[1].process] {
        assert!(!process.log().contains("tasks still run"), "{}", process.tail());
    }
    // a goodbye is believed at once
    let began = Instant::now();
    mesh.wait_offer("iad", "payments.shop", "phx", 0);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}
