//! Trust bundles as gateways tell them, and what of them is kept. Pure.

use causeway_identity::{BundleStore, IdentityError, TrustBundle, VerifyError};
use causeway_model::{Revocation, RevokedSubject, TrustDomain, trust_len};
use causeway_wire::ctl::MAX_BUNDLES;
use causeway_wire::view::BundleView;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// The bundle that a gateway told, with its revocations.
pub(crate) fn bundle(view: BundleView) -> Result<TrustBundle, IdentityError> {
    TrustBundle::new(view.trust_domain, view.roots)?.with_revoked(view.revoked)
}

/// The bundles that a gateway has told over a session, until it says which of them count.
#[derive(Debug, Default)]
pub(crate) struct Telling(BTreeMap<TrustDomain, BundleView>);

impl Telling {
    /// It tells `view`, in the place of what it told of that trust domain before; whether there was room for it.
    pub(crate) fn tell(&mut self, view: BundleView) -> bool {
        let room = self.0.len() < MAX_BUNDLES || self.0.contains_key(&view.trust_domain);
        if room {
            self.0.insert(view.trust_domain.clone(), view);
        }
        room
    }

    /// What it told is believed, or known to be older than what is.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// The bundles of `domains` as they were told, or as they are believed, in the order of the trust domains. One that cannot be used
    /// is left out. Nothing if there are more than a gateway may name.
    pub(crate) fn count(&self, domains: &[TrustDomain], believed: &BundleStore) -> Option<Vec<TrustBundle>> {
        if domains.len() > MAX_BUNDLES {
            return None;
        }
        let usable = |view: &BundleView| {
            bundle(view.clone())
                .inspect_err(|error| tracing::warn!(%error, "a bundle that a gateway told is left out"))
                .ok()
        };
        let of = |domain: &TrustDomain| match self.0.get(domain) {
            Some(view) => usable(view),
            None => believed.get(domain).map(|bundle| TrustBundle::clone(&bundle)),
        };
        Some(domains.iter().collect::<BTreeSet<_>>().into_iter().filter_map(of).collect())
    }
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
    while trust_len(&issued.roots, &revoked) > Revocation::MAX_TRUST_BYTES && revoked.pop().is_some() {}
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
    fn what_was_told_counts_before_what_is_believed_and_nothing_else_counts() {
        let ca = |domain: &str| ClusterCa::create(&domain.parse().unwrap(), SystemTime::now()).unwrap();
        let (iad, phx, lhr) = (ca("iad.mesh"), ca("phx.mesh"), ca("lhr.mesh"));
        let store = BundleStore::new();
        for known in [&iad, &phx] {
            store.set(known.bundle()).unwrap();
        }
        let view = |ca: &ClusterCa, revoked| BundleView {
            trust_domain: ca.trust_domain().clone(),
            roots: vec![ca.root_der().to_vec()],
            revoked,
        };
        let mut telling = Telling::default();
        let key = Revocation { subject: RevokedSubject::Key([7; 32]), issued_before: 9 };
        assert!(telling.tell(view(&iad, vec![key.clone()])) && telling.tell(view(&lhr, vec![revoked(1, 7)])));
        let domains = |of: &[&ClusterCa]| of.iter().map(|ca| ca.trust_domain().clone()).collect::<Vec<_>>();
        let count = |telling: &Telling, of: &[&ClusterCa]| {
            let counted = telling.count(&domains(of), &store).unwrap();
            counted
                .into_iter()
                .map(|bundle| (bundle.trust_domain.to_string(), bundle.revoked.len()))
                .collect::<Vec<_>>()
        };
        let one = |domain: &str, revoked| (domain.to_owned(), revoked);
        assert_eq!(count(&telling, &[&phx, &iad, &iad]), [one("iad.mesh", 1), one("phx.mesh", 0)]);
        assert_eq!(
            count(&telling, &[&iad, &lhr]),
            [one("iad.mesh", 1)],
            "it revokes whom it has no say over"
        );
        telling.clear();
        assert_eq!(count(&telling, &[&iad, &lhr]), [one("iad.mesh", 0)]);
        // what a gateway may tell is bounded
        let many: Vec<TrustDomain> =
            (0..=MAX_BUNDLES).map(|n| format!("c{n}.mesh").parse().unwrap()).collect();
        assert!(telling.count(&many, &store).is_none());
        let told = many.iter().filter(|domain| {
            telling.tell(BundleView {
                trust_domain: (*domain).clone(),
                roots: Vec::new(),
                revoked: Vec::new(),
            })
        });
        assert_eq!(told.count(), MAX_BUNDLES);
        assert!(telling.tell(BundleView {
            trust_domain: many[0].clone(),
            roots: Vec::new(),
            revoked: Vec::new()
        }));
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
