//! A walk over all services in the order of their names, a few at a time.

use super::TURN;
use super::pattern::Pattern;
use crate::hub::Hub;
use causeway_model::ServiceName;
use std::ops::Bound;

/// Where a walk is: it holds nothing but a name, so services may come and go meanwhile. One that is there all the while is met
/// exactly once.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    from: Bound<ServiceName>,
    done: bool,
    met: usize,
}

impl Walk {
    /// A walk over the names of `pattern`, those after `after`.
    pub(super) fn new(pattern: &Pattern, after: Option<&ServiceName>) -> Self {
        let begin = pattern.begin();
        let from = match (begin, after) {
            (Bound::Included(begin), Some(after)) if begin > *after => Bound::Included(begin),
            (_, Some(after)) => Bound::Excluded(after.clone()),
            (begin, None) => begin,
        };
        Self { from, done: false, met: 0 }
    }

    /// The next names of `pattern`, at most `most` and a turn's worth; empty does not mean that there are no more.
    pub(super) fn next(&mut self, hub: &Hub, pattern: &Pattern, most: usize) -> Vec<ServiceName> {
        let most = most.min(TURN);
        let mut names = hub.service_names(self.from.as_ref(), most);
        self.done = names.len() < most;
        if let Some(past) = names.iter().position(|name| pattern.is_past(name)) {
            names.truncate(past);
            self.done = true;
        }
        self.met += names.len();
        if let Some(last) = names.last() {
            self.from = Bound::Excluded(last.clone());
        }
        names.retain(|name| pattern.matches(name));
        names
    }

    /// Whether there are no more.
    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// How many names it met, those of other patterns too.
    pub(super) fn met(&self) -> usize {
        self.met
    }

    /// The last name that it met.
    pub(super) fn last(&self) -> Option<&ServiceName> {
        match &self.from {
            Bound::Excluded(last) => Some(last),
            _ => None,
        }
    }
}
