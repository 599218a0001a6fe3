//! The bundles that a process believes now: its own cluster's and its linked clusters'.

use crate::{IdentityError, TrustBundle};
use arc_swap::ArcSwap;
use causeway_model::TrustDomain;
use rustls_pki_types::TrustAnchor;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A shared set of trust bundles, one per trust domain. Clones are the same set; reads take no lock, and a handshake
/// that has begun keeps the bundle it found.
#[derive(Clone, Default)]
pub struct BundleStore {
    entries: Arc<ArcSwap<BTreeMap<TrustDomain, Arc<Entry>>>>,
}

/// A bundle with its roots compiled.
pub(crate) struct Entry {
    bundle: Arc<TrustBundle>,
    pub(crate) anchors: Vec<TrustAnchor<'static>>,
}

impl Entry {
    fn compile(bundle: TrustBundle) -> Result<(TrustDomain, Arc<Self>), IdentityError> {
        let anchors = bundle.anchors()?;
        Ok((bundle.trust_domain.clone(), Arc::new(Self { bundle: Arc::new(bundle), anchors })))
    }
}

impl BundleStore {
    /// An empty store: it believes nobody.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a bundle, or replaces the one of the same trust domain.
    ///
    /// # Errors
    /// [`IdentityError::Bundle`] if its fields were changed to something that [`TrustBundle::new`] refuses; the store
    /// stays as it was.
    pub fn set(&self, bundle: TrustBundle) -> Result<(), IdentityError> {
        let (domain, entry) = Entry::compile(bundle)?;
        self.entries.rcu(|entries| {
            let mut entries = BTreeMap::clone(entries);
            entries.insert(domain.clone(), Arc::clone(&entry));
            entries
        });
        Ok(())
    }

    /// Stops believing `trust_domain`; whether it was believed.
    pub fn remove(&self, trust_domain: &TrustDomain) -> bool {
        let before = self.entries.rcu(|entries| {
            let mut entries = BTreeMap::clone(entries);
            entries.remove(trust_domain);
            entries
        });
        before.contains_key(trust_domain)
    }

    /// Believes exactly these bundles; of two for one trust domain the last.
    ///
    /// # Errors
    /// As [`BundleStore::set`]; then nothing is replaced.
    pub fn replace_all(&self, bundles: Vec<TrustBundle>) -> Result<(), IdentityError> {
        let entries = bundles.into_iter().map(Entry::compile).collect::<Result<_, _>>()?;
        self.entries.store(Arc::new(entries));
        Ok(())
    }

    /// The bundle of `trust_domain`, if it is believed.
    pub fn get(&self, trust_domain: &TrustDomain) -> Option<Arc<TrustBundle>> {
        Some(Arc::clone(&self.entry(trust_domain)?.bundle))
    }

    /// The trust domains that are believed, in order.
    pub fn domains(&self) -> Vec<TrustDomain> {
        self.entries.load().keys().cloned().collect()
    }

    pub(crate) fn entry(&self, trust_domain: &TrustDomain) -> Option<Arc<Entry>> {
        self.entries.load().get(trust_domain).cloned()
    }
}

impl fmt::Debug for BundleStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BundleStore").field(&self.domains()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ClusterCa;
    use std::time::SystemTime;

    fn bundle(name: &str) -> TrustBundle {
        ClusterCa::create(&name.parse().unwrap(), SystemTime::now()).unwrap().bundle()
    }

    #[test]
    fn clones_are_one_set() {
        let store = BundleStore::new();
        let other = store.clone();
        let (iad, phx) = (bundle("iad.mesh"), bundle("phx.mesh"));
        store.set(iad.clone()).unwrap();
        assert_eq!(*other.get(&iad.trust_domain).unwrap(), iad);
        let newer = bundle("iad.mesh");
        store.set(newer.clone()).unwrap();
        assert_eq!(*other.get(&iad.trust_domain).unwrap(), newer);
        other.replace_all(vec![phx.clone()]).unwrap();
        assert_eq!(store.domains(), std::slice::from_ref(&phx.trust_domain));
        assert!(store.remove(&phx.trust_domain) && !store.remove(&phx.trust_domain));
        assert!(other.domains().is_empty());
    }

    #[test]
    fn a_bundle_that_was_spoiled_changes_nothing() {
        let store = BundleStore::new();
        let good = bundle("iad.mesh");
        store.set(good.clone()).unwrap();
        let mut bad = bundle("phx.mesh");
        bad.roots.clear();
        assert_eq!(store.set(bad.clone()).unwrap_err().reason(), "bad-bundle");
        assert!(store.replace_all(vec![bad]).is_err());
        assert_eq!(store.domains(), [good.trust_domain]);
    }
}
