//! What changed in the merged view, kept until it is asked for.

use causeway_model::{ServiceName, WorkloadId};
use std::collections::{BTreeMap, BTreeSet};

/// A change of the merged view. Changes of the same workload or service between two polls become one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The workload is new in the view.
    Up(WorkloadId),
    /// What the view says of the workload changed: its row, the gateways that vouch for it, or whether one of them is
    /// alive.
    Changed(WorkloadId),
    /// No gateway vouches for the workload any more, dead ones in their grace included.
    Gone(WorkloadId),
    /// An endpoint of the service came, went or changed.
    ServiceChanged(ServiceName),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Up,
    Changed,
    Gone,
}

/// Events not yet polled, told relative to what was polled last.
#[derive(Debug, Default)]
pub(crate) struct Events {
    workloads: BTreeMap<WorkloadId, Kind>,
    services: BTreeSet<ServiceName>,
}

impl Events {
    pub(crate) fn up(&mut self, workload: WorkloadId) {
        // it left and came back before anyone asked
        let kind = if self.workloads.contains_key(&workload) { Kind::Changed } else { Kind::Up };
        self.workloads.insert(workload, kind);
    }

    pub(crate) fn changed(&mut self, workload: WorkloadId) {
        self.workloads.entry(workload).or_insert(Kind::Changed);
    }

    pub(crate) fn gone(&mut self, workload: WorkloadId) {
        if self.workloads.insert(workload, Kind::Gone) == Some(Kind::Up) {
            // nobody was told that it came
            self.workloads.remove(&workload);
        }
    }

    pub(crate) fn service(&mut self, name: &ServiceName) {
        if !self.services.contains(name) {
            self.services.insert(name.clone());
        }
    }

    pub(crate) fn poll(&mut self) -> Option<Event> {
        match self.workloads.pop_first() {
            Some((workload, Kind::Up)) => Some(Event::Up(workload)),
            Some((workload, Kind::Changed)) => Some(Event::Changed(workload)),
            Some((workload, Kind::Gone)) => Some(Event::Gone(workload)),
            None => self.services.pop_first().map(Event::ServiceChanged),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(steps: &[fn(&mut Events, WorkloadId)]) -> Option<Event> {
        let mut events = Events::default();
        steps.iter().for_each(|step| step(&mut events, WorkloadId(1)));
        let event = events.poll();
        assert_eq!(events.poll(), None);
        event
    }

    #[test]
    fn changes_of_one_workload_become_one_event() {
        let w = WorkloadId(1);
        assert_eq!(after(&[Events::up, Events::changed]), Some(Event::Up(w)));
        assert_eq!(after(&[Events::up, Events::gone]), None);
        assert_eq!(after(&[Events::changed, Events::gone]), Some(Event::Gone(w)));
        assert_eq!(after(&[Events::gone, Events::up]), Some(Event::Changed(w)));
        assert_eq!(after(&[Events::gone, Events::up, Events::gone]), Some(Event::Gone(w)));
    }
}
