//! `/v1/check`: what an experienced operator would look at first, with the likely cause and what to do.
//!
//! Each thing that is looked at is a pure function from what was read to a [`Check`], in a file for each topic; this one reads.
//! What a gateway cannot know is said to be unknown, not to be fine.

mod certificates;
mod host;
mod packets;
mod paths;
mod registry;
mod releases;

use super::api::Check;
use super::status::unix;
use crate::hub::Hub;
use crate::links;
use axum::Json;
use axum::extract::State;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

pub(super) async fn run(State(hub): State<Hub>) -> Json<Vec<Check>> {
    let current = hub.registry.current().await.map(drop);
    let mut checks = vec![registry::check(&hub.registry.status(), &current)];
    checks.extend(certificates(&hub));
    checks.extend([host::clock(unix(SystemTime::now())), host::path_mtu()]);
    let sockets = hub.forwarder.sockets();
    checks.extend(host::buffers(sockets.receive_buffer, sockets.send_buffer));
    checks.extend(paths(&hub));
    checks.push(releases(&hub));
    checks.extend(packets::check(&hub.forwarder.totals()));
    Json(checks)
}

fn certificates(hub: &Hub) -> Vec<Check> {
    let now = SystemTime::now();
    let svid = hub.node.svid().current();
    let own = certificates::own(svid.not_after(), svid.renew_at(), now);
    let ca = hub.ca();
    let seal = certificates::seal_key(hub.node.role(), hub.node.seal().is_some(), ca.as_ref().err());
    let root = ca.ok().map(|ca| certificates::root(ca.expires(), now));
    [own, seal].into_iter().chain(root).collect()
}

fn paths(hub: &Hub) -> Vec<Check> {
    let (catalog, paths, own) = (hub.catalog(), hub.forwarder.paths(), hub.node.id());
    let siblings = hub.gateways();
    let siblings = siblings.iter().filter(|facts| facts.node != own).map(|facts| {
        let path = paths.iter().find(|path| path.cluster.is_none() && path.node == facts.node);
        paths::sibling(facts, path)
    });
    let links = catalog.links().map(|link| {
        let (state, stale_for) = links::state(hub, link);
        let sessions =
            hub.with_peer(link.peer.id, |peer| peer.sessions.values().filter(|count| **count > 0).count());
        let of_link: Vec<_> = paths.iter().filter(|path| path.cluster == Some(link.peer.id)).collect();
        paths::link(&link.peer.name, state, stale_for, &of_link, sessions.unwrap_or(0))
    });
    siblings.chain(links).collect()
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

/// All is well.
fn ok(name: impl Into<String>, seen: impl Into<String>) -> Check {
    Check { name: name.into(), state: "ok".into(), seen: seen.into(), cause: None, fix: None }
}

/// It works, but not as it should.
fn warning(
    name: impl Into<String>,
    seen: impl Into<String>,
    cause: impl Into<String>,
    fix: impl Into<String>,
) -> Check {
    Check {
        name: name.into(),
        state: "warning".into(),
        seen: seen.into(),
        cause: Some(cause.into()),
        fix: Some(fix.into()),
    }
}

/// It does not work.
fn failed(
    name: impl Into<String>,
    seen: impl Into<String>,
    cause: impl Into<String>,
    fix: impl Into<String>,
) -> Check {
    Check { state: "failed".into(), ..warning(name, seen, cause, fix) }
}

/// A duration in its largest unit of which there are two.
fn spell(duration: Duration) -> String {
    let seconds = duration.as_secs();
    for (unit, size) in [("days", 86_400), ("hours", 3_600), ("minutes", 60)] {
        if seconds >= 2 * size {
            return format!("{} {unit}", seconds / size);
        }
    }
    format!("{seconds} s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_spelled_in_a_unit_that_fits() {
        for (seconds, text) in
            [(0, "0 s"), (119, "119 s"), (120, "2 minutes"), (7_200, "2 hours"), (200_000, "2 days")]
        {
            assert_eq!(spell(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn what_is_not_fine_says_why_and_what_to_do() {
        assert_eq!(ok("a", "b").cause, None);
        let bad = failed("a", "b", "c", "d");
        assert_eq!(
            (bad.state.as_str(), bad.cause.as_deref(), bad.fix.as_deref()),
            ("failed", Some("c"), Some("d"))
        );
        assert_eq!(warning("a", "b", "c", "d").state, "warning");
    }
}
