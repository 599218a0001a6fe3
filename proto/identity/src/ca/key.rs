//! The key of a CA: our own on P-256, or one that an operator brings.

use crate::{IdentityError, KeyPair, tls};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use rcgen::{PublicKeyData, SignatureAlgorithm, SigningKey};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use std::fmt;
use std::sync::Arc;
use zeroize::{Zeroize, Zeroizing};

/// The longest text that is searched for a key, in bytes.
const MAX_TEXT: usize = 64 * 1024;

/// A CA's private key: ECDSA on P-256 or P-384, or Ed25519. Clones share one key; it is wiped when the last one goes.
/// `Debug` shows no key.
#[derive(Clone)]
pub struct CaKey {
    signing: Signing,
    pkcs8: Arc<Zeroizing<Vec<u8>>>,
}

#[derive(Clone)]
enum Signing {
    Ecdsa(Arc<EcdsaKeyPair>, &'static SignatureAlgorithm),
    Ed25519(Arc<Ed25519KeyPair>),
}

impl CaKey {
    /// The key in an unencrypted PKCS#8 (RFC 5208) or SEC1 (RFC 5915) document.
    ///
    /// # Errors
    /// [`IdentityError::CaKey`] if it is neither or of another kind of key.
    pub fn from_der(der: &[u8]) -> Result<Self, IdentityError> {
        for (curve, name) in tls::CA_ECDSA {
            let Ok(key) = EcdsaKeyPair::from_private_key_der(curve, der) else { continue };
            let pkcs8 = key.to_pkcs8v1().map_err(|_| crypto())?.as_ref().to_vec();
            return Ok(Self::new(Signing::Ecdsa(Arc::new(key), name), pkcs8));
        }
        match Ed25519KeyPair::from_pkcs8(der) {
            Ok(key) => Ok(Self::new(Signing::Ed25519(Arc::new(key)), der.to_vec())),
            Err(_) => Err(refused(kind(der))),
        }
    }

    /// The only key in PEM text (RFC 7468) of at most 64 KiB; other blocks in it are passed over.
    ///
    /// # Errors
    /// [`IdentityError::CaKey`] if there is none or more than one, if it is encrypted, and as [`CaKey::from_der`].
    pub fn from_pem(text: &str) -> Result<Self, IdentityError> {
        if text.len() > MAX_TEXT {
            return Err(refused(format!("its text has {} bytes, at most {MAX_TEXT} are read", text.len())));
        }
        if text.contains("ENCRYPTED") {
            return Err(refused("it is encrypted; decrypt it with `openssl pkey -in KEY -out DECRYPTED`"));
        }
        let keys = PrivateKeyDer::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>();
        let mut keys = keys.map_err(|e| refused(crate::svid::pem_error(&e)))?;
        let result = match keys.as_slice() {
            [] => Err(refused("its text has no block BEGIN PRIVATE KEY or BEGIN EC PRIVATE KEY")),
            [PrivateKeyDer::Pkcs1(_)] => Err(refused("it is an RSA key")),
            [key] => Self::from_der(key.secret_der()),
            more => Err(refused(format!("its text has {} private keys, and must have one", more.len()))),
        };
        keys.iter_mut().for_each(Zeroize::zeroize);
        result
    }

    /// The key as an unencrypted PKCS#8 document; it is wiped when dropped.
    pub fn pkcs8(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::clone(&self.pkcs8)
    }

    /// The public key as a DER SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7).
    pub fn public_key(&self) -> Vec<u8> {
        CaSigner(self).subject_public_key_info()
    }

    fn new(signing: Signing, pkcs8: Vec<u8>) -> Self {
        Self { signing, pkcs8: Arc::new(Zeroizing::new(pkcs8)) }
    }
}

impl From<&KeyPair> for CaKey {
    fn from(key: &KeyPair) -> Self {
        Self {
            signing: Signing::Ecdsa(key.shared(), tls::certificate_signature()),
            pkcs8: Arc::new(key.pkcs8()),
        }
    }
}

impl fmt::Debug for CaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CaKey(..)")
    }
}

/// A CA's key in the hands of rcgen, which stays out of the public API this way.
pub(super) struct CaSigner<'a>(pub(super) &'a CaKey);

impl PublicKeyData for CaSigner<'_> {
    fn der_bytes(&self) -> &[u8] {
        match &self.0.signing {
            Signing::Ecdsa(key, _) => key.public_key().as_ref(),
            Signing::Ed25519(key) => key.public_key().as_ref(),
        }
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        match &self.0.signing {
            Signing::Ecdsa(_, name) => name,
            Signing::Ed25519(_) => tls::ed25519_signature(),
        }
    }
}

impl SigningKey for CaSigner<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        match &self.0.signing {
            Signing::Ecdsa(key, _) => {
                let signature = key.sign(&SystemRandom::new(), message);
                Ok(signature.map_err(|_| rcgen::Error::RingUnspecified)?.as_ref().to_vec())
            }
            Signing::Ed25519(key) => {
                let signature = key.try_sign(message);
                Ok(signature.map_err(|_| rcgen::Error::RingUnspecified)?.as_ref().to_vec())
            }
        }
    }
}

/// What a key that cannot be used seems to be.
fn kind(der: &[u8]) -> &'static str {
    // object identifiers, which stand near the beginning of a PKCS#8 document and near either end of a SEC1 one
    const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
    const P521: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x23];
    const K256: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x0a];
    let has = |oid: &[u8]| der.windows(oid.len()).any(|window| window == oid);
    match () {
        () if has(RSA) => "it is an RSA key",
        () if has(P521) => "it is an ECDSA key on P-521",
        () if has(K256) => "it is an ECDSA key on secp256k1",
        () => "it is malformed or of an unknown kind",
    }
}

fn refused(cause: impl Into<String>) -> IdentityError {
    IdentityError::CaKey { cause: cause.into() }
}

fn crypto() -> IdentityError {
    IdentityError::Crypto { what: "store a key" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::BASE64;

    fn block(label: &str, der: &[u8]) -> String {
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", BASE64.encode(der))
    }

    #[test]
    fn keys_of_each_kind_survive_storage() {
        for algorithm in
            [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519]
        {
            let made = rcgen::KeyPair::generate_for(algorithm).unwrap();
            let key = CaKey::from_pem(&block("PRIVATE KEY", &made.serialize_der())).unwrap();
            assert_eq!(key.public_key(), made.subject_public_key_info());
            let again = CaKey::from_der(&key.pkcs8()).unwrap();
            assert_eq!(again.public_key(), key.public_key());
            assert_eq!(format!("{key:?}"), "CaKey(..)");
        }
        let ours = KeyPair::generate().unwrap();
        assert_eq!(CaKey::from(&ours).public_key(), ours.public_key());
    }

    #[test]
    fn sec1_keys_are_read() {
        use aws_lc_rs::encoding::{AsDer as _, EcPrivateKeyRfc5915Der};
        for (curve, _) in tls::CA_ECDSA {
            let key = EcdsaKeyPair::generate(curve).unwrap();
            let sec1: EcPrivateKeyRfc5915Der<'_> = key.private_key().as_der().unwrap();
            // as `openssl ecparam -genkey` writes it
            let text = block("EC PARAMETERS", &[6, 0]) + &block("EC PRIVATE KEY", sec1.as_ref());
            let read = CaKey::from_pem(&text).unwrap();
            assert!(read.public_key().ends_with(key.public_key().as_ref()));
            assert_eq!(CaKey::from_der(&read.pkcs8()).unwrap().public_key(), read.public_key());
        }
    }

    #[test]
    fn what_cannot_sign_is_named() {
        let cause = |text: &str| {
            let error = CaKey::from_pem(text).unwrap_err();
            assert_eq!(error.reason(), "bad-ca-key");
            error.to_string()
        };
        let rsa =
            [&[0x30, 0x0b, 0x06, 0x09][..], &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01]].concat();
        assert!(cause(&block("PRIVATE KEY", &rsa)).contains("RSA"));
        assert!(cause(&block("RSA PRIVATE KEY", &rsa)).contains("RSA"));
        let p521 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap().serialize_der();
        assert!(cause(&block("PRIVATE KEY", &p521)).contains("P-521"));
        assert!(cause(&block("ENCRYPTED PRIVATE KEY", &rsa)).contains("openssl pkey"));
        assert!(cause(&block("PRIVATE KEY", b"junk")).contains("malformed"));
        assert!(cause(&block("CERTIFICATE", b"junk")).contains("no block"));
        assert!(cause("-----BEGIN PRIVATE KEY-----\nAAAA\n").contains("END PRIVATE KEY"));
        assert!(cause("").contains("no block"));
        assert!(cause(&"x".repeat(MAX_TEXT + 1)).contains("65537 bytes"));
        let key = block("PRIVATE KEY", &KeyPair::generate().unwrap().pkcs8());
        assert!(cause(&format!("{key}{key}")).contains("2 private keys"));
    }
}
