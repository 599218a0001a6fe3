//! What this sidecar is and what it has learned: shared by the sessions that learn it and everybody who asks.

use super::exports::{Exports, learn_exports};
use super::own::Own;
use super::precedence::Precedence;
use super::registration::{Registration, RegistrationError};
use super::session::Request;
use super::views::{Published, Views};
use super::vips::{NamedVip, Vips};
use super::watches::Watches;
use crate::bootstrap::{Enroller, Joined};
use crate::metrics::ClientMetrics;
use crate::state::{Known, StateDir};
use crate::trust::{Telling, believed, keep_revoked};
use causeway_identity::{BundleStore, Svid, SvidSource, TrustBundle};
use causeway_model::{
    ClusterFacts, Epoch, GatewayFacts, NodeId, Revision, ServiceName, TrustDomain, WorkloadId,
};
use causeway_transport::{Attachment, Overlay};
use causeway_wire::CidKeys;
use causeway_wire::ctl::{Bundles, Register, ToSidecar};
use causeway_wire::view::{CidSecret, ProbeSecret};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

/// The most gateways that a cluster may name.
const MAX_GATEWAYS: usize = 256;
/// The most direct addresses that gateways are told.
const MAX_DIRECT: usize = 8;
/// The most keys of one kind that a gateway may name: epochs are told apart by 4 bits.
const MAX_KEYS: usize = 16;

/// How the control connections are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ControlState {
    /// The gateways that have welcomed this sidecar.
    pub connected: Vec<NodeId>,
    /// Whether a registration stands with one of them.
    pub registered: bool,
    /// The last error that is not mended yet, for the operator.
    pub error: Option<String>,
    /// Why this workload may not serve what it is to serve: the configuration is wrong, and the process should end.
    pub registration_error: Option<RegistrationError>,
    /// Since when no gateway has answered and the sidecar goes on with what it knows.
    pub alone_since: Option<Instant>,
}

/// The keys in use, to tell news from what a slower gateway repeats.
struct Keys {
    cids: Vec<CidSecret>,
    probe: ProbeSecret,
}

impl Keys {
    fn newest(&self) -> (Option<Epoch>, Epoch) {
        (self.cids.iter().map(|key| key.epoch).max(), self.probe.epoch)
    }

    /// Whether these replace `current`: neither kind is older, and something differs.
    fn replace(&self, current: &Self) -> bool {
        let (now, then) = (self.newest(), current.newest());
        now.0 >= then.0 && now.1 >= then.1 && (self.cids != current.cids || self.probe != current.probe)
    }
}

/// A service with the trust domains that it is exported to.
type Exported = (ServiceName, Vec<TrustDomain>);

/// What gateways say of the cluster as a whole, by which those that lag behind are known.
#[derive(Default)]
struct Words {
    bundles: Precedence,
    exports: Precedence,
}

/// A number by which equal words are known.
fn fingerprint(word: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    word.hash(&mut hasher);
    hasher.finish()
}

/// What this sidecar is and what it has learned.
pub(super) struct Picture {
    pub(super) cluster: ClusterFacts,
    pub(super) workload: WorkloadId,
    pub(super) svid: SvidSource,
    pub(super) bundles: BundleStore,
    /// How its own SVID stands.
    pub(super) own: Own,
    pub(super) views: Arc<Views>,
    pub(super) watches: Arc<Watches>,
    pub(super) vips: Vips,
    pub(super) registration: watch::Sender<Registration>,
    pub(super) exported: watch::Sender<Exports>,
    pub(super) gateways: watch::Sender<Arc<Vec<GatewayFacts>>>,
    pub(super) state: watch::Sender<ControlState>,
    /// Cancelled once goodbye has been said.
    pub(super) leaving: CancellationToken,
    /// Something that is saved has changed.
    pub(super) dirty: Notify,
    pub(super) metrics: ClientMetrics,
    pub(super) overlay: Overlay,
    pub(super) state_dir: Option<Arc<StateDir>>,
    /// What a registration says besides services.
    place: Register,
    keys: Mutex<Keys>,
    words: Mutex<Words>,
    sessions: Mutex<BTreeMap<NodeId, mpsc::Sender<Request>>>,
}

impl Picture {
    /// The picture right after the start; gives the overlay its keys.
    pub(super) fn new(joined: Joined, overlay: Overlay, metrics: ClientMetrics) -> (Self, Enroller) {
        let Joined { config, svid, bundles, trust, cluster, attached, services, vips, state, enroller } =
            joined;
        let place = Register {
            request: 0,
            services: Vec::new(),
            locality: config.locality,
            weight: config.weight.clamp(1, 1000),
            overlay: config.overlay.into_iter().take(MAX_DIRECT).collect(),
        };
        let keys = Keys { cids: attached.cid_keys, probe: attached.probe_key };
        let picture = Self {
            cluster,
            workload: attached.workload,
            own: Own::new(&svid.current(), &bundles, trust),
            svid,
            bundles,
            views: Arc::new(Views::new(services, Instant::now(), metrics.clone())),
            watches: Arc::new(Watches::new(metrics.clone())),
            vips: Vips::new(vips),
            registration: watch::Sender::new(Registration::new(config.serve)),
            exported: watch::Sender::default(),
            gateways: watch::Sender::new(Arc::new(attached.gateways)),
            state: watch::Sender::default(),
            leaving: CancellationToken::new(),
            dirty: Notify::new(),
            metrics,
            overlay,
            state_dir: state,
            place,
            keys: Mutex::new(keys),
            words: Mutex::new(Words { bundles: Precedence::since(trust), ..Words::default() }),
            sessions: Mutex::default(),
        };
        picture.count_vips();
        picture.hand_over(&picture.keys.lock().unwrap_or_else(PoisonError::into_inner));
        (picture, enroller)
    }

    /// The registration as a message, with `registration`'s services.
    pub(super) fn register(&self, request: u32, registration: &Registration) -> Register {
        Register { request, services: registration.services(), ..self.place.clone() }
    }

    /// How far a gateway is, as far as this sidecar knows where it runs itself.
    pub(super) fn distance(&self, gateway: &GatewayFacts) -> u8 {
        self.place.locality.as_ref().map_or(0, |here| here.distance(&gateway.locality))
    }

    /// The sessions that stand.
    pub(super) fn sessions(&self) -> Vec<mpsc::Sender<Request>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The session with `node` stands, or no more.
    pub(super) fn set_session(&self, node: NodeId, requests: Option<mpsc::Sender<Request>>) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        match requests {
            Some(requests) => sessions.insert(node, requests),
            None => sessions.remove(&node),
        };
    }

    /// The session with `node` has ended: what it said of services counts for less now.
    pub(super) fn lost(&self, node: NodeId) {
        self.set_session(node, None);
        if self.views.leave(node) {
            self.services_changed();
        }
    }

    fn words(&self) -> MutexGuard<'_, Words> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what lost gateways said of services, where others have said something for a while.
    pub(super) fn expire(&self, now: Instant) {
        if self.views.expire(now) {
            self.services_changed();
        }
    }

    fn services_changed(&self) {
        self.metrics.service_updates.inc();
        self.dirty.notify_one();
    }

    /// Takes what gateway `node` tells without being asked; whether it was acceptable.
    pub(super) fn learn(&self, node: NodeId, message: ToSidecar) -> bool {
        let acceptable = match message {
            ToSidecar::Gateways(told) => self.learn_gateways(told.gateways),
            ToSidecar::Service(view) => self.learn_service(node, view),
            ToSidecar::ExportedTo(told) => {
                self.learn_exported(told.revision, told.services);
                true
            }
            ToSidecar::InstancesGone(told) => {
                let gone = self.watches.gone(&told.instances);
                self.metrics.instances_gone.inc_by(gone as u64);
                true
            }
            ToSidecar::Keys(told) => self.learn_keys(told.cid_keys, told.probe_key),
            ToSidecar::RenewNow(told) => {
                self.own.renew_for(told.root, Duration::from_millis(told.within_ms.into()));
                true
            }
            _ => false,
        };
        if !acceptable {
            self.metrics.refused_messages.inc();
        }
        acceptable
    }

    fn learn_service(&self, node: NodeId, view: causeway_wire::view::ServiceView) -> bool {
        let published = self.views.publish(node, view, Instant::now());
        if published == Published::Changed {
            self.services_changed();
        }
        published != Published::Refused
    }

    pub(super) fn learn_gateways(&self, gateways: Vec<GatewayFacts>) -> bool {
        if gateways.is_empty() || gateways.len() > MAX_GATEWAYS {
            return false;
        }
        let news = self.gateways.send_if_modified(|known| {
            let news = **known != gateways;
            if news {
                *known = Arc::new(gateways);
            }
            news
        });
        if news {
            self.dirty.notify_one();
        }
        true
    }

    /// Believes the bundles that a gateway says count: those in `telling`, and of the others what is believed already. Nothing changes
    /// if its own cluster's is missing, or they are of an older revision than those that are believed; what is in `telling` stays
    /// there unless it has been taken, or is known to be older. A bundle that cannot be used is left out. Whether it was acceptable.
    pub(super) fn learn_bundles(&self, told: &Bundles, telling: &mut Telling) -> bool {
        let acceptable = self.believe(told, telling);
        if !acceptable {
            self.metrics.refused_messages.inc();
        }
        acceptable
    }

    fn believe(&self, told: &Bundles, telling: &mut Telling) -> bool {
        // held while they are taken over, so that another session's cannot come between
        let mut words = self.words();
        if told.revision < words.bundles.revision() {
            // whoever believes the newer ones misses nothing of these
            telling.clear();
            return true;
        }
        let Some(usable) = telling.count(&told.domains, &self.bundles) else { return false };
        if !usable.iter().any(|bundle| bundle.trust_domain == self.cluster.trust_domain) {
            return false;
        }
        let parts: Vec<_> = usable.iter().map(|b| (b.trust_domain.as_str(), &b.roots, &b.revoked)).collect();
        let print = fingerprint(&parts);
        let before = words.bundles;
        if words.bundles.take(told.revision, print) && self.bundles.replace_all(usable).is_err() {
            words.bundles = before;
            return false;
        }
        telling.clear();
        if words.bundles.revision() != before.revision() {
            self.dirty.notify_one();
        }
        self.own.trusts(words.bundles.revision(), &self.svid.current(), &self.bundles);
        true
    }

    /// Takes what a gateway answered.
    pub(super) fn learn_vip(&self, known: NamedVip) {
        if self.vips.learn(known) {
            self.count_vips();
            self.dirty.notify_one();
        }
    }

    fn count_vips(&self) {
        self.metrics.vips.set(i64::try_from(self.vips.count()).unwrap_or(i64::MAX));
    }

    /// A message that breaks a rule was dropped.
    pub(super) fn refuse(&self) {
        self.metrics.refused_messages.inc();
    }

    /// Takes a renewed SVID. The bundle that came with it counts only until gateways have told theirs, which bear a revision.
    ///
    /// # Errors
    /// Why the SVID is of no use; then the one in use stays.
    pub(super) fn renewed(&self, svid: Svid, bundle: TrustBundle) -> Result<Arc<Svid>, String> {
        let words = self.words();
        if words.bundles.revision() == Revision::default() {
            let known = self.bundles.get(&bundle.trust_domain);
            let kept = keep_revoked(bundle, known.as_deref()).and_then(|bundle| self.bundles.set(bundle));
            kept.map_err(|error| error.to_string())?;
        }
        // peers believe no more than this sidecar does: an SVID of a root that has not been told yet would be refused
        self.bundles.standing(svid.chain()).map_err(|error| error.to_string())?;
        self.svid.replace(svid);
        let current = self.svid.current();
        self.own.renewed(&current, &self.bundles);
        Ok(current)
    }

    /// After a token brought an identity again, whose bundle is believed: the next word of a gateway on trust counts whatever it
    /// says, and if the token's root was not believed before, also if it seems to be older.
    pub(super) fn rejoined(&self, trusted_before: bool) {
        let mut words = self.words();
        let revision = if trusted_before { words.bundles.revision() } else { Revision::default() };
        words.bundles = Precedence::since(revision);
        self.own.trusts(revision, &self.svid.current(), &self.bundles);
        self.own.renewed(&self.svid.current(), &self.bundles);
        self.dirty.notify_one();
    }

    /// A gateway refused `svid` as revoked. One that was replaced meanwhile does not matter.
    pub(super) fn refused_as_revoked(&self, svid: &Svid, cause: String) {
        if svid.key_hash() == self.svid.current().key_hash() {
            self.own.revoked(svid, cause);
        }
    }

    fn learn_exported(&self, revision: Revision, mut told: Vec<Exported>) {
        // a gateway that names no service knows nothing, rather than that nothing is exported
        if told.is_empty() {
            return;
        }
        told.iter_mut().for_each(|(_, domains)| domains.sort());
        told.sort();
        let mut words = self.words();
        if words.exports.take(revision, fingerprint(&told)) {
            self.exported.send_if_modified(|known| learn_exports(known, told));
        }
    }

    /// Uses keys that a gateway told, unless they are older than those in use.
    pub(super) fn learn_keys(&self, cids: Vec<CidSecret>, probe: ProbeSecret) -> bool {
        if cids.is_empty() || cids.len() > MAX_KEYS {
            return false;
        }
        let told = Keys { cids, probe };
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if told.replace(&keys) {
            *keys = told;
            self.hand_over(&keys);
            tracing::info!(newest = ?keys.newest(), "new keys of the cluster are in use");
        }
        true
    }

    fn hand_over(&self, keys: &Keys) {
        let cids = keys.cids.iter().map(|secret| (secret.epoch, secret.key));
        self.overlay.attach(Attachment {
            cluster: self.cluster.id,
            workload: self.workload,
            cid_keys: CidKeys::new(self.cluster.id, cids),
            probe_key: keys.probe.key,
            probe_epoch_bits: keys.probe.epoch.low_bits(),
        });
    }

    /// What is to be saved.
    pub(super) fn known(&self) -> Known {
        // held, so that the bundles are of this revision
        let words = self.words();
        Known {
            cluster: self.cluster.clone(),
            bundles: believed(&self.bundles),
            trust: words.bundles.revision(),
            gateways: self.gateways.borrow().to_vec(),
            services: self.views.known(Instant::now()),
            vips: self.vips.known(),
        }
    }

    /// Saves an identity that was renewed. That it could not be is told and no reason to stop.
    pub(super) async fn save_identity(&self, svid: Arc<Svid>) {
        let Some(state) = self.state_dir.clone() else { return };
        let saved = tokio::task::spawn_blocking(move || state.save_identity(&svid)).await;
        if let Ok(Err(error)) = saved {
            self.metrics.save_errors.inc();
            tracing::warn!(%error, reason = error.reason(), "the renewed identity is not saved");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(cids: &[u64], probe: u64) -> Keys {
        let secret = |&epoch: &u64| CidSecret { epoch: Epoch(epoch), key: [1; 16] };
        let probe = ProbeSecret { epoch: Epoch(probe), key: [1; 32] };
        Keys { cids: cids.iter().map(secret).collect(), probe }
    }

    #[test]
    fn a_slower_gateway_does_not_bring_old_keys_back() {
        let current = keys(&[3, 4], 2);
        assert!(keys(&[4, 5], 2).replace(&current));
        assert!(keys(&[4], 2).replace(&current), "an epoch was dropped");
        assert!(keys(&[3, 4], 3).replace(&current));
        assert!(!keys(&[3, 4], 2).replace(&current), "the same again");
        assert!(!keys(&[2, 3], 2).replace(&current));
        assert!(!keys(&[4, 5], 1).replace(&current));
    }
}
