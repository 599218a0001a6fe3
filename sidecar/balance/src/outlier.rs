//! Whether an endpoint is left alone because it failed.

use crate::Settings;
use std::time::{Duration, Instant};

/// What an endpoint did wrong. What a gateway, a link or the caller did is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Its application takes no connections, or it says that it takes none itself: the next one would fare no better.
    Refused,
    /// It did not answer in time, while others of its cluster did.
    Silent,
    /// A connection to it failed before it answered anything. That may happen, but not several times in a row.
    Broken,
}

impl Fault {
    /// The word for metrics.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Silent => "silent",
            Self::Broken => "broken",
        }
    }
}

/// An endpoint was ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// What it did last.
    pub fault: Fault,
    /// For how long it is left alone.
    pub lasts: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    In,
    Out { until: Instant },
    Trial,
}

/// The failures of one endpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outlier {
    state: State,
    /// Failures in a row.
    failures: u32,
    /// Ejections, each not long after the last.
    ejections: u32,
    /// What began before this says nothing new.
    counts_from: Option<Instant>,
}

impl Default for Outlier {
    fn default() -> Self {
        Self { state: State::In, failures: 0, ejections: 0, counts_from: None }
    }
}

impl Outlier {
    /// Whether it takes its share.
    pub(crate) fn is_in(&self) -> bool {
        self.state == State::In
    }

    /// Until when it is left alone; `None` if it is not.
    pub(crate) fn until(&self) -> Option<Instant> {
        match self.state {
            State::Out { until } => Some(until),
            State::In | State::Trial => None,
        }
    }

    /// Whether its time is over and nobody has tried it since.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.until().is_some_and(|until| until <= now)
    }

    /// It is tried with one connection.
    pub(crate) fn try_it(&mut self, now: Instant) {
        self.state = State::Trial;
        self.counts_from = Some(now);
    }

    /// The trial came to no result.
    pub(crate) fn untried(&mut self, now: Instant) {
        if self.state == State::Trial {
            self.state = State::Out { until: now };
        }
    }

    /// It took a connection. Returns whether that brings it back; then its next failure ejects it, unless it answers before.
    pub(crate) fn accepted(&mut self, settings: &Settings) -> bool {
        if self.state != State::Trial {
            return false;
        }
        // what the trial comes to still counts: it may break after it was accepted
        self.state = State::In;
        self.failures = settings.consecutive_failures.saturating_sub(1);
        true
    }

    /// It did what it is there for.
    pub(crate) fn answered(&mut self) {
        self.failures = 0;
    }

    /// An attempt that began at `began` failed by its fault. `random` is from 0 to 1.
    pub(crate) fn failed(
        &mut self,
        fault: Fault,
        (began, now): (Instant, Instant),
        random: f64,
        settings: &Settings,
    ) -> Option<Ejection> {
        let known = self.counts_from.is_some_and(|from| began < from);
        if known || self.until().is_some_and(|until| now < until) {
            return None;
        }
        self.failures = self.failures.saturating_add(1);
        let enough = fault != Fault::Broken || self.failures >= settings.consecutive_failures;
        if !enough && self.state == State::In {
            return None;
        }
        // one that did well for as long as the longest ejection begins anew
        let well = self.counts_from.map(|from| now.saturating_duration_since(from));
        if self.state == State::In && well.is_none_or(|well| well >= settings.longest_ejection) {
            self.ejections = 0;
        }
        let doubled = settings.ejection.saturating_mul(1 << self.ejections.min(16));
        let lasts = doubled.min(settings.longest_ejection).mul_f64(0.8 + 0.4 * random.clamp(0.0, 1.0));
        let until = now + lasts;
        self.ejections = self.ejections.saturating_add(1);
        (self.state, self.counts_from, self.failures) = (State::Out { until }, Some(until), 0);
        Some(Ejection { fault, lasts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIDDLE: f64 = 0.5;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    fn fail(outlier: &mut Outlier, fault: Fault, now: Instant) -> Option<Duration> {
        outlier.failed(fault, (now, now), MIDDLE, &Settings::default()).map(|ejection| ejection.lasts)
    }

    #[test]
    fn one_refusal_is_enough_and_breaking_takes_three_in_a_row() {
        let now = Instant::now();
        assert_eq!(fail(&mut Outlier::default(), Fault::Refused, now), Some(ms(500)));
        assert_eq!(fail(&mut Outlier::default(), Fault::Silent, now), Some(ms(500)));
        let mut outlier = Outlier::default();
        for _ in 0..5 {
            assert_eq!(fail(&mut outlier, Fault::Broken, now), None);
            assert_eq!(fail(&mut outlier, Fault::Broken, now), None);
            outlier.answered();
        }
        for _ in 0..2 {
            assert_eq!(fail(&mut outlier, Fault::Broken, now), None);
        }
        assert_eq!(fail(&mut outlier, Fault::Broken, now), Some(ms(500)));
    }

    #[test]
    fn ejections_double_up_to_the_longest_and_begin_anew_after_good_times() {
        let (mut outlier, mut now) = (Outlier::default(), Instant::now());
        let settings = Settings::default();
        let mut lasted = Vec::new();
        for _ in 0..8 {
            let lasts = fail(&mut outlier, Fault::Refused, now).unwrap();
            lasted.push(lasts.as_millis());
            assert!(!outlier.is_due(now + lasts - ms(1)));
            now += lasts;
            assert!(outlier.is_due(now));
            outlier.try_it(now);
        }
        assert_eq!(lasted, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
        assert!(outlier.accepted(&settings) && outlier.is_in());
        outlier.answered();
        assert_eq!(fail(&mut outlier, Fault::Refused, now + ms(30_000)), Some(ms(500)));
    }

    #[test]
    fn what_began_before_says_nothing_new() {
        let (mut outlier, now) = (Outlier::default(), Instant::now());
        let settings = Settings::default();
        let until = now + fail(&mut outlier, Fault::Refused, now).unwrap();
        for _ in 0..100 {
            assert_eq!(fail(&mut outlier, Fault::Refused, now), None);
        }
        assert_eq!(outlier.failed(Fault::Refused, (now, until + ms(1)), MIDDLE, &settings), None);
        outlier.try_it(until);
        assert_eq!(outlier.failed(Fault::Refused, (now, until + ms(2)), MIDDLE, &settings), None);
        assert_eq!(fail(&mut outlier, Fault::Refused, until + ms(3)), Some(ms(1000)));
    }

    #[test]
    fn who_came_back_is_out_again_with_its_next_failure_unless_it_answered() {
        let settings = Settings::default();
        for answers in [false, true] {
            let (mut outlier, now) = (Outlier::default(), Instant::now());
            let until = now + fail(&mut outlier, Fault::Silent, now).unwrap();
            outlier.try_it(until);
            assert!(outlier.accepted(&settings));
            if answers {
                outlier.answered();
            }
            assert_eq!(fail(&mut outlier, Fault::Broken, until + ms(1)).is_none(), answers);
        }
    }

    #[test]
    fn a_trial_that_breaks_after_it_was_accepted_has_failed() {
        let (mut outlier, now, settings) = (Outlier::default(), Instant::now(), Settings::default());
        let until = now + fail(&mut outlier, Fault::Refused, now).unwrap();
        outlier.try_it(until);
        assert!(outlier.accepted(&settings));
        let ejection = outlier.failed(Fault::Broken, (until, until + ms(5)), MIDDLE, &settings);
        assert_eq!(ejection.map(|ejection| ejection.lasts), Some(ms(1000)));
    }

    #[test]
    fn a_trial_without_a_result_is_made_again() {
        let (mut outlier, now) = (Outlier::default(), Instant::now());
        fail(&mut outlier, Fault::Refused, now).unwrap();
        outlier.try_it(now + ms(600));
        assert!(!outlier.is_due(now + ms(700)));
        outlier.untried(now + ms(800));
        assert!(outlier.is_due(now + ms(800)));
    }
}
