//! Ten endpoints behind the gateways of a remote cluster: who gets how many connections.
//!
//! With `CAUSEWAY_SLOW=1` the equal ones get the full 10,000 connections, which takes an optimised binary.

use crate::arrivals::{counts, failures, in_turn};
use causeway_test_mesh::{Cluster, Endpoint, Mesh, Mood, SOON, Sidecar, get, wait_until};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

pub(crate) const SERVICE: &str = "pool.test";
pub(crate) const PORT: &str = "pool.test:80";
const ENDPOINTS: usize = 10;
/// How many connections the equal endpoints get, with binaries that are not optimised and beside other tests.
const CONNECTIONS: usize = 1_500;
/// The same with `CAUSEWAY_SLOW=1`.
const ALL_CONNECTIONS: usize = 10_000;
/// The busiest of equal endpoints gets so many times what the idlest gets at most.
const SPREAD: f64 = 1.2;
/// In which time a slow endpoint is found.
const FOUND: Duration = Duration::from_secs(5);
/// What it gets then at most.
const SLOW_SHARE: f64 = 0.05;

/// One client and ten endpoints, in two clusters of two gateways each.
pub(crate) struct Ten {
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) client: Sidecar,
    _clusters: [Cluster; 2],
    // the last: the logs are in its folder
    _mesh: Mesh,
}

impl Ten {
    /// Starts them, and waits until each endpoint has answered. `log` is the client's log filter.
    #[track_caller]
    pub(crate) fn start(name: &str, log: &str) -> Self {
        let mesh = Mesh::new(name);
        let (iad, phx) = mesh.pair(2);
        let endpoints = Endpoint::start(&mesh, &phx, PORT, ENDPOINTS, |builder| builder);
        let client = mesh.sidecar(&iad, "client").listen(PORT).flag("--log", log).start();
        mesh.ok(&["export", SERVICE, "--context", "phx"]);
        mesh.wait_offer("iad", SERVICE, "phx", ENDPOINTS as u64);
        let ten = Self { endpoints, client, _clusters: [iad, phx], _mesh: mesh };
        let mut seen = BTreeSet::new();
        wait_until(SOON, "each endpoint has answered", || {
            seen.insert(get(ten.addr(), "/").unwrap().text());
            seen.len() == ENDPOINTS
        });
        ten
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.client.addr(PORT)
    }
}

#[test]
fn equal_endpoints_get_equally_many_connections() {
    let slow = std::env::var("CAUSEWAY_SLOW").as_deref() == Ok("1");
    let connections = if slow { ALL_CONNECTIONS } else { CONNECTIONS };
    let ten = Ten::start("shares", "info");
    let began = Instant::now();
    let calls = in_turn(ten.addr(), connections);
    let took = began.elapsed();
    assert_eq!(failures(&calls, began), Vec::<String>::new());
    let counts = counts(&calls);
    let (most, least) = (*counts.values().max().unwrap(), *counts.values().min().unwrap());
    let ratio = most as f64 / least as f64;
    println!(
        "{connections} connections one after another in {took:?}: {counts:?}, busiest to idlest {ratio:.3}"
    );
    assert_eq!(counts.len(), ENDPOINTS, "{counts:?}");
    assert!(ratio <= SPREAD, "busiest to idlest {ratio:.3}: {counts:?}");
    let ejections = ten.client.scrape().sum("causeway_sidecar_balance_ejections_total", "");
    assert!(ejections.eq(&0.0), "{ejections} ejections, and nobody failed");
}

#[test]
fn an_endpoint_that_is_ten_times_slower_gets_little() {
    let mut ten = Ten::start("slow-endpoint", "info");
    let usual = Duration::from_millis(5);
    ten.endpoints.iter_mut().for_each(|endpoint| endpoint.application.is(Mood::Answers(usual)));
    in_turn(ten.addr(), 100);
    ten.endpoints[3].application.is(Mood::Answers(usual * 10));
    let began = Instant::now();
    let mut before = 0;
    while began.elapsed() < FOUND {
        before += counts(&in_turn(ten.addr(), 1)).get("phx-3").copied().unwrap_or_default();
    }
    let calls = in_turn(ten.addr(), 600);
    assert_eq!(failures(&calls, began), Vec::<String>::new());
    let counts = counts(&calls);
    let share = counts.get("phx-3").copied().unwrap_or_default() as f64 / calls.len() as f64;
    let at = calls.iter().filter(|call| call.answer.as_deref() == Ok("phx-3"));
    let at: Vec<_> = at.map(|call| (call.began - began, call.took)).collect();
    println!("it was tried at {at:?}");
    println!("the slow one got {before} in the first {FOUND:?}, then {share:.4} of all: {counts:?}");
    assert!(share < SLOW_SHARE, "{share:.4} of {counts:?}");
    // the nine others share the rest
    let others = counts.iter().filter(|(name, _)| *name != "phx-3").map(|(_, count)| *count);
    let (most, least) = (others.clone().max().unwrap(), others.min().unwrap());
    assert!(most as f64 <= least as f64 * 2.0, "{counts:?}");

    // well again, it gets its share back
    ten.endpoints[3].application.is(Mood::Answers(usual));
    let healed = Instant::now();
    wait_until(SOON, "the endpoint that is quick again gets its share", || {
        let calls = in_turn(ten.addr(), 100);
        crate::arrivals::counts(&calls).get("phx-3").is_some_and(|count| *count >= 5)
    });
    println!("its share was back after {:?}", healed.elapsed());
}
