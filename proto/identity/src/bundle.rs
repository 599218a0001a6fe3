//! Trust bundles: the root certificates of a trust domain (SPIFFE Trust Domain and Bundle specification), and which
//! certificates under them are revoked.

mod revoked;
mod store;

pub(crate) use revoked::Revoked;
pub use store::BundleStore;
pub(crate) use store::Entry;

use crate::IdentityError;
use crate::cert::{Facts, fingerprint};
use causeway_model::{Revocation, TrustDomain};
use rustls_pki_types::{CertificateDer, TrustAnchor};
use serde::{Deserialize, Serialize};

/// The roots of one trust domain, and its revocations. Made by [`TrustBundle::new`] or deserialization, which both check
/// it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
#[non_exhaustive]
pub struct TrustBundle {
    /// Whose roots they are.
    pub trust_domain: TrustDomain,
    /// The root certificates, DER, the one that signs now first.
    pub roots: Vec<Vec<u8>>,
    /// Certificates that are refused although a root vouches for them, at most [`Revocation::MAX_PER_DOMAIN`]. A revoked
    /// key is refused in CA certificates below the root too, if they begin to be valid until that moment.
    pub revoked: Vec<Revocation>,
}

#[derive(Deserialize)]
struct Unchecked {
    trust_domain: TrustDomain,
    roots: Vec<Vec<u8>>,
    #[serde(default)]
    revoked: Vec<Revocation>,
}

impl TryFrom<Unchecked> for TrustBundle {
    type Error = IdentityError;

    fn try_from(unchecked: Unchecked) -> Result<Self, IdentityError> {
        Self::new(unchecked.trust_domain, unchecked.roots)?.with_revoked(unchecked.revoked)
    }
}

impl TrustBundle {
    /// The most roots in a bundle: enough for a rotation under way, with room for another to overlap it.
    pub const MAX_ROOTS: usize = 8;

    /// The bundle of `trust_domain` with `roots` (DER), which revokes nothing.
    ///
    /// # Errors
    /// [`IdentityError::Bundle`] unless there are 1 to [`TrustBundle::MAX_ROOTS`] roots, each of them a CA certificate
    /// of at most [`crate::MAX_CERTIFICATE`] bytes that names this trust domain or none.
    pub fn new(trust_domain: TrustDomain, roots: Vec<Vec<u8>>) -> Result<Self, IdentityError> {
        let bundle = Self { trust_domain, roots, revoked: Vec::new() };
        bundle.anchors()?;
        Ok(bundle)
    }

    /// The same roots, with these revocations and no others. Of two for one subject the later counts.
    ///
    /// # Errors
    /// [`IdentityError::Bundle`] if there are more than [`Revocation::MAX_PER_DOMAIN`], they take with the roots more than
    /// [`Revocation::MAX_TRUST_BYTES`], or one is of an identity of another trust domain.
    pub fn with_revoked(mut self, revoked: Vec<Revocation>) -> Result<Self, IdentityError> {
        self.revoked = revoked;
        Revoked::compile(&self)?;
        Ok(self)
    }

    /// SHA-256 of the first root: what join and link tokens pin.
    pub fn fingerprint(&self) -> [u8; 32] {
        fingerprint(self.roots.first().map_or(&[], Vec::as_slice))
    }

    /// Whether one of the roots has this SHA-256.
    pub fn has_root(&self, fingerprint: &[u8; 32]) -> bool {
        self.roots.iter().any(|root| crate::fingerprint(root) == *fingerprint)
    }

    /// SHA-256 of the root that vouches for `chain` (leaf first); `None` if none does, or the leaf is of another trust
    /// domain. The chain is judged as of the moment when its leaf was issued, and revocations play no part.
    pub fn root_of(&self, chain: &[CertificateDer<'_>]) -> Option<[u8; 32]> {
        let anchors = self.anchors().ok()?;
        let root = crate::verify::anchor_of(&self.trust_domain, &anchors, chain)?;
        self.roots.get(root).map(|root| fingerprint(root))
    }

    /// The roots as webpki uses them. Checks the bundle anew, for its fields can be written.
    pub(crate) fn anchors(&self) -> Result<Vec<TrustAnchor<'static>>, IdentityError> {
        let count = self.roots.len();
        if count == 0 || count > Self::MAX_ROOTS {
            return Err(self.error(format!("it has {count} roots, need 1 to {}", Self::MAX_ROOTS)));
        }
        let numbered = self.roots.iter().enumerate();
        numbered
            .map(|(n, root)| self.anchor(root).map_err(|e| self.error(format!("root {}: {e}", n + 1))))
            .collect()
    }

    fn anchor(&self, root: &[u8]) -> Result<TrustAnchor<'static>, String> {
        let (anchor, named) = anchor(root)?;
        match named {
            Some(named) if named != self.trust_domain => Err(format!("it is a root of {named}")),
            _ => Ok(anchor),
        }
    }

    pub(crate) fn error(&self, cause: String) -> IdentityError {
        IdentityError::Bundle { trust_domain: self.trust_domain.clone(), cause }
    }
}

/// The trust anchor in a root certificate, and the trust domain that it names.
pub(crate) fn anchor(root: &[u8]) -> Result<(TrustAnchor<'static>, Option<TrustDomain>), String> {
    let named = Facts::parse(root)?.authority()?;
    let der = CertificateDer::from(root);
    let anchor = webpki::anchor_from_trusted_cert(&der).map_err(|e| format!("it is not X.509: {e}"))?;
    Ok((anchor.to_owned(), named))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ClusterCa, KeyPair};
    use causeway_model::{NodeId, SpiffeId};
    use std::time::{Duration, SystemTime};

    fn ca(name: &str) -> ClusterCa {
        ClusterCa::create(&name.parse().unwrap(), SystemTime::now()).unwrap()
    }

    #[test]
    fn a_bundle_holds_only_roots_of_its_domain() {
        let (iad, phx) = (ca("iad.mesh"), ca("phx.mesh"));
        let td = iad.trust_domain().clone();
        let root = iad.root_der().to_vec();
        let id = SpiffeId::gateway(&td, NodeId(1));
        let csr = KeyPair::generate().unwrap().csr().unwrap();
        let leaf = iad.sign_svid(&csr, &id, SystemTime::now(), Duration::from_secs(60)).unwrap().remove(0);
        let cause = |roots| TrustBundle::new(td.clone(), roots).unwrap_err().to_string();
        assert!(cause(vec![]).contains("0 roots"));
        assert!(cause(vec![root.clone(); 9]).contains("9 roots"));
        assert!(cause(vec![root.clone(), leaf]).contains("root 2: it is not a CA"));
        assert!(cause(vec![phx.root_der().to_vec()]).contains("root of phx.mesh"));
        assert!(cause(vec![vec![0; 9000]]).contains("9000 bytes"));
        assert!(cause(vec![b"junk".to_vec()]).contains("not X.509"));
        let bundle = TrustBundle::new(td, vec![root.clone()]).unwrap();
        assert_eq!(bundle.fingerprint(), fingerprint(&root));
        assert!(bundle.has_root(&fingerprint(&root)) && !bundle.has_root(&[0; 32]));
    }

    #[test]
    fn a_bundle_revokes_only_what_is_its_own() {
        let bundle = ca("iad.mesh").bundle();
        let revoke = |id: &str, count| {
            let one = Revocation { subject: id.parse().unwrap(), issued_before: 7 };
            bundle.clone().with_revoked(vec![one; count])
        };
        assert_eq!(revoke("spiffe://iad.mesh/ns/a/sa/b", 1024).unwrap().revoked.len(), 1024);
        let error = revoke("spiffe://iad.mesh/ns/a/sa/b", 1025).unwrap_err().to_string();
        assert!(error.contains("1025 revocations"), "{error}");
        let long = format!("spiffe://iad.mesh/ns/{}", vec!["a".repeat(60); 30].join("/"));
        let fit = Revocation::MAX_TRUST_BYTES / (long.len() + 18) - 1;
        assert_eq!(revoke(&long, fit).unwrap().revoked.len(), fit);
        let error = revoke(&long, fit + 2).unwrap_err().to_string();
        assert!(error.contains("at most 262144 are accepted"), "{error}");
        let error = revoke("spiffe://phx.mesh/ns/a/sa/b", 1).unwrap_err().to_string();
        assert!(error.contains("spiffe://phx.mesh/ns/a/sa/b"), "{error}");
    }

    #[test]
    fn deserialization_checks() {
        let revoked = Revocation {
            subject: "spiffe://iad.mesh/ns/a/sa/b".parse().unwrap(),
            issued_before: 1_800_000_000,
        };
        let bundle = ca("iad.mesh").bundle().with_revoked(vec![revoked]).unwrap();
        let json = serde_json::to_string(&bundle).unwrap();
        assert_eq!(serde_json::from_str::<TrustBundle>(&json).unwrap(), bundle);
        let moved = json.replace("iad.mesh", "phx.mesh");
        assert!(
            serde_json::from_str::<TrustBundle>(&moved).unwrap_err().to_string().contains("root of iad.mesh")
        );
        let foreign = json.replace("spiffe://iad.mesh", "spiffe://phx.mesh");
        assert!(serde_json::from_str::<TrustBundle>(&foreign).is_err());
    }
}
