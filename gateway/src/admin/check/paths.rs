//! The links to other clusters, and the paths that they and gateways are reached by.

use super::{failed, ok, spell, warning};
use crate::admin::api::Check;
use crate::forwarder::PathStatus;
use causeway_catalog::StalePolicy;
use causeway_federation::path::{GatewayId, Verdict};
use causeway_model::{ClusterId, ClusterName};
use std::time::Duration;

pub(super) const SOME_PORTS: &str = "some of this gateway's source ports get no answer: a firewall or load balancer in between \
                                     lets only some through, or packets are lost";
pub(super) const SOME_PORTS_FIX: &str = "let UDP through from every source port of this host";

/// A link as it is seen from here.
pub(super) struct Seen<'a> {
    pub(super) cluster: &'a ClusterName,
    /// `up`, `stale`, `down`, `one-way` or `paused`.
    pub(super) state: &'a str,
    /// For how long the peer has been silent.
    pub(super) silent: Option<Duration>,
    /// What becomes of its services meanwhile.
    pub(super) policy: StalePolicy,
    /// How many there are.
    pub(super) services: usize,
    /// Whether it is paused: here, and by the peer.
    pub(super) paused: (bool, bool),
    pub(super) paths: &'a [&'a PathStatus],
    /// To how many of its gateways a control connection stands.
    pub(super) sessions: usize,
    /// Pairs of gateways: one of this cluster, one of the peer, and whether they reach each other.
    pub(super) verdicts: &'a [(GatewayId, GatewayId, Verdict)],
    /// The clusters that its traffic passes through; empty while it is reached directly, or not at all.
    pub(super) via: &'a [String],
}

impl Seen<'_> {
    fn described(&self) -> String {
        let paths: Vec<String> =
            self.paths.iter().map(|path| format!("{} {}", path.node, describe(path))).collect();
        let silent = self
            .silent
            .map(|silent| format!(", silent for {}: {}", spell(silent), self.meanwhile(silent)))
            .unwrap_or_default();
        let via = match self.via {
            [] => String::new(),
            through => format!(" via {}, none of its gateways answers directly", through.join(", ")),
        };
        format!("{}{via}{silent}, {} control connections; {}", self.state, self.sessions, paths.join("; "))
    }

    /// What its silence means for its services.
    fn meanwhile(&self, silent: Duration) -> String {
        let services = self.services;
        match self.policy {
            StalePolicy::ServeLast => {
                format!("its {services} services are used when nobody else offers them")
            }
            StalePolicy::Fence => format!("its {services} services have not been used since (fence)"),
            StalePolicy::EjectAfter { seconds } => {
                let eject = Duration::from_secs(seconds.into());
                match eject.checked_sub(silent) {
                    Some(left) => format!(
                        "its {services} services are used when nobody else offers them, and not at all in {}",
                        spell(left)
                    ),
                    None => format!(
                        "its {services} services have not been used for {} (eject after {})",
                        spell(silent - eject),
                        spell(eject)
                    ),
                }
            }
        }
    }

    /// The directions in which nothing arrives though the other way it does.
    fn one_way(&self) -> Vec<(GatewayId, GatewayId)> {
        let lost = self.verdicts.iter().filter_map(|(_, _, verdict)| match *verdict {
            Verdict::OneWay { from, to } => Some((from, to)),
            _ => None,
        });
        lost.collect()
    }

    /// A gateway with its cluster's name, as far as that is not this one.
    fn name(&self, gateway: GatewayId, own: ClusterId) -> String {
        let place = if gateway.cluster == own { "here" } else { self.cluster.as_str() };
        format!("gateway {} ({place})", gateway.node)
    }
}

/// The link with a peer; `own` is this cluster.
pub(super) fn link(seen: &Seen<'_>, own: ClusterId) -> Check {
    let (cluster, name) = (seen.cluster, format!("link {}", seen.cluster));
    let described = seen.described();
    if seen.paused != (false, false) {
        return paused(name, described, seen);
    }
    if let Some(check) = one_way(&name, &described, seen, own) {
        return check;
    }
    if seen.state == "one-way" {
        return one_way_elsewhere(name, described, cluster);
    }
    if seen.state == "up" && !seen.via.is_empty() {
        return ok(name, described);
    }
    if seen.state == "down" || seen.paths.iter().all(|path| path.ports_alive == 0) {
        return unreached(name, described, seen);
    }
    if seen.sessions == 0 || seen.state != "up" {
        let cause = format!(
            "packets pass, but no control connection to {cluster} speaks: its gateways hang, refuse ours, or were cut off a moment ago"
        );
        let fix = format!(
            "see the logs of both sides for why it is closed; clocks and certificates of {cluster} are checked there"
        );
        return warning(name, described, cause, fix);
    }
    if let Some(dead) = seen.paths.iter().find(|path| path.ports_alive == 0) {
        let cause =
            format!("gateway {} at {} does not answer; the others carry its traffic", dead.node, dead.addr);
        let fix = "start it, or let UDP to it through; a gateway that was removed vanishes by itself";
        return warning(name, described, cause, fix);
    }
    if seen.paths.iter().any(|path| path.ports_alive < path.ports) {
        return warning(name, described, SOME_PORTS, SOME_PORTS_FIX);
    }
    ok(name, described)
}

fn paused(name: String, described: String, seen: &Seen<'_>) -> Check {
    let cluster = seen.cluster;
    let (who, fix) = match seen.paused {
        (true, true) => (
            format!("here and by {cluster}"),
            format!("`causeway link resume {cluster}` here, and `causeway link resume` there"),
        ),
        (true, false) => {
            ("here".to_owned(), format!("`causeway link resume {cluster}` when it is to work again"))
        }
        _ => {
            (format!("by {cluster}"), format!("ask who runs {cluster}: `causeway link resume` there ends it"))
        }
    };
    warning(name, described, format!("the link was paused {who}: no services are shared over it"), fix)
}

/// Loss in one direction between other gateways than this one, of which it knows by hearsay.
fn one_way_elsewhere(name: String, described: String, cluster: &ClusterName) -> Check {
    let cause = format!(
        "one-way loss: other gateways of this cluster and those of {cluster} hear each other in one direction only, and none in both"
    );
    let fix = format!(
        "`causeway check` at the other gateways names the direction, `causeway link list` the pairs; let UDP with {cluster} through both ways"
    );
    failed(name, described, cause, fix)
}

/// Loss in one direction, if a pair of this gateway has it.
fn one_way(name: &str, described: &str, seen: &Seen<'_>, own: ClusterId) -> Option<Check> {
    let lost = seen.one_way();
    let &(from, to) = lost.first()?;
    let (from, to) = (seen.name(from, own), seen.name(to, own));
    let more = if lost.len() > 1 {
        format!(", and so in {} more directions", lost.len() - 1)
    } else {
        String::new()
    };
    let cause = format!(
        "one-way loss: what {from} sends does not arrive at {to}, the other way it does{more}: a firewall, a route or a cable that lets \
         only one direction through"
    );
    let fix = format!(
        "let UDP from {from} to {to} through: compare the firewall rules and the routes of that direction; `tcpdump udp` at both ends \
         shows where it ends"
    );
    // what works in both directions carries the traffic
    let some_work = seen.verdicts.iter().any(|(_, _, verdict)| *verdict == Verdict::Up);
    let make = if some_work { warning } else { failed };
    Some(make(name.to_owned(), described.to_owned(), cause, fix))
}

fn unreached(name: String, described: String, seen: &Seen<'_>) -> Check {
    let cluster = seen.cluster;
    let fix = format!(
        "let UDP through between the gateways in both directions, and see `causeway link list` in {cluster}"
    );
    let cause = if seen.sessions > 0 {
        format!(
            "no probe to {cluster} is answered, though {} control connections stand: it was cut off a moment ago, or one direction is lost",
            seen.sessions
        )
    } else {
        format!(
            "no gateway of {cluster} answers: they are stopped, a firewall is in between, or {cluster} removed the link"
        )
    };
    failed(name, described, cause, fix)
}

pub(super) fn describe(path: &PathStatus) -> String {
    let rtt = path.srtt_us.map(|us| format!(", {}.{} ms", us / 1000, us % 1000 / 100)).unwrap_or_default();
    format!("at {} answers {} of {} ports{rtt}", path.addr, path.ports_alive, path.ports)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use causeway_model::NodeId;

    pub(in crate::admin::check) fn path(node: u64, ports_alive: usize) -> PathStatus {
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

    fn own() -> ClusterId {
        ClusterId::new(1).unwrap()
    }

    fn gateway(cluster: u32, node: u64) -> GatewayId {
        GatewayId { cluster: ClusterId::new(cluster).unwrap(), node: NodeId(node) }
    }

    /// A link that works, changed by `change`.
    fn judge(alive: [usize; 2], change: impl FnOnce(&mut Seen<'_>)) -> Check {
        judge_pairs(alive, &[], change)
    }

    fn judge_pairs(
        alive: [usize; 2],
        verdicts: &[(GatewayId, GatewayId, Verdict)],
        change: impl FnOnce(&mut Seen<'_>),
    ) -> Check {
        let cluster: ClusterName = "phx".parse().unwrap();
        let paths = [path(1, alive[0]), path(2, alive[1])];
        let paths = paths.each_ref();
        let mut seen = Seen {
            cluster: &cluster,
            state: "up",
            silent: None,
            policy: StalePolicy::ServeLast,
            services: 3,
            paused: (false, false),
            paths: &paths,
            sessions: 2,
            verdicts,
            via: &[],
        };
        change(&mut seen);
        link(&seen, own())
    }

    #[test]
    fn a_link_is_judged_by_state_paths_and_sessions() {
        let state = |alive, state: &'static str, sessions| {
            judge(alive, |seen| (seen.state, seen.sessions) = (state, sessions)).state
        };
        assert_eq!(state([2, 2], "up", 2), "ok");
        assert_eq!(state([2, 1], "up", 2), "warning");
        assert_eq!(state([2, 0], "up", 1), "warning");
        assert_eq!(state([2, 2], "up", 0), "warning");
        assert_eq!(state([2, 2], "stale", 1), "warning");
        assert_eq!(state([0, 0], "up", 0), "failed");
        assert_eq!(state([0, 0], "down", 0), "failed");
        let half = judge([0, 0], |_| {});
        assert!(half.state == "failed" && half.cause.unwrap().contains("or one direction is lost"));
    }

    #[test]
    fn the_silence_of_a_link_is_told_with_what_becomes_of_its_services() {
        let seen = |seconds, policy| {
            let check = judge([2, 2], |seen| {
                (seen.state, seen.sessions) = ("stale", 0);
                (seen.silent, seen.policy) = (Some(Duration::from_secs(seconds)), policy);
            });
            assert_eq!(check.state, "warning");
            check.seen
        };
        let starts = |seen: String, words: &str| assert!(seen.starts_with(words), "{seen}");
        starts(
            seen(300, StalePolicy::ServeLast),
            "stale, silent for 5 minutes: its 3 services are used when nobody else offers them, 0 control connections; ",
        );
        let eject = StalePolicy::EjectAfter { seconds: 30 };
        starts(
            seen(12, eject),
            "stale, silent for 12 s: its 3 services are used when nobody else offers them, and not at all in 18 s, 0",
        );
        starts(
            seen(45, eject),
            "stale, silent for 45 s: its 3 services have not been used for 15 s (eject after 30 s), 0 control",
        );
        starts(
            seen(4, StalePolicy::Fence),
            "stale, silent for 4 s: its 3 services have not been used since (fence), 0",
        );
    }

    #[test]
    fn a_paused_link_says_who_paused_it() {
        for (paused, cause, fix) in [
            ((true, false), "paused here", "`causeway link resume phx`"),
            ((false, true), "paused by phx", "ask who runs phx"),
            ((true, true), "paused here and by phx", "`causeway link resume phx` here, and"),
        ] {
            let check = judge([2, 2], |seen| (seen.state, seen.paused) = ("paused", paused));
            assert_eq!(check.state, "warning");
            assert!(check.cause.as_ref().unwrap().contains(cause), "{check:?}");
            assert!(check.fix.as_ref().unwrap().starts_with(fix), "{check:?}");
        }
    }

    #[test]
    fn a_link_through_other_clusters_is_fine_while_it_works() {
        let via: &'static [String] = vec!["lhr".to_owned()].leak();
        let check = judge([0, 0], |seen| seen.via = via);
        assert_eq!(check.state, "ok");
        assert!(
            check.seen.starts_with("up via lhr, none of its gateways answers directly, 2 control"),
            "{check:?}"
        );
        let check = judge([0, 0], |seen| (seen.via, seen.state, seen.sessions) = (via, "down", 0));
        assert_eq!(check.state, "failed");
    }

    #[test]
    fn one_way_loss_names_its_direction() {
        let (ours, theirs) = (gateway(1, 7), gateway(2, 1));
        let lost = Verdict::OneWay { from: theirs, to: ours };
        let all = [(ours, theirs, lost)];
        let check = judge_pairs([0, 0], &all, |_| {});
        assert_eq!(check.state, "failed");
        assert!(
            check.cause.as_ref().unwrap().starts_with(
                "one-way loss: what gateway 0000000000000001 (phx) sends does not arrive at gateway 0000000000000007 (here), the other \
                 way it does: "
            ),
            "{check:?}"
        );
        assert!(
            check.fix.unwrap().starts_with(
                "let UDP from gateway 0000000000000001 (phx) to gateway 0000000000000007 (here)"
            )
        );
        let some =
            [(ours, theirs, Verdict::OneWay { from: ours, to: theirs }), (ours, gateway(2, 2), Verdict::Up)];
        let check = judge_pairs([2, 0], &some, |_| {});
        assert!(
            check.state == "warning"
                && check.cause.unwrap().contains("what gateway 0000000000000007 (here) sends")
        );
        let hearsay = judge([0, 0], |seen| seen.state = "one-way");
        assert!(
            hearsay.state == "failed" && hearsay.cause.unwrap().starts_with("one-way loss: other gateways")
        );
        let none = [(ours, theirs, Verdict::Up), (ours, gateway(2, 2), Verdict::Silent)];
        assert_eq!(judge_pairs([2, 2], &none, |_| {}).state, "ok");
    }
}
