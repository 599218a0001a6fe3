//! SPIFFE identities: SVIDs, trust bundles, the cluster CA, mutual verification, TLS configuration.
//!
//! This crate owns every certificate, key and TLS setting of the mesh, and the rule by which one process believes
//! another (the X.509-SVID specification, with the chain checked only against the bundle of the trust domain that the
//! certificate itself names). It owns no sockets and no files, and it reads no clock except through rustls, which asks
//! for the time at each handshake. What an identity may do is for `causeway-policy` and the planes to decide.

mod bundle;
mod ca;
mod cert;
mod config;
mod error;
mod key;
mod seal;
mod svid;
mod timestamp;
mod tls;
mod verify;

pub use bundle::{BundleStore, TrustBundle};
pub use ca::{
    CA_ENDS_SOON, CLOCK_SLACK, CaKey, ClusterCa, GATEWAY_SVID_TTL, OperatorCa, ROOT_TTL, SVID_TTL,
    request_key_id,
};
pub use cert::{MAX_CERTIFICATE, fingerprint};
pub use config::{
    ClientAuth, client_config, explain, refusal, server_config, web_client_config, web_server_config,
};
pub use error::IdentityError;
pub use key::KeyPair;
pub use rustls_pki_types::CertificateDer;
pub use seal::{SealKey, Sealed};
pub use svid::{Svid, SvidSource, certificate_pem};
pub use tls::provider;
pub use verify::{
    MAX_CHAIN, ServerRule, Standing, Usage, VerifyError, issued_at, not_after, peer_id, pinned_bundle,
    verify_chain, verify_server,
};
