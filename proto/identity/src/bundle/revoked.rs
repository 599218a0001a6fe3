//! Which certificates of a trust domain are refused before they expire.

use crate::cert::Facts;
use crate::{IdentityError, TrustBundle, VerifyError, timestamp};
use causeway_model::{Revocation, RevokedSubject, SpiffeId, trust_len};
use std::collections::HashMap;

/// The revocations of a bundle, by subject: the latest moment for each. One look-up costs the same however many there
/// are.
#[derive(Default)]
pub(crate) struct Revoked {
    identities: HashMap<SpiffeId, u64>,
    keys: HashMap<[u8; 32], u64>,
}

impl Revoked {
    pub(crate) fn compile(bundle: &TrustBundle) -> Result<Self, IdentityError> {
        let (count, most) = (bundle.revoked.len(), Revocation::MAX_PER_DOMAIN);
        if count > most {
            return Err(bundle.error(format!("it has {count} revocations, at most {most} are accepted")));
        }
        let (bytes, most) = (trust_len(&bundle.roots, &bundle.revoked), Revocation::MAX_TRUST_BYTES);
        if bytes > most {
            return Err(bundle.error(format!(
                "its roots and revocations take {bytes} bytes, at most {most} are accepted: end a rotation, or reinstate what need \
                 not be refused any more"
            )));
        }
        let mut index = Self::default();
        for Revocation { subject, issued_before } in &bundle.revoked {
            let latest = match subject {
                RevokedSubject::Identity(id) if id.trust_domain() != &bundle.trust_domain => {
                    return Err(bundle.error(format!("it revokes {id}, which is of another trust domain")));
                }
                RevokedSubject::Identity(id) => index.identities.entry(id.clone()).or_default(),
                RevokedSubject::Key(hash) => index.keys.entry(*hash).or_default(),
            };
            *latest = (*latest).max(*issued_before);
        }
        Ok(index)
    }

    /// Whether a key is revoked at all. If not, nobody needs to hash one.
    pub(crate) fn has_keys(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Refuses a leaf of `id` that was issued at `issued` (Unix seconds) for the key that `key` hashes.
    pub(crate) fn check_leaf(
        &self,
        id: &SpiffeId,
        issued: u64,
        key: impl FnOnce() -> [u8; 32],
    ) -> Result<(), VerifyError> {
        let by_id = self.identities.get(id).copied();
        let by_key = if self.has_keys() { self.keys.get(&key()).copied() } else { None };
        match by_id.max(by_key) {
            Some(issued_before) if issued <= issued_before => {
                Err(VerifyError::Revoked { id: id.clone(), issued_before })
            }
            _ => Ok(()),
        }
    }

    /// Whether a CA certificate with this key that begins at `begins` (Unix seconds) is refused.
    pub(crate) fn signer(&self, key: &[u8; 32], begins: u64) -> bool {
        self.keys.get(key).is_some_and(|issued_before| begins <= *issued_before)
    }

    /// As [`Revoked::signer`], of a certificate. One that cannot be read is refused.
    pub(crate) fn signer_der(&self, der: &[u8]) -> bool {
        Facts::parse(der)
            .map_or(true, |facts| self.signer(&facts.key_hash(), timestamp::to_unix(facts.not_before)))
    }
}
