//! The rules of `verify` as rustls calls them.

use super::ClientAuth;
use super::refusal::to_tls;
use crate::{BundleStore, ServerRule, Usage, timestamp, tls, verify_chain, verify_server};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// How a client judges a server. The server's name plays no part: the identity does.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    rule: ServerRule,
    bundles: BundleStore,
}

impl ServerVerifier {
    pub(super) fn new(rule: ServerRule, bundles: BundleStore) -> Self {
        Self { rule, bundles }
    }
}

/// How a server judges a client: any identity that a bundle vouches for; what it may do is decided after the handshake.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    auth: ClientAuth,
    bundles: BundleStore,
}

impl ClientVerifier {
    pub(super) fn new(auth: ClientAuth, bundles: BundleStore) -> Self {
        Self { auth, bundles }
    }
}

/// The presented certificates as one list. They borrow; nothing is copied but the list.
fn chain<'a>(leaf: &'a CertificateDer<'_>, rest: &'a [CertificateDer<'_>]) -> Vec<CertificateDer<'a>> {
    std::iter::once(leaf).chain(rest).map(|cert| CertificateDer::from(cert.as_ref())).collect()
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        verify_server(&self.rule, &self.bundles, &chain(leaf, rest), timestamp::from_tls(now))
            .map_err(to_tls)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(not_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_signature(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.auth == ClientAuth::Required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // no hints: a client has one SVID, and the list would tell strangers which clusters are linked
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        verify_chain(&self.bundles, &chain(leaf, rest), Usage::Client, timestamp::from_tls(now))
            .map_err(to_tls)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(not_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_signature(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
    }
}

fn verify_signature(
    message: &[u8],
    cert: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    let algorithms = tls::provider().signature_verification_algorithms;
    rustls::crypto::verify_tls13_signature(message, cert, signature, &algorithms)
}

fn not_tls12() -> Error {
    Error::General("TLS 1.2 is not spoken in the mesh".into())
}

fn schemes() -> Vec<SignatureScheme> {
    tls::provider().signature_verification_algorithms.supported_schemes()
}
