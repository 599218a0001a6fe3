//! Draining: stop taking new work, let what runs finish within a grace, then say how much was left.
//!
//! Owns the signal "drain has begun" and the count of what is still live. What to stop and what to cut when the grace is
//! over is the caller's business.

use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// The side that works: watches for the drain and holds guards for what is live.
#[derive(Clone, Debug)]
pub struct Drain {
    begun: CancellationToken,
    closed: CancellationToken,
    live: TaskTracker,
}

/// The side that begins the drain. Dropping it begins nothing.
#[derive(Debug)]
pub struct DrainTrigger {
    drain: Drain,
}

/// Held by a live connection (or other piece of work) for as long as a drain should wait for it.
#[derive(Debug)]
pub struct DrainGuard {
    _live: TaskTrackerToken,
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainOutcome {
    /// Whether everything live finished within the grace.
    pub finished: bool,
    /// How many guards were still held when the grace was over.
    pub left: usize,
}

impl Drain {
    /// A trigger and the handle that workers clone.
    pub fn new() -> (DrainTrigger, Self) {
        let drain = Self {
            begun: CancellationToken::new(),
            closed: CancellationToken::new(),
            live: TaskTracker::new(),
        };
        (DrainTrigger { drain: drain.clone() }, drain)
    }

    /// Resolves once the drain has begun; at once if it already has.
    pub fn started(&self) -> impl Future<Output = ()> + Send + Sync + 'static {
        self.begun.clone().cancelled_owned()
    }

    /// Whether the drain has begun.
    pub fn is_draining(&self) -> bool {
        self.begun.is_cancelled()
    }

    /// Whether it is time to refuse what still comes: whoever could be told of the drain has been, see [`DrainTrigger::begin`].
    pub fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// A guard that the drain waits for. It may be taken after the drain has begun: work that was being accepted then
    /// is waited for as well.
    pub fn guard(&self) -> DrainGuard {
        DrainGuard { _live: self.live.token() }
    }

    /// How many guards are held.
    pub fn live(&self) -> usize {
        self.live.len()
    }
}

impl DrainTrigger {
    /// Begins the drain, and still takes what comes from those who have not heard of it: [`DrainTrigger::drain`] ends that.
    pub fn begin(&self) {
        self.drain.begun.cancel();
    }

    /// Begins the drain, takes nothing any more, and waits until every guard is dropped, for `grace` at most.
    pub async fn drain(&self, grace: Duration) -> DrainOutcome {
        self.drain.begun.cancel();
        self.drain.closed.cancel();
        self.drain.live.close();
        let finished = tokio::time::timeout(grace, self.drain.live.wait()).await.is_ok();
        DrainOutcome { finished, left: if finished { 0 } else { self.drain.live.len() } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_drain_waits_for_its_guards() {
        let (trigger, drain) = Drain::new();
        assert!(!drain.is_draining());
        trigger.begin();
        assert!(drain.is_draining() && !drain.is_closed());
        let guard = drain.guard();
        let worker = tokio::spawn({
            let started = drain.started();
            async move {
                started.await;
                tokio::time::sleep(Duration::from_secs(2)).await;
                drop(guard);
            }
        });
        let outcome = trigger.drain(Duration::from_secs(5)).await;
        assert_eq!(outcome, DrainOutcome { finished: true, left: 0 });
        assert!(drain.is_draining() && drain.is_closed());
        drain.started().await;
        worker.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_gives_up_after_its_grace_and_counts_what_is_left() {
        let (trigger, drain) = Drain::new();
        let guards = [drain.guard(), drain.guard()];
        let began = tokio::time::Instant::now();
        let outcome = trigger.drain(Duration::from_secs(5)).await;
        assert_eq!(outcome, DrainOutcome { finished: false, left: 2 });
        assert_eq!(began.elapsed(), Duration::from_secs(5));
        drop(guards);
        assert!(trigger.drain(Duration::from_secs(5)).await.finished);
    }
}
