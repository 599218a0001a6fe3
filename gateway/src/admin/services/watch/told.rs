//! What a watch has told.

use crate::admin::api::{Service, ServiceEvent};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

/// The print of a service that was told to be no more.
const GONE: u64 = 0;

/// The fingerprint of each service that was told, 16 bytes a service. The hashes are keyed at random, so nobody can choose names
/// or states that meet.
#[derive(Debug, Default)]
pub(super) struct Told {
    prints: HashMap<u64, u64>,
    /// What is not in it was not told, by nobody: the watch began with everything.
    complete: bool,
    keys: RandomState,
}

impl Told {
    /// Nothing yet of a watch that tells everything; by default something before it may have told what is not here.
    pub(super) fn of_everything() -> Self {
        Self { complete: true, ..Self::default() }
    }

    /// What is to be told of `name`, which now is `now`.
    pub(super) fn update(&mut self, name: &str, now: Option<Service>) -> Option<ServiceEvent> {
        let key = self.keys.hash_one(name);
        match now {
            Some(service) => {
                let print = self.print(&service);
                let told = self.prints.insert(key, print);
                (told != Some(print)).then_some(ServiceEvent::Set { service })
            }
            None if self.complete => self.prints.remove(&key).map(|_| removed(name)),
            None => (self.prints.insert(key, GONE) != Some(GONE)).then(|| removed(name)),
        }
    }

    /// What tells two states of a service apart; never [`GONE`].
    fn print(&self, service: &Service) -> u64 {
        let state = serde_json::to_vec(&service.without_ages()).unwrap_or_default();
        self.keys.hash_one(state).max(GONE + 1)
    }
}

fn removed(name: &str) -> ServiceEvent {
    ServiceEvent::Removed { name: name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::super::super::view::tests::{offer, service};
    use super::*;
    use crate::admin::api::Offer;

    const NAME: &str = "payments.shop";

    fn with(stale_for: Option<u64>, healthy: u32) -> Service {
        service(NAME, vec![Offer { stale_for, healthy, ..offer("phx", "us-phoenix-1") }])
    }

    fn is_set(event: &Option<ServiceEvent>) -> bool {
        matches!(event, Some(ServiceEvent::Set { .. }))
    }

    #[test]
    fn only_differences_are_told() {
        let mut told = Told::of_everything();
        assert!(told.update(NAME, None).is_none(), "what was never there is not removed");
        assert!(is_set(&told.update(NAME, Some(with(None, 1)))));
        assert!(told.update(NAME, Some(with(None, 1))).is_none());
        assert!(is_set(&told.update(NAME, Some(with(None, 2)))));
        assert_eq!(told.update(NAME, None), Some(removed(NAME)));
        assert!(told.update(NAME, None).is_none());
        assert!(is_set(&told.update(NAME, Some(with(None, 2)))));
    }

    #[test]
    fn what_another_watch_may_have_told_is_removed_once() {
        let mut told = Told::default();
        assert_eq!(told.update(NAME, None), Some(removed(NAME)));
        assert!(told.update(NAME, None).is_none());
        assert!(is_set(&told.update(NAME, Some(with(None, 2)))));
        assert_eq!(told.update(NAME, None), Some(removed(NAME)));
    }

    #[test]
    fn growing_staleness_is_no_change_but_its_beginning_and_end_are() {
        let mut told = Told::of_everything();
        let mut events = 0;
        for stale_for in [None, Some(3), Some(4), Some(5), Some(600), None, None] {
            events += usize::from(told.update(NAME, Some(with(stale_for, 1))).is_some());
        }
        assert_eq!(events, 3);
    }
}
