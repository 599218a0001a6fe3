//! What a single certificate says: the fields that the mesh's rules need, and those rules for leaves and authorities.
//!
//! Signatures and paths are not checked here; `verify` does that with webpki.

use crate::{CLOCK_SLACK, timestamp, tls};
use causeway_model::{SpiffeId, TrustDomain};
use std::time::SystemTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// The largest certificate that is accepted, in bytes of DER.
pub const MAX_CERTIFICATE: usize = 8 * 1024;

/// SHA-256 of a certificate's DER.
pub fn fingerprint(der: &[u8]) -> [u8; 32] {
    tls::sha256(der)
}

/// The fields of a certificate that the mesh's rules need.
pub(crate) struct Facts {
    uris: Vec<String>,
    ca: bool,
    /// keyCertSign or cRLSign; `None` if the certificate has no key usage extension.
    signs: Option<bool>,
    /// digitalSignature; `None` as above.
    authenticates: Option<bool>,
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
    /// The SubjectPublicKeyInfo, DER.
    pub(crate) spki: Vec<u8>,
}

impl Facts {
    /// The facts in `der`, or what is wrong with it.
    pub(crate) fn parse(der: &[u8]) -> Result<Self, String> {
        if der.len() > MAX_CERTIFICATE {
            return Err(format!("it has {} bytes, at most {MAX_CERTIFICATE} are accepted", der.len()));
        }
        let (rest, cert) = X509Certificate::from_der(der).map_err(|e| format!("it is not X.509: {e}"))?;
        if !rest.is_empty() {
            return Err(format!("{} bytes follow it", rest.len()));
        }
        let extension = |e| format!("its extensions are malformed: {e}");
        let usage = cert.key_usage().map_err(extension)?.map(|usage| usage.value);
        Ok(Self {
            uris: uris(&cert)?,
            ca: cert.basic_constraints().map_err(extension)?.is_some_and(|basic| basic.value.ca),
            signs: usage.map(|usage| usage.key_cert_sign() || usage.crl_sign()),
            authenticates: usage.map(|usage| usage.digital_signature()),
            not_before: timestamp::from_unix(cert.validity().not_before.timestamp()),
            not_after: timestamp::from_unix(cert.validity().not_after.timestamp()),
            spki: cert.public_key().raw.to_vec(),
        })
    }

    /// When our CA signed the certificate: it lets certificates begin [`CLOCK_SLACK`] before they are issued.
    pub(crate) fn issued(&self) -> SystemTime {
        self.not_before.checked_add(CLOCK_SLACK).map_or(self.not_after, |issued| issued.min(self.not_after))
    }

    /// SHA-256 of the SubjectPublicKeyInfo.
    pub(crate) fn key_hash(&self) -> [u8; 32] {
        tls::sha256(&self.spki)
    }

    /// The identity of a leaf, by the rules of the X.509-SVID specification (sections 2, 4 and 5.2): exactly one URI
    /// name, which is a SPIFFE ID with a path; not a CA; a key that signs handshakes and no certificates.
    pub(crate) fn svid(&self) -> Result<SpiffeId, String> {
        let [uri] = self.uris.as_slice() else {
            return Err(format!("it has {} URI names, an SVID has exactly one", self.uris.len()));
        };
        let id: SpiffeId = uri.parse().map_err(|e| format!("{e}"))?;
        if id.path().is_empty() {
            return Err(format!("{id} names a trust domain, not a workload or gateway"));
        }
        if self.ca || self.signs == Some(true) {
            return Err(format!("the certificate of {id} is a CA's, and an SVID must not be one"));
        }
        if self.authenticates == Some(false) {
            return Err(format!("the certificate of {id} has a key usage without digitalSignature"));
        }
        Ok(id)
    }

    /// The trust domain that a CA certificate says it is of, if it says so; an error if it is no CA.
    pub(crate) fn authority(&self) -> Result<Option<TrustDomain>, String> {
        if !self.ca || self.signs == Some(false) {
            return Err("it is not a CA certificate".into());
        }
        let mut ids = self.uris.iter().filter(|uri| uri.starts_with("spiffe:"));
        let Some(uri) = ids.next() else { return Ok(None) };
        if ids.next().is_some() {
            return Err("it names more than one trust domain".into());
        }
        let id: SpiffeId = uri.parse().map_err(|e| format!("{e}"))?;
        Ok(Some(id.trust_domain().clone()))
    }
}

/// The URI subject alternative names; an error if a name is malformed, lest a URI hide in it.
fn uris(cert: &X509Certificate<'_>) -> Result<Vec<String>, String> {
    let names = cert.subject_alternative_name().map_err(|e| format!("its names are malformed: {e}"))?;
    let mut uris = Vec::new();
    for name in names.iter().flat_map(|names| &names.value.general_names) {
        match name {
            GeneralName::URI(uri) => uris.push((*uri).to_owned()),
            GeneralName::Invalid(..) => {
                return Err("one of its subject alternative names is malformed".into());
            }
            _ => {}
        }
    }
    Ok(uris)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fixture() -> Vec<u8> {
        let td: TrustDomain = "iad.mesh".parse().unwrap();
        crate::ClusterCa::create(&td, SystemTime::now()).unwrap().root_der().to_vec()
    }

    #[test]
    fn limits_hold() {
        assert!(Facts::parse(&vec![0x30; MAX_CERTIFICATE + 1]).is_err_and(|e| e.contains("8192")));
        let mut der = fixture();
        der.push(0);
        assert!(Facts::parse(&der).is_err_and(|e| e.contains("1 bytes follow")));
    }

    proptest! {
        #[test]
        fn noise_is_refused_without_panic(der in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(Facts::parse(&der).is_err());
        }

        #[test]
        fn a_changed_byte_never_panics(at in 0usize..400, byte: u8) {
            let mut der = fixture();
            let at = at % der.len();
            der[at] = byte;
            if let Ok(facts) = Facts::parse(&der) {
                let _ = (facts.svid(), facts.authority());
            }
        }
    }
}
