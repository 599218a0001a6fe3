//! Why a key, certificate, bundle or sealed secret of our own could not be made or used.

use causeway_model::{SpiffeId, TrustDomain};

/// What is wrong with identity material. What is wrong with a *peer* is a [`crate::VerifyError`].
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// A certificate that cannot be used for what it is meant for.
    #[error("{what} cannot be used: {cause}")]
    Certificate {
        /// Which certificate.
        what: &'static str,
        /// What is wrong with it.
        cause: String,
    },
    /// A trust bundle that breaks a rule.
    #[error("the trust bundle of {trust_domain} cannot be used: {cause}")]
    Bundle {
        /// The trust domain that the bundle is for.
        trust_domain: TrustDomain,
        /// What is wrong with it.
        cause: String,
    },
    /// A private key that is not an unencrypted PKCS#8 key on P-256.
    #[error("the private key cannot be used: {cause}; it must be an unencrypted PKCS#8 ECDSA key on P-256")]
    Key {
        /// What the parser said.
        cause: String,
    },
    /// A CA's private key of a kind that cannot sign here, or text that holds none.
    #[error(
        "the CA's private key cannot be used: {cause}; it must be an unencrypted ECDSA key on P-256 or P-384 or an \
         Ed25519 key, as PKCS#8 (PRIVATE KEY) or SEC1 (EC PRIVATE KEY)"
    )]
    CaKey {
        /// What is wrong with it.
        cause: String,
    },
    /// The certificates of a CA that an operator brings.
    #[error("the CA's certificates cannot be used: {cause}")]
    CaChain {
        /// What is wrong with which of them.
        cause: String,
    },
    /// A private key that belongs to another certificate.
    #[error("the private key does not belong to {what}; they must come from the same issuance")]
    KeyMismatch {
        /// Which certificate.
        what: &'static str,
    },
    /// A certificate request that cannot be signed.
    #[error("the certificate request is refused: {cause}")]
    Request {
        /// What is wrong with it.
        cause: String,
    },
    /// A request for an identity that this CA must not issue.
    #[error(
        "the CA of {trust_domain} does not sign {id}: it issues only IDs with a path in its own trust domain"
    )]
    ForeignId {
        /// The identity that was asked for.
        id: SpiffeId,
        /// The CA's trust domain.
        trust_domain: TrustDomain,
    },
    /// A name that cannot be in a web certificate.
    #[error("{name:?} cannot be in a web certificate: {rule}")]
    WebName {
        /// The name.
        name: String,
        /// The rule that it breaks.
        rule: &'static str,
    },
    /// A validity period that cannot be.
    #[error("a certificate cannot be valid for that time: {cause}; check this machine's clock")]
    Lifetime {
        /// What is wrong with it.
        cause: String,
    },
    /// Text that is not the PEM of an SVID.
    #[error("the stored SVID cannot be read: {cause}")]
    Pem {
        /// What is wrong with it.
        cause: String,
    },
    /// A seal key that is not 64 hexadecimal digits.
    #[error("the seal key is not valid: it has {length} characters, need 64 hexadecimal digits (32 bytes)")]
    SealKey {
        /// How many characters there were.
        length: usize,
    },
    /// Sealed data that this key does not open.
    #[error(
        "the sealed data cannot be opened: it was sealed under another key, for another purpose, or was changed; \
         check that this node has the cluster's seal key"
    )]
    Unseal,
    /// The cryptographic library failed, which happens when the system has no randomness or memory.
    #[error("the cryptographic library failed to {what}")]
    Crypto {
        /// What it was asked to do.
        what: &'static str,
    },
    /// rustls refused a configuration.
    #[error("TLS cannot be configured: {0}")]
    Tls(rustls::Error),
}

impl IdentityError {
    /// A stable name of the kind of error, for logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Certificate { .. } => "bad-certificate",
            Self::Bundle { .. } => "bad-bundle",
            Self::Key { .. } => "bad-key",
            Self::CaKey { .. } => "bad-ca-key",
            Self::CaChain { .. } => "bad-ca-chain",
            Self::KeyMismatch { .. } => "key-mismatch",
            Self::Request { .. } => "bad-certificate-request",
            Self::ForeignId { .. } => "foreign-id",
            Self::WebName { .. } => "bad-web-name",
            Self::Lifetime { .. } => "bad-lifetime",
            Self::Pem { .. } => "bad-stored-svid",
            Self::SealKey { .. } => "bad-seal-key",
            Self::Unseal => "unseal-failed",
            Self::Crypto { .. } => "crypto-failed",
            Self::Tls(_) => "tls-config",
        }
    }
}
