//! The paths to the other gateways, and the links over them.

use super::{failed, ok, spell, warning};
use crate::admin::api::Check;
use crate::forwarder::PathStatus;
use causeway_model::{ClusterName, GatewayFacts};
use std::time::Duration;

/// The path to another gateway of this cluster.
pub(super) fn sibling(facts: &GatewayFacts, path: Option<&PathStatus>) -> Check {
    let name = format!("gateway {}", facts.node);
    let Some(path) = path else {
        let told: Vec<String> = facts.cluster_addrs.iter().map(ToString::to_string).collect();
        let seen = if told.is_empty() {
            "no address".to_owned()
        } else {
            format!("no usable address in {}", told.join(", "))
        };
        let cause = "it advertises no address to its own cluster, or a name that does not resolve here";
        return failed(
            name,
            seen,
            cause,
            "start it with --advertise cluster=HOST:PORT, with an address that is reached from here",
        );
    };
    let seen = describe(path);
    if path.ports_alive == 0 {
        let fix =
            format!("see whether it runs; if it does, let UDP to {} through in both directions", path.addr);
        return failed(
            name,
            seen,
            "it does not answer probes: it is stopped, or a firewall is in between",
            fix,
        );
    }
    if path.ports_alive < path.ports {
        return warning(name, seen, SOME_PORTS, SOME_PORTS_FIX);
    }
    ok(name, seen)
}

const SOME_PORTS: &str = "some of this gateway's source ports get no answer: a firewall or load balancer in between \
                          lets only some through, or packets are lost";
const SOME_PORTS_FIX: &str = "let UDP through from every source port of this host";

/// The link to `cluster`: `state` is `up`, `stale` or `down`, `sessions` how many of its gateways a control connection stands to.
pub(super) fn link(
    cluster: &ClusterName,
    state: &str,
    stale_for: Option<Duration>,
    paths: &[&PathStatus],
    sessions: usize,
) -> Check {
    let name = format!("link {cluster}");
    let described: Vec<String> =
        paths.iter().map(|path| format!("{} {}", path.node, describe(path))).collect();
    let silent = stale_for.map(|silent| format!(", silent for {}", spell(silent))).unwrap_or_default();
    let seen = format!("{state}{silent}, {sessions} control connections; {}", described.join("; "));
    if state == "down" || paths.iter().all(|path| path.ports_alive == 0) {
        let cause = format!(
            "no gateway of {cluster} answers: they are stopped, a firewall is in between, or {cluster} removed the link"
        );
        let fix = format!(
            "let UDP through between the gateways in both directions, and see `causeway link list` in {cluster}"
        );
        return failed(name, seen, cause, fix);
    }
    if sessions == 0 || state != "up" {
        let cause = format!(
            "packets pass, but no control connection to {cluster} speaks: what it offers is used last, and will be withdrawn"
        );
        let fix = format!(
            "see the logs of both sides for why it is closed; clocks and certificates of {cluster} are checked there"
        );
        return warning(name, seen, cause, fix);
    }
    if let Some(dead) = paths.iter().find(|path| path.ports_alive == 0) {
        let cause =
            format!("gateway {} at {} does not answer; the others carry its traffic", dead.node, dead.addr);
        return warning(
            name,
            seen,
            cause,
            "start it, or let UDP to it through; a gateway that was removed vanishes by itself",
        );
    }
    if paths.iter().any(|path| path.ports_alive < path.ports) {
        return warning(name, seen, SOME_PORTS, SOME_PORTS_FIX);
    }
    ok(name, seen)
}

fn describe(path: &PathStatus) -> String {
    let rtt = path.srtt_us.map(|us| format!(", {}.{} ms", us / 1000, us % 1000 / 100)).unwrap_or_default();
    format!("at {} answers {} of {} ports{rtt}", path.addr, path.ports_alive, path.ports)
}

#[cfg(test)]
mod tests {
    use super::*;
    use causeway_model::{GatewayRole, Locality, NodeId};

    fn path(node: u64, ports_alive: usize) -> PathStatus {
        let srtt_us = (ports_alive > 0).then_some(80_250);
        PathStatus {
            cluster: None,
            node: NodeId(node),
            addr: "192.0.2.1:7443".parse().unwrap(),
            ports_alive,
            ports: 2,
            srtt_us,
        }
    }

    #[test]
    fn a_sibling_is_judged_by_its_ports() {
        let facts = GatewayFacts {
            node: NodeId(2),
            role: GatewayRole::Gateway,
            locality: Locality { region: "r".into(), zone: "z".into() },
            cluster_addrs: vec!["gw.example.org:7443".parse().unwrap()],
            link_addrs: Vec::new(),
        };
        assert_eq!(sibling(&facts, None).state, "failed");
        assert_eq!(sibling(&facts, Some(&path(2, 0))).state, "failed");
        assert_eq!(sibling(&facts, Some(&path(2, 1))).state, "warning");
        let fine = sibling(&facts, Some(&path(2, 2)));
        assert_eq!((fine.state.as_str(), fine.name.as_str()), ("ok", "gateway 0000000000000002"));
        assert_eq!(fine.seen, "at 192.0.2.1:7443 answers 2 of 2 ports, 80.2 ms");
    }

    #[test]
    fn a_link_is_judged_by_state_paths_and_sessions() {
        let cluster: ClusterName = "phx".parse().unwrap();
        let check = |state: &str, alive: [usize; 2], sessions| {
            let paths = [path(1, alive[0]), path(2, alive[1])];
            link(&cluster, state, None, &paths.each_ref(), sessions).state
        };
        assert_eq!(check("up", [2, 2], 2), "ok");
        assert_eq!(check("up", [2, 1], 2), "warning");
        assert_eq!(check("up", [2, 0], 1), "warning");
        assert_eq!(check("up", [2, 2], 0), "warning");
        assert_eq!(check("stale", [2, 2], 1), "warning");
        assert_eq!(check("up", [0, 0], 0), "failed");
        assert_eq!(check("down", [0, 0], 0), "failed");
        let stale = link(&cluster, "stale", Some(Duration::from_secs(300)), &[&path(1, 2)], 0);
        assert!(
            stale.seen.starts_with("stale, silent for 5 minutes, 0 control connections; "),
            "{}",
            stale.seen
        );
    }
}
