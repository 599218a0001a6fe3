//! `/v1/links`: the agreements with other clusters.
//!
//! Making one is the business of [`crate::links`]; here is how that is asked for, and how a link is shown.

use super::api::{Accept, CreatedToken, Invite, Link, LinkGateway, LinkPolicy, LinkState, Pause, Stale};
use super::change;
use super::error::ApiError;
use super::extract::{Actor, Body, Segment, parse, parse_if, seconds};
use crate::forwarder::PathStatus;
use crate::hub::{Hub, Peer};
use crate::links::{self as linking, PairStatus};
use crate::tokens::MAX_TTL;
use axum::Json;
use axum::extract::State;
use causeway_catalog::{ChangeIf, MergeRule, PauseLink, RemoveLink, SetLinkPolicy, StalePolicy};
use causeway_federation::Conflict;
use causeway_model::{ClusterId, ClusterName, GatewayFacts, Label, NodeId, ServiceName};
use causeway_wire::token::LinkToken;
use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long an invitation lives unless the request says otherwise, in seconds.
const DEFAULT_TTL: u64 = 900;
/// The longest time after which the services of a silent cluster are ejected, in seconds.
const MAX_EJECT_SECS: u32 = 86_400;
/// The most refused offers that are shown.
const MAX_REFUSED: usize = 20;
/// What is said when a peer offers too much.
const OVER_CAP: &str = "it offers more services than are taken of one cluster: export fewer there";

pub(super) async fn list(State(hub): State<Hub>) -> Json<Vec<Link>> {
    let catalog = hub.catalog();
    let paths = hub.forwarder.paths();
    Json(catalog.links().map(|link| shown(&hub, link, &paths, Vec::new())).collect())
}

pub(super) async fn show(State(hub): State<Hub>, Segment(cluster): Segment) -> Result<Json<Link>, ApiError> {
    let cluster: ClusterName = parse("cluster", &cluster)?;
    let catalog = hub.catalog();
    let link = catalog.link(&cluster).ok_or(causeway_catalog::Refusal::LinkUnknown { cluster })?;
    Ok(Json(shown(&hub, link, &hub.forwarder.paths(), refused(&hub, link.peer.id).await)))
}

pub(super) async fn remove(
    State(hub): State<Hub>,
    actor: Actor,
    Segment(cluster): Segment,
) -> Result<Json<Value>, ApiError> {
    let cluster: ClusterName = parse("cluster", &cluster)?;
    change(&hub, &actor, RemoveLink { cluster: cluster.clone() }).await?;
    tracing::info!(%cluster, by = actor.0, "link removed");
    Ok(Json(json!({})))
}

pub(super) async fn pause(
    State(hub): State<Hub>,
    actor: Actor,
    Segment(cluster): Segment,
    Body(request): Body<Pause>,
) -> Result<Json<Link>, ApiError> {
    let cluster: ClusterName = parse("cluster", &cluster)?;
    change(&hub, &actor, PauseLink { cluster: cluster.clone(), paused: request.paused }).await?;
    tracing::info!(%cluster, paused = request.paused, by = actor.0, "link paused, or resumed");
    show(State(hub), Segment(cluster.to_string())).await
}

pub(super) async fn policy(
    State(hub): State<Hub>,
    actor: Actor,
    Segment(cluster): Segment,
    Body(request): Body<LinkPolicy>,
) -> Result<Json<Link>, ApiError> {
    let cluster: ClusterName = parse("cluster", &cluster)?;
    // what the request leaves out stays as it is: somebody else's change of that must not be taken back unnoticed
    let catalog = hub.registry.current().await?;
    let was = catalog.witness_of_link(&cluster);
    let link =
        catalog.link(&cluster).ok_or(causeway_catalog::Refusal::LinkUnknown { cluster: cluster.clone() })?;
    let namespaces = request.merge_namespaces.as_deref();
    let merge_namespaces = match namespaces {
        Some([all]) if all == "*" => MergeRule::All,
        Some(namespaces) => merge_rule(Some(namespaces))?,
        None => link.merge_namespaces.clone(),
    };
    let stale = request.stale.map_or(Ok(link.stale), |stale| stale_policy(&stale))?;
    let transit = request.transit.unwrap_or(link.transit);
    let policy = SetLinkPolicy { cluster: cluster.clone(), merge_namespaces, stale, transit };
    change(&hub, &actor, ChangeIf { was, change: policy.into() }).await?;
    show(State(hub), Segment(cluster.to_string())).await
}

fn stale_policy(told: &Stale) -> Result<StalePolicy, ApiError> {
    Ok(match told {
        Stale::ServeLast => StalePolicy::ServeLast,
        Stale::EjectAfter { seconds } => {
            let seconds = seconds.unwrap_or(StalePolicy::DEFAULT_EJECT_SECS);
            if !(1..=MAX_EJECT_SECS).contains(&seconds) {
                return Err(ApiError::invalid(
                    "stale",
                    format!("{seconds} s is out of bounds: give 1 to {MAX_EJECT_SECS}"),
                ));
            }
            StalePolicy::EjectAfter { seconds }
        }
        Stale::Fence => StalePolicy::Fence,
    })
}

fn told_stale(policy: StalePolicy) -> Stale {
    match policy {
        StalePolicy::ServeLast => Stale::ServeLast,
        StalePolicy::EjectAfter { seconds } => Stale::EjectAfter { seconds: Some(seconds) },
        StalePolicy::Fence => Stale::Fence,
    }
}

fn told_merge(rule: &MergeRule) -> Vec<String> {
    match rule {
        MergeRule::None => Vec::new(),
        MergeRule::All => vec!["*".to_owned()],
        MergeRule::Only(namespaces) => namespaces.iter().map(ToString::to_string).collect(),
    }
}

pub(super) async fn invite(
    State(hub): State<Hub>,
    actor: Actor,
    Body(request): Body<Invite>,
) -> Result<Json<CreatedToken>, ApiError> {
    let for_cluster: Option<ClusterName> = parse_if("for_cluster", request.for_cluster.as_deref())?;
    if for_cluster.as_ref() == Some(&hub.node.cluster().name) {
        return Err(ApiError::invalid(
            "for_cluster",
            "that is this cluster: name the one that shall accept, or nobody",
        ));
    }
    let ttl = seconds("ttl_seconds", request.ttl_seconds, DEFAULT_TTL, MAX_TTL)?;
    let token = linking::invite(&hub, &actor.0, for_cluster, Duration::from_secs(ttl)).await?;
    let (id, expires_at) = (token.core.id_text(), token.core.expires_at);
    tracing::info!(token = id, by = actor.0, "link invite created");
    Ok(Json(CreatedToken { id, token: token.to_string(), expires_at }))
}

pub(super) async fn accept(
    State(hub): State<Hub>,
    actor: Actor,
    Body(request): Body<Accept>,
) -> Result<Json<Link>, ApiError> {
    let token: LinkToken = request.token.parse()?;
    let merge = merge_rule(request.merge_namespaces.as_deref())?;
    let cluster = linking::accept(&hub, &actor.0, &token, merge).await?;
    let mut catalog = hub.catalog();
    if catalog.link(&cluster).is_none() {
        // this replica lags behind the leader
        catalog = hub.registry.current().await?;
    }
    tracing::info!(%cluster, by = actor.0, "linked");
    let link = catalog.link(&cluster).ok_or(causeway_catalog::Refusal::LinkUnknown { cluster })?;
    Ok(Json(shown(&hub, link, &hub.forwarder.paths(), Vec::new())))
}

/// Where the peer's services join local ones: everywhere unless namespaces are given, nowhere if none of them is.
fn merge_rule(namespaces: Option<&[String]>) -> Result<MergeRule, ApiError> {
    let Some(namespaces) = namespaces else { return Ok(MergeRule::All) };
    if namespaces.is_empty() {
        return Ok(MergeRule::None);
    }
    let labels: Result<_, ApiError> =
        namespaces.iter().map(|name| parse::<Label>("merge_namespaces", name)).collect();
    Ok(MergeRule::Only(labels?))
}

/// Whether the link works, in short.
pub(super) fn brief(hub: &Hub, link: &causeway_catalog::Link) -> LinkState {
    let (state, stale_for) = linking::state(hub, link);
    LinkState {
        cluster: link.peer.name.to_string(),
        state: state.to_owned(),
        stale_for: stale_for.map(|silent| silent.as_secs()),
    }
}

fn shown(hub: &Hub, link: &causeway_catalog::Link, paths: &[PathStatus], refused: Vec<String>) -> Link {
    let brief = brief(hub, link);
    let peer = &link.peer;
    let told = hub.with_peer(peer.id, Told::of).unwrap_or_default();
    Link {
        cluster: brief.cluster,
        cluster_id: peer.id.get(),
        trust_domain: peer.trust_domain.to_string(),
        region: peer.locality.region.clone(),
        state: brief.state,
        stale_for: brief.stale_for,
        established_at: link.established_at,
        imports: told.imports,
        exports: hub.catalog().exports_to(&peer.name).count() as u64,
        refused,
        gateways: link.gateways.values().map(|facts| gateway(facts, peer.id, paths, &told)).collect(),
        roots: link.roots.iter().map(|root| HEXLOWER.encode(&causeway_identity::fingerprint(root))).collect(),
        release: told.release,
        paused: link.paused,
        peer_paused: link.peer_paused,
        merge_namespaces: told_merge(&link.merge_namespaces),
        stale: told_stale(link.stale),
        transit: link.transit,
        via: linking::via(hub, peer.id),
    }
}

/// What is known of a linked cluster beside the registry.
#[derive(Default)]
struct Told {
    imports: u64,
    release: Option<String>,
    control: Vec<NodeId>,
    /// This gateway's pairs, and the verdict on each in words.
    pairs: BTreeMap<NodeId, (PairStatus, Option<String>)>,
}

impl Told {
    fn of(peer: &Peer) -> Self {
        let worded = |(node, pair): (NodeId, PairStatus)| {
            let words = pair.verdict.map(|verdict| peer.health.words(verdict));
            (node, (pair, words))
        };
        let open = peer.sessions.iter().filter(|(_, count)| **count > 0);
        Self {
            imports: peer.imports.len() as u64,
            release: peer.release.clone(),
            control: open.map(|(&node, _)| node).collect(),
            pairs: peer.health.pairs(Instant::now()).into_iter().map(worded).collect(),
        }
    }
}

fn gateway(facts: &GatewayFacts, cluster: ClusterId, paths: &[PathStatus], told: &Told) -> LinkGateway {
    let path = paths.iter().find(|path| path.cluster == Some(cluster) && path.node == facts.node);
    let pair = told.pairs.get(&facts.node);
    let status = pair.map(|(status, _)| status);
    let named = || facts.link_addrs.first().map(ToString::to_string).unwrap_or_default();
    LinkGateway {
        node: facts.node.to_string(),
        addr: path.map_or_else(named, |path| path.addr.to_string()),
        ports: path.map_or((0, 0), |path| (path.ports_alive, path.ports)),
        rtt_us: path.and_then(|path| path.srtt_us),
        control: told.control.contains(&facts.node),
        rtt_control_us: status
            .and_then(|pair| pair.rtt)
            .map(|rtt| u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX)),
        loss_in: status.and_then(|pair| pair.loss_in),
        loss_out: status.and_then(|pair| pair.loss_out),
        verdict: pair.and_then(|(_, words)| words.clone()),
    }
}

/// Offers of `cluster` that do not count here, and why: those that were refused, the newest first, then those that contradict what
/// is known of the service.
async fn refused(hub: &Hub, cluster: ClusterId) -> Vec<String> {
    let (mut refused, offered) = hub
        .with_peer(cluster, |peer| {
            let newest =
                peer.refused.newest.iter().rev().map(|offer| format!("{}: {}", offer.name, offer.fault));
            let over_cap = peer.imports.is_over_cap().then(|| OVER_CAP.to_owned());
            let names: Vec<ServiceName> = peer.imports.imports().map(|import| import.name()).collect();
            (over_cap.into_iter().chain(newest).collect::<Vec<_>>(), names)
        })
        .unwrap_or_default();
    for (count, name) in offered.iter().enumerate() {
        if refused.len() >= MAX_REFUSED {
            break;
        }
        if count % 256 == 255 {
            tokio::task::yield_now().await;
        }
        let conflicts = hub.service(name, hub.node.locality()).conflicts;
        refused.extend(conflicts.iter().filter(|conflict| conflict.cluster == cluster).map(explain));
    }
    refused.truncate(MAX_REFUSED);
    refused
}

fn explain(conflict: &Conflict) -> String {
    format!("{}: {}", conflict.service, conflict.why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use causeway_model::{GatewayRole, Locality};

    #[test]
    fn namespaces_make_a_rule() {
        let rule = |names: Option<&[&str]>| {
            let names: Option<Vec<String>> =
                names.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
            merge_rule(names.as_deref())
        };
        assert_eq!(rule(None).unwrap(), MergeRule::All);
        assert_eq!(rule(Some(&[])).unwrap(), MergeRule::None);
        assert_eq!(rule(Some(&["shop"])).unwrap(), MergeRule::Only(["shop".parse().unwrap()].into()));
        assert!(rule(Some(&["Shop"])).unwrap_err().problem.message.starts_with("merge_namespaces: "));
    }

    #[test]
    fn a_gateway_is_shown_with_its_path_or_without() {
        let facts = GatewayFacts {
            node: NodeId(3),
            role: GatewayRole::Gateway,
            locality: Locality { region: "r".into(), zone: "z".into() },
            cluster_addrs: Vec::new(),
            link_addrs: vec!["gw.example.org:7443".parse().unwrap()],
        };
        let cluster = ClusterId::new(9).unwrap();
        let pair = PairStatus {
            rtt: Some(Duration::from_millis(81)),
            loss_in: Some(0),
            loss_out: Some(5),
            verdict: None,
        };
        let pairs = [(NodeId(3), (pair, Some("up".to_owned())))].into();
        let told = Told { control: vec![NodeId(3)], pairs, ..Told::default() };
        let path = |cluster, node| PathStatus {
            cluster,
            node: NodeId(node),
            addr: "192.0.2.1:7443".parse().unwrap(),
            ports_alive: 1,
            ports: 2,
            srtt_us: Some(80_000),
        };
        let shown = gateway(&facts, cluster, &[path(None, 3), path(Some(cluster), 4)], &told);
        assert_eq!((shown.addr.as_str(), shown.ports, shown.rtt_us), ("gw.example.org:7443", (0, 0), None));
        let shown = gateway(&facts, cluster, &[path(None, 3), path(Some(cluster), 3)], &told);
        assert_eq!(
            (shown.addr.as_str(), shown.ports, shown.rtt_us),
            ("192.0.2.1:7443", (1, 2), Some(80_000))
        );
        assert!(shown.control);
        assert_eq!((shown.rtt_control_us, shown.loss_in, shown.loss_out), (Some(81_000), Some(0), Some(5)));
        assert_eq!(shown.verdict.as_deref(), Some("up"));
    }
}
