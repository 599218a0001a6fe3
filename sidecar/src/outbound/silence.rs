//! Clusters that nothing is heard of: noticing it while a connection waits, and going elsewhere.

use super::open::Attempt;
use super::pool::Prospects;
use super::{Outbound, Route};
use crate::access::Access;
use crate::balance::Verdict;
use crate::choose::Chooser;
use crate::failure::Failure;
use crate::peer::Peer;
use causeway_model::ClusterId;
use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use tokio::time::error::Elapsed;
use tokio::time::sleep;

impl Outbound {
    /// What `opening` comes to. If nothing is heard of the peer or others of its cluster meanwhile, the cluster is suspected; and if it
    /// `may_leave` for another cluster and the application said nothing that must not be said twice, the opening is given up.
    pub(super) async fn unless_silent<T>(
        &self,
        opening: impl Future<Output = Result<Result<T, Attempt>, Elapsed>>,
        (peer, received): (&Arc<Peer>, u64),
        access: &Access,
        may_leave: bool,
        route: &Route,
    ) -> Result<Result<T, Attempt>, Elapsed> {
        let mut opening = pin!(opening);
        tokio::select! {
            opened = &mut opening => return opened,
            () = self.silence(peer, received, route) => {}
        }
        if may_leave && access.meter.bytes().0 == 0 && self.is_elsewhere(peer.cluster, route) {
            let failure = Failure::Silent { endpoint: peer.to_string() };
            return Ok(Err(Attempt { failure, harmless: true }));
        }
        opening.await
    }

    /// Resolves when the cluster of `peer` is suspected and nothing was heard of the peer since so much had been `received`.
    async fn silence(&self, peer: &Arc<Peer>, received: u64, route: &Route) {
        if self.balances.is_own(peer.cluster) {
            return pending().await;
        }
        let mut own = pin!(self.overhear(peer, received, route));
        let mut told = false;
        loop {
            tokio::select! {
                () = &mut own, if !told => told = true,
                () = self.balances.suspicion() => {}
            }
            if peer.received() == received && self.balances.is_suspect(peer.cluster) {
                return;
            }
        }
    }

    /// Suspects the cluster of `peer` if nothing is heard of it for too long although something is sent. Resolves then, or never.
    async fn overhear(&self, peer: &Arc<Peer>, received: u64, route: &Route) {
        let half = self.balances.suspect_after(peer.cluster) / 2;
        let sent = peer.sent();
        sleep(half).await;
        if peer.received() != received {
            return pending().await;
        }
        let ear = self.pool.ear(peer.cluster, None);
        sleep(half).await;
        if peer.received() != received || peer.sent() == sent {
            return pending().await;
        }
        if self.balances.silent(peer.cluster, &ear) == Verdict::Suspected {
            self.probe(peer.cluster, route);
        }
        if !self.balances.is_suspect(peer.cluster) {
            pending().await
        }
    }

    /// Keeps trying to reach a cluster that is suspected.
    pub(super) fn probe(&self, cluster: ClusterId, route: &Route) {
        let prospects = Prospects {
            chooser: self.chooser.clone(),
            view: route.view.clone(),
            service: route.service.clone(),
            port: route.port,
        };
        self.pool.probe(cluster, prospects);
    }

    /// Whether another cluster than `cluster`, which is not this sidecar's own, takes connections and is not suspected.
    pub(super) fn is_elsewhere(&self, cluster: ClusterId, route: &Route) -> bool {
        if self.balances.is_own(cluster) {
            return false;
        }
        let view = route.view.borrow();
        let mut offers = view.iter().flat_map(|view| &view.offers);
        offers.any(|offer| {
            offer.cluster.id != cluster
                && Chooser::is_open(offer, route.port)
                && !self.balances.is_suspect(offer.cluster.id)
        })
    }
}
