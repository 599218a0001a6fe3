//! Serving: what other gateways of this cluster ask and tell.

use super::Peers;
use crate::control::{refusal, use_token};
use crate::hub::Hub;
use causeway_catalog::{AddGateway, TokenKind, TokenUser, UpdateGateway};
use causeway_identity::GATEWAY_SVID_TTL;
use causeway_model::{GatewayFacts, GatewayRole, NodeId, SpiffeId};
use causeway_presence::Message;
use causeway_store::CallError;
use causeway_transport::{Connection, FrameReader, FrameWriter, RecvStream, SendStream, close};
use causeway_wire::CloseCode;
use causeway_wire::peer::{
    FactsUpdated, GatewayJoined, GatewayRenewed, JoinGateway, Method, PeerMessage, RenewGateway, Reply,
};
use causeway_wire::view::Refusal;
use std::time::{Duration, Instant, SystemTime};

/// How long a stranger has for its request.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most addresses of one gateway.
const MAX_ADDRS: usize = 16;

impl Peers {
    /// Serves a gateway of this cluster.
    pub(crate) async fn serve(&self, hub: &Hub, connection: &Connection, node: NodeId) {
        let _admitted = hub.forwarder.admit_control(connection.remote_address());
        // a sibling that this replica does not know yet is about to be known: its name is dialled when it is
        self.0.redial.notify_one();
        let stop = hub.tasks.token();
        loop {
            tokio::select! {
                stream = connection.accept_bi() => match stream {
                    Ok((send, receive)) => {
                        let (hub, tasks) = (hub.clone(), self.0.tasks.clone());
                        tasks.spawn("gateway call", answer(hub, node, send, receive));
                    }
                    Err(_) => return,
                },
                stream = connection.accept_uni() => match stream {
                    Ok(receive) => {
                        let (hub, tasks) = (hub.clone(), self.0.tasks.clone());
                        tasks.spawn("gateway presence", read_presence(self.clone(), hub, node, receive));
                    }
                    Err(_) => return,
                },
                () = stop.cancelled() => return close(connection, CloseCode::GoingAway, "the gateway stops"),
            }
        }
    }

    /// Serves a gateway that has no certificate yet: it may join with a token.
    pub(crate) async fn serve_stranger(&self, hub: &Hub, connection: &Connection) {
        let ask = async {
            let (send, receive) = connection.accept_bi().await.ok()?;
            let message = FrameReader::new(receive).next::<PeerMessage>().await.ok()??;
            Some((FrameWriter::new(send), message))
        };
        let Ok(Some((mut writer, message))) = tokio::time::timeout(PATIENCE, ask).await else {
            return close(connection, CloseCode::ProtocolViolation, "no request came in time");
        };
        let answer = match message {
            PeerMessage::Join(join) => match admit(hub, connection, &join).await {
                Ok(joined) => joined.into(),
                Err(refused) => {
                    tracing::warn!(remote = %connection.remote_address(), reason = refused.reason, "a gateway may not join: {}", refused.message);
                    refused.into()
                }
            },
            _ => {
                refusal(0, "no-certificate", "a connection without an SVID may only join with a token").into()
            }
        };
        if writer.send::<PeerMessage>(&answer).await.is_ok() {
            let _ = writer.finish();
            let _ = tokio::time::timeout(Duration::from_secs(2), connection.closed()).await;
        }
        close(connection, CloseCode::Done, "");
    }
}

/// A token for something else is told before it is used up.
fn check_kind(hub: &Hub, join: &JoinGateway) -> Result<(), Refusal> {
    let catalog = hub.catalog();
    match catalog.token(join.token.into()).map(|token| &token.kind) {
        Some(TokenKind::Gateway { role }) if *role != join.role => {
            let message = format!("the token is for role {role}, and the gateway asks for {}", join.role);
            Err(refusal(0, "token-wrong-kind", message))
        }
        _ => Ok(()),
    }
}

async fn admit(hub: &Hub, connection: &Connection, join: &JoinGateway) -> Result<GatewayJoined, Refusal> {
    let refuse = |(reason, message): (String, String)| refusal(0, &reason, message);
    if join.cluster_addrs.is_empty()
        || join.cluster_addrs.len() > MAX_ADDRS
        || join.link_addrs.len() > MAX_ADDRS
    {
        let message = format!("a gateway has 1 to {MAX_ADDRS} addresses: give --listen or --advertise");
        return Err(refusal(0, "bad-addresses", message));
    }
    let node = NodeId(rand::random::<u64>().max(1));
    // a gateway that cannot sign must not use the token up
    let chain = sign(hub, &join.csr, node)?;
    check_kind(hub, join)?;
    let kind = use_token(hub, connection, join.token, &join.proof, &join.csr, TokenUser::Gateway(node))
        .await
        .map_err(refuse)?;
    match kind {
        TokenKind::Gateway { role } if role == join.role => {}
        TokenKind::Gateway { role } => {
            let message = format!("the token is for role {role}, and the gateway asks for {}", join.role);
            return Err(refusal(0, "token-wrong-kind", message));
        }
        TokenKind::Workload { .. } => {
            return Err(refusal(0, "token-wrong-kind", "the token is for a workload"));
        }
    }
    let facts = GatewayFacts {
        node,
        role: join.role,
        locality: join.locality.clone(),
        cluster_addrs: join.cluster_addrs.clone(),
        link_addrs: join.link_addrs.clone(),
    };
    let gateways = hub.gateways();
    hub.propose(&format!("gateway {node}"), AddGateway { facts })
        .await
        .map_err(|error| refusal(0, error.reason(), error.to_string()))?;
    hub.registry.add_learner(node).await.map_err(|error| refusal(0, error.reason(), error.to_string()))?;
    let seal_key = (join.role == GatewayRole::Gateway)
        .then(|| hub.node.seal().map(|seal| seal.to_hex().to_string()))
        .flatten();
    tracing::info!(gateway = %node, role = %join.role, "a gateway joined the cluster");
    Ok(GatewayJoined {
        cluster: hub.cluster(),
        node,
        chain,
        bundle: hub.own_bundle(&hub.catalog()),
        gateways,
        seal_key,
    })
}

fn sign(hub: &Hub, csr: &[u8], node: NodeId) -> Result<Vec<Vec<u8>>, Refusal> {
    let ca = hub.ca().map_err(|error| refusal(0, "cannot-sign", error.to_string()))?;
    let id = SpiffeId::gateway(&hub.node.cluster().trust_domain, node);
    ca.sign_svid(csr, &id, SystemTime::now(), GATEWAY_SVID_TTL)
        .map_err(|error| refusal(0, error.reason(), error.to_string()))
}

/// Answers one call.
async fn answer(hub: Hub, node: NodeId, send: SendStream, receive: RecvStream) {
    let (mut writer, mut reader) = (FrameWriter::new(send), FrameReader::new(receive));
    let Ok(Ok(Some(message))) = tokio::time::timeout(PATIENCE, reader.next::<PeerMessage>()).await else {
        return;
    };
    let answer: PeerMessage = match message {
        PeerMessage::Call(call) if !may_call(hub.role_of(node), call.method) => {
            let message = format!("gateway {node} is not known here as one that may change the registry");
            refusal(0, "wrong-role", message).into()
        }
        PeerMessage::Call(call) => match hub.registry.handle_call(node, call.method, call.body).await {
            Ok(body) => Reply { body }.into(),
            Err(CallError::Refused { reason, message }) => refusal(0, &reason, message).into(),
            Err(error) => refusal(0, error.reason(), error.to_string()).into(),
        },
        PeerMessage::Renew(RenewGateway { csr }) => match sign(&hub, &csr, node) {
            Ok(chain) => GatewayRenewed { chain }.into(),
            Err(refused) => refused.into(),
        },
        PeerMessage::UpdateFacts(update) => match record_facts(&hub, node, update.facts).await {
            Ok(()) => FactsUpdated {}.into(),
            Err(refused) => refused.into(),
        },
        _ => refusal(0, "protocol-violation", "not a call").into(),
    };
    if writer.send(&answer).await.is_ok() {
        let _ = writer.finish();
    }
}

/// Records where the caller is reached; its role is fixed.
async fn record_facts(hub: &Hub, node: NodeId, facts: GatewayFacts) -> Result<(), Refusal> {
    if facts.node != node || hub.role_of(node) != Some(facts.role) {
        let message = format!("gateway {node} may change its own addresses and place only");
        return Err(refusal(0, "wrong-role", message));
    }
    let recorded = hub.propose(&format!("gateway {node}"), UpdateGateway { facts }).await;
    recorded.map(drop).map_err(|error| refusal(0, error.reason(), error.to_string()))
}

/// A forwarder is trusted with packets only, and so is a gateway that is not known: it may ask how far the registry is, and
/// nothing that could change it. A Raft message could (Raft believes whoever has a newer term).
fn may_call(role: Option<GatewayRole>, method: Method) -> bool {
    role == Some(GatewayRole::Gateway) || method == Method::ReadIndex
}

async fn read_presence(peers: Peers, hub: Hub, node: NodeId, receive: RecvStream) {
    let mut reader = FrameReader::new(receive);
    let known = hub.gateways().iter().any(|gateway| gateway.node == node);
    if known {
        hub.soft().presence.handle_peer_up(Instant::now(), node);
        hub.presence_work.notify_one();
    }
    while let Ok(Some(message)) = reader.next::<PeerMessage>().await {
        let PeerMessage::Presence(presence) = message else { continue };
        let outcome = match causeway_wire::codec::from_slice(&presence.body) {
            Ok(message) => {
                if let Message::Hello { incarnation, .. } = &message {
                    peers.note(node, *incarnation);
                }
                let handled = hub.soft().presence.handle_message(Instant::now(), node, message);
                handled.map_err(|error| (error.reason(), error.to_string()))
            }
            Err(error) => Err((error.reason(), error.to_string())),
        };
        if let Err((reason, cause)) = outcome {
            tracing::debug!(gateway = %node, reason, cause, "presence was not believed");
        }
        hub.presence_work.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forwarder_changes_nothing() {
        let all = [
            Method::Append,
            Method::Vote,
            Method::Snapshot,
            Method::Propose,
            Method::AddLearner,
            Method::ReadIndex,
        ];
        for method in all {
            assert!(may_call(Some(GatewayRole::Gateway), method), "{method:?}");
            for role in [Some(GatewayRole::Forwarder), None] {
                assert_eq!(may_call(role, method), method == Method::ReadIndex, "{method:?}");
            }
        }
    }
}
