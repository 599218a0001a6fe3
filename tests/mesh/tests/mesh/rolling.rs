//! Every gateway and every sidecar of a service is stopped and started again, one after the other, while a client makes connections.

use crate::traffic::{Connecting, echoes};
use causeway_test_mesh::{Mesh, SOON, Service, wait_until};
use std::time::Instant;

#[test]
fn a_rolling_restart_of_gateways_and_peers_fails_no_connection() {
    let mesh = Mesh::new("rolling-restart");
    let (mut iad, mut phx) = mesh.pair(2);
    let service = Service::echo();
    let mut peers: Vec<_> = (0..3)
        .map(|at| mesh.sidecar(&phx, &format!("pay-{at}")).serve("payments.shop:80", service.addr()).start())
        .collect();
    let web = mesh.sidecar(&iad, "web").listen("payments.shop:80").start();
    mesh.ok(&["export", "payments.shop", "--context", "phx"]);
    mesh.wait_offer("iad", "payments.shop", "phx", 3);
    let addr = web.addr("payments.shop:80");
    wait_until(SOON, "the first connection", || echoes(addr));
    let connecting = Connecting::start(addr, 4);
    connecting.go_on(100);

    for cluster in [&mut iad, &mut phx] {
        for gateway in &mut cluster.gateways {
            let began = Instant::now();
            let exit = gateway.process.terminate(SOON);
            assert_eq!(exit.code(), Some(0), "{}", gateway.process.tail());
            let stopped = began.elapsed();
            connecting.go_on(50);
            gateway.restart();
            gateway.wait_ready();
            println!(
                "{} stopped in {stopped:?}, is ready after {:?}",
                gateway.process.name(),
                began.elapsed()
            );
            connecting.go_on(50);
        }
    }
    for peer in &mut peers {
        let began = Instant::now();
        assert_eq!(peer.process.terminate(SOON).code(), Some(0), "{}", peer.process.tail());
        let stopped = began.elapsed();
        connecting.go_on(50);
        peer.restart();
        peer.wait_ready();
        println!("{} stopped in {stopped:?}, is ready after {:?}", peer.process.name(), began.elapsed());
        let used = || peer.scrape().sum("causeway_sidecar_connections_total", "direction=\"inbound\"");
        wait_until(SOON, "the restarted one is used again", || used() > 0.0);
    }
    connecting.go_on(50);
    let (done, slowest) = connecting.end_well();
    println!("{done} connections, the slowest took {slowest:?}");
}
