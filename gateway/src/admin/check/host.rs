//! What the host gives: clock, socket buffers, path MTU.

use super::{ok, spell, warning};
use crate::admin::api::Check;
use causeway_model::{ClusterName, NodeId};
use causeway_transport::forward::SOCKET_BUFFER;
use std::time::Duration;

/// A clock that differs by more than this, in seconds, is wrong: certificates allow 5 minutes.
const CLOCK_OFF: u64 = 60;

/// By how many seconds the clock of another gateway is ahead of this one's.
pub(super) struct Clock {
    pub(super) node: NodeId,
    /// Its cluster, if it is not this one. Then it was ahead when it said hello; those of this cluster say it all the time.
    pub(super) cluster: Option<ClusterName>,
    pub(super) ahead: i64,
}

impl Clock {
    fn described(&self) -> String {
        let way = if self.ahead > 0 { "ahead" } else { "behind" };
        let by = spell(Duration::from_secs(self.ahead.unsigned_abs()));
        match &self.cluster {
            Some(cluster) => {
                format!("that of gateway {} of {cluster} was {by} {way} when it connected", self.node)
            }
            None => format!("that of gateway {} of this cluster is {by} {way}", self.node),
        }
    }
}

/// The clock, compared with those of other gateways, of this cluster and of linked ones.
pub(super) fn clock(now: u64, others: &[Clock]) -> Check {
    const NAME: &str = "clock";
    let far = others.iter().filter(|other| other.ahead.unsigned_abs() > CLOCK_OFF);
    let far: Vec<String> = far.map(Clock::described).collect();
    if far.is_empty() {
        let compared = match others.len() {
            0 => "not compared: no other gateway has said its own".to_owned(),
            count => format!("within {CLOCK_OFF} s of the clocks of {count} other gateways"),
        };
        return ok(NAME, format!("unix time {now} here; {compared}"));
    }
    let cause = if far.len() > 1 && far.len() == others.len() {
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
        let peer = |name: &str, ahead| Clock { node: NodeId(7), cluster: Some(name.parse().unwrap()), ahead };
        let sibling = |ahead| Clock { node: NodeId(2), cluster: None, ahead };
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
        let own = clock(1_700_000_000, &[sibling(3_600), peer("fra", 1)]);
        assert_eq!(own.state, "warning");
        assert!(
            own.seen.ends_with("that of gateway 0000000000000002 of this cluster is 60 minutes ahead"),
            "{}",
            own.seen
        );
        assert_eq!(clock(1_700_000_000, &[sibling(-60)]).state, "ok");
    }
}
