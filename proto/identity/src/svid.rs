//! X.509-SVIDs: a process's own identity, with its key.

mod pem;
mod renewal;
mod source;

pub use pem::certificate_pem;
pub(crate) use pem::told as pem_error;

pub use source::SvidSource;

use crate::cert::Facts;
use crate::timestamp;
use crate::{IdentityError, KeyPair, MAX_CHAIN, TrustBundle};
use causeway_model::SpiffeId;
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// An identity that this process can prove: certificates and the key of the first. `Debug` shows no key.
#[derive(Clone)]
pub struct Svid {
    id: SpiffeId,
    key: KeyPair,
    not_before: SystemTime,
    not_after: SystemTime,
    issued: SystemTime,
    key_hash: [u8; 32],
    certified: Arc<CertifiedKey>,
}

impl Svid {
    /// The SVID with `chain` (DER, leaf first, without the root) and the leaf's key.
    ///
    /// # Errors
    /// [`IdentityError::Certificate`] if the chain is empty or longer than [`MAX_CHAIN`], or the leaf is no X.509-SVID;
    /// [`IdentityError::KeyMismatch`] if the key is another's. Whether the chain leads to a root is the peers' to check.
    pub fn new(chain: Vec<Vec<u8>>, key: KeyPair) -> Result<Self, IdentityError> {
        let refused = |cause| IdentityError::Certificate { what: "the SVID", cause };
        if chain.len() > MAX_CHAIN {
            return Err(refused(format!(
                "it has {} certificates, at most {MAX_CHAIN} are accepted",
                chain.len()
            )));
        }
        let leaf = chain.first().ok_or_else(|| refused("it has no certificate".into()))?;
        let facts = Facts::parse(leaf).map_err(refused)?;
        let id = facts.svid().map_err(refused)?;
        if facts.spki != key.public_key() {
            return Err(IdentityError::KeyMismatch { what: "the SVID's certificate" });
        }
        let chain = chain.into_iter().map(CertificateDer::from).collect();
        let certified = Arc::new(CertifiedKey::new(chain, key.handshake_key()?));
        let (not_before, not_after, issued) = (facts.not_before, facts.not_after, facts.issued());
        Ok(Self { id, key, not_before, not_after, issued, key_hash: facts.key_hash(), certified })
    }

    /// Who this is.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// The certificates, leaf first, without the root.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// The leaf's key.
    pub fn key(&self) -> &KeyPair {
        &self.key
    }

    /// When the leaf begins to be valid.
    pub fn not_before(&self) -> SystemTime {
        self.not_before
    }

    /// When the leaf expires.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// When the CA issued the leaf: it begins to be valid [`crate::CLOCK_SLACK`] earlier.
    pub fn issued_at(&self) -> SystemTime {
        self.issued
    }

    /// SHA-256 of the leaf's SubjectPublicKeyInfo, as [`causeway_model::RevokedSubject::Key`] has it.
    pub fn key_hash(&self) -> &[u8; 32] {
        &self.key_hash
    }

    /// SHA-256 of the root in `bundle` that this SVID leads to, if one does. If it is not the bundle's first, which signs
    /// now, the SVID should be renewed before that root is dropped.
    pub fn root_fingerprint(&self, bundle: &TrustBundle) -> Option<[u8; 32]> {
        bundle.root_of(self.chain())
    }

    /// When to ask for the next one: after two thirds of its life, sooner or later by up to a twentieth of it, which the
    /// key decides, so that what was issued together is not renewed together.
    pub fn renewal_due(&self) -> SystemTime {
        renewal::renewal(self.not_before, self.not_after, &self.key_hash)
    }

    /// When to ask for the next one: after two thirds of the life, so that a third is left to find a gateway.
    pub fn renew_at(&self) -> SystemTime {
        let life = self.not_after.duration_since(self.not_before).unwrap_or_default();
        self.not_before.checked_add(life * 2 / 3).unwrap_or(self.not_after)
    }

    /// How long it is still valid at `now`; zero if it has expired.
    pub fn expires_in(&self, now: SystemTime) -> Duration {
        self.not_after.duration_since(now).unwrap_or_default()
    }

    pub(crate) fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }
}

impl fmt::Debug for Svid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Svid")
            .field("id", &self.id)
            .field("not_before", &timestamp::show(self.not_before))
            .field("not_after", &timestamp::show(self.not_after))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CLOCK_SLACK, ClusterCa};
    use causeway_model::{NodeId, TrustDomain};

    fn issue() -> (ClusterCa, Vec<Vec<u8>>, KeyPair, SystemTime) {
        let now = timestamp::from_unix(1_800_000_000);
        let td: TrustDomain = "iad.mesh".parse().unwrap();
        let ca = ClusterCa::create(&td, now).unwrap();
        let key = KeyPair::generate().unwrap();
        let id = SpiffeId::gateway(&td, NodeId(7));
        let chain = ca.sign_svid(&key.csr().unwrap(), &id, now, Duration::from_secs(900)).unwrap();
        (ca, chain, key, now)
    }

    #[test]
    fn life_is_counted_from_the_certificate() {
        let (_, chain, key, now) = issue();
        let svid = Svid::new(chain, key).unwrap();
        assert_eq!(svid.id().to_string(), "spiffe://iad.mesh/causeway/gateway/0000000000000007");
        assert_eq!(svid.not_before(), now - CLOCK_SLACK);
        // it lives 5 + 15 minutes, so two thirds end 800 s after it began
        assert_eq!(svid.renew_at(), now + Duration::from_secs(500));
        assert_eq!(svid.expires_in(now), Duration::from_secs(900));
        assert_eq!(svid.issued_at(), now);
        let due = svid.renewal_due().duration_since(now).unwrap().as_secs();
        assert!((555..=645).contains(&due), "{due}");
        assert_eq!(svid.expires_in(now + Duration::from_secs(1000)), Duration::ZERO);
        let shown = format!("{svid:?}");
        assert!(shown.contains("gateway") && !shown.contains("key"), "{shown}");
    }

    #[test]
    fn only_an_svid_with_its_key_is_accepted() {
        let (ca, chain, key, _) = issue();
        let other = KeyPair::generate().unwrap();
        assert_eq!(Svid::new(chain.clone(), other).unwrap_err().reason(), "key-mismatch");
        assert!(Svid::new(vec![], key.clone()).unwrap_err().to_string().contains("no certificate"));
        let long = vec![chain[0].clone(); MAX_CHAIN + 1];
        assert!(Svid::new(long, key.clone()).unwrap_err().to_string().contains("at most"));
        let root = Svid::new(vec![ca.root_der().to_vec()], key).unwrap_err().to_string();
        assert!(root.contains("names a trust domain"), "{root}");
    }
}
