//! Names that were found not to exist a moment ago, so that an application that asks in a loop does not ask the gateways.

use causeway_model::VipName;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The most names; further ones are asked for again.
const MAX: usize = 4096;

/// Names that do not exist, each until a time.
#[derive(Debug)]
pub(crate) struct Absent {
    names: Mutex<HashMap<VipName, Instant>>,
    keep: Duration,
}

impl Absent {
    pub(crate) fn new(keep: Duration) -> Self {
        Self { names: Mutex::default(), keep }
    }

    pub(crate) fn has(&self, name: &VipName, now: Instant) -> bool {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.get(name).is_some_and(|&until| now < until)
    }

    pub(crate) fn insert(&self, name: VipName, now: Instant) {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() >= MAX {
            names.retain(|_, &mut until| now < until);
        }
        if names.len() < MAX {
            names.insert(name, now + self.keep);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_absent_for_a_time_and_the_names_are_bounded() {
        let (absent, now) = (Absent::new(Duration::from_secs(5)), Instant::now());
        let name = |n: usize| format!("s{n}.shop").parse::<VipName>().unwrap();
        for n in 0..MAX + 10 {
            absent.insert(name(n), now);
        }
        assert!(absent.has(&name(0), now) && !absent.has(&name(MAX), now));
        let later = now + Duration::from_secs(5);
        assert!(!absent.has(&name(0), later));
        absent.insert(name(MAX), later);
        assert!(absent.has(&name(MAX), later));
        assert_eq!(absent.names.lock().unwrap().len(), 1);
    }
}
