//! Private keys: made, stored, and used to sign requests and certificates.

use crate::{IdentityError, tls};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{EcdsaKeyPair, KeyPair as _};
use rcgen::{CertificateParams, DistinguishedName, PublicKeyData, SignatureAlgorithm, SigningKey};
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

/// An ECDSA P-256 key pair. Clones share one key; it is wiped when the last one goes. `Debug` shows no key.
#[derive(Clone)]
pub struct KeyPair {
    signing: Arc<EcdsaKeyPair>,
    pkcs8: Arc<Zeroizing<Vec<u8>>>,
}

impl KeyPair {
    /// A new random key.
    ///
    /// # Errors
    /// [`IdentityError::Crypto`] if the system gives no randomness.
    pub fn generate() -> Result<Self, IdentityError> {
        let failed = |_| IdentityError::Crypto { what: "generate a key" };
        let signing = EcdsaKeyPair::generate(tls::SIGNING).map_err(failed)?;
        let pkcs8 = Zeroizing::new(signing.to_pkcs8v1().map_err(failed)?.as_ref().to_vec());
        Ok(Self { signing: Arc::new(signing), pkcs8: Arc::new(pkcs8) })
    }

    /// The key in an unencrypted PKCS#8 document (RFC 5208).
    ///
    /// # Errors
    /// [`IdentityError::Key`] if it is not an ECDSA key on P-256.
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, IdentityError> {
        let signing = EcdsaKeyPair::from_pkcs8(tls::SIGNING, pkcs8)
            .map_err(|e| IdentityError::Key { cause: e.to_string() })?;
        Ok(Self { signing: Arc::new(signing), pkcs8: Arc::new(Zeroizing::new(pkcs8.to_vec())) })
    }

    /// The key as an unencrypted PKCS#8 document; it is wiped when dropped.
    pub fn pkcs8(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::clone(&self.pkcs8)
    }

    /// The public key as a DER SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7).
    pub fn public_key(&self) -> Vec<u8> {
        Signer(self).subject_public_key_info()
    }

    /// A certificate request (PKCS#10, RFC 2986, DER) for this key. It names nobody: the CA decides who asks.
    ///
    /// # Errors
    /// [`IdentityError::Crypto`] if signing fails.
    pub fn csr(&self) -> Result<Vec<u8>, IdentityError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let failed = |_| IdentityError::Crypto { what: "sign a certificate request" };
        Ok(params.serialize_request(&Signer(self)).map_err(failed)?.der().to_vec())
    }

    /// The key itself, shared.
    pub(crate) fn shared(&self) -> Arc<EcdsaKeyPair> {
        Arc::clone(&self.signing)
    }

    /// The key for rustls.
    pub(crate) fn handshake_key(&self) -> Result<Arc<dyn rustls::sign::SigningKey>, IdentityError> {
        tls::handshake_key(&self.pkcs8)
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyPair(..)")
    }
}

/// A key in the hands of rcgen, which stays out of the public API this way.
pub(crate) struct Signer<'a>(pub(crate) &'a KeyPair);

impl PublicKeyData for Signer<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.signing.public_key().as_ref()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        tls::certificate_signature()
    }
}

impl SigningKey for Signer<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature = self.0.signing.sign(&SystemRandom::new(), message);
        Ok(signature.map_err(|_| rcgen::Error::RingUnspecified)?.as_ref().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_storage_and_stays_out_of_debug() {
        let key = KeyPair::generate().unwrap();
        let again = KeyPair::from_pkcs8(&key.pkcs8()).unwrap();
        assert_eq!(key.public_key(), again.public_key());
        assert_ne!(key.public_key(), KeyPair::generate().unwrap().public_key());
        assert_eq!(format!("{key:?}"), "KeyPair(..)");
    }

    #[test]
    fn other_keys_are_refused() {
        let p384 = EcdsaKeyPair::generate(&aws_lc_rs::signature::ECDSA_P384_SHA384_ASN1_SIGNING).unwrap();
        let error = KeyPair::from_pkcs8(p384.to_pkcs8v1().unwrap().as_ref()).unwrap_err();
        assert!(error.to_string().contains("P-256"), "{error}");
        assert_eq!(KeyPair::from_pkcs8(b"").unwrap_err().reason(), "bad-key");
    }
}
