//! Drops of the forwarder that hint at trouble.

use super::{ok, warning};
use crate::admin::api::Check;
use crate::forwarder::{DropReason, Totals};

/// What a drop hints at: the likely cause, and what to do.
const HINTS: &[(DropReason, &str, &str)] = &[
    (
        DropReason::UnknownSource,
        "packets came from addresses that answered no probe: a sidecar whose address a NAT changes, one that is not of this \
         cluster, or strangers",
        "a few after a start are normal; if it grows, raise the UDP time-out of a NAT in between above 30 s, and see who else \
         sends to this port",
    ),
    (
        DropReason::ForeignSourceId,
        "packets carried a source that does not belong to the address they came from: two sidecars share one address, or \
         somebody forges",
        "look for a NAT that maps several sidecars to one port; if there is none, find out who sends from there",
    ),
    (
        DropReason::RateLimit,
        "a source sent more than its rate: a very busy sidecar or link, or a flood",
        "spread the load over more sidecars or gateways; see which source it is in the metrics of the sidecars",
    ),
    (
        DropReason::HandshakeLimit,
        "a source started connections faster than its rate: a sidecar that reconnects in a loop, or a flood",
        "see the logs of the sidecars for connections that fail again and again",
    ),
    (
        DropReason::SendFailed,
        "the socket did not take packets: its send buffer is full, or there is no route",
        "see the check of the send buffer; then the routes of this host",
    ),
];

/// A check for each drop that was counted, or one that says that there was none.
pub(super) fn check(totals: &Totals) -> Vec<Check> {
    let counted = HINTS.iter().filter(|(reason, ..)| totals.dropped(*reason) > 0);
    let checks: Vec<Check> = counted
        .map(|&(reason, cause, fix)| {
            let seen = format!("{} of {} packets since the start", totals.dropped(reason), totals.packets_in);
            warning(format!("drops, {}", reason.reason()), seen, cause, fix)
        })
        .collect();
    if checks.is_empty() {
        return vec![ok(
            "drops",
            format!("none that hints at trouble, of {} packets since the start", totals.packets_in),
        )];
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_drops_that_happened_are_told() {
        let mut totals = Totals { packets_in: 1000, ..Totals::default() };
        totals.drops[DropReason::NotReady as usize] = 5;
        let states =
            |totals: &Totals| check(totals).into_iter().map(|c| (c.name, c.state)).collect::<Vec<_>>();
        assert_eq!(states(&totals), [("drops".to_owned(), "ok".to_owned())]);
        totals.drops[DropReason::RateLimit as usize] = 2;
        totals.drops[DropReason::UnknownSource as usize] = 1;
        let warned = |name: &str| (name.to_owned(), "warning".to_owned());
        assert_eq!(states(&totals), [warned("drops, unknown-source"), warned("drops, rate-limit")]);
        assert_eq!(check(&totals)[1].seen, "2 of 1000 packets since the start");
    }
}
