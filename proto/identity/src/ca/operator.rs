//! A CA that an operator brings, read from the files in which it comes.

use super::chain::{MAX_INTERMEDIATES, refused, self_signed, subject};
use super::{CaKey, ClusterCa};
use crate::{IdentityError, MAX_CERTIFICATE};
use causeway_model::TrustDomain;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::time::SystemTime;

/// The longest text that is searched for certificates, in bytes.
const MAX_TEXT: usize = 2 * (MAX_INTERMEDIATES + 1) * MAX_CERTIFICATE;

/// An operator's root and intermediate certificates with the key that is to sign. They have been read, and only
/// [`OperatorCa::for_trust_domain`] checks whether they can sign.
#[derive(Clone, Debug)]
pub struct OperatorCa {
    /// The CA certificates below the root, DER: the one whose key signs first, then the one that signed it, and so on.
    /// Empty if the root itself signs.
    pub chain: Vec<Vec<u8>>,
    /// The root certificate, DER.
    pub root: Vec<u8>,
    /// The key that signs.
    pub key: CaKey,
}

impl OperatorCa {
    /// Reads certificates (PEM, RFC 7468: the signer first, then the one that signed it, and so on; the root last) and
    /// the signer's key (PEM, unencrypted PKCS#8 or SEC1). Other blocks are passed over, so one file may be both.
    ///
    /// # Errors
    /// [`IdentityError::CaChain`] or [`IdentityError::CaKey`] that names what is wrong with which text.
    pub fn from_pem(certificates: &str, key: &str) -> Result<Self, IdentityError> {
        if certificates.len() > MAX_TEXT {
            let size = certificates.len();
            return Err(refused(format!("their text has {size} bytes, at most {MAX_TEXT} are read")));
        }
        let certs = CertificateDer::pem_slice_iter(certificates.as_bytes());
        let certs = certs.map(|cert| cert.map(|cert| cert.to_vec())).collect::<Result<Vec<_>, _>>();
        let mut chain = certs.map_err(|e| refused(crate::svid::pem_error(&e)))?;
        let root = chain.pop().ok_or_else(|| refused("their text has no block BEGIN CERTIFICATE".into()))?;
        if let Some(at) = chain.iter().position(|der| self_signed(der)) {
            let (at, name) = (at + 1, subject(&chain[at]));
            return Err(refused(format!(
                "certificate {at} ({name}) is a root, which must be the last and only one"
            )));
        }
        if !self_signed(&root) {
            let (last, name) = (chain.len() + 1, subject(&root));
            return Err(refused(format!(
                "certificate {last} ({name}), the last, is not a self-signed root; append the root"
            )));
        }
        Ok(Self { chain, root, key: CaKey::from_pem(key)? })
    }

    /// The CA that signs for `trust_domain` with these certificates, as [`ClusterCa::from_chain`].
    ///
    /// # Errors
    /// As [`ClusterCa::from_chain`].
    pub fn for_trust_domain(
        self,
        trust_domain: &TrustDomain,
        now: SystemTime,
    ) -> Result<ClusterCa, IdentityError> {
        ClusterCa::from_chain(trust_domain, self.chain, self.key, self.root, now)
    }
}
