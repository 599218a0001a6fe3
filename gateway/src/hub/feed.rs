//! What sessions hear: attached sidecars, and what linked clusters tell.

use super::sessions::{Sessions, check_workload};
use super::{Change, Hub, Peer, Soft, TooMany};
use causeway_federation::{ImportChange, RefusedOffer};
use causeway_identity::{Standing, VerifyError};
use causeway_model::{ClusterId, Health, ServiceHandle, ServiceName, SpiffeId, WorkloadId};
use causeway_presence::{Row, RowError};
use causeway_wire::link::{UseServices, WatchPeerInstances};
use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

/// How many refused offers of a linked cluster are kept to be shown.
const MAX_REFUSED: usize = 20;

impl Hub {
    /// A sidecar registered, or changed what it registered.
    pub(crate) fn attach(&self, row: Row) -> Result<(), RowError> {
        self.soft().presence.handle_attach(Instant::now(), row)?;
        self.presence_work.notify_one();
        Ok(())
    }

    /// A control connection of `workload` stands, made with an SVID of that standing; it is no longer counted when the guard is
    /// dropped.
    pub(crate) fn hold(
        &self,
        identity: &SpiffeId,
        workload: WorkloadId,
        standing: Option<Standing>,
    ) -> Result<Held, TooMany> {
        let mut soft = self.soft();
        let open = soft.attached.get(&workload).copied().unwrap_or(0);
        check_workload(identity, workload, open)?;
        soft.attached.insert(workload, open + 1);
        soft.reports.open(workload);
        soft.lost.open(workload, identity);
        Ok(Held { hub: self.clone(), workload, standing })
    }

    /// A control connection of `identity` begins; it is no longer counted when the guard is dropped.
    pub(crate) fn open_session(&self, identity: SpiffeId) -> Result<OpenSession, TooMany> {
        let mut soft = self.soft();
        soft.sessions.open(&identity)?;
        self.note_sessions(&soft.sessions);
        Ok(OpenSession { hub: self.clone(), identity })
    }

    /// A connection without a certificate begins, over any protocol; it is no longer counted when the guard is dropped.
    pub(crate) fn open_stranger(&self) -> Result<OpenStranger, TooMany> {
        let mut soft = self.soft();
        soft.sessions.open_stranger()?;
        self.note_sessions(&soft.sessions);
        Ok(OpenStranger { hub: self.clone() })
    }

    fn note_sessions(&self, sessions: &Sessions) {
        let count = |open| i64::try_from(open).unwrap_or(i64::MAX);
        self.metrics.control.set(count(sessions.len()));
        self.metrics.strangers.set(count(sessions.strangers()));
    }

    /// Something came from `workload` on its control connection.
    pub(crate) fn seen(&self, workload: WorkloadId) {
        self.soft().presence.handle_seen(Instant::now(), workload);
    }

    /// `workload` says that it stops.
    pub(crate) fn goodbye(&self, workload: WorkloadId) {
        self.soft().goodbye(Instant::now(), workload);
        self.forwarder.forget(workload);
        self.presence_work.notify_one();
    }

    /// `workload` was issued an SVID for that key.
    pub(crate) fn renewed(&self, workload: WorkloadId, key: [u8; 32]) {
        self.soft().presence.handle_renewed(Instant::now(), workload, key);
        self.presence_work.notify_one();
    }

    /// `workload` reports the health of a service.
    pub(crate) fn health(&self, workload: WorkloadId, service: &ServiceName, health: Health) {
        self.soft().presence.handle_health(Instant::now(), workload, service, health);
        self.presence_work.notify_one();
    }

    /// The services of other clusters that `workload` uses, and the instances there that it is connected to.
    pub(crate) fn wants(
        &self,
        workload: WorkloadId,
        uses: Vec<(ClusterId, ServiceHandle)>,
        instances: Vec<(ClusterId, WorkloadId)>,
    ) {
        let mut soft = self.soft();
        let _ = soft.uses.set(workload, uses);
        let _ = soft.instances.set(workload, instances);
        let mut changed = soft.uses.take_changed();
        changed.extend(soft.instances.take_changed());
        drop(soft);
        self.tell_wants(changed);
    }

    /// What this gateway's sidecars want of `cluster`.
    pub(crate) fn wanted(&self, cluster: ClusterId) -> (UseServices, WatchPeerInstances) {
        let soft = self.soft();
        (soft.uses.wanted(cluster), soft.instances.wanted(cluster))
    }

    /// Whether a workload of this cluster lives, or may still be about to re-attach.
    pub(crate) fn is_alive(&self, workload: WorkloadId) -> bool {
        self.soft().presence.is_alive(workload)
    }

    /// A linked cluster says that an instance of it is gone.
    pub(crate) fn peer_gone(&self, cluster: ClusterId, instance: WorkloadId) {
        let watchers = self.soft().instances.gone(cluster, instance);
        if !watchers.is_empty() {
            self.tell(Change::PeerGone(cluster, instance));
        }
    }

    /// The services of `cluster` that this gateway's sidecars use. The endpoints of others are forgotten.
    pub(crate) fn use_services(&self, cluster: ClusterId) -> UseServices {
        let soft = &mut *self.soft();
        let uses = soft.uses.wanted(cluster);
        if let Some(peer) = soft.peers.get_mut(&cluster) {
            peer.endpoints.set_used(uses.handles.iter().copied().collect());
        }
        uses
    }

    /// Changes what is known of a linked cluster; nothing when it is not linked (any longer). The services that the
    /// change names are told.
    pub(crate) fn with_peer_mut<T>(
        &self,
        cluster: ClusterId,
        change: impl FnOnce(&mut Peer) -> (T, ImportChange),
    ) -> Option<T> {
        let mut soft = self.soft();
        let peer = soft.peers.get_mut(&cluster)?;
        let (result, changed) = change(peer);
        let services = peer.learn(changed);
        drop(soft);
        self.tell_services(services);
        Some(result)
    }
}

impl Soft {
    /// `workload` is gone, and nobody wonders why.
    pub(super) fn goodbye(&mut self, now: Instant, workload: WorkloadId) {
        self.lost.goodbye(workload);
        self.presence.handle_goodbye(now, workload);
    }
}

/// Offers of a linked cluster that were not taken.
#[derive(Debug, Default)]
pub(crate) struct RefusedOffers {
    /// The newest, oldest first: at most [`MAX_REFUSED`].
    pub(crate) newest: VecDeque<RefusedOffer>,
    /// How many were refused.
    pub(crate) count: u64,
    /// How many the limit kept out.
    pub(crate) over_cap: u64,
}

impl Peer {
    /// Whether what the cluster says of itself may be proposed now, which then counts; else when it may.
    pub(crate) fn take_facts(&mut self, now: Instant) -> Result<(), Instant> {
        self.facts.take(now)
    }

    /// Notes what was refused; returns the services whose offers changed: all of them when the peer fell silent, or speaks
    /// again.
    pub(crate) fn learn(&mut self, change: ImportChange) -> BTreeSet<ServiceName> {
        let refused = &mut self.refused;
        refused.count += change.refused_count;
        refused.over_cap += change.over_cap;
        for offer in change.refused {
            let known = refused.newest.iter().any(|old| *old == offer);
            if !known {
                tracing::warn!(
                    cluster = %self.imports.peer().name, service = %offer.name, reason = offer.fault.reason(),
                    "an offer of a linked cluster was refused: {}", offer.fault
                );
                refused.newest.push_back(offer);
            }
            if refused.newest.len() > MAX_REFUSED {
                refused.newest.pop_front();
            }
        }
        let mut services = change.changed;
        if change.staleness.is_some() {
            services.extend(self.imports.remembered(None).map(|import| import.name()));
        }
        services
    }
}

/// A control connection, counted.
pub(crate) struct OpenSession {
    hub: Hub,
    identity: SpiffeId,
}

impl Drop for OpenSession {
    fn drop(&mut self) {
        let mut soft = self.hub.soft();
        soft.sessions.close(&self.identity);
        self.hub.note_sessions(&soft.sessions);
    }
}

/// A connection without a certificate, counted.
pub(crate) struct OpenStranger {
    hub: Hub,
}

impl Drop for OpenStranger {
    fn drop(&mut self) {
        let mut soft = self.hub.soft();
        soft.sessions.close_stranger();
        self.hub.note_sessions(&soft.sessions);
    }
}

/// A control connection of an attached sidecar, counted.
pub(crate) struct Held {
    hub: Hub,
    workload: WorkloadId,
    /// Of the newest SVID that its sidecar is known to have.
    standing: Option<Standing>,
}

impl Held {
    /// Its sidecar was issued an SVID of that standing.
    pub(crate) fn renewed(&mut self, standing: Standing) {
        self.standing = Some(standing);
    }

    /// Whether the sidecar has no SVID that would bring it back.
    fn is_revoked(&self) -> bool {
        let judge = |standing: &Standing| self.hub.node.bundles().judge(standing);
        let revoked =
            |error| matches!(error, VerifyError::Revoked { .. } | VerifyError::SignerRevoked { .. });
        self.standing.as_ref().and_then(|standing| judge(standing).err()).is_some_and(revoked)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let (now, revoked) = (Instant::now(), self.is_revoked());
        let mut soft = self.hub.soft();
        let Some(count) = soft.attached.get_mut(&self.workload) else { return };
        *count -= 1;
        if *count > 0 {
            return;
        }
        soft.attached.remove(&self.workload);
        soft.reports.close(self.workload);
        if revoked {
            soft.goodbye(now, self.workload);
        } else {
            soft.lost.close(now, self.workload);
            soft.presence.handle_detach(now, self.workload);
        }
        soft.uses.remove(self.workload);
        soft.instances.remove(self.workload);
        let mut changed = soft.uses.take_changed();
        changed.extend(soft.instances.take_changed());
        drop(soft);
        if revoked {
            self.hub.forwarder.forget(self.workload);
        }
        self.hub.presence_work.notify_one();
        self.hub.tell_wants(changed);
    }
}
