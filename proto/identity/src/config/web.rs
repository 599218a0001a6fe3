//! HTTPS of the admin API: server names as the web has them, trust as the mesh has it.

use super::{harden_client, harden_server};
use crate::{IdentityError, KeyPair, TrustBundle, tls};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::CertificateDer;
use std::sync::Arc;

/// The protocol of the admin API.
const HTTP: &[u8] = b"http/1.1";

/// The configuration of an HTTPS server with `chain` (DER, leaf first), as [`crate::ClusterCa::sign_web`] signs it, and
/// its key. Clients are not asked for certificates: the admin API has credentials of its own.
///
/// # Errors
/// [`IdentityError::KeyMismatch`] if the key is another's, [`IdentityError::Tls`] if there is no certificate.
pub fn web_server_config(chain: Vec<Vec<u8>>, key: &KeyPair) -> Result<Arc<ServerConfig>, IdentityError> {
    let chain = chain.into_iter().map(CertificateDer::from).collect();
    let certified = CertifiedKey::new(chain, key.handshake_key()?);
    certified.keys_match().map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => IdentityError::KeyMismatch { what: "the web certificate" },
        other => IdentityError::Tls(other),
    })?;
    let mut config = ServerConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(tls::VERSIONS)
        .map_err(IdentityError::Tls)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![HTTP.to_vec()];
    harden_server(&mut config);
    Ok(Arc::new(config))
}

/// The configuration of an HTTPS client that trusts the roots of `bundle` and no others, and checks the server's name.
///
/// # Errors
/// [`IdentityError::Bundle`] if the bundle was spoiled, [`IdentityError::Tls`] if rustls refuses the configuration.
pub fn web_client_config(bundle: &TrustBundle) -> Result<Arc<ClientConfig>, IdentityError> {
    let mut roots = RootCertStore::empty();
    roots.extend(bundle.anchors()?);
    let mut config = ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(tls::VERSIONS)
        .map_err(IdentityError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![HTTP.to_vec()];
    harden_client(&mut config);
    Ok(Arc::new(config))
}
