//! What the host gives: clock, socket buffers, path MTU.

use super::{ok, spell, warning};
use crate::admin::api::Check;
use causeway_model::{ClusterName, NodeId};
use causeway_transport::forward::SOCKET_BUFFER;
use std::time::Duration;

/// A clock that differs by more than this, in seconds, is wrong: certificates allow 5 minutes.
const CLOCK_OFF: u64 = 60;

/// The clock, compared with those of linked clusters' gateways: by how many seconds each was ahead when it said hello.
pub(super) fn clock(now: u64, peers: &[(ClusterName, NodeId, i64)]) -> Check {
    const NAME: &str = "clock";
    let far: Vec<String> = peers
        .iter()
        .filter(|(_, _, ahead)| ahead.unsigned_abs() > CLOCK_OFF)
        .map(|(cluster, node, ahead)| {
            let way = if *ahead > 0 { "ahead" } else { "behind" };
            let by = spell(Duration::from_secs(ahead.unsigned_abs()));
            format!("that of gateway {node} of {cluster} was {by} {way} when it connected")
        })
        .collect();
    if far.is_empty() {
        let compared = match peers.len() {
            0 => "not compared: no linked gateway has said hello".to_owned(),
            count => format!("within {CLOCK_OFF} s of {count} linked clusters' clocks when they connected"),
        };
        return ok(NAME, format!("unix time {now} here; {compared}"));
    }
    let cause = if far.len() > 1 && far.len() == peers.len() {
        "all differ: the clock of this gateway is the wrong one, as it seems"
    } else {
        "one of the two clocks is wrong; beyond 5 minutes certificates are refused"
    };
    let fix = "set both by NTP: `timedatectl` on each host shows whether that is on; then reconnect with `causeway link pause` and \
               `causeway link resume`, or wait";
    warning(NAME, format!("unix time {now} here; {}", far.join("; ")), cause, fix)
}

/// The path MTU, which nobody knows but the sidecars.
pub(super) fn path_mtu() -> Check {
    ok(
        "path MTU",
        "not measured here: every connection from sidecar to sidecar finds its own, from 1200 bytes up",
    )
}

/// The socket buffers that were granted, in bytes as the kernel counts them: twice what is usable.
pub(super) fn buffers(receive: usize, send: usize) -> [Check; 2] {
    [
        buffer("socket receive buffer", "net.core.rmem_max", receive / 2),
        buffer("socket send buffer", "net.core.wmem_max", send / 2),
    ]
}

fn buffer(name: &str, sysctl: &str, granted: usize) -> Check {
    let seen = format!("{} KiB of {} KiB", granted / 1024, SOCKET_BUFFER / 1024);
    if granted >= SOCKET_BUFFER {
        return ok(name, seen);
    }
    let cause = format!(
        "{sysctl} of this host is smaller than what was asked for: bursts overrun the socket and are lost"
    );
    warning(
        name,
        seen,
        cause,
        format!(
            "run `sysctl -w {sysctl}={SOCKET_BUFFER}`, keep it in /etc/sysctl.d, and restart the gateway"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_buffer_names_the_setting() {
        let [receive, send] = buffers(2 * SOCKET_BUFFER, 425_984);
        assert_eq!((receive.state.as_str(), send.state.as_str()), ("ok", "warning"));
        assert_eq!(send.seen, "208 KiB of 4096 KiB");
        assert!(send.fix.unwrap().contains("sysctl -w net.core.wmem_max=4194304"));
    }

    #[test]
    fn what_is_unknown_is_said_to_be() {
        assert!(clock(1_700_000_000, &[]).seen.contains("not compared"));
        assert!(path_mtu().seen.contains("not measured"));
    }

    #[test]
    fn a_clock_that_differs_is_told_with_whose_it_is() {
        let peer = |name: &str, ahead| (name.parse::<ClusterName>().unwrap(), NodeId(7), ahead);
        assert_eq!(clock(1_700_000_000, &[peer("phx", 60), peer("fra", -60)]).state, "ok");
        let one = clock(1_700_000_000, &[peer("phx", -90), peer("fra", 1)]);
        assert_eq!(one.state, "warning");
        assert!(
            one.seen.ends_with("that of gateway 0000000000000007 of phx was 90 s behind when it connected"),
            "{}",
            one.seen
        );
        let all = clock(1_700_000_000, &[peer("phx", 400), peer("fra", 390)]);
        assert!(all.cause.unwrap().starts_with("all differ: the clock of this gateway"));
    }
}
