//! What each gateway said of one service, and what follows from all of it. Pure.
//!
//! A gateway that was just started again, or has lost its links, knows less than another: that it spoke last makes it no better.

use causeway_model::{ClusterId, NodeId};
use causeway_wire::view::{Offer, ServiceView};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long what a lost gateway said outweighs that another knows of no healthy endpoint: a gateway that was started again learns
/// of them within seconds.
const GRACE: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
struct Account {
    /// Who said it; [`NodeId::ANY`] when it is only remembered.
    by: NodeId,
    /// Its session has ended.
    left: bool,
    view: Arc<ServiceView>,
}

/// What is said of one service: by each session's gateway, and by the last one that was lost.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    /// The latest comes last.
    accounts: Vec<Account>,
    /// Since when there is something newer than what the lost gateway said.
    replaced_since: Option<Instant>,
}

impl Told {
    /// What was known earlier: good until a gateway says something.
    pub(super) fn remembered(view: Arc<ServiceView>) -> Self {
        let account = Account { by: NodeId::ANY, left: true, view };
        Self { accounts: vec![account], replaced_since: None }
    }

    /// Takes what the gateway of a session says.
    pub(super) fn take(&mut self, by: NodeId, view: Arc<ServiceView>, now: Instant) {
        self.accounts.retain(|account| account.by != NodeId::ANY && (account.left || account.by != by));
        if self.has_left() {
            self.replaced_since.get_or_insert(now);
        }
        self.accounts.push(Account { by, left: false, view });
    }

    /// The session with `by` has ended: what it said is forgotten, if another says something.
    pub(super) fn leave(&mut self, by: NodeId) {
        let others = self.accounts.iter().any(|account| !account.left && account.by != by);
        if others {
            self.accounts.retain(|account| account.left || account.by != by);
            return;
        }
        if self.accounts.iter().any(|account| !account.left) {
            // what was lost before it is older still
            self.accounts.retain(|account| !account.left);
            self.replaced_since = None;
        }
        self.accounts.iter_mut().for_each(|account| account.left = true);
    }

    /// Forgets what a lost gateway said when others have said something for a while; whether it did.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let due = self.replaced_since.is_some_and(|since| now.saturating_duration_since(since) >= GRACE);
        if due {
            self.accounts.retain(|account| !account.left);
            self.replaced_since = None;
        }
        due
    }

    /// Whether there is something that [`expire`](Self::expire) will forget.
    pub(super) fn expires(&self) -> bool {
        self.replaced_since.is_some()
    }

    fn has_left(&self) -> bool {
        self.accounts.iter().any(|account| account.left)
    }

    /// Of each cluster the best offer; `None` if nothing was said. The order is that of the longest list.
    pub(super) fn merged(&self) -> Option<Arc<ServiceView>> {
        let longest = self.accounts.iter().max_by_key(|account| account.view.offers.len())?;
        if self.accounts.len() == 1 {
            return Some(Arc::clone(&longest.view));
        }
        let mut offers: Vec<Offer> = Vec::with_capacity(longest.view.offers.len());
        let others = self.accounts.iter().flat_map(|account| &account.view.offers);
        for offer in longest.view.offers.iter().chain(others) {
            let cluster = offer.cluster.id;
            if offers.iter().all(|known| known.cluster.id != cluster) {
                offers.extend(self.best(cluster).cloned());
            }
        }
        Some(Arc::new(ServiceView { name: longest.view.name.clone(), offers }))
    }

    /// The best offer of `cluster`: of equals the latest, and one of a lost gateway only if no other has a healthy endpoint.
    fn best(&self, cluster: ClusterId) -> Option<&Offer> {
        let best = |left: bool| {
            let accounts = self.accounts.iter().filter(|account| account.left == left);
            let offers = accounts.flat_map(|account| &account.view.offers);
            offers
                .filter(|offer| offer.cluster.id == cluster)
                .max_by_key(|offer| (offer.stale_for.is_none(), offer.healthy > 0, offer.endpoints.len()))
        };
        let (live, lost) = (best(false), best(true));
        match (live, lost) {
            (Some(live), Some(lost)) if live.healthy == 0 && lost.healthy > 0 => Some(lost),
            (live, lost) => live.or(lost),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{name, view};
    use super::*;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);

    fn told(healthy: u32) -> Arc<ServiceView> {
        Arc::new(view("pay.shop", healthy))
    }

    fn nothing() -> Arc<ServiceView> {
        Arc::new(ServiceView { name: name("pay.shop"), offers: Vec::new() })
    }

    fn healthy(told: &Told) -> Option<u32> {
        told.merged().unwrap().offers.first().map(|offer| offer.healthy)
    }

    #[test]
    fn a_gateway_that_knows_less_does_not_hide_what_another_knows() {
        let (mut all, now) = (Told::default(), Instant::now());
        assert!(all.merged().is_none());
        all.take(A, told(3), now);
        all.take(B, nothing(), now);
        assert_eq!(healthy(&all), Some(3));
        all.take(B, told(0), now);
        assert_eq!(healthy(&all), Some(3));
        // between equals the latest counts
        all.take(B, told(2), now);
        assert_eq!(healthy(&all), Some(2));
        let mut stale = view("pay.shop", 9);
        stale.offers[0].stale_for = Some(4);
        all.take(A, Arc::new(stale), now);
        assert_eq!(healthy(&all), Some(2));
        // what all say is so
        all.take(A, nothing(), now);
        all.take(B, nothing(), now);
        assert_eq!(healthy(&all), None);
    }

    #[test]
    fn each_cluster_has_its_best_offer() {
        let (mut all, now) = (Told::default(), Instant::now());
        let mut both = view("pay.shop", 0);
        both.offers.extend(view("pay.shop", 5).offers);
        both.offers[1].cluster.id = ClusterId::new(8).unwrap();
        all.take(A, Arc::new(both), now);
        all.take(B, told(4), now);
        let merged = all.merged().unwrap();
        let of: Vec<(u32, u32)> = merged.offers.iter().map(|o| (o.cluster.id.get(), o.healthy)).collect();
        assert_eq!(of, [(7, 4), (8, 5)]);
    }

    #[test]
    fn what_a_lost_gateway_said_goes_when_another_says_something() {
        let (mut all, now) = (Told::default(), Instant::now());
        all.take(A, told(3), now);
        all.take(B, told(2), now);
        all.leave(A);
        assert_eq!((healthy(&all), all.accounts.len()), (Some(2), 1));
        all.leave(B);
        assert_eq!(healthy(&all), Some(2), "there is nothing better");
        // the only gateway is back, and has to learn first
        all.take(B, told(0), now);
        assert_eq!(healthy(&all), Some(2));
        assert!(!all.expire(now + GRACE / 2) && all.expires());
        all.take(B, told(1), now);
        assert_eq!(healthy(&all), Some(1), "a healthy endpoint counts at once");
        all.take(B, told(0), now);
        assert!(all.expire(now + GRACE) && !all.expires());
        assert_eq!((healthy(&all), all.accounts.len()), (Some(0), 1));
    }

    #[test]
    fn what_is_only_remembered_goes_at_once() {
        let mut all = Told::remembered(told(3));
        assert_eq!(healthy(&all), Some(3));
        all.leave(A);
        assert_eq!(healthy(&all), Some(3));
        all.take(A, nothing(), Instant::now());
        assert_eq!((healthy(&all), all.expires()), (None, false));
    }

    #[test]
    fn a_gateway_that_comes_and_goes_leaves_one_account() {
        let (mut all, now) = (Told::default(), Instant::now());
        for _ in 0..10 {
            all.take(A, told(3), now);
            all.take(B, told(3), now);
            all.leave(A);
            all.leave(B);
            assert_eq!(all.accounts.len(), 1);
        }
    }
}
