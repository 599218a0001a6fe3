//! What the peer is told of paths through this cluster.

use super::pace::Pace;
use causeway_federation::transit::Plan;
use causeway_model::ClusterId;
use causeway_wire::link::Routes;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// The least time between two messages: paths that come and go are not passed on each time.
const ROUTES_EVERY: Duration = Duration::from_secs(1);

/// Tells a neighbour which clusters it reaches through this one. It is told nothing before transit is on, and once that it is off.
pub(super) struct Guide {
    peer: ClusterId,
    plan: watch::Receiver<Arc<Plan>>,
    pace: Pace,
    told: Routes,
}

impl Guide {
    pub(super) fn new(peer: ClusterId, plan: watch::Receiver<Arc<Plan>>, now: Instant) -> Self {
        let mut pace = Pace::new(Duration::ZERO, ROUTES_EVERY);
        pace.ask(now);
        Self { peer, plan, pace, told: Routes::default() }
    }

    /// Waits until the plan is another one, and asks for a message.
    pub(super) async fn changed(&mut self) {
        match self.plan.changed().await {
            Ok(()) => self.pace.ask(Instant::now()),
            // whoever makes plans is gone, and so is everything else in a moment
            Err(_) => std::future::pending().await,
        }
    }

    /// What is to be said, if anything.
    pub(super) fn next(&mut self, now: Instant) -> Option<Routes> {
        if !self.pace.take(now) {
            return None;
        }
        let routes = self.plan.borrow_and_update().told.get(&self.peer).cloned().unwrap_or_default();
        if routes == self.told {
            return None;
        }
        self.told.clone_from(&routes);
        Some(routes)
    }

    /// When there is something to say although nothing happens.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.pace.due()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use causeway_wire::link::TransitPath;

    #[tokio::test]
    async fn changes_are_told_once_a_second_and_what_did_not_change_is_not() {
        let [peer, other] = [2, 3].map(|id| ClusterId::new(id).unwrap());
        let plans = watch::Sender::<Arc<Plan>>::default();
        let plan = |transit: bool, paths: usize| {
            let path = TransitPath { clusters: vec![other] };
            let routes = Routes { transit, paths: vec![path; paths] };
            let told = if transit { [(peer, routes)].into() } else { [(other, routes)].into() };
            Arc::new(Plan { told, ..Plan::default() })
        };
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut guide = Guide::new(peer, plans.subscribe(), start);
        assert_eq!(guide.next(start), None, "transit is off, and was never on");
        plans.send_replace(plan(true, 1));
        guide.changed().await;
        assert_eq!(guide.next(at(0)), None);
        let due = guide.poll_timeout().unwrap();
        assert!(due >= at(1000) && due < at(2000));
        plans.send_replace(plan(true, 2));
        guide.changed().await;
        assert_eq!(guide.next(due).map(|routes| routes.paths.len()), Some(2));
        plans.send_replace(plan(true, 2));
        guide.changed().await;
        assert_eq!(guide.next(at(9000)), None);
        plans.send_replace(plan(false, 0));
        guide.changed().await;
        assert_eq!(guide.next(at(20_000)), Some(Routes::default()));
        assert_eq!(guide.poll_timeout(), None);
    }
}
