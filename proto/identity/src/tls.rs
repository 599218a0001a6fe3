//! The algorithms of the mesh: the one file that names ciphers, curves and hashes.
//!
//! Everything else asks this module, so that a change of cryptography is a change of one file.

use crate::IdentityError;
use aws_lc_rs::{aead, digest, signature};
use rustls::SupportedProtocolVersion;
use rustls::crypto::{CryptoProvider, aws_lc_rs as lc};
use rustls::sign::SigningKey;
use rustls_pki_types::PrivateKeyDer;
use std::sync::{Arc, OnceLock};

/// TLS 1.3 (RFC 8446) and nothing older.
pub(crate) static VERSIONS: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// The signature of every key that this crate makes: ECDSA on P-256 with SHA-256.
pub(crate) static SIGNING: &signature::EcdsaSigningAlgorithm = &signature::ECDSA_P256_SHA256_ASN1_SIGNING;

/// The curves on which a CA may sign with ECDSA, and what rcgen calls the signature. Ed25519 is accepted too.
pub(crate) static CA_ECDSA: [(&signature::EcdsaSigningAlgorithm, &rcgen::SignatureAlgorithm); 2] = [
    (SIGNING, &rcgen::PKCS_ECDSA_P256_SHA256),
    (&signature::ECDSA_P384_SHA384_ASN1_SIGNING, &rcgen::PKCS_ECDSA_P384_SHA384),
];

/// The AEAD that seals secrets at rest: AES-256-GCM with a 96-bit nonce.
pub(crate) static SEAL: &aead::Algorithm = &aead::AES_256_GCM;

/// The name of [`SIGNING`] in certificates.
pub(crate) fn certificate_signature() -> &'static rcgen::SignatureAlgorithm {
    &rcgen::PKCS_ECDSA_P256_SHA256
}

/// The cryptography of every TLS and QUIC connection: TLS 1.3 suites with AES-128-GCM first (the fastest where AES is
/// in hardware, and as strong as the P-256 keys), the hybrid X25519MLKEM768 key exchange first, then X25519 and P-256.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    let build = || {
        Arc::new(CryptoProvider {
            cipher_suites: vec![
                lc::cipher_suite::TLS13_AES_128_GCM_SHA256,
                lc::cipher_suite::TLS13_AES_256_GCM_SHA384,
                lc::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
            ],
            kx_groups: vec![lc::kx_group::X25519MLKEM768, lc::kx_group::X25519, lc::kx_group::SECP256R1],
            ..lc::default_provider()
        })
    };
    Arc::clone(PROVIDER.get_or_init(build))
}

/// The name of Ed25519 in certificates.
pub(crate) fn ed25519_signature() -> &'static rcgen::SignatureAlgorithm {
    &rcgen::PKCS_ED25519
}

/// The key in `pkcs8` as rustls uses it to sign handshakes.
pub(crate) fn handshake_key(pkcs8: &[u8]) -> Result<Arc<dyn SigningKey>, IdentityError> {
    lc::sign::any_ecdsa_type(&PrivateKeyDer::Pkcs8(pkcs8.into())).map_err(IdentityError::Tls)
}

/// SHA-256 of `bytes`.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::{CipherSuite, NamedGroup};

    #[test]
    fn only_tls13_with_the_preferred_algorithms_first() {
        let provider = provider();
        assert!(provider.cipher_suites.iter().all(|suite| suite.tls13().is_some()));
        assert_eq!(provider.cipher_suites[0].suite(), CipherSuite::TLS13_AES_128_GCM_SHA256);
        let groups: Vec<_> = provider.kx_groups.iter().map(|group| group.name()).collect();
        assert_eq!(groups, [NamedGroup::X25519MLKEM768, NamedGroup::X25519, NamedGroup::secp256r1]);
        assert!(Arc::ptr_eq(&provider, &super::provider()));
    }
}
