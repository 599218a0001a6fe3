//! The root certificates of a context.

use crate::failure::Failure;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// The certificates in `pem`, each of which can be a root; `origin` is for messages.
pub(crate) fn roots(pem: &str, origin: &str) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let refused = |cause: String| {
        Failure::new("context_ca", format!("the root certificates of {origin} cannot be used"))
            .cause(cause)
            .fix("copy the context file from the gateway again, or give --ca FILE")
    };
    let mut roots = Vec::new();
    for (index, found) in CertificateDer::pem_slice_iter(pem.as_bytes()).enumerate() {
        let root =
            found.map_err(|error| refused(format!("certificate {} is not PEM: {error}", index + 1)))?;
        let usable = RootCertStore::empty().add(root.clone());
        usable.map_err(|error| refused(format!("certificate {} is not X.509: {error}", index + 1)))?;
        roots.push(root);
    }
    if roots.is_empty() { Err(refused("there is no certificate in them".into())) } else { Ok(roots) }
}
