use super::*;
use crate::{ClusterCa, KeyPair};
use causeway_model::{GatewayRole, NodeId, TrustDomain};
use std::time::Duration;

const TTL: Duration = Duration::from_secs(3600);

fn start() -> SystemTime {
    timestamp::from_unix(1_800_000_000)
}

fn ca(name: &str) -> ClusterCa {
    ClusterCa::create(&name.parse().unwrap(), start() - 24 * TTL).unwrap()
}

fn issue(ca: &ClusterCa, path: &str) -> Vec<CertificateDer<'static>> {
    let id = format!("spiffe://{}{path}", ca.trust_domain()).parse().unwrap();
    let csr = KeyPair::generate().unwrap().csr().unwrap();
    ca.sign_svid(&csr, &id, start(), TTL).unwrap().into_iter().map(CertificateDer::from).collect()
}

fn store(cas: &[&ClusterCa]) -> BundleStore {
    let store = BundleStore::new();
    store.replace_all(cas.iter().map(|ca| ca.bundle()).collect()).unwrap();
    store
}

fn reason(result: Result<SpiffeId, VerifyError>) -> &'static str {
    result.map_or_else(|e| e.reason(), |_| "ok")
}

#[test]
fn the_clock_slack_ends_exactly_where_it_says() {
    let iad = ca("iad.mesh");
    let (store, chain) = (store(&[&iad]), issue(&iad, "/ns/a/sa/b"));
    let at = |now| reason(verify_chain(&store, &chain, Usage::Client, now));
    let second = Duration::from_secs(1);
    let (first, last) = (start() - 2 * CLOCK_SLACK, start() + TTL + CLOCK_SLACK);
    assert_eq!((at(start()), at(first), at(last)), ("ok", "ok", "ok"));
    assert_eq!(at(first - second), "certificate-not-yet-valid");
    assert_eq!(at(last + second), "certificate-expired");
    let late = verify_chain(&store, &chain, Usage::Client, last + TTL).unwrap_err().to_string();
    assert!(late.contains("65 minutes ago") && late.contains("check the clocks"), "{late}");
    let early = verify_chain(&store, &chain, Usage::Client, first - TTL).unwrap_err().to_string();
    assert!(early.contains("check the clocks"), "{early}");
    assert_eq!(at(SystemTime::UNIX_EPOCH), "certificate-not-yet-valid");
}

#[test]
fn each_trust_domain_is_judged_by_its_own_roots() {
    let (iad, phx, posing) = (ca("iad.mesh"), ca("phx.mesh"), ca("iad.mesh"));
    let both = store(&[&iad, &phx]);
    let check = |store: &BundleStore, chain: &[CertificateDer<'_>]| {
        verify_chain(store, chain, Usage::Server, start())
    };
    let id = check(&both, &issue(&phx, "/ns/a/sa/b")).unwrap();
    assert_eq!(id.to_string(), "spiffe://phx.mesh/ns/a/sa/b");
    assert_eq!(reason(check(&both, &issue(&posing, "/ns/a/sa/b"))), "bad-signature");
    let unknown = check(&store(&[&iad]), &issue(&phx, "/ns/a/sa/b")).unwrap_err();
    assert_eq!(unknown.reason(), "unknown-trust-domain");
    assert!(unknown.to_string().contains("it knows iad.mesh"), "{unknown}");
    assert!(!unknown.for_peer().contains("iad.mesh"), "{}", unknown.for_peer());
    both.remove(phx.trust_domain());
    assert_eq!(reason(check(&both, &issue(&phx, "/ns/a/sa/b"))), "unknown-trust-domain");
}

#[test]
fn what_is_no_svid_is_refused() {
    let iad = ca("iad.mesh");
    let store = store(&[&iad]);
    let check = |chain: &[CertificateDer<'_>]| reason(verify_chain(&store, chain, Usage::Client, start()));
    assert_eq!(check(&[]), "no-certificate");
    assert_eq!(check(&[CertificateDer::from(iad.root_der().to_vec())]), "not-spiffe");
    assert_eq!(check(&[CertificateDer::from(&b"junk"[..])]), "not-spiffe");
    let leaf = issue(&iad, "/ns/a/sa/b").remove(0);
    assert_eq!(check(&vec![leaf.clone(); MAX_CHAIN + 1]), "not-spiffe");
    // an SVID cannot sign another: the second leaf is ignored, the first is still good
    assert_eq!(check(&[leaf.clone(), leaf]), "ok");
}

#[test]
fn rules_for_servers() {
    let iad = ca("iad.mesh");
    let store = store(&[&iad]);
    let td = iad.trust_domain().clone();
    let gateway = SpiffeId::gateway(&td, NodeId(7));
    let forwarder = SpiffeId::node(&td, GatewayRole::Forwarder, NodeId(7));
    let workload: SpiffeId = "spiffe://iad.mesh/ns/a/sa/b".parse().unwrap();
    let check =
        |rule: &ServerRule, path: &str| reason(verify_server(rule, &store, &issue(&iad, path), start()));
    let of = ServerRule::GatewayOf(td);
    assert_eq!(check(&of, gateway.path()), "ok");
    assert_eq!(check(&of, workload.path()), "wrong-role");
    assert_eq!(check(&of, forwarder.path()), "wrong-role");
    let other = ServerRule::GatewayOf("phx.mesh".parse::<TrustDomain>().unwrap());
    assert_eq!(check(&other, gateway.path()), "wrong-identity");
    assert_eq!(check(&ServerRule::GatewayNode(gateway.clone()), gateway.path()), "ok");
    // the same node in another role is somebody else
    let this = ServerRule::GatewayNode(gateway.clone());
    for other in ["/causeway/gateway/0000000000000008", forwarder.path()] {
        assert_eq!(check(&this, other), "wrong-identity");
    }
    let this = ServerRule::GatewayNode(forwarder.clone());
    assert_eq!(check(&this, forwarder.path()), "ok");
    assert_eq!(check(&this, gateway.path()), "wrong-identity");
    assert_eq!(check(&ServerRule::GatewayNode(workload.clone()), workload.path()), "wrong-role");
    let one_of = ServerRule::OneOf(vec![workload.clone()].into());
    assert_eq!(check(&one_of, workload.path()), "ok");
    assert_eq!(check(&one_of, "/ns/a/sa/c"), "wrong-identity");
    let nobody = ServerRule::OneOf(Vec::new().into());
    let error = verify_server(&nobody, &store, &issue(&iad, "/ns/a/sa/b"), start()).unwrap_err();
    assert!(error.to_string().contains("nobody"), "{error}");
}

#[test]
fn a_pinned_root_must_be_presented_and_have_signed() {
    let (iad, phx) = (ca("iad.mesh"), ca("phx.mesh"));
    let root = |ca: &ClusterCa| CertificateDer::from(ca.root_der().to_vec());
    let pin = iad.bundle().fingerprint();
    let rule = ServerRule::Fingerprint(pin);
    let check =
        |chain: &[CertificateDer<'_>]| reason(verify_server(&rule, &BundleStore::new(), chain, start()));
    let gateway = issue(&iad, "/causeway/gateway/0000000000000007").remove(0);
    let chain = [gateway.clone(), root(&iad)];
    assert_eq!(check(&chain), "ok");
    assert_eq!(pinned_bundle(&chain, &pin).unwrap(), iad.bundle());
    assert_eq!(check(std::slice::from_ref(&gateway)), "wrong-fingerprint");
    assert_eq!(check(&[gateway, root(&phx)]), "wrong-fingerprint");
    for path in ["/ns/a/sa/b", "/causeway/forwarder/0000000000000007"] {
        assert_eq!(check(&[issue(&iad, path).remove(0), root(&iad)]), "wrong-role", "{path}");
    }
    // the right root beside a leaf of another cluster, and of another CA for the same trust domain
    let path = "/causeway/gateway/0000000000000007";
    assert_eq!(check(&[issue(&phx, path).remove(0), root(&iad), root(&phx)]), "bad-chain");
    assert_eq!(check(&[issue(&ca("iad.mesh"), path).remove(0), root(&iad)]), "bad-signature");
}

#[test]
fn a_pinned_leaf_is_no_root() {
    let iad = ca("iad.mesh");
    let leaf = issue(&iad, "/causeway/gateway/0000000000000007").remove(0);
    let pin = fingerprint(&leaf);
    let chain = [leaf.clone(), leaf, CertificateDer::from(iad.root_der().to_vec())];
    let result = verify_server(&ServerRule::Fingerprint(pin), &BundleStore::new(), &chain, start());
    assert_eq!(reason(result), "bad-chain");
}

#[test]
fn a_verified_chain_says_who_and_until_when() {
    let chain = issue(&ca("iad.mesh"), "/ns/a/sa/b");
    assert_eq!(peer_id(&chain).unwrap().path(), "/ns/a/sa/b");
    assert_eq!(not_after(&chain).unwrap(), start() + TTL);
    assert_eq!(peer_id(&[]).unwrap_err(), VerifyError::NoCertificate);
}
