//! `/v1/gateways`: the gateways of this cluster, and taking one out of use.

use super::api::{Drain, Gateway};
use super::change;
use super::error::ApiError;
use super::extract::{Actor, Body, Segment, parse};
use crate::forwarder::PathStatus;
use crate::hub::Hub;
use axum::Json;
use axum::extract::State;
use causeway_catalog::{Catalog, DrainGateway, Refusal, RemoveGateway};
use causeway_identity::GATEWAY_SVID_TTL;
use causeway_model::{GatewayFacts, NodeId};
use causeway_store::RegistryStatus;
use serde_json::{Value, json};
use std::collections::BTreeSet;
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
    let ready = ready(&hub, Instant::now());
    change(&hub, &actor, DrainGateway { node, draining, ready }).await?;
    tracing::info!(gateway = %node, draining, by = actor.0, "a gateway is taken out of use, or into use again");
    show(State(hub), Segment(node.to_string())).await
}

/// The gateways that say that they are ready, and were heard lately. Of two that are drained at once, whoever is asked, the registry refuses the second
/// when no other of those that answered would be left.
fn ready(hub: &Hub, now: Instant) -> BTreeSet<NodeId> {
    let own = hub.node.id();
    let nodes = hub.gateways().into_iter().map(|gateway| gateway.node);
    let own_ready = hub.not_ready().is_empty();
    let soft = hub.soft();
    let says_so = |node| soft.siblings.of(now, node).is_some_and(|(status, _)| status.ready);
    let is_ready = |node| says_so(node) && soft.siblings.dead_for(now, node).is_none();
    nodes.filter(|node| if *node == own { own_ready } else { is_ready(*node) }).collect()
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
    let revoked_until = causeway_runtime::clock::unix_now() + (GATEWAY_SVID_TTL + SLACK).as_secs();
    change(&hub, &actor, RemoveGateway { node, revoked_until }).await?;
    tracing::warn!(gateway = %node, by = actor.0, "a gateway was removed");
    let left = crate::members::wait_left(&hub, node).await;
    Ok(Json(json!({ "left": left })))
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
    use crate::hub::fixture::{Fixture, SOON};
    use causeway_catalog::AddGateway;
    use causeway_wire::peer::GatewayStatus;

    #[test]
    fn a_gateway_has_its_part_in_the_registry() {
        let parts: Vec<&str> = (1..=5).map(|node| part(NodeId(node), &follower())).collect();
        assert_eq!(parts, ["voter", "leader", "voter", "learner", "none"]);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_last_gateway_that_answers_stays_in_use() {
        let fixture = Fixture::start().await;
        let own = fixture.hub.node.id();
        let asked = async || {
            let answer = drain(
                State(fixture.hub.clone()),
                Actor("test".into()),
                Segment(own.to_string()),
                Body(Drain { draining: true }),
            );
            answer.await.map(drop).map_err(|error| (error.status.as_u16(), error.problem.reason))
        };
        assert_eq!(asked().await, Err((409, "gateway-last-in-use".into())));
        let facts = GatewayFacts { node: NodeId(2), ..fixture.hub.gateways().remove(0) };
        let added = fixture.hub.propose("test", AddGateway { facts }).await.unwrap();
        fixture.hub.registry.wait_applied(added.revision, SOON).await.unwrap();
        // a member that nobody has heard of carries nothing
        assert_eq!(asked().await, Err((409, "gateway-last-in-use".into())));
        let says = |ready| {
            let status = GatewayStatus { ready, ..fixture.hub.own_status() };
            fixture.hub.soft().siblings.handle_status(Instant::now(), NodeId(2), status);
        };
        // nor does one whose disk is full
        says(false);
        assert_eq!(asked().await, Err((409, "gateway-last-in-use".into())));
        assert_eq!(ready(&fixture.hub, Instant::now()), [].into(), "this one has just begun, too");
        fixture.hub.forwarder.update(|inputs| inputs.ready = true);
        let deadline = Instant::now() + SOON;
        while !fixture.hub.not_ready().is_empty() {
            assert!(Instant::now() < deadline, "{:?}", fixture.hub.not_ready());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        says(true);
        assert_eq!(ready(&fixture.hub, Instant::now()), [own, NodeId(2)].into());
        assert_eq!(asked().await, Ok(()));
        assert!(fixture.hub.catalog().is_draining(own));
        // gateway 2 was asked to drain itself while it saw this one in use
        let ready = [own].into();
        let second =
            fixture.hub.propose("test", DrainGateway { node: NodeId(2), draining: true, ready }).await;
        assert_eq!(second.unwrap_err().reason(), "gateway-last-in-use");
        fixture.stop().await;
    }
}
