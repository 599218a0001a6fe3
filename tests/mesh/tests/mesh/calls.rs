//! Services call each other across clusters, by name; what cannot be called says why.

use causeway_test_mesh::{Mesh, SOON, Service, Sidecar, get, reset};
use serde_json::{Value, json};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// How a connection to `addr` ends on which `hello` is said, and how long that took; nothing may be answered.
fn refused(addr: SocketAddr) -> (ErrorKind, Duration) {
    let began = Instant::now();
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let sent = stream.write_all(b"hello");
    let mut answer = Vec::new();
    let end = sent.and_then(|()| stream.read_to_end(&mut answer));
    assert!(answer.is_empty(), "{:?}", String::from_utf8_lossy(&answer));
    match end {
        Ok(_) => panic!("{addr}: the connection ended as if all were well"),
        Err(error) => (error.kind(), began.elapsed()),
    }
}

fn outbound(sidecar: &Sidecar, reason: &str) -> Value {
    let is = |record: &Value| record["direction"] == "outbound" && record["reason"] == reason;
    sidecar.process.wait_access(reason, is)
}

#[test]
fn two_clusters_call_each_other_by_service() {
    let mesh = Mesh::new("two-clusters");
    let (iad, phx) = mesh.pair(1);
    let (orders, payments) = (Service::http("orders in iad"), Service::http("payments in phx"));
    let web =
        mesh.sidecar(&iad, "web").serve("orders.shop:80", orders.addr()).listen("payments.shop:80").start();
    let pay =
        mesh.sidecar(&phx, "pay").serve("payments.shop:80", payments.addr()).listen("orders.shop:80").start();
    mesh.ok(&["export", "payments.shop", "--context", "phx"]);
    mesh.ok(&["export", "orders.shop", "--to", "phx", "--context", "iad"]);

    let offer = mesh.wait_offer("iad", "payments.shop", "phx", 1);
    for (key, expected) in [
        ("region", json!("us-phoenix-1")),
        ("zones", json!(["AD-1"])),
        ("ports", json!(["80/tcp"])),
        ("total", json!(1)),
        ("origin", json!("imported")),
        ("stale_for", Value::Null),
    ] {
        assert_eq!(offer[key], expected, "{key} in {offer}");
    }
    mesh.wait_offer("phx", "orders.shop", "iad", 1);
    let table = mesh.ok(&["services", "--context", "iad", "--region", "us-phoenix-1"]);
    assert!(table.contains("payments.shop") && !table.contains("orders.shop"), "{table}");

    assert_eq!(get(web.addr("payments.shop:80"), "/").unwrap().text(), "payments in phx");
    assert_eq!(get(pay.addr("orders.shop:80"), "/").unwrap().text(), "orders in iad");

    // the receiver knows who calls
    let domain = mesh.json(&["status", "--context", "iad"])["trust_domain"].as_str().unwrap().to_owned();
    let caller = format!("spiffe://{domain}/ns/shop/sa/orders");
    let record = pay.process.wait_access("an inbound connection", |record| record["direction"] == "inbound");
    assert_eq!((&record["src.identity"], &record["reason"]), (&json!(caller), &json!("done")), "{record}");
    assert_eq!(record["dst.service"], "payments.shop", "{record}");
}

#[test]
fn what_cannot_be_called_is_reset_and_the_log_says_why() {
    let mesh = Mesh::new("refusals");
    let (iad, phx) = mesh.pair(1);
    // a port that is free for as long as nobody binds it again: it was bound on an address of this test
    let closed = TcpListener::bind((causeway_test_mesh::loopback(), 0)).unwrap().local_addr().unwrap();
    let hangs_up = Service::tcp(|stream| {
        reset(stream);
        Ok(())
    });
    let _pay = mesh
        .sidecar(&phx, "pay")
        .serve("closed.shop:80", closed)
        .serve("rude.shop:80", hangs_up.addr())
        .start();
    let web = mesh
        .sidecar(&iad, "web")
        .listen("closed.shop:80")
        .listen("closed.shop:81")
        .listen("rude.shop:80")
        .listen("nobody.shop:80")
        .start();
    for service in ["closed.shop", "rude.shop"] {
        mesh.ok(&["export", service, "--context", "phx"]);
        mesh.wait_offer("iad", service, "phx", 1);
    }

    let (kind, took) = refused(web.addr("nobody.shop:80"));
    assert_eq!(kind, ErrorKind::ConnectionReset, "a service nobody exports");
    assert!(took < Duration::from_secs(5), "{took:?}");
    let record = outbound(&web, "service-unknown");
    assert!(record["detail"].as_str().unwrap().contains("nobody.shop"), "{record}");

    assert_eq!(
        refused(web.addr("closed.shop:81")).0,
        ErrorKind::ConnectionReset,
        "a port that the service has not"
    );
    let record = outbound(&web, "port-unknown");
    assert!(record["detail"].as_str().unwrap().contains("81"), "{record}");

    assert_eq!(refused(web.addr("closed.shop:80")).0, ErrorKind::ConnectionReset, "an upstream that refuses");
    outbound(&web, "upstream-refused");
    let is = |record: &Value| record["direction"] == "inbound" && record["reason"] == "upstream-refused";
    let record = _pay.process.wait_access("upstream-refused", is);
    assert!(record["detail"].as_str().unwrap().contains(&closed.to_string()), "{record}");

    assert_eq!(refused(web.addr("rude.shop:80")).0, ErrorKind::ConnectionReset, "an upstream that resets");
}
