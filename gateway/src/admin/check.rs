//! `/v1/check`: what an experienced operator would look at first, with the likely cause and what to do.
//!
//! Each thing that is looked at is a pure function from what was read to a [`Check`], in a file for each topic; this one reads.
//! What a gateway cannot know is said to be unknown, not to be fine.

mod certificates;
mod disk;
mod host;
mod imports;
mod packets;
mod paths;
mod registry;
mod releases;
mod siblings;
mod sidecars;
mod trust;

use super::api::Check;
use super::findings::{failed, ok, spell, warning};
use super::status::unix;
use crate::hub::Hub;
use crate::{authority, links};
use axum::Json;
use axum::extract::State;
use causeway_catalog::{Catalog, DrainGateway, Link};
use causeway_federation::path::{GatewayId, Verdict};
use causeway_identity::{CertificateDer, not_after};
use causeway_model::{ClusterId, GatewayRole, NodeId, ServiceName};
use causeway_store::{ProposeError, RegistryStatus};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Instant, SystemTime};

/// How many imports are looked at for contradictions: with more the answer would take seconds.
const MAX_LOOKED: usize = 20_000;
/// How many of them at a time, while others wait for the soft state.
const PAGE: usize = 128;

pub(super) async fn run(State(hub): State<Hub>) -> Json<Vec<Check>> {
    let current = hub.registry.current().await.map(drop);
    let now = Instant::now();
    let mut checks = registry(&hub, &current, now);
    checks.extend([disk::writes(hub.disk.dir(), &hub.disk.tried(), now), disk::room(hub.disk.dir())]);
    checks.extend(certificates(&hub));
    checks.extend(trust(&hub, now));
    checks.extend([clock(&hub, now), host::path_mtu()]);
    let sockets = hub.forwarder.sockets();
    checks.extend(host::buffers(sockets.receive_buffer, sockets.send_buffer));
    checks.extend(siblings(&hub, now));
    checks.extend(links(&hub));
    checks.push(definitions(&hub).await);
    checks.extend(over_cap(&hub));
    checks.extend([releases(&hub), sidecars(&hub, now)]);
    checks.extend(packets::check(&hub.forwarder.totals()));
    Json(checks)
}

fn registry(hub: &Hub, current: &Result<(), ProposeError>, now: Instant) -> Vec<Check> {
    let (status, catalog, own) = (hub.registry.status(), hub.catalog(), hub.node.id());
    let able = |node: NodeId| {
        let facts = catalog.gateway(node);
        facts.is_some_and(|facts| facts.role == GatewayRole::Gateway) && !catalog.is_draining(node)
    };
    let able = catalog.gateways().filter(|facts| able(facts.node)).count();
    let soft = hub.soft();
    let others = members(&status).filter(|node| *node != own);
    let silent = others.filter_map(|node| Some((node, soft.siblings.dead_for(now, node)?))).collect();
    let lag = soft.behind.lag(now, status.applied);
    drop(soft);
    let heard = registry::Voters { silent: &silent, able };
    vec![
        registry::check(&status, current, &heard),
        registry::replica(&status, lag),
        registry::voters(&status, &heard),
    ]
}

fn members(status: &RegistryStatus) -> impl Iterator<Item = NodeId> {
    status.voters.iter().chain(&status.learners).copied()
}

fn certificates(hub: &Hub) -> Vec<Check> {
    let svid = hub.node.svid().current();
    let life = certificates::Life {
        issued: svid.issued_at(),
        renew_at: svid.renew_at(),
        not_after: svid.not_after(),
    };
    let own = certificates::own(life, SystemTime::now());
    let ca = hub.ca();
    vec![own, certificates::seal_key(hub.node.role(), hub.node.seal().is_some(), ca.as_ref().err())]
}

fn trust(hub: &Hub, now: Instant) -> Vec<Check> {
    let (catalog, clock) = (hub.catalog(), SystemTime::now());
    let ca = catalog.cluster().map(|cluster| &cluster.ca);
    // the step that is under way: the announcement, or the time after the new root began to sign
    let since = ca.and_then(|ca| match &ca.staged {
        Some(staged) => Some(staged.at),
        None => (ca.roots.len() > 1).then_some(ca.activated_at),
    });
    let rotation = trust::rotation(&authority::awaited(hub, &catalog, now), since, unix(clock));
    let own = hub.ca().ok().map(|ca| trust::root(None, ca.expires(), clock));
    // of several roots of a linked cluster the newest is the one that matters
    let theirs = catalog.links().filter_map(|link| {
        let ends =
            link.roots.iter().filter_map(|der| not_after(&[CertificateDer::from(der.as_slice())]).ok());
        Some(trust::root(Some(link.peer.name.as_str()), ends.max()?, clock))
    });
    let revocations = trust::revocations(catalog.revoked().len());
    [rotation, revocations].into_iter().chain(own).chain(theirs).collect()
}

fn clock(hub: &Hub, now: Instant) -> Check {
    let (catalog, clock) = (hub.catalog(), unix(SystemTime::now()));
    let peers = catalog.links().filter_map(|link| {
        let (node, ahead) = hub.with_peer(link.peer.id, |peer| peer.clock).flatten()?;
        Some(host::Clock { node, cluster: Some(link.peer.name.clone()), ahead })
    });
    let mut clocks: Vec<_> = peers.collect();
    let soft = hub.soft();
    let siblings = hub.gateways().into_iter().map(|facts| facts.node).filter_map(|node| {
        let (said, ago) = soft.siblings.of(now, node)?;
        let theirs = said.unix_time.saturating_add(ago.as_secs());
        let ahead = theirs.cast_signed().saturating_sub(clock.cast_signed());
        Some(host::Clock { node, cluster: None, ahead })
    });
    clocks.extend(siblings);
    drop(soft);
    host::clock(clock, &clocks)
}

fn siblings(hub: &Hub, now: Instant) -> Vec<Check> {
    let (catalog, paths, own) = (hub.catalog(), hub.forwarder.paths(), hub.node.id());
    let (gateways, newest) = (hub.gateways(), hub.registry.status().applied);
    let others = gateways.iter().filter(|facts| facts.node != own).map(|facts| {
        let path = paths.iter().find(|path| path.cluster.is_none() && path.node == facts.node);
        let last = hub.soft().siblings.of(now, facts.node).map(|(status, ago)| (ago, status.revision));
        siblings::sibling(facts, path, &siblings::Word { last, listening: hub.up(), newest })
    });
    let clock = unix(SystemTime::now());
    let drained = gateways
        .iter()
        .filter(|facts| catalog.is_draining(facts.node))
        .filter_map(|facts| siblings::drained(facts.node, drained_at(&catalog, facts.node), clock));
    others.chain(drained).collect()
}

/// When `node` was last drained, as far as the audit goes back.
fn drained_at(catalog: &Catalog, node: NodeId) -> Option<u64> {
    let command =
        causeway_catalog::CommandBody::from(DrainGateway { node, draining: true, ready: BTreeSet::new() });
    let (name, subject) = (command.name(), command.subject());
    let drains = catalog.audit().filter(|entry| entry.refused.is_none() && entry.command == name);
    drains.filter(|entry| entry.subject == subject).map(|entry| entry.at).max()
}

fn links(hub: &Hub) -> Vec<Check> {
    let (catalog, paths) = (hub.catalog(), hub.forwarder.paths());
    let own = hub.node.cluster().id;
    let check = |link: &Link| {
        let (state, silent) = links::state(hub, link);
        let known = hub.with_peer(link.peer.id, |peer| {
            let sessions = peer.sessions.values().filter(|count| **count > 0).count();
            (sessions, peer.imports.remembered(None).count())
        });
        let (sessions, services) = known.unwrap_or_default();
        let of_link: Vec<_> = paths.iter().filter(|path| path.cluster == Some(link.peer.id)).collect();
        let seen = paths::Seen {
            cluster: &link.peer.name,
            state,
            silent,
            policy: link.stale,
            services,
            paused: (link.paused, link.peer_paused),
            paths: &of_link,
            sessions,
            verdicts: &verdicts(hub, link.peer.id),
            via: &links::via(hub, link.peer.id),
        };
        paths::link(&seen, own)
    };
    catalog.links().map(check).collect()
}

/// Offers that are left out because others define the service otherwise.
async fn definitions(hub: &Hub) -> Check {
    let (catalog, here) = (hub.catalog(), hub.node.locality());
    let named = |id: ClusterId| match catalog.link_by_id(id) {
        Some(link) => link.peer.name.to_string(),
        None if id == hub.node.cluster().id => hub.node.cluster().name.to_string(),
        None => id.to_string(),
    };
    let (mut left, mut looked, mut all) = (Vec::new(), 0, 0);
    for cluster in catalog.links().map(|link| link.peer.id) {
        all += hub.with_peer(cluster, |peer| peer.imports.len()).unwrap_or_default();
        let mut after = None;
        while looked < MAX_LOOKED {
            let Some(page) = page(hub, &catalog, cluster, after.as_ref()) else { break };
            looked += page.count;
            for name in page.shared {
                let lost = hub.service(&name, here).conflicts;
                left.extend(lost.into_iter().filter(|lost| lost.cluster == cluster).map(|lost| {
                    let (cluster, against) = (named(lost.cluster), named(lost.against));
                    imports::LeftOut { service: lost.service, cluster, against, why: lost.why }
                }));
            }
            after = Some(page.last);
            tokio::task::yield_now().await;
        }
    }
    imports::definitions(&left, looked, all)
}

/// Some of a linked cluster's imports, in order of their names.
struct Page {
    count: usize,
    last: ServiceName,
    /// Those that somebody else has, too.
    shared: Vec<ServiceName>,
}

/// The imports of `cluster` that come `after`; nothing at the end.
fn page(hub: &Hub, catalog: &Catalog, cluster: ClusterId, after: Option<&ServiceName>) -> Option<Page> {
    let soft = hub.soft();
    let peer = soft.peers.get(&cluster)?;
    let names: Vec<ServiceName> = peer.imports.after(after).take(PAGE).map(|import| import.name()).collect();
    let others = |name: &ServiceName| {
        let mut others = soft.peers.iter().filter(|(id, _)| **id != cluster);
        others.any(|(_, other)| other.imports.by_name(name).is_some())
    };
    let (count, last) = (names.len(), names.last().cloned()?);
    let shared = names.into_iter().filter(|name| catalog.service(name).is_some() || others(name));
    Some(Page { count, last, shared: shared.collect() })
}

/// Linked clusters that offer more than is taken.
fn over_cap(hub: &Hub) -> Vec<Check> {
    let catalog = hub.catalog();
    let check = |link: &Link| {
        hub.with_peer(link.peer.id, |peer| {
            let (taken, most) = (peer.imports.remembered(None).count(), peer.imports.rules().max_imports);
            let over = peer.imports.is_over_cap();
            over.then(|| imports::over_cap(&link.peer.name, taken, most, peer.refused.over_cap))
        })?
    };
    catalog.links().filter_map(check).collect()
}

/// Which pairs of this gateway and one of `cluster` reach each other.
fn verdicts(hub: &Hub, cluster: ClusterId) -> Vec<(GatewayId, GatewayId, Verdict)> {
    let own = GatewayId { cluster: hub.node.cluster().id, node: hub.node.id() };
    let pairs = hub.with_peer(cluster, |peer| peer.health.pairs(Instant::now())).unwrap_or_default();
    let judged =
        pairs.into_iter().filter_map(|(node, pair)| Some((own, GatewayId { cluster, node }, pair.verdict?)));
    judged.collect()
}

fn sidecars(hub: &Hub, now: Instant) -> Check {
    let (catalog, soft) = (hub.catalog(), hub.soft());
    let lost = soft.lost.recent(now).map(|lost| sidecars::Lost {
        workload: lost.workload,
        identity: lost.identity.clone(),
        ago: now.saturating_duration_since(lost.at),
        services: catalog
            .services_of(&lost.identity)
            .map(|service| (service.name.clone(), soft.presence.counts(&service.name).0))
            .collect(),
    });
    sidecars::check(&lost.collect::<Vec<_>>())
}

fn releases(hub: &Hub) -> Check {
    let mut workloads: BTreeMap<String, usize> = BTreeMap::new();
    let mut peers = Vec::new();
    let catalog = hub.catalog();
    let soft = hub.soft();
    for view in soft.presence.workloads() {
        match workloads.get_mut(&view.row.release) {
            Some(count) => *count += 1,
            None => drop(workloads.insert(view.row.release.clone(), 1)),
        }
    }
    for link in catalog.links() {
        let release = soft.peers.get(&link.peer.id).and_then(|peer| peer.release.clone());
        peers.extend(release.map(|release| (link.peer.name.to_string(), release)));
    }
    drop(soft);
    releases::check(&super::status::release(), &workloads, &peers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::fixture::{Fixture, SOON};
    use causeway_model::{Health, Locality, PortSet, WorkloadId};
    use causeway_presence::{Row, ServedService};
    use std::time::Duration;

    async fn checks(hub: &Hub) -> BTreeMap<String, Check> {
        let Json(checks) = run(State(hub.clone())).await;
        checks.into_iter().map(|check| (check.name.clone(), check)).collect()
    }

    fn row(workload: u64, identity: &str) -> Row {
        Row {
            workload: WorkloadId(workload),
            identity: identity.parse().unwrap(),
            services: vec![ServedService {
                name: "payments.shop".parse().unwrap(),
                ports: PortSet::default(),
                health: Health::Healthy,
            }],
            locality: Locality { region: "us-ashburn-1".into(), zone: "AD-1".into() },
            weight: 100,
            overlay: Vec::new(),
            release: "0.1.0".into(),
            svid_key: [0; 32],
            older_keys: Box::default(),
            seq: 0,
            attached: true,
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_single_gateway_is_fine_but_for_what_it_lacks() {
        let gateway = Fixture::start().await;
        let found = checks(&gateway.hub).await;
        for name in
            ["registry", "registry replica", "disk", "gateway certificate", "root rotation", "lost sidecars"]
        {
            assert_eq!(found[name].state, "ok", "{:?}", found[name]);
        }
        assert_eq!(found["registry voters"].state, "warning", "{:?}", found["registry voters"]);
        assert!(found.values().all(|check| check.state == "ok" || check.fix.is_some()));
        gateway.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_killed_sidecar_is_named_and_one_that_said_goodbye_is_not() {
        let gateway = Fixture::start().await;
        let hub = &gateway.hub;
        let identity = "spiffe://iad.mesh/ns/shop/sa/payments";
        let killed = hub.hold(&identity.parse().unwrap(), WorkloadId(7), None).unwrap();
        let ended = hub.hold(&identity.parse().unwrap(), WorkloadId(8), None).unwrap();
        hub.attach(row(7, identity)).unwrap();
        hub.attach(row(8, identity)).unwrap();
        hub.goodbye(WorkloadId(8));
        drop(ended);
        let deadline = Instant::now() + SOON;
        while hub.is_alive(WorkloadId(7)) || hub.soft().lost.recent(Instant::now()).next().is_none() {
            assert!(Instant::now() < deadline, "its lease does not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        drop(killed);
        let seen = checks(hub).await["lost sidecars"].seen.clone();
        assert!(seen.starts_with("1 in the last 10 minutes: workload 0000000000000007 of "), "{seen}");
        gateway.stop().await;
    }
}
