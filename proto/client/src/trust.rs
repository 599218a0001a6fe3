//! Trust bundles as gateways tell them, and what of them is kept. Pure.

use causeway_identity::{BundleStore, IdentityError, TrustBundle, VerifyError};
use causeway_model::{Revocation, RevokedSubject};
use causeway_wire::view::BundleView;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// The bundle that a gateway told, with its revocations.
pub(crate) fn bundle(view: BundleView) -> Result<TrustBundle, IdentityError> {
    TrustBundle::new(view.trust_domain, view.roots)?.with_revoked(view.revoked)
}

/// The bundles that are believed now, in the order of their trust domains.
pub(crate) fn believed(bundles: &BundleStore) -> Vec<TrustBundle> {
    let domains = bundles.domains();
    let known = domains.iter().filter_map(|domain| bundles.get(domain));
    known.map(|bundle| TrustBundle::clone(&bundle)).collect()
}

/// A bundle that came with an SVID, with what is `known` to be revoked: it bears no revision, so the gateway that issued it may
/// lag, and no certificate is believed again for that. Of more than a bundle may have, the latest stay.
pub(crate) fn keep_revoked(
    issued: TrustBundle,
    known: Option<&TrustBundle>,
) -> Result<TrustBundle, IdentityError> {
    let mut latest: BTreeMap<RevokedSubject, u64> = BTreeMap::new();
    for revocation in known.iter().flat_map(|known| &known.revoked).chain(&issued.revoked) {
        let until = latest.entry(revocation.subject.clone()).or_default();
        *until = revocation.issued_before.max(*until);
    }
    let all = latest.into_iter().map(|(subject, issued_before)| Revocation { subject, issued_before });
    let mut revoked: Vec<Revocation> = all.collect();
    revoked.sort_by_key(|revocation| Reverse(revocation.issued_before));
    revoked.truncate(Revocation::MAX_PER_DOMAIN);
    issued.with_revoked(revoked)
}

/// The first bytes of a root's fingerprint, by which gateways name it.
pub(crate) fn root_id(fingerprint: &[u8; 32]) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h, ..] = *fingerprint;
    [a, b, c, d, e, f, g, h]
}

/// Whether a certificate is refused because it, or one above it, was revoked.
pub(crate) fn is_revoked(error: &VerifyError) -> bool {
    matches!(error, VerifyError::Revoked { .. } | VerifyError::SignerRevoked { .. })
}

#[cfg(test)]
mod tests {
    use super::*;
    use causeway_identity::ClusterCa;
    use std::time::SystemTime;

    fn revoked(account: usize, issued_before: u64) -> Revocation {
        let subject = format!("spiffe://iad.mesh/ns/shop/sa/s{account}").parse().unwrap();
        Revocation { subject, issued_before }
    }

    #[test]
    fn an_issue_takes_no_revocation_back() {
        let ca = ClusterCa::create(&"iad.mesh".parse().unwrap(), SystemTime::now()).unwrap();
        let with = |revoked| ca.bundle().with_revoked(revoked).unwrap();
        let known = with(vec![revoked(1, 50), revoked(2, 50)]);
        let kept = keep_revoked(with(vec![revoked(2, 60), revoked(3, 40)]), Some(&known)).unwrap();
        assert_eq!(kept.revoked, [revoked(2, 60), revoked(1, 50), revoked(3, 40)]);
        assert_eq!(keep_revoked(ca.bundle(), None).unwrap(), ca.bundle());
        // as many as there may be, of which the oldest give way
        let full = with((0..Revocation::MAX_PER_DOMAIN).map(|n| revoked(n, 100 + n as u64)).collect());
        let kept = keep_revoked(with(vec![revoked(9999, 5000)]), Some(&full)).unwrap();
        assert_eq!(kept.revoked.len(), Revocation::MAX_PER_DOMAIN);
        assert!(kept.revoked.contains(&revoked(9999, 5000)) && !kept.revoked.contains(&revoked(0, 100)));
    }

    #[test]
    fn a_bundle_has_the_revocations_that_were_told() {
        let ca = ClusterCa::create(&"iad.mesh".parse().unwrap(), SystemTime::now()).unwrap();
        let view = |revoked| BundleView {
            trust_domain: ca.trust_domain().clone(),
            roots: vec![ca.root_der().to_vec()],
            revoked,
        };
        assert_eq!(bundle(view(vec![revoked(1, 7)])).unwrap().revoked, [revoked(1, 7)]);
        assert!(bundle(view(vec![revoked(1, 7); Revocation::MAX_PER_DOMAIN + 1])).is_err());
    }
}
