//! The root beside the SVID, for those who have only its fingerprint.

use crate::{BundleStore, Svid, SvidSource};
use arc_swap::ArcSwapOption;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use std::sync::Arc;

/// Presents the current SVID and after it the root that it leads to, which is another one after a rotation.
#[derive(Debug)]
pub(super) struct WithRoot {
    svid: SvidSource,
    bundles: BundleStore,
    /// What is presented while no bundle has the SVID's root.
    first: CertificateDer<'static>,
    /// The last SVID whose root was found, and what is presented for it.
    found: ArcSwapOption<(Arc<Svid>, Arc<CertifiedKey>)>,
}

impl WithRoot {
    pub(super) fn new(svid: SvidSource, bundles: BundleStore, first: CertificateDer<'static>) -> Self {
        Self { svid, bundles, first, found: ArcSwapOption::empty() }
    }

    fn present(&self) -> Arc<CertifiedKey> {
        let svid = self.svid.current();
        if let Some((_, certified)) = self.found.load().as_deref().filter(|(of, _)| Arc::ptr_eq(of, &svid)) {
            return Arc::clone(certified);
        }
        let bundle = self.bundles.get(svid.id().trust_domain());
        let root = bundle.and_then(|bundle| {
            let vouching = bundle.root_of(svid.chain())?;
            bundle.roots.iter().find(|root| crate::fingerprint(root) == vouching).cloned()
        });
        let mut certified = CertifiedKey::clone(svid.certified());
        let Some(root) = root else {
            certified.cert.push(self.first.clone());
            return Arc::new(certified);
        };
        certified.cert.push(root.into());
        let certified = Arc::new(certified);
        self.found.store(Some(Arc::new((svid, Arc::clone(&certified)))));
        certified
    }
}

impl ResolvesServerCert for WithRoot {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.present())
    }
}
