//! The services in use: who uses them, and what is known of each.
//!
//! Each gateway that there is a session with says what it knows; what is published is what follows from all of it.
//!
//! A service that nobody uses any more is kept for a while, so that its next use has an answer even when no gateway has one.

mod told;

use crate::metrics::ClientMetrics;
use causeway_model::{Locality, NodeId, ServiceName};
use causeway_wire::ctl::MAX_SUBSCRIPTIONS;
use causeway_wire::view::{MAX_ENDPOINTS, MAX_IDENTITIES, Offer, ServiceView};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use told::Told;

/// How long a service that nobody uses is kept.
const KEEP: Duration = Duration::from_secs(3600);
/// The most clusters that may offer one service.
const MAX_OFFERS: usize = 1024;

type Known = Option<Arc<ServiceView>>;

/// Every service that is in use or was.
#[derive(Debug)]
pub(super) struct Views {
    entries: Mutex<Entries>,
    /// Counts the changes of what is in use.
    version: watch::Sender<u64>,
    metrics: ClientMetrics,
}

#[derive(Debug, Default)]
struct Entries {
    of: BTreeMap<ServiceName, Entry>,
    /// How many of them have users.
    in_use: usize,
    /// Whether some have something to expire.
    expiring: bool,
}

#[derive(Debug)]
struct Entry {
    view: watch::Sender<Known>,
    told: Told,
    users: usize,
    idle_since: Instant,
}

/// What publishing a view did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Published {
    /// It was news.
    Changed,
    /// It was known, or nobody uses the service.
    Ignored,
    /// It breaks a limit.
    Refused,
}

impl Views {
    /// The services that were saved, used by nobody yet.
    pub(super) fn new(saved: Vec<ServiceView>, now: Instant, metrics: ClientMetrics) -> Self {
        let entries = saved.into_iter().filter(within_bounds).take(MAX_SUBSCRIPTIONS).map(|view| {
            let name = view.name.clone();
            let view = Arc::new(view);
            let told = Told::remembered(Arc::clone(&view));
            (name, Entry { view: watch::Sender::new(Some(view)), told, users: 0, idle_since: now })
        });
        let entries = Entries { of: entries.collect(), in_use: 0, expiring: false };
        Self { entries: Mutex::new(entries), version: watch::Sender::new(0), metrics }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self, in_use: usize) {
        self.metrics.subscriptions.set(i64::try_from(in_use).unwrap_or(i64::MAX));
        self.version.send_modify(|version| *version += 1);
    }

    /// Another user of `name`.
    pub(super) fn subscribe(self: &Arc<Self>, name: &ServiceName) -> Subscription {
        let mut entries = self.lock();
        if !entries.of.contains_key(name) && entries.of.len() >= MAX_SUBSCRIPTIONS && !entries.evict() {
            drop(entries);
            self.metrics.subscriptions_refused.inc();
            tracing::warn!(service = %name, limit = MAX_SUBSCRIPTIONS, "too many services in use, this one learns nothing");
            return Subscription::detached(name.clone());
        }
        let entry = entries.of.entry(name.clone()).or_insert_with(Entry::new);
        entry.users += 1;
        let (first, receiver) = (entry.users == 1, entry.view.subscribe());
        if first {
            entries.in_use += 1;
            let in_use = entries.in_use;
            drop(entries);
            self.changed(in_use);
        }
        Subscription { name: name.clone(), receiver, hold: Hold::Attached(Arc::clone(self)) }
    }

    fn release(&self, name: &ServiceName) {
        let mut entries = self.lock();
        let Some(entry) = entries.of.get_mut(name) else { return };
        entry.users = entry.users.saturating_sub(1);
        if entry.users == 0 {
            entry.idle_since = Instant::now();
            // gateways say nothing of it from here on
            let known = entry.view.borrow().clone();
            entry.told = known.map(Told::remembered).unwrap_or_default();
            entries.in_use = entries.in_use.saturating_sub(1);
            let in_use = entries.in_use;
            drop(entries);
            self.changed(in_use);
        }
    }

    /// Takes what gateway `node` says of a service.
    pub(super) fn publish(&self, node: NodeId, view: ServiceView, now: Instant) -> Published {
        if !within_bounds(&view) {
            return Published::Refused;
        }
        let mut entries = self.lock();
        let Some(entry) = entries.of.get_mut(&view.name).filter(|entry| entry.users > 0) else {
            return Published::Ignored;
        };
        entry.told.take(node, Arc::new(view), now);
        let (news, expires) = (entry.publish(), entry.told.expires());
        entries.expiring |= expires;
        if news { Published::Changed } else { Published::Ignored }
    }

    /// The session with gateway `node` has ended: what others say counts from here on. Whether that is news.
    pub(super) fn leave(&self, node: NodeId) -> bool {
        let mut news = false;
        for entry in self.lock().of.values_mut() {
            entry.told.leave(node);
            news |= entry.publish();
        }
        news
    }

    /// Forgets what lost gateways said, where others have said something for a while. Whether that is news.
    pub(super) fn expire(&self, now: Instant) -> bool {
        let (mut entries, mut news, mut expiring) = (self.lock(), false, false);
        if !entries.expiring {
            return false;
        }
        for entry in entries.of.values_mut() {
            if entry.told.expire(now) {
                news |= entry.publish();
            }
            expiring |= entry.told.expires();
        }
        entries.expiring = expiring;
        news
    }

    /// The services in use.
    pub(super) fn in_use(&self) -> Vec<ServiceName> {
        let entries = self.lock();
        entries.of.iter().filter(|(_, entry)| entry.users > 0).map(|(name, _)| name.clone()).collect()
    }

    /// Changes whenever [`Views::in_use`] does.
    pub(super) fn version(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// What is known, to be saved; forgets what nobody has used for an hour.
    pub(super) fn known(&self, now: Instant) -> Vec<ServiceView> {
        let mut entries = self.lock();
        entries
            .of
            .retain(|_, entry| entry.users > 0 || now.saturating_duration_since(entry.idle_since) < KEEP);
        entries.of.values().filter_map(|entry| entry.view.borrow().as_deref().cloned()).collect()
    }

    /// How many services something is known of.
    pub(super) fn count_known(&self) -> usize {
        self.lock().of.values().filter(|entry| entry.view.borrow().is_some()).count()
    }
}

impl Entry {
    fn new() -> Self {
        Self { view: watch::Sender::new(None), told: Told::default(), users: 0, idle_since: Instant::now() }
    }

    /// Publishes what follows from all that was said; whether it is news.
    fn publish(&self) -> bool {
        let merged = self.told.merged();
        self.view.send_if_modified(|known| {
            let news = *known != merged;
            if news {
                *known = merged;
            }
            news
        })
    }
}

impl Entries {
    /// Makes room by forgetting the service that has been without users for longest; whether there was one.
    fn evict(&mut self) -> bool {
        let idle = self.of.iter().filter(|(_, entry)| entry.users == 0);
        let oldest = idle.min_by_key(|(_, entry)| entry.idle_since).map(|(name, _)| name.clone());
        oldest.is_some_and(|name| self.of.remove(&name).is_some())
    }
}

/// Whether a view keeps the limits of the protocol. Its frame was at most 1 MiB, so it is not dangerous, but a sidecar would
/// pay for it at every choice.
fn within_bounds(view: &ServiceView) -> bool {
    let short = |locality: &Locality| {
        locality.region.len() <= Locality::MAX_LEN && locality.zone.len() <= Locality::MAX_LEN
    };
    let offer = |offer: &Offer| {
        offer.endpoints.len() <= MAX_ENDPOINTS
            && offer.identities.len() <= MAX_IDENTITIES
            && short(&offer.cluster.locality)
            && offer.endpoints.iter().all(|endpoint| short(&endpoint.locality))
    };
    view.offers.len() <= MAX_OFFERS && view.offers.iter().all(offer)
}

/// A service in use, for as long as this lives.
#[derive(Debug)]
pub struct Subscription {
    name: ServiceName,
    receiver: watch::Receiver<Known>,
    hold: Hold,
}

#[derive(Debug)]
enum Hold {
    /// Counts as a user.
    Attached(Arc<Views>),
    /// There were too many: the sender that never sends.
    Detached { _sender: watch::Sender<Known> },
}

impl Subscription {
    fn detached(name: ServiceName) -> Self {
        let (sender, receiver) = watch::channel(None);
        Self { name, receiver, hold: Hold::Detached { _sender: sender } }
    }

    /// The service.
    pub fn name(&self) -> &ServiceName {
        &self.name
    }

    /// What is known of the service; `None` until a gateway has answered, if nothing was saved.
    pub fn current(&self) -> Option<Arc<ServiceView>> {
        self.receiver.borrow().clone()
    }

    /// Resolves when [`Subscription::current`] is another than at the last call. Cancel safe.
    pub async fn changed(&mut self) {
        if self.receiver.changed().await.is_err() {
            // the sender lives as long as this does: there is nothing to come
            std::future::pending::<()>().await;
        }
    }

    /// A receiver of the same values, for a select over several. It does not keep the service in use.
    pub fn receiver(&self) -> watch::Receiver<Option<Arc<ServiceView>>> {
        self.receiver.clone()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Hold::Attached(views) = &self.hold {
            views.release(&self.name);
        }
    }
}

#[cfg(test)]
mod tests;
