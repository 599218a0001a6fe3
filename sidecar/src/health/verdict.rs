//! What the results of checks add up to. Pure.

use crate::config::HealthCheck;
use causeway_model::Health;

/// What one check shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// The application takes what comes.
    Passed,
    /// It does not, or not in time, or not as expected.
    Failed,
    /// Nobody listens: that needs no second sign.
    Refused,
}

impl Sign {
    /// The stable word for metrics.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Refused => "refused",
        }
    }
}

/// The verdict on one port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    healthy: bool,
    /// Signs in a row that speak against it.
    against: u32,
    /// How many it takes while healthy, and while unhealthy.
    thresholds: (u32, u32),
}

impl Verdict {
    /// Before the first check.
    pub(super) fn new(check: &HealthCheck) -> Self {
        Self {
            healthy: check.initial() == Health::Healthy,
            against: 0,
            thresholds: (check.unhealthy_threshold.max(1), check.healthy_threshold.max(1)),
        }
    }

    /// Of a port that nobody checks until a delivery is refused. Only what is refused counts against it: an application that is
    /// slow to accept may be busy.
    pub(super) fn passive() -> Self {
        Self { healthy: true, against: 0, thresholds: (u32::MAX, 1) }
    }

    /// Whether it takes requests.
    pub(super) fn is_healthy(&self) -> bool {
        self.healthy
    }

    /// Takes note of a check; whether the verdict changed.
    pub(super) fn take(&mut self, sign: Sign) -> bool {
        let for_it = (sign == Sign::Passed) == self.healthy;
        if for_it {
            self.against = 0;
            return false;
        }
        self.against = self.against.saturating_add(1);
        let threshold = if self.healthy { self.thresholds.0 } else { self.thresholds.1 };
        let turned = self.against >= threshold || (self.healthy && sign == Sign::Refused);
        if turned {
            self.healthy = !self.healthy;
            self.against = 0;
        }
        turned
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn verdict(healthy: bool, thresholds: (u32, u32)) -> Verdict {
        Verdict { healthy, against: 0, thresholds }
    }

    #[test]
    fn it_takes_the_threshold_in_a_row() {
        let mut verdict = verdict(true, (3, 2));
        for sign in [Sign::Failed, Sign::Failed, Sign::Passed, Sign::Failed, Sign::Failed] {
            assert!(!verdict.take(sign));
        }
        assert!(verdict.take(Sign::Failed) && !verdict.is_healthy());
        assert!(!verdict.take(Sign::Passed) && !verdict.take(Sign::Failed) && !verdict.take(Sign::Passed));
        assert!(verdict.take(Sign::Passed) && verdict.is_healthy());
    }

    #[test]
    fn one_refusal_is_enough_and_a_slow_application_without_checks_stays() {
        let mut strict = verdict(true, (100, 1));
        assert!(strict.take(Sign::Refused) && !strict.is_healthy());
        assert!(!strict.take(Sign::Refused) && strict.take(Sign::Passed));
        let mut passive = Verdict::passive();
        assert!((0..1000).all(|_| !passive.take(Sign::Failed)));
        assert!(passive.take(Sign::Refused) && passive.take(Sign::Passed));
    }

    fn sign() -> impl Strategy<Value = Sign> {
        prop_oneof![Just(Sign::Passed), Just(Sign::Failed), Just(Sign::Refused)]
    }

    proptest! {
        /// Against the definition: the last signs in a row.
        #[test]
        fn the_verdict_follows_from_the_last_signs(
            signs in proptest::collection::vec(sign(), 0..60), start: bool, down in 1u32..5, up in 1u32..5,
        ) {
            let mut verdict = verdict(start, (down, up));
            let mut run: (bool, u32) = (start, 0);
            let mut healthy = start;
            for sign in signs {
                let good = sign == Sign::Passed;
                run = if run.0 == good { (good, run.1 + 1) } else { (good, 1) };
                let before = healthy;
                if healthy && !good && (run.1 >= down || sign == Sign::Refused) {
                    healthy = false;
                } else if !healthy && good && run.1 >= up {
                    healthy = true;
                }
                prop_assert_eq!(verdict.take(sign), before != healthy);
                prop_assert_eq!(verdict.is_healthy(), healthy);
            }
        }
    }
}
