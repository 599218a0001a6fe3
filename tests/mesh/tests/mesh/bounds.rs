//! Sidecars that have taken on all that they may: what comes then is refused with a reason, and what they have goes on.

use crate::traffic::{echo, echoes, echoing};
use causeway_test_mesh::{Mesh, SOON, Service, Sidecar, get, wait_until};
use std::fs;
use std::net::{SocketAddr, TcpStream};

/// The reserve that no connection takes.
const RESERVED: usize = 128;
/// All the descriptors of a sidecar.
const DESCRIPTORS: usize = RESERVED + 60;

fn outcomes(sidecar: &Sidecar, direction: &str, reason: &str) -> f64 {
    let labels = format!("direction=\"{direction}\",reason=\"{reason}\"");
    sidecar.scrape().sum("causeway_sidecar_outcomes_total", &labels)
}

/// Connections until one is refused.
fn fill(addr: SocketAddr, most: usize) -> Vec<TcpStream> {
    let mut open = Vec::new();
    while let Ok(stream) = TcpStream::connect(addr) {
        stream.set_read_timeout(Some(SOON)).unwrap();
        if echo(&stream).is_err() {
            return open;
        }
        open.push(stream);
        assert!(open.len() <= most, "{} connections, and none is refused", open.len());
    }
    panic!("a connection was refused before it was accepted");
}

/// A sidecar without descriptors is alive, and says what it lacks.
fn goes_on(sidecar: &mut Sidecar, open: &[TcpStream]) {
    open.iter().for_each(|stream| echo(stream).unwrap());
    assert_eq!(get(sidecar.telemetry(), "/ready").unwrap().status, 200);
    sidecar.process.assert_running();
    let descriptors = fs::read_dir(format!("/proc/{}/fd", sidecar.process.pid())).unwrap().count();
    println!("{}: {} connections, {descriptors} descriptors", sidecar.process.name(), open.len());
    assert!(descriptors < DESCRIPTORS, "some are left for everything else: {descriptors}");
}

#[test]
fn without_descriptors_connections_are_refused_at_either_side_and_the_rest_goes_on() {
    let limit = format!("-n {DESCRIPTORS}");
    let mesh = Mesh::new("bounds");
    let iad = mesh.cluster("iad").start();
    let service = Service::echo();
    let serve = || mesh.sidecar(&iad, "pay").serve("payments.shop:80", service.addr());
    let call = || mesh.sidecar(&iad, "web").listen("payments.shop:80");

    // the caller's
    let mut pay = serve().start();
    let mut web = call().descriptors(&limit).start();
    let addr = web.addr("payments.shop:80");
    wait_until(SOON, "the first connection", || echoes(addr));
    wait_until(SOON, "it has ended", || outcomes(&web, "outbound", "done") >= 1.0);
    let open = fill(addr, DESCRIPTORS - RESERVED);
    wait_until(SOON, "the refusal is counted", || outcomes(&web, "outbound", "no-descriptors") >= 1.0);
    let record = web.process.wait_access("the refusal", |record| record["reason"] == "no-descriptors");
    let detail = record["detail"].as_str().unwrap();
    assert!(detail.contains(&DESCRIPTORS.to_string()) && detail.contains("LimitNOFILE"), "{detail}");
    goes_on(&mut web, &open);
    drop(open);
    wait_until(SOON, "there is room again", || echoes(addr));

    // the called one's: its callers are told that it has too much to do
    web.process.kill();
    pay.process.kill();
    let mut pay = serve().descriptors(&limit).start();
    let web = call().start();
    let addr = web.addr("payments.shop:80");
    mesh.wait_offer("iad", "payments.shop", "iad", 1);
    wait_until(SOON, "the first connection", || echoes(addr));
    wait_until(SOON, "it has ended", || outcomes(&pay, "inbound", "done") >= 1.0);
    let open = fill(addr, DESCRIPTORS - RESERVED);
    web.process.wait_access("the refusal", |record| record["reason"] == "overloaded");
    goes_on(&mut pay, &open);
    drop(open);
    wait_until(SOON, "there is room again", || echoes(addr));
    drop(echoing(addr));
}
