//! What a connection brings about in the registry.

use super::PeerGateway;
use crate::hub::Hub;
use causeway_catalog::{Catalog, ConfirmRoots, RemoveLink, UpdateLinkPeer};
use causeway_model::Revision;
use causeway_runtime::Backoff;
use causeway_store::ProposeError;
use causeway_wire::link::Facts;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Whether `facts` are newer than what the registry has of the peer, and differ from it.
pub(super) fn is_news(catalog: &Catalog, peer: &PeerGateway, facts: &Facts) -> bool {
    let Some(link) = catalog.link_by_id(peer.cluster.id) else { return false };
    let known = facts.gateways.iter().all(|gateway| link.gateways.get(&gateway.node) == Some(gateway));
    let same = known && link.gateways.len() == facts.gateways.len() && link.roots == facts.bundle.roots;
    let same = same && link.revoked == facts.bundle.revoked && link.peer_paused == facts.paused;
    facts.revision > link.peer_revision && !same
}

/// Whether everybody in this cluster trusts whom the peer's `facts` say.
pub(super) fn is_taken(hub: &Hub, peer: &PeerGateway, facts: &Facts, now: Instant) -> bool {
    let catalog = hub.catalog();
    let Some(link) = catalog.link_by_id(peer.cluster.id) else { return false };
    let same = link.roots == facts.bundle.roots && link.revoked == facts.bundle.revoked;
    same && hub.have_taken(now, link.trust_changed)
}

/// Records that everybody in the peer's cluster trusts whom this cluster said to trust at `revision`, if anything waits for that.
pub(super) fn record_taken(hub: &Hub, peer: &PeerGateway, revision: Revision) {
    let catalog = hub.catalog();
    let (Some(cluster), Some(link)) = (catalog.cluster(), catalog.link_by_id(peer.cluster.id)) else {
        return;
    };
    let awaited = cluster.ca.staged.is_some() && link.confirmed < cluster.ca.roots_changed;
    if !awaited || revision < cluster.ca.roots_changed || revision > catalog.revision() {
        return;
    }
    let (hub, name) = (hub.clone(), peer.cluster.name.clone());
    let by = format!("gateway {} of cluster {name}", peer.node);
    let tasks = hub.tasks.clone();
    tasks.spawn("link roots", async move {
        match hub.propose(&by, ConfirmRoots { cluster: name.clone(), revision }).await {
            Ok(_) => tracing::info!(cluster = %name, %revision, "the linked cluster has taken this cluster's roots"),
            Err(error) => tracing::debug!(cluster = %name, reason = error.reason(), "not recorded: {error}"),
        }
    });
}

/// Records what the peer says of itself.
pub(super) fn record_facts(hub: &Hub, peer: &PeerGateway, facts: Facts) -> JoinHandle<()> {
    let (hub, peer) = (hub.clone(), peer.clone());
    let tasks = hub.tasks.clone();
    tasks.spawn("link facts", async move {
        let cluster = peer.cluster.name.clone();
        let by = format!("gateway {} of cluster {cluster}", peer.node);
        let command = UpdateLinkPeer {
            cluster: cluster.clone(),
            gateways: facts.gateways,
            roots: facts.bundle.roots,
            peer_revision: facts.revision,
            revoked: facts.bundle.revoked,
            paused: facts.paused,
        };
        match hub.propose(&by, command).await {
            Ok(made) => tracing::info!(%cluster, revision = %made.revision, "the linked cluster's gateways or roots changed"),
            // another gateway may have been faster, or the registry has no leader: it is tried again while it is news
            Err(error) => tracing::debug!(%cluster, reason = error.reason(), "facts of a linked cluster not recorded: {error}"),
        }
    })
}

/// Removes the link, which the peer removed on its side. Tried until it is gone: the peer cannot ask again.
pub(super) fn remove_link(hub: &Hub, peer: &PeerGateway) {
    let (hub, peer) = (hub.clone(), peer.clone());
    let tasks = hub.tasks.clone();
    tasks.spawn("link removal", async move {
        let stop = hub.tasks.token();
        let cluster = peer.cluster.name.clone();
        let by = format!("gateway {} of cluster {cluster}", peer.node);
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
        while stands(&hub, &peer) {
            match hub.propose(&by, RemoveLink { cluster: cluster.clone() }).await {
                Ok(_) => {
                    tracing::warn!(%cluster, "the linked cluster removed the link; it is removed here, too");
                    return;
                }
                Err(ProposeError::Refused(_)) => return,
                Err(error) => {
                    tracing::debug!(%cluster, reason = error.reason(), "link not removed yet: {error}")
                }
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.next_delay(rand::random())) => {}
                () = stop.cancelled() => return,
            }
        }
    });
}

/// Whether the link that the connection was of still stands.
fn stands(hub: &Hub, peer: &PeerGateway) -> bool {
    let catalog = hub.catalog();
    catalog.link_by_id(peer.cluster.id).is_some_and(|link| link.established == peer.established)
}
