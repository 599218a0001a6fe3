//! This gateway's own SVID: renewed at two thirds of its life, and when the cluster signs with another root.

use crate::authority::renew_for;
use crate::hub::{Hub, root_id};
use crate::peers::Peers;
use causeway_identity::KeyPair;
use causeway_model::GatewayRole;
use causeway_wire::peer::{PeerMessage, RenewGateway};
use std::time::{Duration, SystemTime};

/// How soon a renewal that failed is tried again.
const AGAIN: Duration = Duration::from_secs(60);

/// Renews until the process stops.
pub(crate) async fn keep(hub: Hub, peers: Peers) {
    let (mut watch, stop) = (hub.node.bundles().changes(), hub.tasks.token());
    loop {
        let svid = hub.node.svid().current();
        let mut wait = svid.renewal_due().duration_since(SystemTime::now()).unwrap_or_default();
        if renew_for(&hub.catalog(), root_id(&hub.node.own_root())).is_some() {
            wait = Duration::ZERO;
        }
        if wait.is_zero() {
            wait = match renew(&hub, &peers).await {
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
            // the cluster may sign with another root now
            _ = watch.changed() => {}
            () = stop.cancelled() => return,
        }
    }
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
