//! The other gateways of this cluster: whether they live, and whether they are in use.

use super::paths::{SOME_PORTS, SOME_PORTS_FIX, describe};
use super::{failed, ok, spell, warning};
use crate::admin::api::Check;
use crate::forwarder::PathStatus;
use causeway_model::{GatewayFacts, GatewayRole, NodeId, Revision};
use std::time::Duration;

/// A gateway that said nothing for this long, though it says how it is doing twice a second, is not alive.
const SILENT: Duration = Duration::from_secs(2);
/// How long a gateway may be out of use before somebody seems to have forgotten it, in seconds.
const FORGOTTEN: u64 = 3600;

/// What was heard of a gateway.
pub(super) struct Word {
    /// How long ago it said something, and at which revision it was then; nothing if it never did.
    pub(super) last: Option<(Duration, Revision)>,
    /// For how long this gateway has been listening.
    pub(super) listening: Duration,
    /// The newest revision here.
    pub(super) newest: Revision,
}

impl Word {
    /// Since when it is silent, if it is.
    fn silence(&self) -> Option<(Duration, String)> {
        match self.last {
            Some((ago, _)) if ago < SILENT => None,
            Some((ago, revision)) => {
                let behind = self.newest.0.saturating_sub(revision.0);
                Some((ago, format!("it was at revision {revision} then, {behind} behind the newest here")))
            }
            None if self.listening < SILENT => None,
            None => Some((self.listening, "it was never heard since this gateway started".to_owned())),
        }
    }
}

/// Another gateway, by the path to it and by what it says.
pub(super) fn sibling(facts: &GatewayFacts, path: Option<&PathStatus>, word: &Word) -> Check {
    let (node, name) = (facts.node, format!("gateway {}", facts.node));
    let answers = path.is_some_and(|path| path.ports_alive > 0);
    if let Some((silent, last)) = word.silence() {
        let reach = path.map_or_else(|| "no usable address".to_owned(), describe);
        let seen = format!("no word from gateway {node} for {}; {last}; {reach}", spell(silent));
        return if answers { mute(name, seen, facts.role) } else { dead(name, seen, node, path.is_some()) };
    }
    let Some(path) = path else { return unreached(name, facts) };
    let seen = describe(path);
    if path.ports_alive == 0 {
        let fix = format!(
            "let UDP to {} through in both directions, from every source port of this host",
            path.addr
        );
        let cause = "it speaks, but does not answer probes: a firewall in between, or its forwarder hangs";
        return failed(name, seen, cause, fix);
    }
    if path.ports_alive < path.ports {
        return warning(name, seen, SOME_PORTS, SOME_PORTS_FIX);
    }
    ok(name, seen)
}

/// Nothing comes from it. A process that was killed and one that stands still look the same from here.
fn dead(name: String, seen: String, node: NodeId, known: bool) -> Check {
    let address = if known { "" } else { ", or its address is not reached from here" };
    let cause = format!(
        "it was killed, hangs (SIGSTOP, a stuck disk), or the network between us is cut{address}; its process being alive is unknown here"
    );
    let fix = format!(
        "on its host: `systemctl status causeway-gateway`, `journalctl -u causeway-gateway` and `causeway check --data-dir DIR`; if it runs, \
         let UDP between the two through; `causeway gateways remove {node}` if it is lost for good"
    );
    failed(name, seen, cause, fix)
}

/// It answers probes, which its forwarder does, but says nothing, which the rest of it would.
fn mute(name: String, seen: String, role: GatewayRole) -> Check {
    let cause = "its forwarder runs, but the connection between the two does not stand: it starts or stops, its control plane hangs (a \
                 stuck disk, a starved CPU), or one of the two refuses the other's certificate or clock";
    let part = match role {
        GatewayRole::Gateway => "; it may hold up changes of the registry",
        GatewayRole::Forwarder => "",
    };
    let fix = "see `journalctl -u causeway-gateway` on both hosts; if it hangs, restart it";
    failed(name, seen, format!("{cause}{part}"), fix)
}

fn unreached(name: String, facts: &GatewayFacts) -> Check {
    let told: Vec<String> = facts.cluster_addrs.iter().map(ToString::to_string).collect();
    let seen = if told.is_empty() {
        "no address".to_owned()
    } else {
        format!("no usable address in {}", told.join(", "))
    };
    let cause = "it advertises no address to its own cluster, or a name that does not resolve here";
    let fix = "start it with --advertise cluster=HOST:PORT, with an address that is reached from here";
    failed(name, seen, cause, fix)
}

/// A gateway that is taken out of use, `since` unix time; that is not known when the audit has forgotten it, which takes a
/// thousand changes. Nothing while it is not worth a word.
pub(super) fn drained(node: NodeId, since: Option<u64>, now: u64) -> Option<Check> {
    let age = since.map(|since| now.saturating_sub(since));
    if age.is_some_and(|age| age <= FORGOTTEN) {
        return None;
    }
    let seen = age.map_or_else(
        || "out of use for longer than the audit goes back".to_owned(),
        |age| format!("out of use for {}", spell(Duration::from_secs(age))),
    );
    let cause = "it was drained, and neither taken into use again nor removed: it adds nothing to what the cluster survives";
    let fix = format!(
        "`causeway gateways undrain {node}` when it is to work again, `causeway gateways remove {node}` when not"
    );
    Some(warning(format!("drained gateway {node}"), seen, cause, fix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::check::paths::tests::path;
    use causeway_model::Locality;

    fn facts() -> GatewayFacts {
        GatewayFacts {
            node: NodeId(2),
            role: GatewayRole::Gateway,
            locality: Locality { region: "r".into(), zone: "z".into() },
            cluster_addrs: vec!["gw.example.org:7443".parse().unwrap()],
            link_addrs: Vec::new(),
        }
    }

    fn word(ago_ms: Option<u64>) -> Word {
        Word {
            last: ago_ms.map(|ago| (Duration::from_millis(ago), Revision(40))),
            listening: Duration::from_secs(300),
            newest: Revision(47),
        }
    }

    #[test]
    fn a_sibling_that_speaks_is_judged_by_its_ports() {
        let speaks = word(Some(300));
        assert_eq!(sibling(&facts(), None, &speaks).state, "failed");
        let deaf = sibling(&facts(), Some(&path(2, 0)), &speaks);
        assert!(deaf.state == "failed" && deaf.cause.unwrap().starts_with("it speaks, but"));
        assert_eq!(sibling(&facts(), Some(&path(2, 1)), &speaks).state, "warning");
        let fine = sibling(&facts(), Some(&path(2, 2)), &speaks);
        assert_eq!((fine.state.as_str(), fine.name.as_str()), ("ok", "gateway 0000000000000002"));
        assert_eq!(fine.seen, "at 192.0.2.1:7443 answers 2 of 2 ports, 80.2 ms");
    }

    #[test]
    fn a_dead_gateway_is_told_with_what_may_be_the_cause() {
        let dead = sibling(&facts(), Some(&path(2, 0)), &word(Some(12_000)));
        assert_eq!(dead.state, "failed");
        assert!(
            dead.seen.starts_with(
                "no word from gateway 0000000000000002 for 12 s; it was at revision 40 then, 7 behind the newest here; "
            ),
            "{}",
            dead.seen
        );
        assert!(
            dead.cause.unwrap().starts_with("it was killed, hangs (SIGSTOP, a stuck disk), or the network")
        );
        assert!(dead.fix.unwrap().contains("causeway gateways remove 0000000000000002"));
        let never = sibling(&facts(), None, &word(None));
        assert!(never.seen.contains("for 5 minutes; it was never heard"), "{}", never.seen);
        let early = Word { listening: Duration::from_secs(1), ..word(None) };
        assert_eq!(sibling(&facts(), Some(&path(2, 2)), &early).state, "ok", "it has not had its time yet");
    }

    #[test]
    fn a_gateway_that_answers_probes_and_says_nothing_is_no_dead_one() {
        let mute = sibling(&facts(), Some(&path(2, 2)), &word(Some(9_000)));
        assert!(mute.state == "failed" && mute.cause.unwrap().starts_with("its forwarder runs, but"));
    }

    #[test]
    fn a_gateway_that_was_drained_and_forgotten_is_told_of() {
        assert!(drained(NodeId(2), Some(10_000), 13_600).is_none());
        let check = drained(NodeId(2), Some(10_000), 20_000).unwrap();
        assert_eq!((check.state.as_str(), check.seen.as_str()), ("warning", "out of use for 2 hours"));
        assert!(drained(NodeId(2), None, 20_000).is_some());
    }
}
