//! Sidecars that are told to stop, and sidecars that are started before what they need.

use crate::traffic::{echo, echoes, echoing, ended};
use causeway_test_mesh::{Mesh, SOON, Service, Sidecar, get, wait_for, wait_until};
use rustix::process::Signal;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// What `/ready` and `/live` answer; nothing if nobody does.
fn health(sidecar: &Sidecar) -> Option<(u16, u16)> {
    let [ready, live] = ["/ready", "/live"].map(|path| get(sidecar.telemetry(), path));
    Some((ready.ok()?.status, live.ok()?.status))
}

#[test]
fn a_caller_that_stops_takes_nothing_new_waits_for_what_is_open_and_cuts_the_rest() {
    const GRACE: Duration = Duration::from_secs(3);
    let mesh = Mesh::new("drain-caller");
    let iad = mesh.cluster("iad").start();
    let service = Service::echo();
    let _pay = mesh.sidecar(&iad, "pay").serve("payments.shop:80", service.addr()).start();
    let mut web = mesh.sidecar(&iad, "web").listen("payments.shop:80").flag("--drain", "3s").start();
    let addr = web.addr("payments.shop:80");
    wait_until(SOON, "the first connection", || echoes(addr));
    assert_eq!(health(&web), Some((200, 200)));
    let [finishes, stays] = [echoing(addr), echoing(addr)];

    web.process.signal(Signal::TERM);
    let began = Instant::now();
    wait_until(GRACE, "it is alive and not ready", || health(&web) == Some((503, 200)));
    let said = get(web.telemetry(), "/ready").unwrap().text();
    assert!(said.contains("draining"), "{said}");
    wait_until(GRACE, "a new connection is refused", || TcpStream::connect(addr).is_err());
    for _ in 0..3 {
        echo(&finishes).unwrap();
        echo(&stays).unwrap();
    }
    drop(finishes);
    assert!(web.process.exit().is_none(), "it waits for what is open");
    let cut = ended(&stays);
    let lasted = began.elapsed();
    assert!(lasted >= GRACE && lasted < GRACE + Duration::from_secs(2), "{lasted:?}, {cut:?}");
    assert_eq!(web.process.wait_exit(SOON).code(), Some(0), "{}", web.process.tail());
    println!("the last connection was cut after {lasted:?}, it ended after {:?}", began.elapsed());
    assert!(!web.process.log().contains("tasks still run"), "{}", web.process.tail());
    let reasons: Vec<String> =
        web.process.access().iter().map(|record| record["reason"].to_string()).collect();
    assert_eq!(reasons.iter().filter(|reason| *reason != "\"done\"").count(), 1, "{reasons:?}");
}

#[test]
fn a_called_one_that_stops_says_so_to_gateways_and_callers_and_finishes_what_is_open() {
    let mesh = Mesh::new("drain-called");
    let iad = mesh.cluster("iad").start();
    let service = Service::echo();
    let mut peers: Vec<Sidecar> = (0..2)
        .map(|at| mesh.sidecar(&iad, &format!("pay-{at}")).serve("payments.shop:80", service.addr()).start())
        .collect();
    let web = mesh.sidecar(&iad, "web").listen("payments.shop:80").start();
    let addr = web.addr("payments.shop:80");
    mesh.wait_offer("iad", "payments.shop", "iad", 2);
    let carried =
        |peer: &Sidecar| peer.scrape().sum("causeway_sidecar_connections_open", "direction=\"inbound\"");
    // as many as it takes until both have one
    let mut open = Vec::new();
    wait_until(SOON, "both are called", || {
        open.push(echoing(addr));
        peers.iter().all(|peer| carried(peer) > 0.0)
    });
    let leaves = &mut peers[0];
    leaves.process.signal(Signal::TERM);
    let began = Instant::now();
    mesh.wait_offer("iad", "payments.shop", "iad", 1);
    let told = began.elapsed();
    assert!(leaves.process.exit().is_none(), "it waits for what is open");
    assert_eq!(health(leaves), Some((503, 200)));
    open.iter().for_each(|stream| echo(stream).unwrap());
    let begun = leaves.scrape().sum("causeway_sidecar_connections_total", "direction=\"inbound\"");
    for _ in 0..20 {
        echo(&echoing(addr)).unwrap();
    }
    let now = leaves.scrape().sum("causeway_sidecar_connections_total", "direction=\"inbound\"");
    assert_eq!(now, begun, "callers go elsewhere");
    drop(open);
    let left = Instant::now();
    assert_eq!(leaves.process.wait_exit(SOON).code(), Some(0), "{}", leaves.process.tail());
    println!("gateways know after {told:?}; it ends {:?} after its last connection", left.elapsed());
    assert!(left.elapsed() < Duration::from_secs(5), "{:?}", left.elapsed());
}

#[test]
fn a_sidecar_may_start_before_its_gateways_and_its_application() {
    let mesh = Mesh::new("start-order");
    let mut iad = mesh.cluster("iad").start();
    let serve = mesh.ok(&["token", "create", "--context", "iad", "--service", "payments.shop:80"]);
    let call = mesh.ok(&["token", "create", "--context", "iad", "--account", "web", "--namespace", "test"]);
    iad.gateways[0].process.kill();
    let application = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let pay = mesh.sidecar(&iad, "pay").token(&serve).serve("payments.shop:80", application);
    let mut pay = pay.flag("--health", "payments.shop=tcp").spawn();
    let mut web = mesh.sidecar(&iad, "web").token(&call).listen("payments.shop:80").spawn();
    for sidecar in [&pay, &web] {
        wait_for(SOON, "it is alive and waits for a gateway", || {
            health(sidecar).filter(|health| *health == (503, 200))
        });
        let said = get(sidecar.telemetry(), "/ready").unwrap().text();
        assert!(said.contains("attached to the cluster"), "{said}");
    }
    let addr = web.addr("payments.shop:80");
    // the application of the caller is there already: what it says waits
    let early = TcpStream::connect(addr).unwrap();
    early.set_read_timeout(Some(SOON)).unwrap();
    iad.gateways[0].restart();
    iad.gateways[0].wait_ready();
    web.wait_ready();
    wait_until(SOON, "the served one is known, without its application", || {
        let page = mesh.run(&["services", "payments.shop", "--context", "iad", "-o", "json"]);
        page.stdout.contains("\"healthy\": 0") || page.stdout.contains("\"healthy\":0")
    });
    let listener = TcpListener::bind(application).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || std::io::copy(&mut stream.try_clone()?, &mut stream));
        }
    });
    pay.wait_ready();
    wait_until(SOON, "a connection is carried", || echoes(addr));
    drop(early);
}
