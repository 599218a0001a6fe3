//! The SVID in use: shared, replaced at renewal, and what rustls presents at the next handshake.

use super::Svid;
use arc_swap::ArcSwap;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::sync::Arc;

/// The current SVID of a process. Clones are the same source; after [`SvidSource::replace`] every new handshake uses
/// the new SVID, through whatever configuration, and connections that stand are not disturbed.
#[derive(Clone, Debug)]
pub struct SvidSource(Arc<ArcSwap<Svid>>);

impl SvidSource {
    /// A source that begins with `svid`.
    pub fn new(svid: Svid) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(svid)))
    }

    /// The SVID that a handshake would use now.
    pub fn current(&self) -> Arc<Svid> {
        self.0.load_full()
    }

    /// Uses `svid` from now on.
    pub fn replace(&self, svid: Svid) {
        self.0.store(Arc::new(svid));
    }
}

impl ResolvesServerCert for SvidSource {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(self.0.load().certified()))
    }
}

impl ResolvesClientCert for SvidSource {
    fn resolve(&self, _roots: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(self.0.load().certified()))
    }

    fn has_certs(&self) -> bool {
        true
    }
}
