//! Dialling: one connection to every other gateway, made again when it breaks.

use super::silence::silence;
use super::{Peers, QUEUE, others, write_presence};
use crate::hub::{Hub, cluster_addrs};
use causeway_identity::{ServerRule, client_config};
use causeway_model::{GatewayFacts, NodeId, SpiffeId};
use causeway_runtime::Backoff;
use causeway_transport::gateway::GatewayEndpoint;
use causeway_transport::{Connection, close, close_reason_text, says_revoked};
use causeway_wire::{CloseCode, alpn};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(3);

/// Keeps a task for each other gateway, as the registry knows them.
pub(crate) async fn keep(hub: Hub, peers: Peers) {
    let stop = hub.tasks.token();
    let mut dialled: BTreeSet<NodeId> = BTreeSet::new();
    let mut watch = hub.registry.watch();
    loop {
        for gateway in others(&hub.gateways(), hub.node.id()) {
            if dialled.insert(gateway.node) {
                let name = format!("dial gateway {}", gateway.node);
                hub.tasks.spawn(name, dial(hub.clone(), peers.clone(), gateway.node));
            }
        }
        tokio::select! {
            changed = watch.changed() => if changed.is_err() { return },
            () = peers.0.redial.notified() => {}
            () = stop.cancelled() => return,
        }
        let known: BTreeSet<NodeId> = hub.gateways().iter().map(|gateway| gateway.node).collect();
        dialled.retain(|node| known.contains(node));
    }
}

async fn dial(hub: Hub, peers: Peers, node: NodeId) {
    let stop = hub.tasks.token();
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
    let mut warned: Option<Instant> = None;
    while let Some(gateway) = hub.gateways().into_iter().find(|gateway| gateway.node == node) {
        match attempt(&hub, &gateway, &stop).await {
            Ok(connection) => {
                backoff.reset();
                warned = None;
                hold(&hub, &peers, node, connection, &stop).await;
            }
            Err(cause) => {
                if warned.is_none_or(|at| at.elapsed() > Duration::from_secs(30)) {
                    warned = Some(Instant::now());
                    tracing::warn!(gateway = %node, "no connection to a gateway of this cluster: {cause}");
                }
            }
        }
        let wait = backoff.next_delay(rand::random());
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn attempt(hub: &Hub, gateway: &GatewayFacts, stop: &CancellationToken) -> Result<Connection, String> {
    let mut causes = Vec::new();
    for addr in cluster_addrs(gateway).await {
        let connecting = connect(hub, &hub.endpoint, gateway, addr)?;
        tokio::select! {
            result = tokio::time::timeout(ATTEMPT, connecting) => match result {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => causes.push(format!("{addr}: {}", close_reason_text(&error))),
                Err(_) => causes.push(format!("{addr}: no answer within {} s", ATTEMPT.as_secs())),
            },
            () = stop.cancelled() => return Err("stopping".into()),
        }
    }
    Err(if causes.is_empty() { "it has no address".into() } else { causes.join("; ") })
}

fn connect(
    hub: &Hub,
    endpoint: &GatewayEndpoint,
    gateway: &GatewayFacts,
    addr: std::net::SocketAddr,
) -> Result<causeway_transport::Connecting, String> {
    let cluster = hub.node.cluster();
    let rule = ServerRule::GatewayNode(SpiffeId::node(&cluster.trust_domain, gateway.role, gateway.node));
    let tls = client_config(rule, hub.node.bundles(), Some(hub.node.svid()), alpn::RAFT)
        .map_err(|e| e.to_string())?;
    let target = (cluster.id, gateway.node);
    endpoint.connect(addr, target, tls, "gateway.mesh").map_err(|error| error.to_string())
}

/// Uses a connection until it ends.
async fn hold(hub: &Hub, peers: &Peers, node: NodeId, connection: Connection, stop: &CancellationToken) {
    let (sender, queue) = mpsc::channel(QUEUE);
    let _admitted = hub.forwarder.admit_control(connection.remote_address());
    hub.soft().presence.handle_peer_up(Instant::now(), node);
    let doubt = peers.set(node, connection.clone(), sender);
    hub.presence_work.notify_one();
    tracing::info!(gateway = %node, "connected to a gateway of this cluster");
    let writer = tokio::spawn(write_presence(hub.clone(), connection.clone(), queue));
    tokio::select! {
        error = connection.closed() => {
            tracing::info!(gateway = %node, cause = close_reason_text(&error), "lost a gateway of this cluster");
            if says_revoked(&error) {
                // a sibling knows that this gateway was removed, and this replica has not been told
                let removed = causeway_catalog::Refusal::GatewayRemoved { node: hub.node.id() };
                hub.tasks.fail("registry members", removed.to_string());
            }
        }
        () = silence(&connection, &doubt) => {
            tracing::info!(gateway = %node, "lost a gateway of this cluster: it acknowledges nothing");
            close(&connection, CloseCode::Superseded, "nothing is acknowledged");
        }
        () = stop.cancelled() => {}
    }
    writer.abort();
    peers.unset(node, &connection);
    hub.soft().presence.handle_peer_down(Instant::now(), node);
    hub.presence_work.notify_one();
}
