//! How this sidecar's own SVID stands: which root vouches for it, whether it is to be renewed at once, whether it was revoked.

use crate::trust::{is_revoked, root_id};
use causeway_identity::{BundleStore, Svid};
use causeway_model::Revision;
use causeway_wire::ctl::TrustReport;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// The longest time over which renewals that a gateway asks for are spread.
const MAX_WITHIN: Duration = Duration::from_secs(600);
/// When a renewal that did not lead to the root that was asked for is tried again.
const AGAIN: Duration = Duration::from_secs(60);

/// The first bytes of a root's fingerprint.
type RootId = [u8; 8];

/// A renewal that a gateway asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) root: RootId,
    /// When this sidecar does it.
    pub(super) at: Instant,
}

/// An SVID that is of no use any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Revoked {
    /// SHA-256 of its key.
    pub(super) key: [u8; 32],
    /// Who says so, and why.
    pub(super) cause: String,
}

/// How the own SVID stands.
#[derive(Debug)]
pub(super) struct Own {
    report: watch::Sender<TrustReport>,
    asked: watch::Sender<Option<Asked>>,
    revoked: watch::Sender<Option<Revoked>>,
}

impl Own {
    pub(super) fn new(svid: &Svid, bundles: &BundleStore, revision: Revision) -> Self {
        let report = TrustReport { bundles: revision, root: root(svid, bundles) };
        Self {
            report: watch::Sender::new(report),
            asked: watch::Sender::default(),
            revoked: watch::Sender::default(),
        }
    }

    /// What gateways are told.
    pub(super) fn report(&self) -> watch::Receiver<TrustReport> {
        self.report.subscribe()
    }

    /// The renewal that a gateway asked for and that is not done.
    pub(super) fn asked(&self) -> watch::Receiver<Option<Asked>> {
        self.asked.subscribe()
    }

    /// The SVID that was found to be revoked last.
    pub(super) fn revocation(&self) -> watch::Receiver<Option<Revoked>> {
        self.revoked.subscribe()
    }

    /// `bundles` are of `revision` now.
    pub(super) fn trusts(&self, revision: Revision, svid: &Svid, bundles: &BundleStore) {
        let report = TrustReport { bundles: revision, root: root(svid, bundles) };
        self.report.send_if_modified(|last| {
            let news = *last != report;
            *last = report;
            news
        });
        if let Err(error) = bundles.standing(svid.chain())
            && is_revoked(&error)
        {
            self.revoked(svid, error.to_string());
        }
    }

    /// `svid` is in use from now on. Gateways are told even if it is of the same root.
    pub(super) fn renewed(&self, svid: &Svid, bundles: &BundleStore) {
        let root = root(svid, bundles);
        self.report.send_modify(|report| report.root = root);
        let first = bundles.get(svid.id().trust_domain()).map(|bundle| root_id(&bundle.fingerprint()));
        self.asked.send_if_modified(|asked| {
            let Some(was) = asked else { return false };
            // one that signs with the root that signs by the newest word has done what can be done: whoever asked for another lags
            let done = was.root == root || first == Some(root);
            *asked = if done { None } else { Some(Asked { at: Instant::now() + AGAIN, ..*was }) };
            true
        });
    }

    /// A gateway asks for an SVID of `root` within a time. It is due at a random moment of that, which stays if another gateway
    /// asks for the same.
    pub(super) fn renew_for(&self, root: RootId, within: Duration) {
        if self.report.borrow().root == root {
            return;
        }
        self.asked.send_if_modified(|asked| {
            if asked.is_some_and(|asked| asked.root == root) {
                return false;
            }
            let at = Instant::now() + within.min(MAX_WITHIN).mul_f64(rand::random());
            *asked = Some(Asked { root, at });
            true
        });
    }

    /// `svid` was revoked, by what `cause` says.
    pub(super) fn revoked(&self, svid: &Svid, cause: String) {
        let key = *svid.key_hash();
        self.revoked.send_if_modified(|known| {
            let news = known.as_ref().is_none_or(|known| known.key != key);
            if news {
                *known = Some(Revoked { key, cause });
            }
            news
        });
    }
}

/// The root that vouches for `svid`; zeros if none does.
fn root(svid: &Svid, bundles: &BundleStore) -> RootId {
    bundles.root_of(svid.chain()).map_or_else(RootId::default, |root| root_id(&root))
}

#[cfg(test)]
mod tests {
    use super::*;
    use causeway_identity::{ClusterCa, KeyPair, TrustBundle};
    use causeway_model::Revocation;
    use std::time::SystemTime;

    struct World {
        old: ClusterCa,
        new: ClusterCa,
        bundles: BundleStore,
    }

    fn world() -> World {
        let ca = || ClusterCa::create(&"iad.mesh".parse().unwrap(), SystemTime::now()).unwrap();
        let world = World { old: ca(), new: ca(), bundles: BundleStore::new() };
        world.bundles.set(world.bundle(&[&world.old])).unwrap();
        world
    }

    impl World {
        fn bundle(&self, of: &[&ClusterCa]) -> TrustBundle {
            let roots = of.iter().map(|ca| ca.root_der().to_vec()).collect();
            TrustBundle::new(self.old.trust_domain().clone(), roots).unwrap()
        }

        fn svid(&self, ca: &ClusterCa) -> Svid {
            let key = KeyPair::generate().unwrap();
            let id = "spiffe://iad.mesh/ns/shop/sa/web".parse().unwrap();
            let (csr, hour) = (key.csr().unwrap(), Duration::from_secs(3600));
            Svid::new(ca.sign_svid(&csr, &id, SystemTime::now(), hour).unwrap(), key).unwrap()
        }
    }

    fn id(ca: &ClusterCa) -> RootId {
        root_id(&ca.root_fingerprint())
    }

    #[tokio::test(start_paused = true)]
    async fn the_report_follows_bundles_and_svid() {
        let world = world();
        let svid = world.svid(&world.old);
        let own = Own::new(&svid, &world.bundles, Revision(0));
        let mut report = own.report();
        assert_eq!(*report.borrow_and_update(), TrustReport { bundles: Revision(0), root: id(&world.old) });
        own.trusts(Revision(4), &svid, &world.bundles);
        assert!(report.has_changed().unwrap());
        assert_eq!(report.borrow_and_update().bundles, Revision(4));
        own.trusts(Revision(4), &svid, &world.bundles);
        assert!(!report.has_changed().unwrap());
        own.renewed(&world.svid(&world.old), &world.bundles);
        assert!(report.has_changed().unwrap(), "every renewal is told");
        report.mark_unchanged();
        // its root was dropped
        world.bundles.set(world.bundle(&[&world.new])).unwrap();
        own.trusts(Revision(5), &svid, &world.bundles);
        assert_eq!(*report.borrow(), TrustReport { bundles: Revision(5), root: [0; 8] });
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_is_asked_for_once_and_done_within_the_time() {
        let world = world();
        world.bundles.set(world.bundle(&[&world.new, &world.old])).unwrap();
        let own = Own::new(&world.svid(&world.old), &world.bundles, Revision(1));
        let asked = own.asked();
        own.renew_for(id(&world.old), Duration::ZERO);
        assert_eq!(*asked.borrow(), None, "it is of that root");
        own.renew_for(id(&world.new), Duration::from_secs(36_000));
        let first = asked.borrow().unwrap();
        assert!(first.at <= Instant::now() + MAX_WITHIN);
        own.renew_for(id(&world.new), Duration::ZERO);
        assert_eq!(*asked.borrow(), Some(first), "another gateway asks for the same");
        // a gateway that lags signs with the old root yet
        own.renewed(&world.svid(&world.old), &world.bundles);
        assert_eq!(asked.borrow().unwrap().at, Instant::now() + AGAIN);
        own.renewed(&world.svid(&world.new), &world.bundles);
        assert_eq!(*asked.borrow(), None);
        // a gateway that lags asks for what signs no more
        own.renew_for(id(&world.old), Duration::ZERO);
        own.renewed(&world.svid(&world.new), &world.bundles);
        assert_eq!(*asked.borrow(), None);
    }

    #[test]
    fn a_bundle_that_revokes_the_own_svid_tells() {
        let world = world();
        let svid = world.svid(&world.old);
        let own = Own::new(&svid, &world.bundles, Revision(1));
        own.trusts(Revision(2), &svid, &world.bundles);
        assert_eq!(*own.revocation().borrow(), None);
        let revoke = Revocation { subject: svid.id().to_string().parse().unwrap(), issued_before: u64::MAX };
        world.bundles.set(world.bundle(&[&world.old]).with_revoked(vec![revoke]).unwrap()).unwrap();
        own.trusts(Revision(3), &svid, &world.bundles);
        let revoked = own.revocation().borrow().clone().unwrap();
        assert_eq!(&revoked.key, svid.key_hash());
        assert!(revoked.cause.contains("spiffe://iad.mesh/ns/shop/sa/web"), "{}", revoked.cause);
    }
}
