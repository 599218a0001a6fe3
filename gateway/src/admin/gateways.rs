//! `/v1/gateways`: the gateways of this cluster, and taking one out of use.

use super::api::{Drain, Gateway};
use super::change;
use super::error::ApiError;
use super::extract::{Actor, Body, Segment, parse};
use crate::forwarder::PathStatus;
use crate::hub::Hub;
use axum::Json;
use axum::extract::State;
use causeway_catalog::{Catalog, DrainGateway, Refusal, RemoveGateway, Revoke};
use causeway_identity::GATEWAY_SVID_TTL;
use causeway_model::{GatewayFacts, NodeId, RevokedSubject, SpiffeId};
use causeway_store::{ProposeError, RegistryStatus};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// For how much longer than a gateway's SVID lives its revocation is kept: clocks differ.
const SLACK: Duration = Duration::from_secs(3600);

pub(super) async fn list(State(hub): State<Hub>) -> Json<Vec<Gateway>> {
    let around = Around::of(&hub);
    Json(hub.gateways().iter().map(|facts| around.gateway(facts)).collect())
}

pub(super) async fn show(State(hub): State<Hub>, Segment(node): Segment) -> Result<Json<Gateway>, ApiError> {
    let node: NodeId = parse("gateway", &node)?;
    let gateways = hub.gateways();
    let facts = gateways.iter().find(|facts| facts.node == node).ok_or(Refusal::GatewayUnknown { node })?;
    Ok(Json(Around::of(&hub).gateway(facts)))
}

pub(super) async fn drain(
    State(hub): State<Hub>,
    actor: Actor,
    Segment(node): Segment,
    Body(request): Body<Drain>,
) -> Result<Json<Gateway>, ApiError> {
    let node: NodeId = parse("gateway", &node)?;
    let draining = request.draining;
    if draining {
        check_another_serves(&hub, node)?;
    }
    change(&hub, &actor, DrainGateway { node, draining }).await?;
    tracing::info!(gateway = %node, draining, by = actor.0, "a gateway is taken out of use, or into use again");
    show(State(hub), Segment(node.to_string())).await
}

/// Refuses to take the last gateway out of use that takes sidecars' packets.
fn check_another_serves(hub: &Hub, node: NodeId) -> Result<(), ApiError> {
    let catalog = hub.catalog();
    let serves = |gateway: &&GatewayFacts| gateway.node != node && !catalog.is_draining(gateway.node);
    if catalog.gateway(node).is_none() || catalog.gateways().any(|gateway| serves(&gateway)) {
        return Ok(());
    }
    let message = format!(
        "gateway {node} is the only one of this cluster in use: let another one join, or take one into use again, before this one is drained"
    );
    Err(ApiError::of("gateway-last", message))
}

/// Refuses to remove the only voter: nobody would be left to elect a leader, and the registry would be lost with it.
fn check_another_votes(hub: &Hub, node: NodeId) -> Result<(), ApiError> {
    let voters = hub.registry.status().voters;
    if !voters.contains(&node) || voters.len() > 1 {
        return Ok(());
    }
    let message = format!(
        "gateway {node} is the only one that votes in the registry, which would be lost with it: drain it first, so that another \
         gateway votes in its place, and let one join if there is none"
    );
    Err(ApiError::of("gateway-last-voter", message))
}

pub(super) async fn remove(
    State(hub): State<Hub>,
    actor: Actor,
    Segment(node): Segment,
) -> Result<Json<Value>, ApiError> {
    let node: NodeId = parse("gateway", &node)?;
    check_another_votes(&hub, node)?;
    let gateways = hub.gateways();
    let role = gateways.iter().find(|gateway| gateway.node == node).map(|gateway| gateway.role);
    change(&hub, &actor, RemoveGateway { node }).await?;
    if let Some(role) = role {
        // linked clusters are told nothing of removals, and of revocations they are
        let subject = RevokedSubject::Identity(SpiffeId::node(&hub.node.cluster().trust_domain, role, node));
        let ends_at = causeway_runtime::clock::unix_now() + (GATEWAY_SVID_TTL + SLACK).as_secs();
        hub.tasks.spawn(
            "revoke a removed gateway",
            revoke(hub.clone(), actor.0.clone(), Revoke { subject, ends_at }),
        );
    }
    tracing::warn!(gateway = %node, by = actor.0, "a gateway was removed");
    let left = crate::members::wait_left(&hub, node).await;
    Ok(Json(json!({ "left": left })))
}

/// Revokes until it is done: the removal stands, and nobody can ask for it again.
async fn revoke(hub: Hub, by: String, command: Revoke) {
    let stop = hub.tasks.token();
    loop {
        match hub.propose(&by, command.clone()).await {
            Ok(_) => return,
            Err(error @ ProposeError::Refused(_)) => {
                return tracing::error!(reason = error.reason(), "a removed gateway is not revoked: {error}");
            }
            Err(error) => {
                tracing::debug!(reason = error.reason(), "a removed gateway is not revoked yet: {error}")
            }
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// What a gateway's own facts do not say.
struct Around<'h> {
    hub: &'h Hub,
    status: RegistryStatus,
    paths: Vec<PathStatus>,
    catalog: std::sync::Arc<Catalog>,
}

impl<'h> Around<'h> {
    fn of(hub: &'h Hub) -> Self {
        Self { hub, status: hub.registry.status(), paths: hub.forwarder.paths(), catalog: hub.catalog() }
    }

    fn gateway(&self, facts: &GatewayFacts) -> Gateway {
        let node = facts.node;
        let own = node == self.hub.node.id();
        let path = self.paths.iter().find(|path| path.cluster.is_none() && path.node == node);
        let now = Instant::now();
        let said = if own { Some((self.hub.own_status(), Duration::ZERO)) } else { self.heard(now, node) };
        let newest = self.catalog.revision().0;
        // what a dead gateway said last is true no more
        let alive = own || self.hub.soft().siblings.dead_for(now, node).is_none();
        Gateway {
            node: node.to_string(),
            role: facts.role.to_string(),
            registry: part(node, &self.status).to_owned(),
            draining: self.catalog.is_draining(node),
            region: facts.locality.region.clone(),
            zone: facts.locality.zone.clone(),
            cluster_addrs: super::status::texts(&facts.cluster_addrs),
            link_addrs: super::status::texts(&facts.link_addrs),
            alive: (!own).then(|| path.is_some_and(|path| path.ports_alive > 0)),
            rtt_us: path.and_then(|path| path.srtt_us),
            lag: said.as_ref().map(|(status, _)| newest.saturating_sub(status.revision.0)),
            attached: said.as_ref().filter(|_| alive).map(|(status, _)| status.attached),
            packets_per_second: self.hub.soft().siblings.packets_per_second(node).filter(|_| alive),
            release: said.as_ref().map(|(status, _)| status.release.clone()),
            up_seconds: said.as_ref().map(|(status, _)| status.up_secs),
            heard_ms_ago: said.map(|(_, ago)| u64::try_from(ago.as_millis()).unwrap_or(u64::MAX)),
        }
    }

    fn heard(&self, now: Instant, node: NodeId) -> Option<(causeway_wire::peer::GatewayStatus, Duration)> {
        self.hub.soft().siblings.of(now, node).map(|(status, ago)| (status.clone(), ago))
    }
}

/// What `node` does in the registry.
fn part(node: NodeId, status: &RegistryStatus) -> &'static str {
    if status.leader == Some(node) {
        "leader"
    } else if status.voters.contains(&node) {
        "voter"
    } else if status.learners.contains(&node) {
        "learner"
    } else {
        "none"
    }
}

#[cfg(test)]
mod tests {
    use super::super::status::tests::follower;
    use super::*;

    #[test]
    fn a_gateway_has_its_part_in_the_registry() {
        let parts: Vec<&str> = (1..=5).map(|node| part(NodeId(node), &follower())).collect();
        assert_eq!(parts, ["voter", "leader", "voter", "learner", "none"]);
    }
}
