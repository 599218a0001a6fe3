use super::*;
use crate::{ClusterCa, KeyPair, TrustBundle, Usage, fingerprint, issued_at, verify_chain};
use causeway_model::{Revocation, RevokedSubject};
use std::time::{Duration, SystemTime};

const TTL: Duration = Duration::from_secs(3600);
/// When the revocations of these tests are made, in Unix seconds.
const REVOKED: u64 = 1_800_000_000;

fn at(unix: u64) -> SystemTime {
    timestamp::from_unix(i64::try_from(unix).unwrap())
}

fn ca(name: &str) -> ClusterCa {
    ClusterCa::create(&name.parse().unwrap(), at(REVOKED) - 24 * TTL).unwrap()
}

fn issue(ca: &ClusterCa, path: &str, when: SystemTime) -> Vec<CertificateDer<'static>> {
    let id = format!("spiffe://{}{path}", ca.trust_domain()).parse().unwrap();
    let csr = KeyPair::generate().unwrap().csr().unwrap();
    ca.sign_svid(&csr, &id, when, TTL).unwrap().into_iter().map(CertificateDer::from).collect()
}

fn store(bundle: TrustBundle) -> BundleStore {
    let store = BundleStore::new();
    store.set(bundle).unwrap();
    store
}

fn revoking(ca: &ClusterCa, subject: RevokedSubject, issued_before: u64) -> TrustBundle {
    ca.bundle().with_revoked(vec![Revocation { subject, issued_before }]).unwrap()
}

fn verdict(store: &BundleStore, chain: &[CertificateDer<'_>]) -> &'static str {
    let now = issued_at(chain).unwrap() + Duration::from_secs(60);
    verify_chain(store, chain, Usage::Client, now).map_or_else(|e| e.reason(), |_| "ok")
}

fn reason<T>(result: Result<T, VerifyError>) -> &'static str {
    result.map_or_else(|e| e.reason(), |_| "ok")
}

#[test]
fn what_was_issued_until_the_revocation_is_refused_and_what_comes_after_is_not() {
    let iad = ca("iad.mesh");
    let path = "/ns/a/sa/b";
    let subject = RevokedSubject::Identity("spiffe://iad.mesh/ns/a/sa/b".parse().unwrap());
    let store = store(revoking(&iad, subject, REVOKED));
    let issued = |seconds: i64| {
        let when = timestamp::from_unix(i64::try_from(REVOKED).unwrap() + seconds);
        // parts of a second are lost in the certificate
        issue(&iad, path, when + Duration::from_millis(700))
    };
    for (seconds, expected) in
        [(-3000, "revoked"), (-1, "revoked"), (0, "revoked"), (1, "ok"), (299, "ok"), (301, "ok")]
    {
        let chain = issued(seconds);
        assert_eq!(verdict(&store, &chain), expected, "{seconds} s after");
        assert_eq!(reason(store.standing(&chain)), expected, "{seconds} s after");
    }
    assert_eq!(verdict(&store, &issue(&iad, "/ns/a/sa/other", at(REVOKED - 1))), "ok");
    let chain = issued(-1);
    let error = verify_chain(&store, &chain, Usage::Server, at(REVOKED)).unwrap_err().to_string();
    assert!(error.contains("spiffe://iad.mesh/ns/a/sa/b") && error.contains("new token"), "{error}");
    assert!(error.contains("until 2027-01-15T08:00:00Z"), "{error}");
}

#[test]
fn a_stranger_does_not_learn_who_is_revoked() {
    let (iad, posing) = (ca("iad.mesh"), ca("iad.mesh"));
    let subject = RevokedSubject::Identity("spiffe://iad.mesh/ns/a/sa/b".parse().unwrap());
    let store = store(revoking(&iad, subject, u64::MAX));
    assert_eq!(verdict(&store, &issue(&posing, "/ns/a/sa/b", at(REVOKED))), "bad-signature");
}

#[test]
fn a_key_is_revoked_whatever_its_name() {
    let iad = ca("iad.mesh");
    let chain = issue(&iad, "/ns/a/sa/b", at(REVOKED));
    let trusting = store(iad.bundle());
    let standing = trusting.standing(&chain).unwrap();
    assert_eq!(standing.issued(), REVOKED);
    let store = store(revoking(&iad, RevokedSubject::Key(*standing.key()), u64::MAX));
    assert_eq!(verdict(&store, &chain), "revoked");
    assert_eq!(reason(store.judge(&standing)), "revoked");
    let error = store.judge(&standing).unwrap_err().to_string();
    assert!(error.contains("ever"), "{error}");
    assert_eq!(verdict(&store, &issue(&iad, "/ns/a/sa/b", at(REVOKED))), "ok");
}

#[test]
fn the_latest_of_a_full_list_counts() {
    let iad = ca("iad.mesh");
    let one = |n: usize, issued_before| Revocation {
        subject: format!("spiffe://iad.mesh/ns/a/sa/w{}", n / 2).parse().unwrap(),
        issued_before,
    };
    let list = (0..Revocation::MAX_PER_DOMAIN).map(|n| one(n, REVOKED - 10 * u64::try_from(n % 2).unwrap()));
    let store = store(iad.bundle().with_revoked(list.collect()).unwrap());
    assert_eq!(verdict(&store, &issue(&iad, "/ns/a/sa/w511", at(REVOKED - 5))), "revoked");
    assert_eq!(verdict(&store, &issue(&iad, "/ns/a/sa/w512", at(REVOKED - 5))), "ok");
}

#[test]
fn a_live_peer_is_judged_by_every_change() {
    let (iad, next) = (ca("iad.mesh"), ca("iad.mesh"));
    let chain = issue(&iad, "/ns/a/sa/b", at(REVOKED));
    let store = store(iad.bundle());
    let standing = store.standing(&chain).unwrap();
    assert_eq!((standing.id().path(), *standing.root()), ("/ns/a/sa/b", fingerprint(iad.root_der())));
    // nobody asks for the time, so that it has expired is no reason
    assert_eq!(reason(store.judge(&standing)), "ok");
    let roots = |cas: &[&ClusterCa]| {
        let roots = cas.iter().map(|ca| ca.root_der().to_vec()).collect();
        TrustBundle::new(iad.trust_domain().clone(), roots).unwrap()
    };
    for (bundle, expected) in [
        (roots(&[&iad, &next]), "ok"),
        (roots(&[&next, &iad]), "ok"),
        (roots(&[&next]), "bad-signature"),
        (revoking(&iad, RevokedSubject::Identity(standing.id().clone()), REVOKED), "revoked"),
        (revoking(&iad, RevokedSubject::Identity(standing.id().clone()), REVOKED - 1), "ok"),
    ] {
        store.set(bundle).unwrap();
        assert_eq!(reason(store.judge(&standing)), expected);
        assert_eq!(reason(store.standing(&chain)), expected);
    }
    store.remove(iad.trust_domain());
    assert_eq!(reason(store.judge(&standing)), "unknown-trust-domain");
    assert_eq!(reason(store.standing(&chain)), "unknown-trust-domain");
}

#[test]
fn during_a_rotation_each_svid_tells_its_root() {
    let (old, new, phx) = (ca("iad.mesh"), ca("iad.mesh"), ca("phx.mesh"));
    let roots = vec![new.root_der().to_vec(), old.root_der().to_vec()];
    let both = TrustBundle::new(old.trust_domain().clone(), roots).unwrap();
    let store = store(both.clone());
    for ca in [&old, &new] {
        let chain = issue(ca, "/ns/a/sa/b", at(REVOKED));
        assert_eq!(verdict(&store, &chain), "ok");
        assert_eq!(both.root_of(&chain), Some(ca.root_fingerprint()));
        assert_eq!(store.root_of(&chain), Some(ca.root_fingerprint()));
    }
    let chain = issue(&old, "/ns/a/sa/b", at(REVOKED));
    assert_eq!(new.bundle().root_of(&chain), None);
    assert_eq!(phx.bundle().root_of(&chain), None);
    assert_eq!(both.root_of(&[]), None);
}

#[test]
fn a_peer_whose_root_was_dropped_can_still_be_revoked() {
    let (old, new) = (ca("iad.mesh"), ca("iad.mesh"));
    let chain = issue(&old, "/ns/a/sa/b", at(REVOKED - 60));
    let bundles = store(old.bundle());
    let standing = bundles.standing(&chain).unwrap();
    bundles.set(new.bundle()).unwrap();
    assert_eq!(reason(bundles.judge(&standing)), "bad-signature");
    let subject = RevokedSubject::Identity("spiffe://iad.mesh/ns/a/sa/b".parse().unwrap());
    bundles.set(revoking(&new, subject, REVOKED)).unwrap();
    assert_eq!(reason(bundles.judge(&standing)), "revoked");
}
