//! The side that is called: token holders who want to make a link, and gateways of linked clusters.

use super::session::{self, PeerGateway};
use super::{FAREWELL, HELLO_WITHIN, LinkError, introduction};
use crate::hub::Hub;
use causeway_catalog::{EstablishLink, Invite, InviteId, LinkKey, MergeRule};
use causeway_model::{GatewayRole, NodeId, SpiffeId, SpiffeRole};
use causeway_runtime::clock::unix_now;
use causeway_transport::{
    Connection, FrameError, FrameReader, FrameWriter, RecvStream, SendStream, close, exporter,
};
use causeway_wire::link::{LinkMessage, Pair, Paired};
use causeway_wire::token::{EXPORTER_LABEL, PairSide, pair_proof, token_id_text, verify_pair_proof};
use causeway_wire::view::Refusal;
use causeway_wire::{CloseCode, alpn};
use std::time::Duration;
use tokio::time::timeout;

/// How long an invite may take to reach this gateway's replica: it may have been made at another one a moment ago.
const INVITE_WITHIN: Duration = Duration::from_millis(500);
/// The most connections with one gateway of a linked cluster.
const MAX_SESSIONS_PER_NODE: usize = 4;
/// The most connections with all gateways of a linked cluster.
const MAX_SESSIONS: usize = 256;

/// Why a connection is closed, and what is said to the peer.
type Closing = (CloseCode, String);

/// Serves a connection that speaks `causeway-link/1`, until it ends. `client` is whom its certificate names, if it has one.
pub(crate) async fn serve(hub: Hub, connection: Connection, client: Option<SpiffeId>) {
    let remote = connection.remote_address();
    let served = match &client {
        None => serve_stranger(&hub, &connection).await,
        Some(id) => serve_gateway(&hub, &connection, id).await,
    };
    if let Err((code, message)) = served {
        let client = client.map_or_else(|| "nobody".to_owned(), |id| id.to_string());
        tracing::warn!(%remote, client, reason = code.reason(), "link connection refused: {message}");
        close(&connection, code, &message);
    }
}

async fn serve_gateway(hub: &Hub, connection: &Connection, id: &SpiffeId) -> Result<(), Closing> {
    let peer = admit(hub, id)?;
    let (send, recv) = first_stream(connection).await?;
    session::run(hub, connection, peer, send, recv).await;
    Ok(())
}

/// Whose gateway `id` is, if its cluster is linked.
fn admit(hub: &Hub, id: &SpiffeId) -> Result<PeerGateway, Closing> {
    if hub.node.role() == GatewayRole::Forwarder {
        return Err((CloseCode::WrongRole, LinkError::Forwarder.to_string()));
    }
    let node = gateway_node(id)?;
    let catalog = hub.catalog();
    let Some(link) = catalog.link_by_domain(id.trust_domain()) else {
        let own = &hub.node.cluster().name;
        return Err((
            CloseCode::NotLinked,
            format!("{} is not linked with cluster {own}", id.trust_domain()),
        ));
    };
    let sessions = hub.with_peer(link.peer.id, |peer| {
        (peer.sessions.get(&node).copied().unwrap_or(0), peer.sessions.values().sum::<usize>())
    });
    match sessions {
        Some((own, all)) if own >= MAX_SESSIONS_PER_NODE || all >= MAX_SESSIONS => Err((
            CloseCode::Overloaded,
            format!("{own} connections with this gateway and {all} with its cluster are open already"),
        )),
        _ => Ok(PeerGateway::of(link, node, false)),
    }
}

/// The node of a gateway that may hold links. Its certificate alone says so, and what the registry has heard of it does not count:
/// a forwarder holds no signing key, and so must not be able to introduce who does.
fn gateway_node(id: &SpiffeId) -> Result<NodeId, Closing> {
    let what = match id.role() {
        SpiffeRole::Gateway(node) => return Ok(node),
        SpiffeRole::Forwarder(_) => format!("{id} is a forwarder, which holds no links"),
        SpiffeRole::Workload { .. } | SpiffeRole::Other => {
            format!("{id} is no gateway's identity, which {} is for", String::from_utf8_lossy(alpn::LINK))
        }
    };
    Err((CloseCode::WrongRole, what))
}

async fn first_stream(connection: &Connection) -> Result<(SendStream, RecvStream), Closing> {
    match timeout(HELLO_WITHIN, connection.accept_bi()).await {
        Ok(Ok(streams)) => Ok(streams),
        Ok(Err(error)) => {
            let code = CloseCode::ProtocolViolation;
            Err((code, format!("it ended before its first message: {}", FrameError::Connection(error))))
        }
        Err(_) => {
            let wait = HELLO_WITHIN.as_secs();
            Err((CloseCode::HelloTimeout, format!("no message within {wait} s")))
        }
    }
}

/// One attempt to make a link; the connection is closed after it, whatever came of it.
async fn serve_stranger(hub: &Hub, connection: &Connection) -> Result<(), Closing> {
    let (send, recv) = first_stream(connection).await?;
    let message = timeout(HELLO_WITHIN, FrameReader::new(recv).next::<LinkMessage>()).await;
    let pair = match message {
        Ok(Ok(Some(LinkMessage::Pair(pair)))) => pair,
        Ok(Ok(_)) => {
            let what = "without a certificate only a link token can be shown".to_owned();
            return Err((CloseCode::WrongRole, what));
        }
        Ok(Err(error)) => return Err((CloseCode::ProtocolViolation, error.to_string())),
        Err(_) => return Err((CloseCode::HelloTimeout, "no whole message in time".to_owned())),
    };
    let token = token_id_text(&pair.token);
    let cluster = pair.introduction.cluster.name.clone();
    let (answer, closing) = match consider(hub, connection, pair).await {
        Ok(paired) => {
            tracing::info!(%cluster, token, remote = %connection.remote_address(), "link made on invitation");
            (LinkMessage::from(paired), None)
        }
        Err(error) => {
            let (reason, message) = (error.reason(), error.to_string());
            tracing::warn!(%cluster, token, reason, "a link token was refused: {message}");
            let refusal = Refusal { request: 0, reason: reason.to_owned(), message };
            (LinkMessage::from(refusal), Some((CloseCode::TokenRefused, reason.to_owned())))
        }
    };
    let told = timeout(FAREWELL, last_words(send, &answer)).await;
    if !matches!(told, Ok(Ok(()))) {
        tracing::warn!(%cluster, token, "the answer to a link token may not have arrived");
    }
    match closing {
        Some(closing) => Err(closing),
        None => {
            close(connection, CloseCode::Done, "");
            Ok(())
        }
    }
}

/// Says `message` and waits until it has arrived.
async fn last_words(send: SendStream, message: &LinkMessage) -> Result<(), FrameError> {
    let mut writer = FrameWriter::new(send);
    writer.send(message).await?;
    writer.finish()?;
    // it resolves when the peer has everything, or has gone: nothing is left to do in either case
    let _ = writer.get_mut().stopped().await;
    Ok(())
}

/// Makes the link if the token and the introduction are right.
async fn consider(hub: &Hub, connection: &Connection, pair: Pair) -> Result<Paired, LinkError> {
    if hub.node.role() == GatewayRole::Forwarder {
        return Err(LinkError::Forwarder);
    }
    let id = InviteId(pair.token);
    let invite = invite(hub, id).await.ok_or(LinkError::TokenRefused)?;
    let told = pair.introduction;
    let key = exporter(connection, EXPORTER_LABEL, &[]).map_err(|_| LinkError::TokenRefused)?;
    let verifier =
        hub.node.mask_verifier(&pair.token, invite.verifier.0).map_err(|_| LinkError::Forwarder)?;
    // the proof comes first: what became of a token is told only to those who hold it
    if !verify_pair_proof(PairSide::Accepting, &verifier, &key, &told, &pair.proof) {
        return Err(LinkError::TokenRefused);
    }
    invite.check_for(&told.cluster.name, unix_now())?;
    introduction::check(&told)?;
    let own = introduction::own(hub)?;
    let proof = pair_proof(PairSide::Inviting, &verifier, &key, &own).map_err(|error| {
        LinkError::Introduction { cluster: own.cluster.name.clone(), what: error.to_string() }
    })?;
    let link_key: [u8; 32] = rand::random();
    let by = format!("cluster {} with invite {id}", told.cluster.name);
    let command = EstablishLink {
        invite: Some(id),
        peer: told.cluster,
        roots: told.bundle.roots,
        gateways: told.gateways,
        key: LinkKey(link_key),
        merge_namespaces: MergeRule::All,
    };
    hub.propose(&by, command).await?;
    Ok(Paired { proof, introduction: own, key: link_key })
}

/// The invite with this id, once it is in this gateway's replica.
async fn invite(hub: &Hub, id: InviteId) -> Option<Invite> {
    let mut watch = hub.registry.watch();
    let known = timeout(INVITE_WITHIN, watch.wait_for(|catalog| catalog.invite(id).is_some())).await;
    known.ok()?.ok()?.invite(id).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_for_gateways_that_are_no_forwarders() {
        let node = |path: &str| gateway_node(&format!("spiffe://phx.mesh{path}").parse().unwrap());
        assert_eq!(node("/causeway/gateway/0000000000000007"), Ok(NodeId(7)));
        for (path, said) in [
            ("/causeway/forwarder/0000000000000007", "is a forwarder, which holds no links"),
            ("/ns/shop/sa/web", "is no gateway's identity"),
            ("/other", "is no gateway's identity"),
        ] {
            let (code, message) = node(path).unwrap_err();
            assert_eq!(code, CloseCode::WrongRole);
            assert!(message.contains(path) && message.contains(said), "{message}");
        }
    }
}
