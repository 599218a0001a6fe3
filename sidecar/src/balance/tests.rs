//! What is known of clusters and endpoints together.

use super::*;
use causeway_balance::Candidate;
use causeway_model::{Locality, PortKey, WorkloadId};

fn cluster(id: u32) -> ClusterId {
    ClusterId::new(id).unwrap()
}

fn target(id: u32, instance: u64) -> Target {
    Target::Endpoint(cluster(id), WorkloadId(instance))
}

/// Balances of cluster 1, whose gateways answer as long as the sender says so.
fn balances() -> (Balances, watch::Sender<bool>) {
    let (gateways, alive) = watch::channel(true);
    let counts = BalanceMetrics::default();
    (Balances::new(BalanceConfig::default(), cluster(1), counts, alive, 0.5), gateways)
}

fn silence() -> Ear {
    Ear(Vec::new())
}

/// A line that knows `targets`.
fn line(balances: &Balances, port: u16, targets: &[Target]) -> Arc<Line> {
    let line = balances.line(&"pay.shop".parse().unwrap(), PortKey::tcp(port));
    let place = Locality { region: "a".into(), zone: "b".into() };
    let candidate = |key: &Target| Candidate {
        key: *key,
        tier: causeway_balance::Tier::new(&place, &place, 0),
        weight: 1,
        healthy: true,
        reachable: true,
        connected: true,
        tried: false,
    };
    let candidates: Vec<_> = targets.iter().map(candidate).collect();
    drop(Pick::new(&line, &candidates, true).unwrap());
    line
}

fn timed_out() -> Failure {
    Failure::Connection { endpoint: "x".into(), reason: "timed-out", text: String::new() }
}

#[test]
fn a_line_is_known_by_service_and_port_and_forgotten_when_there_are_many() {
    let (balances, _gateways) = balances();
    let one = line(&balances, 80, &[target(1, 1)]);
    assert!(Arc::ptr_eq(&one, &line(&balances, 80, &[target(1, 1)])));
    assert!(!Arc::ptr_eq(&one, &line(&balances, 81, &[target(1, 1)])));
    for n in 0..5000 {
        drop(balances.line(&format!("s{n}.shop").parse().unwrap(), PortKey::tcp(80)));
    }
    assert!(lock(&balances.lines).count <= MAX_LINES);
    assert!(Arc::ptr_eq(&one, &line(&balances, 80, &[target(1, 1)])), "somebody holds it");
}

#[test]
fn an_endpoint_of_the_own_cluster_is_to_blame_itself() {
    let (balances, gateways) = balances();
    let line = line(&balances, 80, &[target(1, 1), target(1, 2)]);
    assert_eq!(balances.unanswered(target(1, 1), Instant::now(), &silence()), Verdict::Known);
    assert_eq!((line.ejected(), balances.is_suspect(cluster(1))), (1, false));
    // without any gateway, nobody is
    gateways.send_replace(false);
    assert_eq!(balances.unanswered(target(1, 2), Instant::now(), &silence()), Verdict::Known);
    assert_eq!(balances.unanswered(target(2, 9), Instant::now(), &silence()), Verdict::Known);
    assert_eq!((line.ejected(), balances.is_suspect(cluster(2))), (1, false));
}

#[test]
fn a_cluster_is_suspected_once_and_an_endpoint_blamed_when_others_answer() {
    let (balances, _gateways) = balances();
    let line = line(&balances, 80, &[target(2, 1), target(2, 2)]);
    assert_eq!(balances.unanswered(target(2, 1), Instant::now(), &silence()), Verdict::Suspected);
    assert_eq!(balances.silent(cluster(2), &silence()), Verdict::Known);
    assert!(balances.is_suspect(cluster(2)) && line.ejected() == 0);
    balances.heard(cluster(2), Some(target(2, 2)));
    assert!(!balances.is_suspect(cluster(2)));
    assert_eq!(line.ejected(), 1, "it was the only one that did not answer");
}

#[test]
fn what_is_lost_while_a_cluster_is_silent_ejects_nobody() {
    let (balances, _gateways) = balances();
    let line = line(&balances, 80, &[target(2, 1), target(2, 2)]);
    let began = Instant::now();
    assert_eq!(balances.silent(cluster(2), &silence()), Verdict::Suspected);
    balances.not_connected(target(2, 1), &timed_out(), began, &silence());
    balances.heard(cluster(2), None);
    balances.not_connected(target(2, 2), &timed_out(), began, &silence());
    assert_eq!(line.ejected(), 0);
}

#[test]
fn what_a_gateway_picked_is_never_ejected() {
    let (balances, _gateways) = balances();
    let any = Target::Service(cluster(2), causeway_model::ServiceHandle(7));
    let line = line(&balances, 80, &[any, target(2, 2)]);
    let refused = Failure::Connection { endpoint: "x".into(), reason: "going-away", text: String::new() };
    for _ in 0..10 {
        balances.not_connected(any, &refused, Instant::now(), &silence());
    }
    assert_eq!(line.ejected(), 0);
    balances.not_connected(target(2, 2), &refused, Instant::now(), &silence());
    assert_eq!(line.ejected(), 1);
}
