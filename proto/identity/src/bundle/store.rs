//! The bundles that a process believes now: its own cluster's and its linked clusters'.

use super::Revoked;
use crate::{IdentityError, TrustBundle, fingerprint};
use arc_swap::ArcSwap;
use causeway_model::TrustDomain;
use rustls_pki_types::TrustAnchor;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use tokio::sync::watch;

/// A shared set of trust bundles, one per trust domain. Clones are the same set; reads take no lock, and a handshake
/// that has begun keeps the bundle it found.
#[derive(Clone, Default)]
pub struct BundleStore(Arc<Shared>);

type Entries = BTreeMap<TrustDomain, Arc<Entry>>;

#[derive(Default)]
struct Shared {
    entries: ArcSwap<Entries>,
    /// How often the set has changed. Written only under the sender's own lock, which thereby orders writers.
    changes: watch::Sender<u64>,
}

/// A bundle with its roots and revocations compiled.
pub(crate) struct Entry {
    bundle: Arc<TrustBundle>,
    /// In the order of the bundle's roots.
    pub(crate) anchors: Vec<TrustAnchor<'static>>,
    /// SHA-256 of the roots, in the same order.
    pub(crate) fingerprints: Vec<[u8; 32]>,
    pub(crate) revoked: Revoked,
}

impl Entry {
    fn compile(bundle: TrustBundle) -> Result<(TrustDomain, Arc<Self>), IdentityError> {
        let (anchors, revoked) = (bundle.anchors()?, Revoked::compile(&bundle)?);
        let fingerprints = bundle.roots.iter().map(|root| fingerprint(root)).collect();
        let domain = bundle.trust_domain.clone();
        Ok((domain, Arc::new(Self { bundle: Arc::new(bundle), anchors, fingerprints, revoked })))
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
    /// [`IdentityError::Bundle`] if its fields were changed to something that [`TrustBundle::new`] or
    /// [`TrustBundle::with_revoked`] refuses; the store stays as it was.
    pub fn set(&self, bundle: TrustBundle) -> Result<(), IdentityError> {
        let (domain, entry) = Entry::compile(bundle)?;
        self.update(|entries| {
            entries.insert(domain, entry);
        });
        Ok(())
    }

    /// Stops believing `trust_domain`; whether it was believed.
    pub fn remove(&self, trust_domain: &TrustDomain) -> bool {
        self.update(|entries| {
            entries.remove(trust_domain);
        })
    }

    /// Believes exactly these bundles; of two for one trust domain the last.
    ///
    /// # Errors
    /// As [`BundleStore::set`]; then nothing is replaced.
    pub fn replace_all(&self, bundles: Vec<TrustBundle>) -> Result<(), IdentityError> {
        let new = bundles.into_iter().map(Entry::compile).collect::<Result<Entries, _>>()?;
        self.update(|entries| *entries = new);
        Ok(())
    }

    /// How often what is believed has changed. Writing what is there already is no change.
    pub fn generation(&self) -> u64 {
        *self.0.changes.borrow()
    }

    /// Tells of changes: holds the [`generation`](Self::generation), which is raised once a change can be seen here. Who
    /// watches a connection asks for this first and for its [`standing`](Self::standing) then, so that no change falls
    /// between.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// Applies `change`; whether anything is different then.
    fn update(&self, change: impl FnOnce(&mut Entries)) -> bool {
        self.0.changes.send_if_modified(|generation| {
            let before = self.0.entries.load_full();
            let mut after = Entries::clone(&before);
            change(&mut after);
            let same =
                before.values().map(|entry| &entry.bundle).eq(after.values().map(|entry| &entry.bundle));
            if !same {
                self.0.entries.store(Arc::new(after));
                *generation += 1;
            }
            !same
        })
    }

    /// The bundle of `trust_domain`, if it is believed.
    pub fn get(&self, trust_domain: &TrustDomain) -> Option<Arc<TrustBundle>> {
        Some(Arc::clone(&self.entry(trust_domain)?.bundle))
    }

    /// The trust domains that are believed, in order.
    pub fn domains(&self) -> Vec<TrustDomain> {
        self.0.entries.load().keys().cloned().collect()
    }

    pub(crate) fn entry(&self, trust_domain: &TrustDomain) -> Option<Arc<Entry>> {
        self.0.entries.load().get(trust_domain).cloned()
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
    fn only_changes_are_told() {
        let store = BundleStore::new();
        let mut changes = store.clone().changes();
        let mut told = || {
            let told = changes.has_changed().unwrap();
            assert_eq!(*changes.borrow_and_update(), store.generation());
            told
        };
        let iad = bundle("iad.mesh");
        store.set(iad.clone()).unwrap();
        assert!(told() && !told());
        store.set(iad.clone()).unwrap();
        store.replace_all(vec![iad.clone()]).unwrap();
        assert!(!told() && !store.remove(&"phx.mesh".parse().unwrap()) && !told());
        let subject = "spiffe://iad.mesh/ns/a/sa/b".parse().unwrap();
        let revoked = vec![causeway_model::Revocation { subject, issued_before: 1 }];
        store.set(iad.clone().with_revoked(revoked).unwrap()).unwrap();
        assert!(told());
        assert!(store.remove(&iad.trust_domain) && told());
        assert_eq!(store.generation(), 3);
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
