//! An SVID as PEM text, to keep over a restart. The caller writes the file, and sees to its mode.

use super::Svid;
use crate::{IdentityError, KeyPair, MAX_CERTIFICATE, MAX_CHAIN};
use data_encoding::BASE64;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use zeroize::{Zeroize, Zeroizing};

/// The longest text that is read, in bytes: the longest chain in base64, and room for the key and the lines.
const MAX_TEXT: usize = 2 * MAX_CHAIN * MAX_CERTIFICATE;

/// A certificate (DER) as PEM (RFC 7468).
pub fn certificate_pem(der: &[u8]) -> String {
    let mut text = Zeroizing::new(String::new());
    write_block(&mut text, "CERTIFICATE", der);
    std::mem::take(&mut *text)
}

impl Svid {
    /// The certificates, then the key, as PEM (RFC 7468); the text is wiped when dropped.
    pub fn to_pem(&self) -> Zeroizing<String> {
        let key = self.key().pkcs8();
        // room for everything, so that growing the text leaves no copy of the key behind
        let size = self.chain().iter().map(|cert| cert.len()).sum::<usize>() + key.len();
        let mut text = Zeroizing::new(String::with_capacity(2 * size + 128 * (self.chain().len() + 1)));
        for cert in self.chain() {
            write_block(&mut text, "CERTIFICATE", cert);
        }
        write_block(&mut text, "PRIVATE KEY", &key);
        text
    }

    /// The SVID that [`Svid::to_pem`] wrote.
    ///
    /// # Errors
    /// [`IdentityError::Pem`] if the text has no certificate or no key or is too long, and as [`Svid::new`].
    pub fn from_pem(text: &str) -> Result<Self, IdentityError> {
        if text.len() > MAX_TEXT {
            let cause = format!("it has {} bytes, at most {MAX_TEXT} are read", text.len());
            return Err(IdentityError::Pem { cause });
        }
        let broken = |error: pem::Error| IdentityError::Pem { cause: told(&error) };
        let certs =
            CertificateDer::pem_slice_iter(text.as_bytes()).map(|cert| cert.map(|cert| cert.to_vec()));
        let chain = certs.collect::<Result<Vec<_>, _>>().map_err(broken)?;
        let mut der = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes()).map_err(broken)?;
        let key = KeyPair::from_pkcs8(der.secret_pkcs8_der());
        der.zeroize();
        Self::new(chain, key?)
    }
}

/// What is wrong with a PEM text; the library shows markers as numbers.
pub(crate) fn told(error: &pem::Error) -> String {
    let text = |marker: &[u8]| String::from_utf8_lossy(marker).into_owned();
    match error {
        pem::Error::MissingSectionEnd { end_marker } => {
            format!("the line -----END {}----- is missing", text(end_marker))
        }
        pem::Error::IllegalSectionStart { line } => format!("a malformed line: {:?}", text(line)),
        other => other.to_string(),
    }
}

fn write_block(text: &mut String, label: &str, der: &[u8]) {
    text.push_str("-----BEGIN ");
    text.push_str(label);
    text.push_str("-----\n");
    // 48 bytes are 64 characters, and only the last line is padded
    for line in der.chunks(48) {
        BASE64.encode_append(line, text);
        text.push('\n');
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ClusterCa;
    use causeway_model::{NodeId, SpiffeId, TrustDomain};
    use std::time::{Duration, SystemTime};

    fn svid() -> Svid {
        let td: TrustDomain = "iad.mesh".parse().unwrap();
        let ca = ClusterCa::create(&td, SystemTime::now()).unwrap();
        let key = KeyPair::generate().unwrap();
        let id = SpiffeId::gateway(&td, NodeId(7));
        let chain = ca.sign_svid(&key.csr().unwrap(), &id, SystemTime::now(), Duration::from_secs(900));
        Svid::new(chain.unwrap(), key).unwrap()
    }

    #[test]
    fn an_svid_survives_storage() {
        let svid = svid();
        let text = svid.to_pem();
        assert!(text.lines().all(|line| line.len() <= 64), "{}", &**text);
        let again = Svid::from_pem(&text).unwrap();
        assert_eq!((again.id(), again.chain()), (svid.id(), svid.chain()));
        assert_eq!(again.not_after(), svid.not_after());
    }

    #[test]
    fn spoiled_files_are_refused() {
        let text = svid().to_pem();
        let (cert, key) = text.split_at(text.find("-----BEGIN PRIVATE").unwrap());
        assert_eq!(Svid::from_pem("").unwrap_err().reason(), "bad-stored-svid");
        assert_eq!(Svid::from_pem(cert).unwrap_err().reason(), "bad-stored-svid");
        assert_eq!(Svid::from_pem(key).unwrap_err().reason(), "bad-certificate");
        assert_eq!(Svid::from_pem(&text[..text.len() / 2]).unwrap_err().reason(), "bad-stored-svid");
        assert_eq!(Svid::from_pem(&"x".repeat(MAX_TEXT + 1)).unwrap_err().reason(), "bad-stored-svid");
    }
}
