//! Serving: what other gateways of this cluster ask and tell.

use super::Peers;
use crate::control::{Shown, prove, refusal, spend};
use crate::hub::Hub;
use crate::links;
use causeway_catalog::{AddGateway, TokenKind, TokenUser, UpdateGateway};
use causeway_identity::{ClusterCa, GATEWAY_SVID_TTL, request_key_id};
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

/// The reason of a refusal to a gateway that was removed.
pub(crate) const GATEWAY_REMOVED: &str = "gateway-removed";

/// A caller: its node, and the role that its certificate gives it.
type Sibling = (NodeId, GatewayRole);

impl Peers {
    /// Serves a gateway of this cluster; `role` is what its certificate says.
    pub(crate) async fn serve(&self, hub: &Hub, connection: &Connection, node: NodeId, role: GatewayRole) {
        let _admitted = hub.forwarder.admit_control(connection.remote_address());
        // a sibling that this replica does not know yet is about to be known: its name is dialled when it is
        self.0.redial.notify_one();
        self.doubt(node);
        let stop = hub.tasks.token();
        loop {
            tokio::select! {
                stream = connection.accept_bi() => match stream {
                    Ok((send, receive)) => {
                        let (hub, tasks) = (hub.clone(), self.0.tasks.clone());
                        tasks.spawn("gateway call", answer(hub, (node, role), send, receive));
                    }
                    Err(_) => return,
                },
                stream = connection.accept_uni() => match stream {
                    Ok(receive) => {
                        let (hub, tasks) = (hub.clone(), self.0.tasks.clone());
                        tasks.spawn("gateway presence", read_presence(self.clone(), hub, (node, role), receive));
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
fn check_kind(kind: &TokenKind, asked: GatewayRole) -> Result<(), Refusal> {
    match kind {
        TokenKind::Gateway { role } if *role == asked => Ok(()),
        TokenKind::Gateway { role } => {
            let message = format!("the token is for role {role}, and the gateway asks for {asked}");
            Err(refusal(0, "token-wrong-kind", message))
        }
        TokenKind::Workload { .. } => Err(refusal(0, "token-wrong-kind", "the token is for a workload")),
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
    let shown = Shown { id: join.token, proof: &join.proof, csr: &join.csr };
    let token = prove(hub, connection, shown).await.map_err(refuse)?;
    check_kind(&token.kind, join.role)?;
    // a gateway that cannot sign must not use the token up
    let ca = hub.ca().map_err(|error| refusal(0, "cannot-sign", error.to_string()))?;
    // who lost the answer asks again with the same key, and is the same node
    let key = request_key_id(&join.csr).map_err(|error| refusal(0, error.reason(), error.to_string()))?;
    let node = NodeId(key.max(1));
    let kind = spend(hub, &token, TokenUser::Gateway(node)).await.map_err(refuse)?;
    check_kind(&kind, join.role)?;
    let chain = sign(hub, &ca, &join.csr, (node, join.role))?;
    let facts = GatewayFacts {
        node,
        role: join.role,
        locality: join.locality.clone(),
        cluster_addrs: join.cluster_addrs.clone(),
        link_addrs: join.link_addrs.clone(),
    };
    let gateways = hub.gateways();
    // one that asks again is in the registry, which need not be told; it says itself where else it is reached by now
    if hub.catalog().gateway(node).is_none_or(|known| known.role != join.role) {
        hub.propose(&format!("gateway {node}"), AddGateway { facts })
            .await
            .map_err(|error| refusal(0, error.reason(), error.to_string()))?;
    }
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

fn sign(hub: &Hub, ca: &ClusterCa, csr: &[u8], (node, role): Sibling) -> Result<Vec<Vec<u8>>, Refusal> {
    let id = SpiffeId::node(&hub.node.cluster().trust_domain, role, node);
    ca.sign_svid(csr, &id, SystemTime::now(), GATEWAY_SVID_TTL)
        .map_err(|error| refusal(0, error.reason(), error.to_string()))
}

/// A new SVID of the identity that the caller has, if the registry knows it. Forwarders ask for it; a signing gateway signs its
/// own, and no answer here keeps it from that.
async fn renew(hub: &Hub, csr: &[u8], caller: Sibling) -> Result<Vec<Vec<u8>>, Refusal> {
    let (node, role) = caller;
    // the leader is asked: this replica may not have heard of a removal, which a new SVID would leave behind
    let current = hub.registry.current().await;
    let current = current.map_err(|error| refusal(0, error.reason(), error.to_string()))?;
    if current.gateway(node).map(|gateway| gateway.role) == Some(role) {
        let ca = hub.ca().map_err(|error| refusal(0, "cannot-sign", error.to_string()))?;
        return sign(hub, &ca, csr, caller);
    }
    let message = format!(
        "the registry knows no {role} {node}: if it goes on, use a new --data-dir and a new token of role {role}"
    );
    Err(refusal(0, "gateway-unknown", message))
}

/// Answers one call.
async fn answer(hub: Hub, caller: Sibling, send: SendStream, receive: RecvStream) {
    let (node, role) = caller;
    let (mut writer, mut reader) = (FrameWriter::new(send), FrameReader::new(receive));
    let Ok(Ok(Some(message))) = tokio::time::timeout(PATIENCE, reader.next::<PeerMessage>()).await else {
        return;
    };
    let answer: PeerMessage = match message {
        PeerMessage::Call(_) if Standing::of(&hub, node) == Standing::Removed => removed(node).into(),
        PeerMessage::Call(call) if !may_call(role, Standing::of(&hub, node), call.method) => {
            let message = format!("{role} {node} may not change the registry: it is a forwarder");
            refusal(0, "wrong-role", message).into()
        }
        PeerMessage::Call(call) => match hub.registry.handle_call(node, call.method, call.body).await {
            Ok(body) => Reply { body }.into(),
            Err(CallError::Refused { reason, message }) => refusal(0, &reason, message).into(),
            Err(error) => refusal(0, error.reason(), error.to_string()).into(),
        },
        PeerMessage::Renew(RenewGateway { csr }) => match renew(&hub, &csr, caller).await {
            Ok(chain) => GatewayRenewed { chain }.into(),
            Err(refused) => refused.into(),
        },
        PeerMessage::UpdateFacts(update) => match record_facts(&hub, caller, update.facts).await {
            Ok(()) => FactsUpdated {}.into(),
            Err(refused) => refused.into(),
        },
        _ => refusal(0, "protocol-violation", "not a call").into(),
    };
    if writer.send(&answer).await.is_ok() {
        let _ = writer.finish();
    }
}

/// The answer to a gateway that was removed: it ends when it hears it.
fn removed(node: NodeId) -> Refusal {
    let message = causeway_catalog::Refusal::GatewayRemoved { node }.to_string();
    refusal(0, GATEWAY_REMOVED, message)
}

/// Records where the caller is reached; its role is fixed.
async fn record_facts(hub: &Hub, (node, role): Sibling, facts: GatewayFacts) -> Result<(), Refusal> {
    if facts.node != node || facts.role != role || hub.role_of(node) != Some(role) {
        let message = format!("{role} {node} may change its own addresses and place only");
        return Err(refusal(0, "wrong-role", message));
    }
    let recorded = hub.propose(&format!("gateway {node}"), UpdateGateway { facts }).await;
    recorded.map(drop).map_err(|error| refusal(0, error.reason(), error.to_string()))
}

/// What this replica of the registry knows of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Known(GatewayRole),
    /// Not heard of. A replica may lag behind, and what would tell it may be the very call of that node.
    Unheard,
    Removed,
}

impl Standing {
    fn of(hub: &Hub, node: NodeId) -> Self {
        match hub.role_of(node) {
            Some(role) => Self::Known(role),
            None if hub.catalog().removed(node).is_some() => Self::Removed,
            None => Self::Unheard,
        }
    }
}

/// Whether a node whose certificate gives it `role` may make a call. A forwarder is trusted with packets only: it may ask how far
/// the registry is, and nothing that could change it. A Raft message could (Raft believes whoever has a newer term). Who was
/// removed, or is known in another role, has no more say than a forwarder.
fn may_call(role: GatewayRole, standing: Standing, method: Method) -> bool {
    let gateway = match standing {
        Standing::Known(known) => known == GatewayRole::Gateway,
        Standing::Unheard => true,
        Standing::Removed => false,
    };
    method == Method::ReadIndex || role == GatewayRole::Gateway && gateway
}

/// Whether a node whose certificate gives it `role`, and which the registry knows as `known`, may say `message`. No sidecar attaches
/// to a forwarder, so it has no rows, and an honest one never says anything of them: it says that it lives, and asks for the rows
/// of others.
fn may_tell(role: GatewayRole, known: Option<GatewayRole>, message: &Message) -> bool {
    match message {
        Message::Deltas { .. } | Message::Snapshot { .. } => {
            role == GatewayRole::Gateway && known != Some(GatewayRole::Forwarder)
        }
        Message::Hello { .. }
        | Message::Digest { .. }
        | Message::SnapshotRequest { .. }
        | Message::Heartbeat { .. } => true,
    }
}

/// Takes what a sibling says of its rows; why it is not believed if it is not.
fn hear(
    peers: &Peers,
    hub: &Hub,
    (node, role): Sibling,
    presence: &[u8],
) -> Result<(), (&'static str, String)> {
    let message = causeway_wire::codec::from_slice::<Message>(presence)
        .map_err(|error| (error.reason(), error.to_string()))?;
    let known = hub.catalog().gateway(node).map(|gateway| gateway.role);
    if !may_tell(role, known, &message) {
        return Err(("wrong-role", format!("{role} {node} has no workloads: no sidecar attaches to it")));
    }
    if let Message::Hello { incarnation, .. } = &message {
        peers.note(node, *incarnation);
    }
    let (handled, bad) = {
        let presence = &mut hub.soft().presence;
        (presence.handle_message(Instant::now(), node, message), presence.take_bad_row(node))
    };
    if let Some(error) = bad {
        tracing::warn!(
            gateway = %node, reason = error.reason(),
            "rows of a gateway are left out, this one first: {error}; is it of another release?"
        );
    }
    handled.map_err(|error| (error.reason(), error.to_string()))
}

async fn read_presence(peers: Peers, hub: Hub, caller: Sibling, receive: RecvStream) {
    let (node, role) = caller;
    let mut reader = FrameReader::new(receive);
    let mut meter = hub.metrics.meter("raft");
    let known = hub.gateways().iter().any(|gateway| gateway.node == node);
    if known {
        hub.soft().presence.handle_peer_up(Instant::now(), node);
        hub.presence_work.notify_one();
    }
    while let Ok(Some(message)) = reader.next::<PeerMessage>().await {
        meter.skipped(reader.skipped());
        let presence = match message {
            PeerMessage::Presence(presence) => presence,
            PeerMessage::Hello(hello) if hello.node == node => {
                hub.registry.announce(node, hello.commands);
                continue;
            }
            PeerMessage::Status(mut status) => {
                // a forwarder serves no admin API
                status.admin = status.admin.filter(|_| caller.1 == GatewayRole::Gateway);
                hub.soft().siblings.handle_status(Instant::now(), node, status);
                continue;
            }
            PeerMessage::Reaches(reaches) => {
                links::hear_reaches(&hub, node, reaches);
                continue;
            }
            PeerMessage::PairReports(reports) => {
                links::hear_sibling(&hub, node, role, &reports);
                continue;
            }
            _ => continue,
        };
        if let Err((reason, cause)) = hear(&peers, &hub, caller, &presence.body) {
            tracing::debug!(gateway = %node, reason, cause, "presence was not believed");
        }
        hub.presence_work.notify_one();
    }
    meter.skipped(reader.skipped());
}

#[cfg(test)]
mod tests;
