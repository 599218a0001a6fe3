//! The hub's account of an open connection.

use super::PeerGateway;
use crate::hub::Hub;
use crate::links::health::Pulse;
use causeway_federation::ImportChange;
use causeway_model::{ClusterId, Epoch, NodeId, Revision};
use std::time::Instant;

/// Counts a connection for as long as it lives.
pub(super) struct Open<'h> {
    hub: &'h Hub,
    cluster: ClusterId,
    node: NodeId,
    /// Whether the peer's exports are taken over this connection.
    imports: bool,
    /// Whether it counts as one over which the two gateways hear each other.
    greeted: bool,
}

impl<'h> Open<'h> {
    /// A connection with `peer` is open: returns where our copy of its exports ends. `None` if its cluster is not linked.
    pub(super) fn new(hub: &'h Hub, peer: &PeerGateway) -> Option<(Self, Option<(Epoch, Revision)>)> {
        let (cluster, node) = (peer.cluster.id, peer.node);
        let opened = hub.with_peer_mut(cluster, |known| {
            *known.sessions.entry(node).or_insert(0) += 1;
            (known.imports.handle_open(Instant::now(), node), ImportChange::default())
        })?;
        let (imports, have) = match opened {
            Ok(have) => (true, have),
            Err(error) => {
                tracing::info!(cluster = %peer.cluster.name, %node, reason = error.reason(), "{error}");
                (false, None)
            }
        };
        Some((Self { hub, cluster, node, imports, greeted: false }, have))
    }

    /// Whether the peer's exports are taken over this connection.
    pub(super) fn holds_imports(&self) -> bool {
        self.imports
    }

    /// The peer said hello, its clock being `ahead` of this one's by so many seconds. Returns what it is to be told of who hears whom;
    /// `None` if its cluster is not linked any more.
    pub(super) fn greeted(&mut self, release: String, ahead: i64) -> Option<Pulse> {
        let now = Instant::now();
        let pulse = self.hub.with_peer_mut(self.cluster, |known| {
            known.release = Some(release);
            known.clock = Some((self.node, ahead));
            (known.health.handle_open(now, self.node), known.imports.handle_heard(now))
        })?;
        self.greeted = true;
        self.hub.bulletin.wake();
        Some(pulse)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.hub.with_peer_mut(self.cluster, |known| {
            if let Some(count) = known.sessions.get_mut(&self.node) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    known.sessions.remove(&self.node);
                }
            }
            if self.greeted {
                known.health.handle_closed(Instant::now(), self.node);
            }
            let closed = self.imports.then(|| known.imports.handle_closed(Instant::now(), self.node));
            ((), closed.unwrap_or_default())
        });
    }
}
