//! Making a link: the invitation, and its acceptance.

mod precheck;

use super::{CONNECT_WITHIN, LinkError, SERVER_NAME, introduction};
use crate::hub::Hub;
use causeway_catalog::{CreateInvite, EstablishLink, LinkKey, MergeRule};
use causeway_identity::{ServerRule, client_config, fingerprint};
use causeway_model::{ClusterName, GatewayRole, HostPort, NodeId};
use causeway_runtime::clock::unix_now;
use causeway_transport::gateway::transit_addr;
use causeway_transport::{
    Connection, FrameError, FrameReader, FrameWriter, close, close_reason_text, exporter, resolve,
};
use causeway_wire::link::{Introduction, LinkMessage, Pair, Paired};
use causeway_wire::token::{EXPORTER_LABEL, LinkToken, PairSide, TokenCore, pair_proof, verify_pair_proof};
use causeway_wire::{CloseCode, alpn};
use precheck::precheck;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// The most addresses in a token: it must stay short enough to be copied.
const MAX_TOKEN_ADDRESSES: usize = 16;
/// The most socket addresses that one name of a token is tried at.
const MAX_RESOLVED: usize = 4;
/// How long the other side may take to make the link.
const PAIRED_WITHIN: Duration = Duration::from_secs(10);
/// How long the local replica may take to show the link.
const SHOWN_WITHIN: Duration = Duration::from_secs(2);

/// Makes a token with which one other cluster, `for_cluster` if it is given, may link itself with this one within `ttl`.
pub(crate) async fn invite(
    hub: &Hub,
    by: &str,
    for_cluster: Option<ClusterName>,
    ttl: Duration,
) -> Result<LinkToken, LinkError> {
    let catalog = hub.catalog();
    let cluster = catalog.cluster().ok_or(LinkError::NotReady)?;
    let root = cluster.ca.active_root_der().ok_or(LinkError::NotReady)?;
    let gateways = token_addresses(hub);
    if gateways.is_empty() {
        return Err(LinkError::NoAddress);
    }
    let core = TokenCore {
        id: rand::random(),
        secret: rand::random(),
        cluster: cluster.facts.name.clone(),
        cluster_id: cluster.facts.id,
        trust_domain: cluster.facts.trust_domain.clone(),
        root_fingerprint: fingerprint(root),
        gateways,
        expires_at: unix_now().saturating_add(ttl.as_secs()),
    };
    let command = CreateInvite {
        id: core.id.into(),
        verifier: hub.node.mask_verifier(&core.id, core.verifier()).map_err(|_| LinkError::Forwarder)?.into(),
        for_cluster: for_cluster.clone(),
        expires_at: core.expires_at,
    };
    hub.propose(by, command).await?;
    Ok(LinkToken { core, for_cluster })
}

/// Where linked clusters reach this one: this gateway first.
fn token_addresses(hub: &Hub) -> Vec<HostPort> {
    let mut gateways = hub.gateways();
    gateways.retain(introduction::is_reachable);
    gateways.sort_by_key(|gateway| (gateway.node != hub.node.id(), gateway.node));
    let own = Some(hub.node.facts()).filter(introduction::is_reachable);
    let mut seen = BTreeSet::new();
    let all = own.into_iter().chain(gateways).flat_map(|gateway| gateway.link_addrs);
    all.filter(|addr| seen.insert(addr.clone())).take(MAX_TOKEN_ADDRESSES).collect()
}

/// Follows the invitation of another cluster, and returns its name. Services of it merge with ours as `merge` says.
pub(crate) async fn accept(
    hub: &Hub,
    by: &str,
    token: &LinkToken,
    merge: MergeRule,
) -> Result<ClusterName, LinkError> {
    if hub.node.role() == GatewayRole::Forwarder {
        return Err(LinkError::Forwarder);
    }
    let core = &token.core;
    precheck(token, hub.node.cluster(), &hub.catalog(), unix_now())?;
    let own = introduction::own(hub)?;
    let connection = reach(hub, core).await?;
    let paired = pair(&connection, core, own).await;
    close(&connection, CloseCode::Done, "");
    let paired = paired?;
    let command = EstablishLink {
        invite: None,
        peer: paired.introduction.cluster,
        roots: paired.introduction.bundle.roots,
        gateways: paired.introduction.gateways,
        key: LinkKey(paired.key),
        merge_namespaces: merge,
    };
    let made = hub.propose(by, command).await.map_err(|cause| LinkError::HalfMade {
        cluster: core.cluster.clone(),
        own: hub.node.cluster().name.clone(),
        cause,
    })?;
    if let Err(lagging) = hub.registry.wait_applied(made.revision, SHOWN_WITHIN).await {
        tracing::debug!(?lagging, "the link is made, this replica does not show it yet");
    }
    Ok(core.cluster.clone())
}

/// A connection to any of the token's gateways, through other clusters if they do not answer, that proves to be of the token's cluster.
async fn reach(hub: &Hub, core: &TokenCore) -> Result<Connection, LinkError> {
    let rule = ServerRule::Pinned { root: core.root_fingerprint, trust_domain: core.trust_domain.clone() };
    let tls = client_config(rule, hub.node.bundles(), None, alpn::LINK)?;
    let mut tried = Vec::new();
    for gateway in core.gateways.iter().take(MAX_TOKEN_ADDRESSES) {
        let addrs = match timeout(CONNECT_WITHIN, resolve(gateway)).await {
            Ok(Ok(addrs)) if !addrs.is_empty() => addrs,
            Ok(Ok(_)) | Err(_) => {
                tried.push(format!("{gateway}: the name does not resolve"));
                continue;
            }
            Ok(Err(error)) => {
                tried.push(error.to_string());
                continue;
            }
        };
        for addr in addrs.into_iter().take(MAX_RESOLVED) {
            match connect(hub, core, addr, tls.clone()).await {
                Ok(connection) => return Ok(connection),
                Err(cause) => tried.push(format!("{addr}: {cause}")),
            }
        }
    }
    if hub.transit.way(core.cluster_id).is_some() {
        match connect(hub, core, transit_addr(core.cluster_id), tls).await {
            Ok(connection) => return Ok(connection),
            Err(cause) => tried.push(format!("through other clusters: {cause}")),
        }
    } else if hub.catalog().links().any(|link| link.transit) {
        tried.push(
            "through other clusters: no way is known, transit must be on at both ends of each link"
                .to_owned(),
        );
    }
    Err(LinkError::Unreachable { cluster: core.cluster.clone(), tried: tried.join("; ") })
}

async fn connect(
    hub: &Hub,
    core: &TokenCore,
    addr: SocketAddr,
    tls: Arc<rustls::ClientConfig>,
) -> Result<Connection, String> {
    let target = (core.cluster_id, NodeId::ANY);
    let connecting =
        hub.endpoint.connect(addr, target, tls, SERVER_NAME).map_err(|error| error.to_string())?;
    match timeout(CONNECT_WITHIN, connecting).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(close_reason_text(&error)),
        Err(_) => Err(format!("no answer within {} s", CONNECT_WITHIN.as_secs())),
    }
}

/// Proves the token's secret and swaps introductions.
async fn pair(connection: &Connection, core: &TokenCore, own: Introduction) -> Result<Paired, LinkError> {
    let failed = |cause: String| LinkError::Unreachable { cluster: core.cluster.clone(), tried: cause };
    let key = exporter(connection, EXPORTER_LABEL, &[]).map_err(|error| failed(error.to_string()))?;
    let proof = pair_proof(PairSide::Accepting, &core.verifier(), &key, &own);
    let proof = proof.map_err(|error| failed(error.to_string()))?;
    let request = LinkMessage::from(Pair { token: core.id, proof, introduction: own });
    let answer = match timeout(PAIRED_WITHIN, ask(connection, &request)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(unconfirmed(core, error.to_string())),
        Err(_) => return Err(unconfirmed(core, format!("no answer within {} s", PAIRED_WITHIN.as_secs()))),
    };
    match answer {
        Some(LinkMessage::Paired(paired)) => {
            judge(core, &key, &paired)?;
            Ok(paired)
        }
        Some(LinkMessage::Refused(refusal)) => {
            Err(LinkError::refused_by(&core.cluster, &refusal.reason, &refusal.message))
        }
        Some(_) => Err(unconfirmed(core, "it answered with another message".into())),
        None => Err(unconfirmed(core, "it ended the stream without an answer".into())),
    }
}

fn unconfirmed(core: &TokenCore, cause: String) -> LinkError {
    LinkError::Unconfirmed { cluster: core.cluster.clone(), cause }
}

async fn ask(connection: &Connection, request: &LinkMessage) -> Result<Option<LinkMessage>, FrameError> {
    let (send, recv) = connection.open_bi().await.map_err(FrameError::Connection)?;
    let mut writer = FrameWriter::new(send);
    writer.send(request).await?;
    writer.finish()?;
    FrameReader::new(recv).next().await
}

/// Whether the other side proved the token's secret, and is who the token says.
fn judge(core: &TokenCore, key: &[u8; 32], paired: &Paired) -> Result<(), LinkError> {
    let told = &paired.introduction;
    let wrong = |what: &str| LinkError::Introduction { cluster: core.cluster.clone(), what: what.to_owned() };
    if !verify_pair_proof(PairSide::Inviting, &core.verifier(), key, told, &paired.proof) {
        return Err(wrong("it did not prove the token's secret: somebody may stand between the clusters"));
    }
    let facts = (&told.cluster.name, told.cluster.id, &told.cluster.trust_domain);
    if facts != (&core.cluster, core.cluster_id, &core.trust_domain) {
        return Err(wrong(
            "it is not the cluster that made the token: it was rebuilt since; make a new token",
        ));
    }
    introduction::check(told)?;
    if !told.bundle.roots.iter().any(|root| fingerprint(root) == core.root_fingerprint) {
        return Err(wrong("its trust bundle lacks the root certificate that the token names"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
