//! When sessions begin and end where many sidecars have the same reason to do so at the same time. Pure.
//!
//! A gateway with tens of thousands of sidecars that dies or drains would otherwise hand all of them to its neighbours in one
//! moment. Which path packets take does not depend on sessions: probes decide that, within milliseconds.

use causeway_model::{NodeId, WorkloadId};
use causeway_wire::cid::rendezvous;
use std::time::{Duration, Instant};

/// Over which time the replacements of a lost session are spread, while the sidecar has another one that works.
const SPARE: Duration = Duration::from_secs(3);
/// The same when it has none: the rows of a dead gateway stay 5 s, and by then another one has to vouch for the workload.
const LAST: Duration = Duration::from_millis(250);
/// Over which time sidecars leave a gateway that is about to stop.
const LEAVE: Duration = Duration::from_secs(5);
/// How long a gateway must have answered before it replaces one that works, at least: until then it may be on its way down
/// again.
const SETTLED: Duration = Duration::from_secs(30);
/// Over which time sidecars return to such a gateway, in milliseconds.
const RETURN_MS: u64 = 30_000;

/// When `random`, drawn evenly from `0.0..1.0`, says to leave a gateway that said at `now` that it is about to stop.
pub(super) fn leave_at(now: Instant, random: f64) -> Instant {
    now + LEAVE.mul_f64(random)
}

/// How long `node` must have answered before `workload` returns to it from one that works: each at another time, and always
/// the same.
pub(super) fn settled(workload: WorkloadId, node: NodeId) -> Duration {
    SETTLED + Duration::from_millis(rendezvous(workload.0, node.0) % RETURN_MS)
}

/// How a sidecar is off that wants another session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Need {
    /// How many sessions work: registered, with a gateway that answers probes and has not said that it stops.
    pub(super) working: usize,
    /// It leaves a gateway that stops: the time for that was drawn before.
    pub(super) leaves: bool,
}

/// Says when the next session may begin.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When the first session worked.
    first: Option<Instant>,
    /// When the next one may begin, and over which time that was drawn.
    due: Option<(Instant, Duration)>,
}

impl Pace {
    /// Whether sessions may begin at `now`, when some are wanted. `random` is drawn evenly from `0.0..1.0`.
    pub(super) fn may_start(&mut self, now: Instant, need: Need, random: f64) -> bool {
        let over = self.over(now, need);
        let drawn = now + over.mul_f64(random);
        let due = match self.due {
            Some((due, before)) if before == over => due,
            // the last session that worked is lost now
            Some((due, before)) if over < before => due.min(drawn),
            _ => drawn,
        };
        self.due = Some((due, over));
        now >= due
    }

    /// No session is wanted beyond those that there are. While none works what was waited counts: the back-off of each
    /// gateway does the rest.
    pub(super) fn rest(&mut self, working: usize) {
        if working > 0 {
            self.due = None;
        }
    }

    /// Over which time the next session is to begin.
    fn over(&mut self, now: Instant, need: Need) -> Duration {
        if need.working > 0 {
            self.first.get_or_insert(now);
        }
        // a sidecar that starts did not lose anything
        let starts = self.first.is_none_or(|first| now.saturating_duration_since(first) < SPARE);
        match need {
            _ if starts || need.leaves => Duration::ZERO,
            Need { working: 0, .. } => LAST,
            Need { .. } => SPARE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LOOK: Duration = Duration::from_millis(50);
    const NONE: Need = Need { working: 0, leaves: false };
    const ONE: Need = Need { working: 1, leaves: false };

    /// A sidecar that has had a session for a while.
    fn running(start: Instant) -> (Pace, Instant) {
        let mut pace = Pace::default();
        assert!(pace.may_start(start, NONE, 0.99), "the first session begins at once");
        assert!(pace.may_start(start + LOOK, ONE, 0.99), "and so does the second one");
        pace.rest(2);
        (pace, start + Duration::from_secs(60))
    }

    /// How long it takes from `now` until a session begins, looked at as often as the supervisor does.
    fn wait(pace: &mut Pace, now: Instant, need: Need, random: f64) -> Duration {
        let steps = (0u32..).find(|step| pace.may_start(now + LOOK * *step, need, random));
        LOOK * steps.unwrap()
    }

    #[test]
    fn a_spare_session_is_replaced_within_three_seconds_and_the_last_one_at_once() {
        let start = Instant::now();
        for random in [0.0, 0.5, 0.999] {
            let (mut pace, now) = running(start);
            let spare = wait(&mut pace, now, ONE, random);
            assert!(spare >= SPARE.mul_f64(random) && spare <= SPARE.mul_f64(random) + LOOK, "{spare:?}");
            let (mut pace, now) = running(start);
            let last = wait(&mut pace, now, NONE, random);
            assert!(last <= LAST + LOOK, "{last:?}");
        }
    }

    #[test]
    fn the_loss_of_the_last_session_ends_the_patience() {
        let (mut pace, now) = running(Instant::now());
        assert!(!pace.may_start(now, ONE, 0.9));
        let lost = now + Duration::from_secs(1);
        assert!(!pace.may_start(lost, NONE, 0.9));
        assert!(pace.may_start(lost + LAST, NONE, 0.9));
    }

    #[test]
    fn after_the_first_wait_only_the_back_off_counts_and_a_second_session_waits_again() {
        let (mut pace, now) = running(Instant::now());
        let tried = now + wait(&mut pace, now, NONE, 0.9);
        pace.rest(0);
        assert!(pace.may_start(tried + LOOK, NONE, 0.9), "it failed, and is tried again");
        assert!(
            !pace.may_start(tried + 2 * LOOK, ONE, 0.9),
            "one works now, and there is no hurry with the other"
        );
        pace.rest(1);
        assert!(!pace.may_start(tried + Duration::from_secs(60), NONE, 0.9), "another loss is another wait");
    }

    #[test]
    fn leaving_a_gateway_that_stops_was_spread_before() {
        let (mut pace, now) = running(Instant::now());
        assert!(pace.may_start(now, Need { working: 1, leaves: true }, 0.9));
        assert_eq!(leave_at(now, 0.0), now);
        assert!(leave_at(now, 0.999) < now + LEAVE);
    }

    /// A gateway dies that 50,000 sidecars have their second session with: how many turn to its neighbours in any 50 ms.
    #[test]
    fn a_gateway_with_fifty_thousand_sidecars_dies_without_a_storm() {
        let (start, sidecars) = (Instant::now(), 50_000u64);
        let mut begun = vec![0usize; 64];
        for sidecar in 0..sidecars {
            // evenly spread, as random draws are
            let random = f64::from(u32::try_from(sidecar).unwrap()) / 50_000.0;
            let (mut pace, now) = running(start);
            begun[usize::try_from(wait(&mut pace, now, ONE, random).as_millis() / 50).unwrap()] += 1;
        }
        assert_eq!(begun.iter().sum::<usize>(), 50_000);
        assert!(begun.iter().all(|count| *count <= 1_000), "{begun:?}");
    }

    /// It comes back: how many return to it in any second.
    #[test]
    fn sidecars_return_over_half_a_minute() {
        let mut returned = [0usize; 30];
        for workload in 0..30_000u64 {
            let after = settled(WorkloadId(workload.wrapping_mul(0x9e37_79b9_7f4a_7c15)), NodeId(7));
            assert!(after >= SETTLED && after < 2 * SETTLED);
            returned[usize::try_from((after - SETTLED).as_secs()).unwrap()] += 1;
        }
        assert!(returned.iter().all(|count| (800..1_200).contains(count)), "{returned:?}");
    }

    proptest! {
        #[test]
        fn who_has_no_session_never_waits_long(
            steps in proptest::collection::vec((0usize..3, any::<bool>(), 0.0f64..1.0), 1..200),
        ) {
            let (mut pace, mut now) = running(Instant::now());
            let mut alone: Option<Instant> = None;
            for (working, leaves, random) in steps {
                now += LOOK;
                alone = if working == 0 { alone.or(Some(now)) } else { None };
                let start = pace.may_start(now, Need { working, leaves: leaves && working > 0 }, random);
                let late = alone.is_some_and(|alone| now >= alone + LAST);
                prop_assert!(start || !late, "alone since {:?}", alone.map(|alone| now - alone));
            }
        }
    }
}
