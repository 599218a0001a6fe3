//! Sidecars that are replaced while they are used: the next process takes the listeners over, and none of the connections that are
//! made meanwhile fails.

use crate::traffic::{Connecting, echo, echoes, echoing, ended};
use causeway_test_mesh::{Mesh, SOON, Service, wait_until};
use std::net::TcpListener;
use std::time::Duration;

#[test]
fn a_sidecar_is_replaced_and_no_connection_is_refused() {
    let mesh = Mesh::new("succession");
    let iad = mesh.cluster("iad").start();
    let service = Service::echo();
    let mut pay = mesh.sidecar(&iad, "pay").serve("payments.shop:80", service.addr()).start();
    let mut web = mesh.sidecar(&iad, "web").listen("payments.shop:80").start();
    let addr = web.addr("payments.shop:80");
    wait_until(SOON, "the first connection", || echoes(addr));
    let (first, connecting) = (echoing(addr), Connecting::start(addr, 4));
    connecting.go_on(100);

    // the caller's sidecar: what is open goes on in the old process while the new one accepts
    let mut old = web.succeed();
    connecting.go_on(100);
    echo(&first).unwrap();
    assert!(old.exit().is_none(), "it waits for what is open");
    drop(first);
    assert_eq!(old.wait_exit(SOON).code(), Some(0), "{}", old.tail());
    assert!(!web.process.log().contains("could not"), "{}", web.process.tail());

    // and the called one's, twice, so that a successor hands over too
    for _ in 0..2 {
        let mut old = pay.succeed();
        connecting.go_on(200);
        assert_eq!(old.wait_exit(SOON).code(), Some(0), "{}", old.tail());
    }
    connecting.go_on(100);
    connecting.end_well();
    // the state directory is the new process' alone
    let error = mesh.run(&["sidecar", "--state-dir", pay.state_dir.to_str().unwrap(), "--no-handover"]);
    error.refused(&["is in use by process", &pay.process.pid().to_string()]);
    assert_eq!(pay.process.terminate(SOON).code(), Some(0), "{}", pay.process.tail());
    assert!(!pay.state_dir.join("handover.sock").exists());
}

#[test]
fn a_successor_that_dies_leaves_everything_as_it_was() {
    let mesh = Mesh::new("no-succession");
    let mut iad = mesh.cluster("iad").start();
    let service = Service::echo();
    let pay = mesh.sidecar(&iad, "pay").serve("payments.shop:80", service.addr()).start();
    let mut web = mesh.sidecar(&iad, "web").listen("payments.shop:80").start();
    let addr = web.addr("payments.shop:80");
    wait_until(SOON, "the first connection", || echoes(addr));
    // without a gateway no successor gets ready
    iad.gateways[0].process.kill();
    let stream = echoing(addr);
    for attempt in 0..2 {
        let mut next = web.start_next();
        wait_until(SOON, "it asks for the listeners", || {
            web.process.log().matches("is about to take over").count() > attempt
        });
        assert!(echoes(addr));
        next.kill();
        wait_until(SOON, "the old one goes on", || {
            web.process.log().matches("ended before it was ready; this one goes on").count() > attempt
        });
        assert!(echoes(addr));
    }
    iad.gateways[0].restart();
    iad.gateways[0].wait_ready();
    let connecting = Connecting::start(addr, 2);
    let mut old = web.succeed();
    connecting.go_on(50);
    echo(&stream).unwrap();
    drop(stream);
    assert_eq!(old.wait_exit(SOON).code(), Some(0), "{}", old.tail());
    connecting.end_well();
    drop(pay);
}

#[test]
fn a_drain_of_one_peer_after_the_other_fails_no_connection() {
    let mesh = Mesh::new("rolling");
    let iad = mesh.cluster("iad").start();
    let service = Service::echo();
    let mut peers: Vec<_> = (0..2)
        .map(|at| mesh.sidecar(&iad, &format!("pay-{at}")).serve("payments.shop:80", service.addr()).start())
        .collect();
    let web = mesh.sidecar(&iad, "web").listen("payments.shop:80").start();
    let addr = web.addr("payments.shop:80");
    wait_until(SOON, "the first connection", || echoes(addr));
    let connecting = Connecting::start(addr, 4);
    connecting.go_on(100);
    for peer in &mut peers {
        assert_eq!(peer.process.terminate(SOON).code(), Some(0), "{}", peer.process.tail());
        connecting.go_on(50);
        peer.restart();
        peer.wait_ready();
        let used = || peer.scrape().sum("causeway_sidecar_connections_total", "direction=\"inbound\"");
        wait_until(SOON, "the restarted one is used again", || used() > 0.0);
    }
    connecting.end_well();
}

#[test]
fn an_application_that_stops_listening_is_out_within_a_second_and_comes_back() {
    let mesh = Mesh::new("passive-health");
    let iad = mesh.cluster("iad").start();
    let good = Service::echo();
    let bad = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let steady = mesh.sidecar(&iad, "pay-0").serve("payments.shop:80", good.addr()).start();
    let flaky = mesh.sidecar(&iad, "pay-1").serve("payments.shop:80", bad).start();
    let web = mesh.sidecar(&iad, "web").listen("payments.shop:80").start();
    let addr = web.addr("payments.shop:80");
    wait_until(SOON, "the first connection", || echoes(addr));
    let refused = || {
        let labels = "direction=\"inbound\",reason=\"upstream-refused\"";
        flaky.scrape().sum("causeway_sidecar_outcomes_total", labels)
    };
    // refused ones are tried elsewhere, so none fails
    let connecting = Connecting::start(addr, 4);
    wait_until(SOON, "a connection is refused", || refused() > 0.0);
    let healthy = || {
        let state = flaky.scrape().sum("causeway_sidecar_health_state", "service=\"payments.shop\"");
        state > 0.0
    };
    wait_until(SOON, "it is unhealthy", || !healthy());
    std::thread::sleep(Duration::from_secs(1));
    let before = refused();
    connecting.go_on(200);
    assert_eq!(refused(), before, "callers are not sent there any more");
    // it listens: a second service on the very port
    let listener = TcpListener::bind(bad).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || std::io::copy(&mut stream.try_clone()?, &mut stream));
        }
    });
    wait_until(SOON, "it is healthy again", healthy);
    let done = || {
        let labels = "direction=\"inbound\",reason=\"done\"";
        flaky.scrape().sum("causeway_sidecar_outcomes_total", labels)
    };
    wait_until(SOON, "it is used again", || done() > 10.0);
    connecting.end_well();
    let stream = echoing(addr);
    drop((steady, flaky));
    ended(&stream);
}
