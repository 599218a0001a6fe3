//! rustls configurations: mesh client and server, and the admin API's HTTPS.
//!
//! All of them are TLS 1.3 with the algorithms of `tls`, without resumption, tickets, early data or key logs: a
//! resumed session would skip the check of the certificate.

mod refusal;
mod root;
mod verifier;
mod web;

pub use refusal::{explain, refusal};
pub use web::{web_client_config, web_server_config};

use crate::{BundleStore, IdentityError, ServerRule, SvidSource, tls};
use root::WithRoot;
use rustls::client::Resumption;
use rustls::server::{NoServerSessionStorage, ResolvesServerCert};
use rustls::{ClientConfig, NoKeyLog, ServerConfig};
use std::sync::Arc;
use verifier::{ClientVerifier, ServerVerifier};

/// Whether a client must have an SVID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// A client without an SVID is refused.
    Required,
    /// A client may come without one, to join with a token; one that it presents is verified.
    Optional,
}

/// The configuration of a mesh client that accepts the servers of `rule`, judged by `bundles` as they are at each
/// handshake, presents the current SVID of `svid`, and speaks `alpn`. No server name is sent: it would tell the network
/// which service is called.
///
/// # Errors
/// [`IdentityError::Tls`] if rustls refuses the configuration.
pub fn client_config(
    rule: ServerRule,
    bundles: &BundleStore,
    svid: Option<&SvidSource>,
    alpn: &[u8],
) -> Result<Arc<ClientConfig>, IdentityError> {
    let builder = ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(tls::VERSIONS)
        .map_err(IdentityError::Tls)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ServerVerifier::new(rule, bundles.clone())));
    let mut config = match svid {
        Some(svid) => builder.with_client_cert_resolver(Arc::new(svid.clone())),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    config.enable_sni = false;
    harden_client(&mut config);
    Ok(Arc::new(config))
}

/// The configuration of a mesh server that presents the current SVID of `svid`, accepts the clients that `bundles`
/// vouch for at each handshake, and speaks one of `alpns`. With `root_in_chain` (DER) the root is
/// presented after the SVID's chain: gateways do, so that a client that has only a token's fingerprint can check it. It
/// is the root in `bundles` that the current SVID leads to, and the one given here only while there is none.
///
/// # Errors
/// [`IdentityError::Tls`] if rustls refuses the configuration.
pub fn server_config(
    svid: &SvidSource,
    bundles: &BundleStore,
    alpns: &[&[u8]],
    client_auth: ClientAuth,
    root_in_chain: Option<Vec<u8>>,
) -> Result<Arc<ServerConfig>, IdentityError> {
    let resolver: Arc<dyn ResolvesServerCert> = match root_in_chain {
        Some(root) => Arc::new(WithRoot::new(svid.clone(), bundles.clone(), root.into())),
        None => Arc::new(svid.clone()),
    };
    let mut config = ServerConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(tls::VERSIONS)
        .map_err(IdentityError::Tls)?
        .with_client_cert_verifier(Arc::new(ClientVerifier::new(client_auth, bundles.clone())))
        .with_cert_resolver(resolver);
    config.alpn_protocols = alpns.iter().map(|alpn| alpn.to_vec()).collect();
    harden_server(&mut config);
    Ok(Arc::new(config))
}

fn harden_client(config: &mut ClientConfig) {
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.key_log = Arc::new(NoKeyLog);
}

fn harden_server(config: &mut ServerConfig) {
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    config.key_log = Arc::new(NoKeyLog);
}
