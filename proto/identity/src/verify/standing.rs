//! What a live connection's peer is believed on, and whether it still would be.

use super::{Presented, VerifyError};
use crate::bundle::{Entry, Revoked};
use crate::cert::Facts;
use crate::{BundleStore, timestamp};
use causeway_model::{SpiffeId, TrustDomain};
use rustls_pki_types::{CertificateDer, TrustAnchor};
use webpki::{ExtendedKeyUsageValidator, KeyPurposeIdIter};

/// What a verified peer is believed on: its identity, the root that vouches for it, and what revocations could name. Kept
/// beside a connection, it lets [`BundleStore::judge`] decide without cryptography whether the peer would still be
/// believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    id: SpiffeId,
    root: [u8; 32],
    issued: u64,
    key: [u8; 32],
    /// Of each CA certificate below the root: SHA-256 of its key, and when it begins to be valid.
    signers: Box<[([u8; 32], u64)]>,
}

impl Standing {
    /// Who the peer is.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// SHA-256 of the root certificate that vouches for the peer.
    pub fn root(&self) -> &[u8; 32] {
        &self.root
    }

    /// SHA-256 of the peer's SubjectPublicKeyInfo, as [`causeway_model::RevokedSubject::Key`] has it.
    pub fn key(&self) -> &[u8; 32] {
        &self.key
    }

    /// When the peer's certificate was issued, in Unix seconds.
    pub fn issued(&self) -> u64 {
        self.issued
    }

    fn new(presented: Presented<'_>, entry: &Entry) -> Result<Self, VerifyError> {
        let path = presented.path(&entry.anchors, AnyUsage, &entry.revoked, presented.facts.issued())?;
        presented.unrevoked(&entry.revoked)?;
        let root = entry.fingerprints.get(path.anchor).copied();
        let refused = |cause| VerifyError::Chain { id: presented.id.clone(), cause };
        let signers = path.signers.iter().map(|der| {
            let facts = Facts::parse(der).map_err(refused)?;
            Ok((facts.key_hash(), timestamp::to_unix(facts.not_before)))
        });
        Ok(Self {
            root: root.ok_or_else(|| VerifyError::BadSignature { id: presented.id.clone() })?,
            issued: timestamp::to_unix(presented.facts.issued()),
            key: presented.facts.key_hash(),
            signers: signers.collect::<Result<_, VerifyError>>()?,
            id: presented.id,
        })
    }
}

impl BundleStore {
    /// What the peer that presented `chain` (leaf first) is believed on now. Meant for a chain whose handshake
    /// succeeded: it checks everything that the handshake did except the time and the usage, by the bundle as it is now.
    ///
    /// The chain is judged as of the moment when its leaf was issued, so an SVID that expires does not end a connection
    /// that stands: connections outlive the SVID they began with, and the peer shows the next one at the next handshake.
    ///
    /// # Errors
    /// The [`VerifyError`] for which a new handshake would be refused.
    pub fn standing(&self, chain: &[CertificateDer<'_>]) -> Result<Standing, VerifyError> {
        let presented = Presented::parse(chain)?;
        match self.entry(presented.id.trust_domain()) {
            Some(entry) => Standing::new(presented, &entry),
            None => Err(presented.unknown(self)),
        }
    }

    /// Whether a peer of this standing would still be believed: its trust domain is known, its root is in the bundle, and
    /// neither its certificate nor one above it is revoked. As with [`BundleStore::standing`], an expired SVID is no
    /// reason. A few look-ups, so a gateway can judge all its connections at every change.
    ///
    /// # Errors
    /// The [`VerifyError`] for which the connection should be closed.
    pub fn judge(&self, standing: &Standing) -> Result<(), VerifyError> {
        let Standing { id, root, issued, key, signers } = standing;
        let Some(entry) = self.entry(id.trust_domain()) else {
            let (trust_domain, known) = (id.trust_domain().clone(), self.domains());
            return Err(VerifyError::UnknownTrustDomain { id: id.clone(), trust_domain, known });
        };
        if signers.iter().any(|(key, begins)| entry.revoked.signer(key, *begins)) {
            return Err(VerifyError::SignerRevoked { id: id.clone() });
        }
        entry.revoked.check_leaf(id, *issued, || *key)?;
        // the last: who spares a peer whose root was dropped is still to be told that it is revoked
        if !entry.fingerprints.contains(root) {
            return Err(VerifyError::BadSignature { id: id.clone() });
        }
        Ok(())
    }

    /// SHA-256 of the root that vouches for `chain` (leaf first); otherwise as
    /// [`TrustBundle::root_of`](crate::TrustBundle::root_of).
    pub fn root_of(&self, chain: &[CertificateDer<'_>]) -> Option<[u8; 32]> {
        let id = Presented::parse(chain).ok()?.id;
        let entry = self.entry(id.trust_domain())?;
        entry.fingerprints.get(anchor_of(id.trust_domain(), &entry.anchors, chain)?).copied()
    }
}

/// The index of the anchor of `trust_domain` that vouches for `chain`, as of when its leaf was issued.
pub(crate) fn anchor_of(
    trust_domain: &TrustDomain,
    anchors: &[TrustAnchor<'_>],
    chain: &[CertificateDer<'_>],
) -> Option<usize> {
    let presented = Presented::parse(chain).ok().filter(|it| it.id.trust_domain() == trust_domain)?;
    let path = presented.path(anchors, AnyUsage, &Revoked::default(), presented.facts.issued());
    path.ok().map(|path| path.anchor)
}

/// Accepts every usage that is well formed: the handshake has checked it.
struct AnyUsage;

impl ExtendedKeyUsageValidator for AnyUsage {
    fn validate(&self, mut usages: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        usages.try_for_each(|usage| usage.map(|_| ()))
    }
}

#[cfg(test)]
mod tests;
