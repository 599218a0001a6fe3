//! A service with several remote endpoints: the load is spread, and an endpoint that dies is replaced.

use causeway_test_mesh::{Mesh, SOON, Service, get, wait_until};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const ENDPOINTS: usize = 4;
const CONNECTIONS: usize = 400;
/// How long an endpoint that was killed may still be chosen.
const GONE: Duration = Duration::from_secs(2);

#[test]
fn load_is_spread_and_a_dead_endpoint_is_replaced() {
    let mesh = Mesh::new("spread");
    let (iad, phx) = mesh.pair(1);
    let services: Vec<Service> =
        (0..ENDPOINTS).map(|number| Service::http(&format!("endpoint {number}"))).collect();
    let tokens =
        mesh.ok(&["token", "create", "--service", "pool.test:80", "--uses", "4", "--context", "phx"]);
    let mut servers: Vec<_> = (0..ENDPOINTS)
        .map(|number| {
            let builder = mesh.sidecar(&phx, &format!("server-{number}")).token(&tokens);
            builder.serve("pool.test:80", services[number].addr()).spawn()
        })
        .collect();
    servers.iter_mut().for_each(|server| server.wait_ready());
    let client = mesh.sidecar(&iad, "client").listen("pool.test:80").start();
    mesh.ok(&["export", "pool.test", "--context", "phx"]);
    mesh.wait_offer("iad", "pool.test", "phx", ENDPOINTS as u64);
    let addr = client.addr("pool.test:80");

    let mut counts = BTreeMap::new();
    for _ in 0..CONNECTIONS {
        *counts.entry(get(addr, "/").unwrap().text()).or_insert(0_usize) += 1;
    }
    let (most, least) = (*counts.values().max().unwrap(), *counts.values().min().unwrap());
    assert_eq!(counts.len(), ENDPOINTS, "{counts:?}");
    assert!(most * 2 <= least * 5, "the busiest has more than 2.5 times the idlest: {counts:?}");

    servers[1].process.kill();
    let killed = Instant::now();
    // for a moment requests may be lost with the endpoint, but none may hang
    while killed.elapsed() < GONE {
        let began = Instant::now();
        let answer = get(addr, "/").map(|answer| answer.text());
        assert!(began.elapsed() < GONE + Duration::from_secs(1), "{answer:?} took {:?}", began.elapsed());
    }
    for _ in 0..CONNECTIONS / 4 {
        let began = Instant::now();
        let answer = get(addr, "/").unwrap().text();
        assert_ne!(answer, "endpoint 1", "the dead endpoint");
        assert!(began.elapsed() < GONE, "{answer} took {:?}", began.elapsed());
    }
    mesh.wait_offer("iad", "pool.test", "phx", ENDPOINTS as u64 - 1);
    mesh.wait_offer("phx", "pool.test", "phx", ENDPOINTS as u64 - 1);

    // it comes back with the identity on its disk, though its token has no uses left, and gets its share again
    servers[1].restart();
    servers[1].wait_ready();
    mesh.wait_offer("iad", "pool.test", "phx", ENDPOINTS as u64);
    wait_until(SOON, "the new endpoint gets requests", || get(addr, "/").unwrap().text() == "endpoint 1");
}
