//! Why a peer is not believed, in words for the operator.

use crate::timestamp::{distance, from_unix, show, to_date};
use causeway_model::{SpiffeId, TrustDomain};
use std::time::SystemTime;

/// Why a peer is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The peer presented nothing.
    #[error("the peer presented no certificate; it must join the mesh first")]
    NoCertificate,
    /// What the peer presented is not an X.509-SVID.
    #[error("the peer's certificate is not a SPIFFE X.509-SVID: {cause}")]
    NotSpiffe {
        /// The rule that it breaks.
        cause: String,
    },
    /// There is no bundle for the peer's trust domain.
    #[error(
        "{id} is of trust domain {trust_domain}, which this process does not know (it knows {}); link the two \
         clusters, or check that the peer is the one you meant",
        list(known)
    )]
    UnknownTrustDomain {
        /// Who the peer says it is.
        id: SpiffeId,
        /// Its trust domain.
        trust_domain: TrustDomain,
        /// The trust domains that are known.
        known: Vec<TrustDomain>,
    },
    /// The certificate expired.
    #[error("{}", expired(&format!("of {id} "), *not_after, *now))]
    Expired {
        /// Who the peer says it is.
        id: SpiffeId,
        /// When its certificate, or one above it, expired.
        not_after: SystemTime,
        /// What the time is by this machine's clock.
        now: SystemTime,
    },
    /// The certificate is not valid yet.
    #[error("{}", not_yet_valid(&format!("of {id} "), *not_before, *now))]
    NotYetValid {
        /// Who the peer says it is.
        id: SpiffeId,
        /// When its certificate, or one above it, begins to be valid.
        not_before: SystemTime,
        /// What the time is by this machine's clock.
        now: SystemTime,
    },
    /// No root of the peer's trust domain signed the certificate.
    #[error(
        "the certificate of {id} was not signed by a root of its trust domain that this process knows; either the \
         root was replaced and the new bundle has not come over the link yet, or somebody poses as {id}"
    )]
    BadSignature {
        /// Who the peer says it is.
        id: SpiffeId,
    },
    /// The certificate was revoked.
    #[error("{}", revoked(id, *issued_before))]
    Revoked {
        /// Whose certificate it is.
        id: SpiffeId,
        /// Unix time in seconds: its certificates issued until then are refused.
        issued_before: u64,
    },
    /// The certificate of a CA between the peer's and the root was revoked.
    #[error(
        "a CA certificate that vouches for {id} was revoked; {id} must get a new certificate, from a signer that was \
         not"
    )]
    SignerRevoked {
        /// Who the peer says it is.
        id: SpiffeId,
    },
    /// The chain breaks another rule.
    #[error("the certificate chain of {id} is refused: {cause}")]
    Chain {
        /// Who the peer says it is.
        id: SpiffeId,
        /// The rule that it breaks.
        cause: String,
    },
    /// The peer is somebody, but not the one that was called.
    #[error(
        "the peer is {id}, and {expected} was expected; check the address, and which identities may serve it"
    )]
    WrongIdentity {
        /// Who the peer is.
        id: SpiffeId,
        /// Who was expected.
        expected: String,
    },
    /// The peer's identity has another role.
    #[error("the peer is {id}, which is not {expected}; check that the address is the right one")]
    WrongRole {
        /// Who the peer is.
        id: SpiffeId,
        /// The role that was expected.
        expected: &'static str,
    },
    /// The peer's chain does not have the root that a token names.
    #[error(
        "{id} did not present the root certificate with fingerprint {expected} that the token names; the token is \
         for another cluster or its root was replaced: get a new token"
    )]
    WrongFingerprint {
        /// Who the peer says it is.
        id: SpiffeId,
        /// The fingerprint in the token, hexadecimal.
        expected: String,
    },
}

impl VerifyError {
    /// A stable name of the kind of error, for logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoCertificate => "no-certificate",
            Self::NotSpiffe { .. } => "not-spiffe",
            Self::UnknownTrustDomain { .. } => "unknown-trust-domain",
            Self::Expired { .. } => "certificate-expired",
            Self::NotYetValid { .. } => "certificate-not-yet-valid",
            Self::BadSignature { .. } => "bad-signature",
            Self::Revoked { .. } | Self::SignerRevoked { .. } => "revoked",
            Self::Chain { .. } => "bad-chain",
            Self::WrongIdentity { .. } => "wrong-identity",
            Self::WrongRole { .. } => "wrong-role",
            Self::WrongFingerprint { .. } => "wrong-fingerprint",
        }
    }

    /// What the refused peer may read: what it showed and why that is not enough, but neither whom this process knows
    /// nor whom it expected.
    pub(crate) fn for_peer(&self) -> String {
        match self {
            Self::UnknownTrustDomain { id, .. } => {
                format!("{id} is of a trust domain that is not known here")
            }
            Self::WrongIdentity { id, .. } => format!("{id} is not the identity that was expected"),
            Self::WrongFingerprint { id, .. } => {
                format!("{id} did not present the root certificate that the token names")
            }
            other => other.to_string(),
        }
    }
}

/// The text about a revoked certificate of `id`.
fn revoked(id: &SpiffeId, issued_before: u64) -> String {
    // a revocation for good ends beyond the calendar
    let until = i64::try_from(issued_before).ok().map(from_unix).filter(|until| to_date(*until).is_some());
    let until = until.map_or_else(|| "ever".into(), |until| format!("until {}", show(until)));
    format!(
        "the certificate of {id} was revoked, like all that were issued to it or its key {until}; if {id} shall come \
         back, let it join again with a new token"
    )
}

/// The text about an expired certificate `whose` ("of ID ", or nothing).
pub(crate) fn expired(whose: &str, not_after: SystemTime, now: SystemTime) -> String {
    let (ago, end, now) = (distance(not_after, now), show(not_after), show(now));
    format!(
        "the certificate {whose}expired at {end}, {ago} ago by this machine's clock ({now}); check the clocks of both \
         machines, then why it was not renewed"
    )
}

/// The text about a certificate that is not valid yet.
pub(crate) fn not_yet_valid(whose: &str, not_before: SystemTime, now: SystemTime) -> String {
    let (ahead, start, now) = (distance(now, not_before), show(not_before), show(now));
    format!(
        "the certificate {whose}is valid only from {start}, {ahead} from now by this machine's clock ({now}); check \
         the clocks of both machines"
    )
}

fn list(domains: &[TrustDomain]) -> String {
    const SHOWN: usize = 8;
    let mut names: Vec<String> = domains.iter().take(SHOWN).map(ToString::to_string).collect();
    match domains.len() {
        0 => return "none".into(),
        n if n > SHOWN => names.push(format!("{} more", n - SHOWN)),
        _ => {}
    }
    names.join(", ")
}
