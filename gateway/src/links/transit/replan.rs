//! When to think paths over. Pure.

use causeway_federation::transit::News;
use std::time::{Duration, Instant};

/// The least time after the last plan before ways that are gone are left out of one: that stops packets, and is not put off.
const LESS_EVERY: Duration = Duration::from_millis(20);
/// The least time before ways that are new come into one: nobody has used them yet, and whoever announces them may announce as many as
/// they like.
const MORE_EVERY: Duration = Duration::from_millis(500);

/// Says when a plan is due.
#[derive(Debug, Default)]
pub(super) struct Replan {
    done: Option<Instant>,
    due: Option<Instant>,
}

impl Replan {
    /// Something changed.
    pub(super) fn ask(&mut self, now: Instant, news: News) {
        let every = match news {
            News::Nothing => return,
            News::More => MORE_EVERY,
            News::Less => LESS_EVERY,
        };
        let due = self.done.map_or(now, |done| now.max(done + every));
        self.due = Some(self.due.map_or(due, |known| known.min(due)));
    }

    /// Whether to plan now; it then counts as done.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let due = self.due.is_some_and(|due| due <= now);
        if due {
            (self.due, self.done) = (None, Some(now));
        }
        due
    }

    /// When a plan is due, if any is.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_waits_for_what_else_is_new_and_what_is_gone_does_not() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut replan = Replan::default();
        replan.ask(at(0), News::Nothing);
        assert!(!replan.take(at(0)));
        replan.ask(at(0), News::More);
        assert!(replan.take(at(0)), "the first is made at once");
        let mut plans = 0;
        for ms in 1..=10_000 {
            replan.ask(at(ms), News::More);
            plans += usize::from(replan.take(at(ms)));
        }
        assert_eq!(plans, 20);
        replan.ask(at(10_100), News::More);
        assert_eq!(replan.due(), Some(at(10_500)));
        replan.ask(at(10_100), News::Less);
        assert!(replan.take(at(10_100)));
        replan.ask(at(10_101), News::Less);
        assert_eq!(replan.due(), Some(at(10_120)));
        replan.ask(at(10_102), News::More);
        assert_eq!(replan.due(), Some(at(10_120)), "it does not put off what is due");
    }
}
