//! Who keeps the registry: the leader sees to it that every gateway follows it, that three or five vote, and that who was
//! removed is a member no more. And what a gateway does that is drained or removed itself.

use crate::hub::{Change, Hub};
use causeway_catalog::{Catalog, Refusal};
use causeway_model::NodeId;
use causeway_store::ProposeError;
use std::collections::BTreeSet;
use std::time::Duration;

/// How often the leader looks.
const EVERY: Duration = Duration::from_millis(500);
/// How long a removal waits until the node is no member any more.
const LEAVE: Duration = Duration::from_secs(5);
/// How long a leader that goes waits for another one to take over.
const HAND_OVER: Duration = Duration::from_secs(3);

/// Tends the group until the process stops; ends with an error when this gateway was removed.
pub(crate) async fn keep(hub: Hub) -> anyhow::Result<()> {
    let (mut watch, stop) = (hub.registry.watch(), hub.tasks.token());
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut draining = false;
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            changed = watch.changed() => if changed.is_err() { return Ok(()) },
            () = stop.cancelled() => return Ok(()),
        }
        let (catalog, node) = (hub.catalog(), hub.node.id());
        if catalog.removed(node).is_some() {
            hand_over(&hub).await;
            anyhow::bail!("{}", Refusal::GatewayRemoved { node });
        }
        let now_draining = catalog.is_draining(node);
        if std::mem::replace(&mut draining, now_draining) != now_draining {
            tracing::info!(draining = now_draining, "this gateway is taken out of use, or into use again");
            hub.forwarder.update(|inputs| inputs.draining = now_draining);
            hub.tell(Change::Catalog);
        }
        if leads(&hub) {
            if draining {
                hand_over(&hub).await;
            }
            if let Err(error) = tend(&hub, &catalog).await {
                tracing::debug!(
                    reason = error.reason(),
                    "the members of the registry are not as they should be yet: {error}"
                );
            }
        }
    }
}

fn leads(hub: &Hub) -> bool {
    hub.registry.status().leader == Some(hub.node.id())
}

/// Lets another voter lead, if there is one and this gateway does.
async fn hand_over(hub: &Hub) {
    let status = hub.registry.status();
    if status.leader != Some(hub.node.id()) || status.voters.len() < 2 {
        return;
    }
    match tokio::time::timeout(HAND_OVER, hub.registry.transfer_leadership()).await {
        Ok(Ok(_)) => tracing::info!("another gateway leads the registry now"),
        Ok(Err(error)) => tracing::warn!("no other gateway could take over the registry's lead: {error}"),
        Err(_) => tracing::warn!("no other gateway took over the registry's lead within {HAND_OVER:?}"),
    }
}

/// Makes one step towards the group that should be.
async fn tend(hub: &Hub, catalog: &Catalog) -> Result<(), ProposeError> {
    let status = hub.registry.status();
    let members: BTreeSet<NodeId> = status.voters.iter().chain(&status.learners).copied().collect();
    for gateway in catalog.gateways().filter(|gateway| !members.contains(&gateway.node)) {
        hub.registry.add_learner(gateway.node).await?;
    }
    if let Some(&node) = members.iter().find(|node| catalog.gateway(**node).is_none()) {
        hub.registry.remove_member(node).await?;
        tracing::info!(gateway = %node, "a removed gateway is no member of the registry any more");
        return Ok(());
    }
    match hub.registry.next_voters() {
        Some(voters) => set_voters(hub, voters).await,
        None => Ok(()),
    }
}

async fn set_voters(hub: &Hub, voters: BTreeSet<NodeId>) -> Result<(), ProposeError> {
    let listed = voters.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    hub.registry.set_voters(voters).await?;
    tracing::info!(voters = listed, "the voters of the registry changed");
    Ok(())
}

/// Waits until `node` is a member no more; returns whether it is not.
pub(crate) async fn wait_left(hub: &Hub, node: NodeId) -> bool {
    let deadline = tokio::time::Instant::now() + LEAVE;
    loop {
        let status = hub.registry.status();
        if !status.voters.contains(&node) && !status.learners.contains(&node) {
            return true;
        }
        if tokio::time::Instant::now() >= deadline || node == hub.node.id() {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
