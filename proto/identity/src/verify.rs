//! Whether to believe a peer: the chain, then the identity, then the rule.
//!
//! A chain is checked only against the bundle of the trust domain that its own leaf names, so a linked cluster's CA can
//! speak for its own identities and nobody else's. The bundle also says which certificates are revoked.

mod error;
mod rule;
mod standing;

pub use error::VerifyError;
pub(crate) use error::{expired as expired_text, not_yet_valid as not_yet_valid_text};
pub use rule::ServerRule;
pub use standing::Standing;
pub(crate) use standing::anchor_of;

use crate::bundle::Revoked;
use crate::cert::Facts;
use crate::{BundleStore, CLOCK_SLACK, TrustBundle, bundle, fingerprint, timestamp, tls};
use causeway_model::{SpiffeId, TrustDomain};
use data_encoding::HEXLOWER;
use rustls_pki_types::{CertificateDer, TrustAnchor};
use std::time::SystemTime;
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyUsage, VerifiedPath};

/// The most certificates that a peer may present.
pub const MAX_CHAIN: usize = 8;

/// What the peer's certificate is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// The peer is the TLS client.
    Client,
    /// The peer is the TLS server.
    Server,
}

impl Usage {
    fn key_usage(self) -> KeyUsage {
        match self {
            Self::Client => KeyUsage::client_auth(),
            Self::Server => KeyUsage::server_auth(),
        }
    }
}

/// A path that was verified: the index of its root, and the CA certificates (DER) between that and the leaf.
struct Path {
    anchor: usize,
    signers: Vec<CertificateDer<'static>>,
}

/// A presented chain: the leaf, its identity, and the rest.
struct Presented<'a> {
    id: SpiffeId,
    facts: Facts,
    leaf: &'a CertificateDer<'a>,
    rest: &'a [CertificateDer<'a>],
}

impl<'a> Presented<'a> {
    fn parse(chain: &'a [CertificateDer<'a>]) -> Result<Self, VerifyError> {
        let (leaf, rest) = chain.split_first().ok_or(VerifyError::NoCertificate)?;
        let not_spiffe = |cause| VerifyError::NotSpiffe { cause };
        if chain.len() > MAX_CHAIN {
            return Err(not_spiffe(format!(
                "{} certificates, at most {MAX_CHAIN} are accepted",
                chain.len()
            )));
        }
        let facts = Facts::parse(leaf).map_err(not_spiffe)?;
        let id = facts.svid().map_err(not_spiffe)?;
        Ok(Self { id, facts, leaf, rest })
    }

    /// Checks the path from the leaf to one of `anchors` as of `at`. The leaf's own dates must have been checked.
    fn path(
        &self,
        anchors: &[TrustAnchor<'_>],
        usage: impl ExtendedKeyUsageValidator,
        revoked: &Revoked,
        at: SystemTime,
    ) -> Result<Path, VerifyError> {
        let failed = |e| self.path_error(e, at);
        let algorithms = tls::provider().signature_verification_algorithms.all;
        let leaf = EndEntityCert::try_from(self.leaf).map_err(failed)?;
        let unrevoked = |path: &VerifiedPath<'_>| {
            let mut signers = path.intermediate_certificates();
            if revoked.has_keys() && signers.any(|signer| revoked.signer_der(&signer.der())) {
                return Err(webpki::Error::CertRevoked);
            }
            Ok(())
        };
        let time = timestamp::to_tls(at);
        let path = leaf
            .verify_for_usage(algorithms, anchors, self.rest, time, usage, None, Some(&unrevoked))
            .map_err(failed)?;
        let anchor = anchors.iter().position(|anchor| std::ptr::eq(anchor, path.anchor()));
        let signers = path.intermediate_certificates().map(|signer| signer.der().into_owned()).collect();
        Ok(Path { anchor: anchor.unwrap_or(usize::MAX), signers })
    }

    /// Checks the leaf's revocation.
    fn unrevoked(&self, revoked: &Revoked) -> Result<(), VerifyError> {
        revoked.check_leaf(&self.id, timestamp::to_unix(self.facts.issued()), || self.facts.key_hash())
    }

    fn unknown(self, bundles: &BundleStore) -> VerifyError {
        let (trust_domain, known) = (self.id.trust_domain().clone(), bundles.domains());
        VerifyError::UnknownTrustDomain { id: self.id, trust_domain, known }
    }

    /// The time at which to judge the chain: `now`, or the nearest time within the clock slack at which the leaf is
    /// valid.
    fn moment(&self, now: SystemTime) -> Result<SystemTime, VerifyError> {
        let (id, not_before, not_after) = (&self.id, self.facts.not_before, self.facts.not_after);
        let beyond =
            |from: SystemTime, to: SystemTime| to.duration_since(from).is_ok_and(|gap| gap > CLOCK_SLACK);
        if beyond(not_after, now) {
            return Err(VerifyError::Expired { id: id.clone(), not_after, now });
        }
        if beyond(now, not_before) {
            return Err(VerifyError::NotYetValid { id: id.clone(), not_before, now });
        }
        Ok(now.min(not_after).max(not_before))
    }

    fn path_error(&self, error: webpki::Error, now: SystemTime) -> VerifyError {
        use webpki::Error as E;
        let id = self.id.clone();
        match error {
            // the leaf's own dates were checked before, so this is an intermediate's
            E::CertExpired { not_after, .. } => {
                VerifyError::Expired { id, not_after: timestamp::from_tls(not_after), now }
            }
            E::CertNotValidYet { not_before, .. } => {
                VerifyError::NotYetValid { id, not_before: timestamp::from_tls(not_before), now }
            }
            E::CertRevoked => VerifyError::SignerRevoked { id },
            E::InvalidSignatureForPublicKey | E::UnknownIssuer => VerifyError::BadSignature { id },
            other => VerifyError::Chain { id, cause: format!("{other:?}") },
        }
    }
}

/// Who presented `chain` (leaf first), if it leads to a root that `bundles` has for the trust domain of its own SPIFFE ID,
/// may be used for `usage`, is valid at `now`, give or take [`CLOCK_SLACK`], and is not revoked.
///
/// # Errors
/// A [`VerifyError`] that says what is wrong.
pub fn verify_chain(
    bundles: &BundleStore,
    chain: &[CertificateDer<'_>],
    usage: Usage,
    now: SystemTime,
) -> Result<SpiffeId, VerifyError> {
    let presented = Presented::parse(chain)?;
    let Some(entry) = bundles.entry(presented.id.trust_domain()) else {
        return Err(presented.unknown(bundles));
    };
    let at = presented.moment(now)?;
    presented.path(&entry.anchors, usage.key_usage(), &entry.revoked, at)?;
    // last, for a stranger shall not learn who is revoked
    presented.unrevoked(&entry.revoked)?;
    Ok(presented.id)
}

/// Which server presented `chain`, if `rule` accepts it; otherwise as [`verify_chain`].
///
/// # Errors
/// A [`VerifyError`] that says what is wrong.
pub fn verify_server(
    rule: &ServerRule,
    bundles: &BundleStore,
    chain: &[CertificateDer<'_>],
    now: SystemTime,
) -> Result<SpiffeId, VerifyError> {
    let id = match rule {
        ServerRule::Fingerprint(pin) => verify_pinned(pin, None, chain, now)?,
        ServerRule::Pinned { root, trust_domain } => verify_pinned(root, Some(trust_domain), chain, now)?,
        _ => verify_chain(bundles, chain, Usage::Server, now)?,
    };
    rule.check(&id)?;
    Ok(id)
}

/// The check of a token's fingerprint: there is no bundle yet, the chain brings its root, and the token vouches for it,
/// and says for which trust domain if it is `expected`.
fn verify_pinned(
    pin: &[u8; 32],
    expected: Option<&TrustDomain>,
    chain: &[CertificateDer<'_>],
    now: SystemTime,
) -> Result<SpiffeId, VerifyError> {
    let presented = Presented::parse(chain)?;
    let id = &presented.id;
    let wrong = || VerifyError::WrongFingerprint { id: id.clone(), expected: HEXLOWER.encode(pin) };
    let root = presented.rest.iter().find(|cert| fingerprint(cert) == *pin).ok_or_else(wrong)?;
    let refused = |cause| VerifyError::Chain { id: id.clone(), cause: format!("its root: {cause}") };
    let (anchor, named) = bundle::anchor(root).map_err(refused)?;
    // a root that an operator brought may name no trust domain; then the token must
    if named.as_ref().or(expected) != Some(id.trust_domain()) {
        let named = named.map_or_else(|| "no trust domain".into(), |named| named.to_string());
        return Err(refused(format!("it names {named}")));
    }
    let at = presented.moment(now)?;
    presented.path(&[anchor], Usage::Server.key_usage(), &Revoked::default(), at)?;
    Ok(presented.id)
}

/// The bundle with the pinned root that a gateway presented, once the handshake under [`ServerRule::Fingerprint`] has
/// succeeded.
///
/// # Errors
/// [`VerifyError::WrongFingerprint`] if no such root is in the chain, and as [`verify_chain`].
pub fn pinned_bundle(chain: &[CertificateDer<'_>], pin: &[u8; 32]) -> Result<TrustBundle, VerifyError> {
    let presented = Presented::parse(chain)?;
    let id = presented.id;
    let root = presented.rest.iter().find(|cert| fingerprint(cert) == *pin);
    let root =
        root.ok_or_else(|| VerifyError::WrongFingerprint { id: id.clone(), expected: HEXLOWER.encode(pin) })?;
    TrustBundle::new(id.trust_domain().clone(), vec![root.to_vec()])
        .map_err(|e| VerifyError::Chain { id, cause: e.to_string() })
}

/// Whose chain this is. For a chain that has been verified, by a handshake or by [`verify_chain`].
///
/// # Errors
/// [`VerifyError::NoCertificate`] or [`VerifyError::NotSpiffe`].
pub fn peer_id(chain: &[CertificateDer<'_>]) -> Result<SpiffeId, VerifyError> {
    Ok(Presented::parse(chain)?.id)
}

/// When the leaf of a chain that has been verified expires.
///
/// # Errors
/// As [`peer_id`].
pub fn not_after(chain: &[CertificateDer<'_>]) -> Result<SystemTime, VerifyError> {
    Ok(Presented::parse(chain)?.facts.not_after)
}

/// When the leaf of a chain that has been verified was issued, by the clock of the gateway that signed it: what
/// revocations count from.
///
/// # Errors
/// As [`peer_id`].
pub fn issued_at(chain: &[CertificateDer<'_>]) -> Result<SystemTime, VerifyError> {
    Ok(Presented::parse(chain)?.facts.issued())
}

#[cfg(test)]
mod tests;
