//! The gateway's own connections: who may speak which protocol.
//!
//! One endpoint serves three protocols. The certificate decides who is there, ALPN what is spoken, and this table whether
//! the two go together (design section 7): `causeway-raft/1` gateways and forwarders of this trust domain, or a join token;
//! `causeway-link/1` gateways of a linked trust domain, and no forwarders, or a link token; `causeway-ctl/1` workloads of this
//! trust domain, or a join token.

use crate::hub::{Hub, MAX_SESSIONS, MAX_STRANGERS};
use crate::peers::Peers;
use crate::trusted::distrusted;
use crate::{control, links};
use causeway_model::{GatewayRole, NodeId, SpiffeId, SpiffeRole, TrustDomain};
use causeway_transport::{Connection, Incoming, PeerError, alpn, close, close_reason_text, peer_identity};
use causeway_wire::{CloseCode, alpn as protocols};
use std::time::Duration;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Connections in handshake before new ones must prove their address (RFC 9000 section 8.1.2).
const UNPROVEN: usize = 256;
/// What sidecars and strangers always leave to gateways of this cluster and of linked ones, and to handshakes.
const MAX_OTHERS: usize = 10_000;
/// The most connections, those in handshake included.
const MAX_CONNECTIONS: usize = MAX_SESSIONS + MAX_STRANGERS + MAX_OTHERS;

/// A protocol of the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Raft,
    Link,
    Control,
}

/// Who speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// A gateway of this cluster, and the role that its certificate gives it.
    Sibling(NodeId, GatewayRole),
    /// A gateway of another trust domain; no forwarder.
    Gateway(SpiffeId),
    /// A workload of this cluster.
    Workload(SpiffeId),
    /// Nobody yet: it has no certificate and must show a token.
    Stranger,
}

/// Whether `identity` may speak `protocol` to a gateway of trust domain `own`.
pub(crate) fn admit(
    protocol: Protocol,
    identity: Option<&SpiffeId>,
    own: &TrustDomain,
) -> Result<Caller, (CloseCode, String)> {
    let Some(id) = identity else { return Ok(Caller::Stranger) };
    let ours = id.trust_domain() == own;
    match (protocol, id.role(), ours) {
        (Protocol::Raft, SpiffeRole::Gateway(node), true) => Ok(Caller::Sibling(node, GatewayRole::Gateway)),
        (Protocol::Raft, SpiffeRole::Forwarder(node), true) => {
            Ok(Caller::Sibling(node, GatewayRole::Forwarder))
        }
        (Protocol::Link, SpiffeRole::Gateway(_), false) => Ok(Caller::Gateway(id.clone())),
        (Protocol::Control, SpiffeRole::Workload { .. }, true) => Ok(Caller::Workload(id.clone())),
        _ => {
            let allowed = match protocol {
                Protocol::Raft => format!("a gateway or forwarder of {own}"),
                Protocol::Link => {
                    format!("a gateway of another trust domain than {own}, and a forwarder holds no links")
                }
                Protocol::Control => format!("a workload of {own}"),
            };
            Err((CloseCode::WrongRole, format!("{id} may not speak this protocol here: it is for {allowed}")))
        }
    }
}

/// Takes connections until the endpoint is closed.
pub(crate) async fn run(hub: Hub, peers: Peers) {
    let stop = hub.tasks.token();
    loop {
        let incoming = tokio::select! {
            incoming = hub.endpoint.accept() => incoming,
            () = stop.cancelled() => return,
        };
        let Some(incoming) = incoming else {
            // the endpoint was closed: the process is about to stop
            stop.cancelled().await;
            return;
        };
        if hub.endpoint.open_connections() > MAX_CONNECTIONS {
            incoming.refuse();
            continue;
        }
        if hub.endpoint.open_connections() > UNPROVEN
            && !incoming.remote_address_validated()
            && incoming.may_retry()
        {
            // it comes back with a token for its address; an address that was made up does not
            let _ = incoming.retry();
            continue;
        }
        let (hub, peers) = (hub.clone(), peers.clone());
        let tasks = hub.tasks.clone();
        tasks.spawn("control connection", serve(hub, peers, incoming));
    }
}

async fn serve(hub: Hub, peers: Peers, incoming: Incoming) {
    let remote = incoming.remote_address();
    let connection = match tokio::time::timeout(HANDSHAKE, incoming).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            tracing::info!(%remote, cause = close_reason_text(&error), "a handshake failed");
            return;
        }
        Err(_) => {
            tracing::debug!(%remote, "a handshake did not finish in time");
            return;
        }
    };
    if let Err((code, message)) = dispatch(&hub, &peers, &connection).await {
        tracing::warn!(%remote, reason = code.reason(), "connection refused: {message}");
        close(&connection, code, &message);
    }
}

async fn dispatch(hub: &Hub, peers: &Peers, connection: &Connection) -> Result<(), (CloseCode, String)> {
    let protocol = match alpn(connection).as_deref() {
        Some(name) if name == protocols::RAFT => Protocol::Raft,
        Some(name) if name == protocols::LINK => Protocol::Link,
        Some(name) if name == protocols::CTL => Protocol::Control,
        other => {
            let name = other.map(String::from_utf8_lossy).unwrap_or_default().into_owned();
            return Err((CloseCode::ProtocolViolation, format!("no protocol {name:?} is served here")));
        }
    };
    let identity = match peer_identity(connection) {
        Ok(id) => Some(id),
        Err(PeerError::NoCertificate) => None,
        Err(error) => return Err((CloseCode::WrongIdentity, error.to_string())),
    };
    let caller = admit(protocol, identity.as_ref(), &hub.node.cluster().trust_domain)?;
    // all three protocols take strangers, and nobody is known to be more than that yet
    let _stranger = match caller {
        Caller::Stranger => {
            Some(hub.open_stranger().map_err(|full| (CloseCode::Overloaded, full.to_string()))?)
        }
        _ => None,
    };
    let serving = async {
        match (protocol, caller) {
            (Protocol::Link, Caller::Gateway(id)) => {
                links::serve(hub.clone(), connection.clone(), Some(id)).await
            }
            (Protocol::Link, _) => links::serve(hub.clone(), connection.clone(), None).await,
            (Protocol::Raft, Caller::Sibling(node, role)) => peers.serve(hub, connection, node, role).await,
            (Protocol::Raft, _) => peers.serve_stranger(hub, connection).await,
            (Protocol::Control, Caller::Workload(id)) => {
                control::serve(hub.clone(), connection.clone(), Some(id)).await
            }
            (Protocol::Control, _) => control::serve(hub.clone(), connection.clone(), None).await,
        }
    };
    tokio::select! {
        () = serving => Ok(()),
        refused = distrusted(hub.node.bundles(), connection, protocol == Protocol::Link) => Err(refused),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::fixture::{Fixture, SOON};

    #[test]
    fn every_role_on_every_protocol() {
        let own: TrustDomain = "iad.mesh".parse().unwrap();
        let node = |role, td: &str| SpiffeId::node(&td.parse().unwrap(), role, NodeId(7)).to_string();
        let gateway = |td: &str| node(GatewayRole::Gateway, td);
        let forwarder = |td: &str| node(GatewayRole::Forwarder, td);
        let workload = |td: &str| format!("spiffe://{td}/ns/shop/sa/payments");
        let other = "spiffe://iad.mesh/admin".to_owned();
        let ids = [
            gateway("iad.mesh"),
            forwarder("iad.mesh"),
            gateway("phx.mesh"),
            forwarder("phx.mesh"),
            workload("iad.mesh"),
            workload("phx.mesh"),
            other,
        ];
        let allowed = [
            (Protocol::Raft, [true, true, false, false, false, false, false]),
            (Protocol::Link, [false, false, true, false, false, false, false]),
            (Protocol::Control, [false, false, false, false, true, false, false]),
        ];
        for (protocol, row) in allowed {
            for (id, expected) in ids.iter().zip(row) {
                let id: SpiffeId = id.parse().unwrap();
                let verdict = admit(protocol, Some(&id), &own);
                assert_eq!(verdict.is_ok(), expected, "{protocol:?} {id}");
                if let Err((code, message)) = verdict {
                    assert_eq!(code, CloseCode::WrongRole);
                    assert!(message.contains(&id.to_string()), "{message}");
                }
            }
            assert_eq!(admit(protocol, None, &own), Ok(Caller::Stranger));
        }
    }

    #[test]
    fn a_sibling_has_the_role_of_its_certificate() {
        let own: TrustDomain = "iad.mesh".parse().unwrap();
        for role in [GatewayRole::Gateway, GatewayRole::Forwarder] {
            let id = SpiffeId::node(&own, role, NodeId(7));
            assert_eq!(admit(Protocol::Raft, Some(&id), &own), Ok(Caller::Sibling(NodeId(7), role)));
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn strangers_of_every_protocol_are_counted_and_keep_no_sidecar_away() {
        let gateway = Fixture::start().await;
        let hub = &gateway.hub;
        let mut held = Vec::new();
        for (protocol, count) in [(protocols::CTL, 1), (protocols::RAFT, 2), (protocols::LINK, 3)] {
            held.push(gateway.dial(protocol, None).await);
            gateway.shows(&format!("causeway_stranger_connections {count}")).await;
        }
        gateway.shows("causeway_control_connections 0").await;
        let rest: Vec<_> = (3..MAX_STRANGERS).map(|_| hub.open_stranger().unwrap()).collect();
        for protocol in [protocols::CTL, protocols::RAFT, protocols::LINK] {
            let client = gateway.dial(protocol, None).await;
            let closed = tokio::time::timeout(SOON, client.connection.closed()).await.unwrap();
            let text = close_reason_text(&closed);
            assert!(text.contains("overloaded") && text.contains("without a certificate"), "{text}");
        }
        let id = format!("spiffe://{}/ns/shop/sa/web", hub.node.cluster().trust_domain);
        let _sidecar = gateway.connect(protocols::CTL, &hub.ca().unwrap(), &id.parse().unwrap()).await;
        gateway.shows("causeway_control_connections 1").await;
        drop((rest, held));
        gateway.shows("causeway_stranger_connections 0").await;
        gateway.stop().await;
    }
}
