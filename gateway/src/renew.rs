//! This gateway's own SVID: renewed at two thirds of its life, and when the cluster signs with another root.

use crate::authority::renew_for;
use crate::hub::{Hub, root_id};
use crate::peers::Peers;
use causeway_catalog::Catalog;
use causeway_identity::KeyPair;
use causeway_model::{GatewayRole, Revision};
use causeway_wire::peer::{PeerMessage, RenewGateway};
use std::time::{Duration, SystemTime};

/// How soon a renewal that failed is tried again.
const AGAIN: Duration = Duration::from_secs(60);

/// Renews until the process stops.
pub(crate) async fn keep(hub: Hub, peers: Peers) {
    let (mut registry, stop) = (hub.registry.watch(), hub.tasks.token());
    loop {
        // before it is looked which root signs, so that no change is missed
        let signs_since = activated(&hub.catalog());
        let svid = hub.node.svid().current();
        let mut wait = svid.renewal_due().duration_since(SystemTime::now()).unwrap_or_default();
        if renew_for(&hub.catalog(), root_id(&hub.node.own_root())).is_some() {
            wait = Duration::ZERO;
        }
        if wait.is_zero() {
            let old = || renew_for(&hub.catalog(), root_id(&hub.node.own_root())).is_some();
            wait = match renew(&hub, &peers).await {
                // by a gateway whose replica lags
                Ok(()) if old() => Duration::from_secs(5),
                Ok(()) => {
                    tracing::info!("this gateway's SVID was renewed");
                    continue;
                }
                Err(cause) => {
                    let left = svid.expires_in(SystemTime::now()).as_secs();
                    tracing::warn!(
                        expires_in_seconds = left,
                        "this gateway's SVID could not be renewed: {cause}"
                    );
                    if left == 0 { AGAIN } else { AGAIN.min(Duration::from_secs(5)) }
                }
            };
        }
        tokio::select! {
            // the wall clock may be set meanwhile: look again from time to time
            () = tokio::time::sleep(wait.min(Duration::from_secs(300))) => {}
            // the cluster signs with another root now; whom it trusts may be the same as before
            changed = registry.wait_for(|catalog| activated(catalog) != signs_since) => if changed.is_err() { return },
            () = stop.cancelled() => return,
        }
    }
}

/// The revision since which the root signs that does.
fn activated(catalog: &Catalog) -> Option<Revision> {
    catalog.cluster().map(|cluster| cluster.ca.activated)
}

async fn renew(hub: &Hub, peers: &Peers) -> Result<(), String> {
    if hub.node.role() == GatewayRole::Gateway {
        let ca = hub.ca().map_err(|error| error.to_string())?;
        return hub.node.sign_own(&ca).map_err(|error| error.to_string());
    }
    let mut cause = "no signing gateway of the cluster is connected".to_owned();
    for node in peers.ready() {
        let key = KeyPair::generate().map_err(|error| error.to_string())?;
        let csr = key.csr().map_err(|error| error.to_string())?;
        match peers.ask(node, RenewGateway { csr }.into(), Duration::from_secs(5)).await {
            Ok(PeerMessage::Renewed(renewed)) => {
                return hub.node.replace_svid(renewed.chain, key).map_err(|error| error.to_string());
            }
            Ok(_) => cause = format!("gateway {node} answered something else"),
            Err(error) => cause = format!("gateway {node}: {error}"),
        }
    }
    Err(cause)
}
