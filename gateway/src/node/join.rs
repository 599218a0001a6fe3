//! The first start of a further gateway: it joins with a token.
//!
//! Its key is on disk before it first asks: who lost the answer, by a crash perhaps, asks again with the same key, which is the
//! same node and the same use of the token.

mod search;

use super::files::encode_roots;
use super::{Files, NodeError, NodeFile};
use crate::config::GatewayConfig;
use causeway_identity::{BundleStore, KeyPair, SealKey, ServerRule, Svid, TrustBundle, client_config};
use causeway_model::{GatewayFacts, GatewayRole, NodeId, SpiffeId};
use causeway_transport::{
    BootstrapEndpoint, Connection, FrameReader, FrameWriter, close_reason_text, exporter,
};
use causeway_wire::peer::{GatewayJoined, JoinGateway, PeerMessage};
use causeway_wire::token::{EXPORTER_LABEL, JoinFor, JoinToken, join_proof};
use causeway_wire::{CloseCode, alpn};
use search::{Failure, search};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::time::timeout;

/// How long a handshake with a gateway of the token may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long it then has to answer: joining is a write to the registry, which may elect a leader meanwhile.
const ANSWER: Duration = Duration::from_secs(10);

pub(super) struct Joined {
    pub(super) file: NodeFile,
    pub(super) svid: Svid,
    pub(super) seal: Option<SealKey>,
}

/// Joins the cluster of `token`, through whichever of its gateways answers.
pub(super) async fn join(
    config: &GatewayConfig,
    token: &JoinToken,
    facts: impl Fn(NodeId) -> GatewayFacts,
    files: &Files,
) -> Result<Joined, NodeError> {
    let failed = |cause: String| NodeError::Join { cluster: token.core.cluster.to_string(), cause };
    check_token(config, token).map_err(failed)?;
    let key = files.join_key()?;
    let attempt = async |addr| {
        let connection = match timeout(CONNECT, connect(config, token, addr)).await {
            Ok(connected) => connected.map_err(Failure::Unreachable)?,
            Err(_) => return Err(Failure::Unreachable(format!("no handshake within {CONNECT:?}"))),
        };
        match timeout(ANSWER, ask(config, token, &connection, &key, &facts)).await {
            Ok(answer) => answer,
            Err(_) => Err(Failure::NotNow(format!("no answer within {ANSWER:?}"))),
        }
    };
    let joined = search(&token.core.gateways, attempt).await.map_err(failed)?;
    keep(config, joined, key, files)
}

fn check_token(config: &GatewayConfig, token: &JoinToken) -> Result<(), String> {
    let core = &token.core;
    if core.cluster != config.cluster {
        return Err(format!(
            "token {} is of cluster {}, and --cluster says {}",
            core.id_text(),
            core.cluster,
            config.cluster
        ));
    }
    let now = causeway_runtime::clock::unix_now();
    if core.expires_at <= now {
        return Err(format!(
            "token {} expired {} s ago by this machine's clock: make a new one with `causeway token create`, or set the clock",
            core.id_text(),
            now - core.expires_at
        ));
    }
    match token.join {
        JoinFor::Gateway(role) if role == config.role => Ok(()),
        JoinFor::Gateway(role) => {
            Err(format!("token {} is for role {role}, and --role says {}", core.id_text(), config.role))
        }
        JoinFor::Workload(_) => Err(format!(
            "token {} is for a workload: make one with `causeway token create --role {}`",
            core.id_text(),
            config.role
        )),
    }
}

async fn connect(config: &GatewayConfig, token: &JoinToken, addr: SocketAddr) -> Result<Connection, String> {
    let any: IpAddr = if addr.is_ipv4() { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
    let local =
        config.listen.iter().map(SocketAddr::ip).find(|ip| ip.is_ipv4() == addr.is_ipv4()).unwrap_or(any);
    let endpoint = BootstrapEndpoint::bind(local, &config.transport)
        .map_err(|error| format!("opening a socket: {error}"))?;
    let rule = ServerRule::Pinned {
        root: token.core.root_fingerprint,
        trust_domain: token.core.trust_domain.clone(),
    };
    let tls = client_config(rule, &BundleStore::new(), None, alpn::RAFT)
        .map_err(|error| format!("TLS: {error}"))?;
    let connecting = endpoint
        .connect(addr, token.core.cluster_id, NodeId::ANY, tls, "gateway.mesh")
        .map_err(|error| format!("connecting: {error}"))?;
    connecting.await.map_err(|error| close_reason_text(&error))
}

async fn ask(
    config: &GatewayConfig,
    token: &JoinToken,
    connection: &Connection,
    key: &KeyPair,
    facts: &impl Fn(NodeId) -> GatewayFacts,
) -> Result<GatewayJoined, Failure> {
    // whatever is lost from here on may have been done
    let lost = |what: &str, error: &dyn std::fmt::Display| Failure::NotNow(format!("{what}: {error}"));
    let bound =
        exporter(connection, EXPORTER_LABEL, b"").map_err(|error| lost("binding to the session", &error))?;
    let csr = key.csr().map_err(|error| lost("making a certificate request", &error))?;
    let own = facts(NodeId::ANY);
    let request = JoinGateway {
        token: token.core.id,
        proof: join_proof(&token.core.verifier(), &bound, &csr),
        csr,
        role: config.role,
        locality: own.locality,
        cluster_addrs: own.cluster_addrs,
        link_addrs: own.link_addrs,
    };
    let (send, receive) =
        connection.open_bi().await.map_err(|error| Failure::NotNow(close_reason_text(&error)))?;
    let (mut writer, mut reader) = (FrameWriter::new(send), FrameReader::new(receive));
    writer.send(&PeerMessage::from(request)).await.map_err(|error| lost("asking", &error))?;
    let answer = reader.next::<PeerMessage>().await.map_err(|error| lost("the answer", &error))?;
    causeway_transport::close(connection, CloseCode::Done, "joined");
    match answer {
        Some(PeerMessage::Joined(joined)) => check_answer(token, joined).map_err(Failure::Refused),
        Some(PeerMessage::Refused(refusal)) => Err(Failure::refused(&refusal)),
        _ => Err(Failure::Unreachable("it did not answer as a gateway does".into())),
    }
}

fn check_answer(token: &JoinToken, joined: GatewayJoined) -> Result<GatewayJoined, String> {
    let same =
        joined.cluster.trust_domain == token.core.trust_domain && joined.cluster.id == token.core.cluster_id;
    let bundle = TrustBundle::new(joined.bundle.trust_domain.clone(), joined.bundle.roots.clone());
    let pinned = bundle.is_ok_and(|bundle| bundle.has_root(&token.core.root_fingerprint));
    if same && pinned && joined.node != NodeId::ANY {
        Ok(joined)
    } else {
        Err("the gateway that answered is not of the token's cluster".into())
    }
}

/// With the SVID of another role every other gateway would refuse this one.
fn check_identity(issued: &SpiffeId, expected: &SpiffeId) -> Result<(), String> {
    if issued == expected {
        return Ok(());
    }
    Err(format!(
        "the gateway that answered issued an SVID of {issued}, and not of {expected}: it may be of another release; upgrade it, \
         then make a new token with `causeway token create`"
    ))
}

fn keep(
    config: &GatewayConfig,
    joined: GatewayJoined,
    key: KeyPair,
    files: &Files,
) -> Result<Joined, NodeError> {
    let cluster = joined.cluster.name.to_string();
    let svid = Svid::new(joined.chain, key).map_err(NodeError::identity("the SVID that was issued"))?;
    let roots = encode_roots(&joined.bundle.roots);
    let file = NodeFile {
        cluster: joined.cluster,
        node: joined.node,
        role: config.role,
        roots,
        seeds: joined.gateways,
    };
    check_identity(svid.id(), &file.spiffe_id()).map_err(|cause| NodeError::Join { cluster, cause })?;
    let seal = match (&joined.seal_key, config.role) {
        (_, GatewayRole::Forwarder) => None,
        (Some(text), GatewayRole::Gateway) => {
            let key = SealKey::from_hex(text).map_err(NodeError::identity("the cluster's seal key"))?;
            files.save_seal(&key)?;
            Some(key)
        }
        (None, GatewayRole::Gateway) => files.load_seal(config.seal_key_file.as_deref(), config.role)?,
    };
    files.save_identity(&svid)?;
    files.save_node(&file)?;
    files.forget_join_key();
    Ok(Joined { file, svid, seal })
}

#[cfg(test)]
mod tests;
