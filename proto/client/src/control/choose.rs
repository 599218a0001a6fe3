//! Which gateways to keep control connections to. Pure.
//!
//! The nearest that answer, and among equals those that rendezvous hashing picks for this workload, so that a cluster's sidecars
//! spread over its gateways. A connection that works is not given up before its successor works.

use super::pace::settled;
use causeway_model::{NodeId, WorkloadId};
use causeway_wire::cid::rendezvous;
use std::cmp::Reverse;
use std::time::Duration;

/// The most sessions at a time, those that are about to be given up included.
pub(super) const MAX_SESSIONS: usize = 5;
/// How long a session with a gateway that does not answer is kept in the hope that it does again.
const HOPE: Duration = Duration::from_secs(5);

/// A gateway as seen now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) node: NodeId,
    /// How far it is: [`causeway_model::Locality::distance`].
    pub(super) distance: u8,
    /// Whether it answers probes.
    pub(super) alive: bool,
    /// How long it has answered, or not.
    pub(super) since: Duration,
    /// Whether the last try with it failed a moment ago, or it said that it is about to stop and it is time to leave it.
    pub(super) blocked: bool,
}

/// A session as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) node: NodeId,
    /// Whether its gateway has answered to the registration.
    pub(super) ready: bool,
}

/// What to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) start: Vec<NodeId>,
    pub(super) stop: Vec<NodeId>,
}

/// What to do to have sessions with the `count` best gateways.
pub(super) fn plan(workload: WorkloadId, count: usize, candidates: &[Candidate], held: &[Held]) -> Plan {
    let has = |node: NodeId| held.iter().find(|held| held.node == node);
    let mut usable: Vec<&Candidate> = candidates.iter().filter(|c| c.alive && !c.blocked).collect();
    usable.sort_by_key(|c| {
        let newcomer = has(c.node).is_none() && c.since < settled(workload, c.node);
        (newcomer, c.distance, Reverse(rendezvous(workload.0, c.node.0)), c.node)
    });
    usable.truncate(count);
    let wanted: Vec<NodeId> = usable.iter().map(|c| c.node).collect();
    let room = MAX_SESSIONS.saturating_sub(held.len());
    let start: Vec<NodeId> = wanted.iter().copied().filter(|&node| has(node).is_none()).take(room).collect();
    let all_work = !wanted.is_empty() && wanted.iter().all(|&node| has(node).is_some_and(|held| held.ready));
    let given_up = |node: NodeId| match candidates.iter().find(|c| c.node == node) {
        Some(c) => c.alive || c.since >= HOPE,
        // it is no gateway of the cluster any more
        None => true,
    };
    let stop = held.iter().map(|held| held.node).filter(|node| !wanted.contains(node) && given_up(*node));
    Plan { start, stop: if all_work { stop.collect() } else { Vec::new() } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WORKLOAD: WorkloadId = WorkloadId(42);
    const LONG: Duration = Duration::from_secs(60);

    fn alive(node: u64, distance: u8, since: Duration) -> Candidate {
        Candidate { node: NodeId(node), distance, alive: true, since, blocked: false }
    }

    fn dead(node: u64, since: Duration) -> Candidate {
        Candidate { alive: false, ..alive(node, 0, since) }
    }

    fn ready(node: u64) -> Held {
        Held { node: NodeId(node), ready: true }
    }

    fn nodes(nodes: &[u64]) -> Vec<NodeId> {
        nodes.iter().copied().map(NodeId).collect()
    }

    #[test]
    fn the_nearest_two_are_chosen_and_only_among_equals_the_hash_decides() {
        let far_first = [alive(1, 2, LONG), alive(2, 0, LONG), alive(3, 1, LONG)];
        assert_eq!(plan(WORKLOAD, 2, &far_first, &[]).start, nodes(&[2, 3]));
        let equals: Vec<Candidate> = (1..=9).map(|n| alive(n, 0, LONG)).collect();
        let mut chosen = std::collections::BTreeSet::new();
        for workload in 0..100 {
            let plan = plan(WorkloadId(workload), 2, &equals, &[]);
            assert_eq!(plan.start.len(), 2);
            chosen.extend(plan.start);
        }
        assert_eq!(chosen.len(), 9, "sidecars spread over all gateways");
    }

    #[test]
    fn a_dead_gateway_is_replaced_at_once_and_given_up_later() {
        let gateways = [alive(1, 0, LONG), dead(2, Duration::ZERO), alive(3, 0, Duration::ZERO)];
        let plan_now = plan(WORKLOAD, 2, &gateways, &[ready(1), ready(2)]);
        assert_eq!(plan_now, Plan { start: nodes(&[3]), stop: Vec::new() });
        let settling = [ready(1), ready(2), Held { node: NodeId(3), ready: false }];
        assert_eq!(plan(WORKLOAD, 2, &gateways, &settling), Plan::default());
        let settled = [ready(1), ready(2), ready(3)];
        assert_eq!(plan(WORKLOAD, 2, &gateways, &settled), Plan::default(), "it may come back");
        let gateways = [alive(1, 0, LONG), dead(2, HOPE), alive(3, 0, HOPE)];
        assert_eq!(plan(WORKLOAD, 2, &gateways, &settled).stop, nodes(&[2]));
    }

    #[test]
    fn when_none_answers_what_there_is_is_kept() {
        let gateways = [dead(1, LONG), dead(2, LONG)];
        assert_eq!(plan(WORKLOAD, 2, &gateways, &[ready(1), ready(2)]), Plan::default());
    }

    #[test]
    fn a_better_gateway_takes_over_once_it_has_settled_and_works() {
        let held = [ready(1), ready(2)];
        let early = [alive(1, 0, LONG), alive(2, 1, LONG), alive(3, 0, Duration::from_secs(5))];
        assert_eq!(plan(WORKLOAD, 2, &early, &held), Plan::default());
        let after = settled(WORKLOAD, NodeId(3));
        let nearly = [alive(1, 0, LONG), alive(2, 1, LONG), alive(3, 0, after - Duration::from_millis(1))];
        assert_eq!(plan(WORKLOAD, 2, &nearly, &held), Plan::default());
        let late = [alive(1, 0, LONG), alive(2, 1, LONG), alive(3, 0, after)];
        assert_eq!(plan(WORKLOAD, 2, &late, &held), Plan { start: nodes(&[3]), stop: Vec::new() });
        let working = [ready(1), ready(2), ready(3)];
        assert_eq!(plan(WORKLOAD, 2, &late, &working), Plan { start: Vec::new(), stop: nodes(&[2]) });
    }

    #[test]
    fn a_blocked_or_removed_gateway_is_left_once_there_is_another() {
        let draining = Candidate { blocked: true, ..alive(1, 0, LONG) };
        assert_eq!(plan(WORKLOAD, 2, &[draining], &[ready(1)]), Plan::default());
        let gateways = [draining, alive(2, 0, LONG)];
        assert_eq!(plan(WORKLOAD, 2, &gateways, &[ready(1)]).start, nodes(&[2]));
        assert_eq!(plan(WORKLOAD, 2, &gateways, &[ready(1), ready(2)]).stop, nodes(&[1]));
        assert_eq!(plan(WORKLOAD, 2, &[alive(2, 0, LONG)], &[ready(9), ready(2)]).stop, nodes(&[9]));
    }

    prop_compose! {
        fn candidate()(node in 1u64..8, distance in 0u8..3, alive: bool, since in 0u64..60, blocked: bool) -> Candidate {
            let since = Duration::from_secs(since);
            Candidate { node: NodeId(node), distance, alive, since, blocked }
        }
    }

    proptest! {
        #[test]
        fn a_plan_never_leaves_a_sidecar_with_less_than_it_had(
            candidates in proptest::collection::vec(candidate(), 0..8),
            held in proptest::collection::vec((1u64..8, any::<bool>()), 0..4),
        ) {
            let mut candidates = candidates;
            candidates.sort_by_key(|c| c.node);
            candidates.dedup_by_key(|c| c.node);
            let mut held: Vec<Held> =
                held.into_iter().map(|(node, ready)| Held { node: NodeId(node), ready }).collect();
            held.sort_by_key(|held| held.node);
            held.dedup_by_key(|held| held.node);
            let plan = plan(WORKLOAD, 2, &candidates, &held);
            let find = |node: &NodeId| candidates.iter().find(|c| c.node == *node);
            prop_assert!(plan.start.iter().all(|node| find(node).is_some_and(|c| c.alive && !c.blocked)));
            prop_assert!(plan.start.iter().all(|node| held.iter().all(|held| held.node != *node)));
            prop_assert!(plan.start.len() <= 2 && held.len() + plan.start.len() <= MAX_SESSIONS);
            let left = held.iter().filter(|held| !plan.stop.contains(&held.node));
            prop_assert!(plan.stop.is_empty() || left.filter(|held| held.ready).count() >= 1);
        }
    }
}
