//! Whom to call. Pure.

use causeway_model::NodeId;
use causeway_wire::cid::rendezvous;
use std::time::Instant;

/// Whether a gateway can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// It can.
    Free,
    /// It is being called, or the call stands.
    Busy,
    /// Not before then.
    Resting(Instant),
}

/// A gateway of a linked cluster.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) node: NodeId,
    /// Whether a connection with it stands, whoever called.
    pub(super) connected: bool,
    pub(super) line: Line,
}

/// The gateways that gateway `own` calls now, so that it comes to `wanted` connections; `connected` of them stand.
///
/// Every gateway has an order of preference of its own, so that the calls of a cluster spread over the other one's gateways.
/// A call under way counts as a connection; a gateway that rests is passed over for the next one in the order.
pub(super) fn choose(
    own: NodeId,
    wanted: usize,
    connected: usize,
    candidates: &[Candidate],
    now: Instant,
) -> Vec<NodeId> {
    let calling = candidates.iter().filter(|c| c.line == Line::Busy && !c.connected).count();
    let lacking = wanted.min(candidates.len()).saturating_sub(connected + calling);
    let may_call = |c: &&Candidate| match c.line {
        Line::Free => !c.connected,
        Line::Resting(until) => !c.connected && until <= now,
        Line::Busy => false,
    };
    let mut nodes: Vec<NodeId> = candidates.iter().filter(may_call).map(|c| c.node).collect();
    nodes.sort_by_key(|node| std::cmp::Reverse((rendezvous(own.0, node.0), *node)));
    nodes.truncate(lacking);
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::time::Duration;

    fn free(node: u64) -> Candidate {
        Candidate { node: NodeId(node), connected: false, line: Line::Free }
    }

    #[test]
    fn two_of_many_are_called_in_an_order_of_ones_own() {
        let now = Instant::now();
        let candidates: Vec<Candidate> = (1..=5).map(free).collect();
        let mut calls: BTreeMap<NodeId, usize> = BTreeMap::new();
        for own in 1..=500 {
            let chosen = choose(NodeId(own), 2, 0, &candidates, now);
            assert_eq!(chosen.len(), 2);
            assert_eq!(chosen, choose(NodeId(own), 2, 0, &candidates, now));
            chosen.into_iter().for_each(|node| *calls.entry(node).or_default() += 1);
        }
        assert!(calls.values().all(|count| (150..250).contains(count)), "{calls:?}");
    }

    #[test]
    fn a_gateway_that_rests_is_passed_over_and_comes_back() {
        let now = Instant::now();
        let mut candidates: Vec<Candidate> = (1..=3).map(free).collect();
        let order = choose(NodeId(9), 3, 0, &candidates, now);
        let until = now + Duration::from_secs(1);
        for candidate in &mut candidates {
            if candidate.node == order[0] {
                candidate.line = Line::Resting(until);
            }
        }
        assert_eq!(choose(NodeId(9), 2, 0, &candidates, now), order[1..]);
        assert_eq!(choose(NodeId(9), 2, 0, &candidates, until), order[..2]);
    }

    #[test]
    fn one_gateway_is_called_once() {
        let now = Instant::now();
        assert_eq!(choose(NodeId(1), 2, 0, &[free(7)], now), [NodeId(7)]);
        let busy = Candidate { line: Line::Busy, ..free(7) };
        assert!(choose(NodeId(1), 2, 0, &[busy], now).is_empty());
        let called_us = Candidate { connected: true, ..free(7) };
        assert!(choose(NodeId(1), 2, 1, &[called_us], now).is_empty());
        assert!(choose(NodeId(1), 2, 0, &[], now).is_empty());
    }

    /// Whether two of `calls` have neither gateway in common.
    fn independent(calls: &[(u64, u64)]) -> bool {
        calls.iter().any(|a| calls.iter().any(|b| a.0 != b.0 && a.1 != b.1))
    }

    /// Each gateway of a side of `own` calls two of the other one, whoever they are: with three a side two pairs that have no gateway in
    /// common stand, and again when one gateway of either side is gone and the others have called anew.
    #[test]
    fn two_pairs_without_a_common_gateway_stand_and_come_back() {
        let now = Instant::now();
        let calls = |own: &[u64], peers: &[u64]| -> Vec<(u64, u64)> {
            let candidates: Vec<Candidate> = peers.iter().copied().map(free).collect();
            let of =
                |own: &u64| choose(NodeId(*own), 2, 0, &candidates, now).into_iter().map(move |peer| peer.0);
            own.iter().flat_map(|own| of(own).map(move |peer| (*own, peer))).collect()
        };
        for round in 0..200 {
            let [own, peers] =
                [1, 1000].map(|base| [base, base + 1, base + 2].map(|node| node * (round + 1)));
            assert!(independent(&calls(&own, &peers)), "{own:?} {peers:?}");
            for gone in 0..3 {
                let but = |nodes: &[u64; 3]| {
                    nodes
                        .iter()
                        .enumerate()
                        .filter(|(place, _)| *place != gone)
                        .map(|(_, node)| *node)
                        .collect::<Vec<_>>()
                };
                assert!(independent(&calls(&but(&own), &peers)), "{own:?} {peers:?} {gone}");
                assert!(independent(&calls(&own, &but(&peers))), "{own:?} {peers:?} {gone}");
            }
        }
    }

    proptest! {
        #[test]
        fn connections_and_calls_come_to_what_is_wanted_and_no_more(
            states in proptest::collection::vec(0u8..5, 0..10), own: u64, wanted in 0usize..5
        ) {
            let now = Instant::now();
            let later = now + Duration::from_millis(1);
            let candidates: Vec<Candidate> = states.iter().zip(1..).map(|(state, node)| match state {
                0 => free(node),
                1 => Candidate { line: Line::Busy, ..free(node) },
                2 => Candidate { line: Line::Busy, connected: true, ..free(node) },
                3 => Candidate { line: Line::Resting(later), ..free(node) },
                _ => Candidate { connected: true, ..free(node) },
            }).collect();
            let connected = candidates.iter().filter(|c| c.connected).count();
            let busy = candidates.iter().filter(|c| c.line == Line::Busy && !c.connected).count();
            let able = candidates.iter().filter(|c| c.line == Line::Free && !c.connected).count();
            let chosen = choose(NodeId(own), wanted, connected, &candidates, now);
            prop_assert_eq!(chosen.len(), wanted.min(candidates.len()).saturating_sub(connected + busy).min(able));
            for node in chosen {
                prop_assert!(candidates.iter().any(|c| c.node == node && c.line == Line::Free && !c.connected));
            }
        }
    }
}
