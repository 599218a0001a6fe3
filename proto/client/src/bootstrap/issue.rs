//! Judging an SVID that a gateway issued, at joining and at renewal.

use crate::trust;
use causeway_identity::{BundleStore, KeyPair, Svid, TrustBundle, Usage, verify_chain};
use causeway_model::{SpiffeRole, TrustDomain};
use causeway_wire::ctl::Issued;
use std::time::SystemTime;

/// The SVID and the bundle in `issued`, if they are a workload's of `trust_domain`, fit each other and the key, and the bundle has
/// the root with fingerprint `pin`, where there is one, and does not revoke it.
pub(crate) fn accept(
    issued: Issued,
    key: KeyPair,
    trust_domain: &TrustDomain,
    pin: Option<&[u8; 32]>,
    now: SystemTime,
) -> Result<(Svid, TrustBundle), String> {
    let named = &issued.bundle.trust_domain;
    if named != trust_domain {
        return Err(format!("its bundle is of trust domain {named}, not of {trust_domain}"));
    }
    let bundle = trust::bundle(issued.bundle).map_err(|error| error.to_string())?;
    if pin.is_some_and(|pin| !bundle.has_root(pin)) {
        return Err("its bundle does not have the root that the token names".to_owned());
    }
    let svid = Svid::new(issued.chain, key).map_err(|error| error.to_string())?;
    if !matches!(svid.id().role(), SpiffeRole::Workload { .. }) {
        return Err(format!("{} is no workload's identity", svid.id()));
    }
    let store = BundleStore::new();
    store.set(bundle.clone()).map_err(|error| error.to_string())?;
    verify_chain(&store, svid.chain(), Usage::Client, now).map_err(|error| error.to_string())?;
    Ok((svid, bundle))
}

#[cfg(test)]
mod tests {
    use super::*;
    use causeway_identity::ClusterCa;
    use causeway_model::Revocation;
    use causeway_wire::view::BundleView;
    use std::time::Duration;

    const HOUR: Duration = Duration::from_secs(3600);

    fn ca(domain: &str) -> ClusterCa {
        ClusterCa::create(&domain.parse().unwrap(), SystemTime::now()).unwrap()
    }

    fn issued(ca: &ClusterCa, roots: &ClusterCa, key: &KeyPair, path: &str) -> Issued {
        let id = format!("spiffe://{}{path}", ca.trust_domain()).parse().unwrap();
        Issued {
            request: 1,
            chain: ca.sign_svid(&key.csr().unwrap(), &id, SystemTime::now(), HOUR).unwrap(),
            bundle: BundleView {
                trust_domain: roots.trust_domain().clone(),
                roots: vec![roots.root_der().to_vec()],
                revoked: Vec::new(),
            },
        }
    }

    #[test]
    fn an_identity_that_is_revoked_already_is_not_accepted() {
        let (own, key) = (ca("iad.mesh"), KeyPair::generate().unwrap());
        let judge = |issued_before| {
            let mut issued = issued(&own, &own, &key, "/ns/shop/sa/web");
            let subject = "spiffe://iad.mesh/ns/shop/sa/web".parse().unwrap();
            issued.bundle.revoked.push(Revocation { subject, issued_before });
            accept(issued, key.clone(), own.trust_domain(), None, SystemTime::now())
        };
        assert!(judge(u64::MAX).unwrap_err().contains("was revoked"));
        // what was issued before is, and the bundle says so to whoever believes it
        assert_eq!(judge(7).unwrap().1.revoked.len(), 1);
    }

    #[test]
    fn only_what_fits_together_is_accepted() {
        let (own, other, impostor) = (ca("iad.mesh"), ca("phx.mesh"), ca("iad.mesh"));
        let (key, foreign_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let pin = own.bundle().fingerprint();
        let judge = |issued: Issued, key: &KeyPair| {
            let domain = own.trust_domain();
            accept(issued, key.clone(), domain, Some(&pin), SystemTime::now())
                .map(|(svid, _)| svid.id().clone())
        };
        let web = "/ns/shop/sa/web";
        let good = judge(issued(&own, &own, &key, web), &key).unwrap();
        assert_eq!(good.to_string(), "spiffe://iad.mesh/ns/shop/sa/web");
        for (bad, key, word) in [
            (issued(&other, &other, &key, web), &key, "trust domain phx.mesh"),
            (issued(&impostor, &impostor, &key, web), &key, "the token names"),
            (issued(&impostor, &own, &key, web), &key, "not signed by a root"),
            (issued(&own, &own, &key, web), &foreign_key, "private key"),
            (issued(&own, &own, &key, "/causeway/gateway/0000000000000007"), &key, "no workload"),
        ] {
            let error = judge(bad, key).unwrap_err();
            assert!(error.contains(word), "{error} has no {word:?}");
        }
    }
}
