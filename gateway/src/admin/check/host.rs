//! What the host gives: clock, socket buffers, path MTU.

use super::{ok, warning};
use crate::admin::api::Check;
use causeway_transport::forward::SOCKET_BUFFER;

/// The clock, which is only read: nothing here has another one to compare it with.
pub(super) fn clock(now: u64) -> Check {
    ok("clock", format!("unix time {now} here; not compared: a gateway keeps no other clock's time"))
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
        assert!(clock(1_700_000_000).seen.contains("not compared"));
        assert!(path_mtu().seen.contains("not measured"));
    }
}
