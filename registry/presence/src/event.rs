//! What changed in the merged view, kept until it is asked for.

use causeway_model::{ServiceName, WorkloadId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

/// A change of the merged view. Changes of the same workload or service between two polls become one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The workload is new in the view.
    Up(WorkloadId),
    /// What the view says of the workload changed: its row, the gateways that vouch for it, or whether one of them is
    /// alive. What its row says of certificates is not told: ask when it matters.
    Changed(WorkloadId),
    /// No gateway vouches for the workload any more, dead ones in their grace included.
    Gone(WorkloadId),
    /// An endpoint of the service came, went or changed. At most one in a
    /// [`service_interval`](crate::PresenceConfig::service_interval) for one service.
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
    pace: Option<Pace>,
}

/// Services that were told a moment ago.
#[derive(Debug)]
struct Pace {
    interval: Duration,
    now: Instant,
    /// Told less than `interval` ago, and whether they changed since.
    told: BTreeMap<ServiceName, bool>,
    /// When each of these may be told again, in order.
    times: VecDeque<(Instant, ServiceName)>,
    /// How many of these changed since.
    held: usize,
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
        if let Some(pace) = &mut self.pace
            && let Some(again) = pace.told.get_mut(name)
        {
            pace.held += usize::from(!std::mem::replace(again, true));
        } else if !self.services.contains(name) {
            self.services.insert(name.clone());
        }
    }

    /// A service is told at most once in `interval` from now on.
    pub(crate) fn pace(&mut self, interval: Duration, now: Instant) {
        let (told, times) = (BTreeMap::new(), VecDeque::new());
        self.pace = (!interval.is_zero()).then_some(Pace { interval, now, told, times, held: 0 });
    }

    /// It is `now`: services that waited long enough are told.
    pub(crate) fn advance(&mut self, now: Instant) {
        let Some(pace) = &mut self.pace else { return };
        pace.now = now;
        while let Some((_, name)) = pace.times.pop_front_if(|(due, _)| *due <= now) {
            if pace.told.remove(&name) == Some(true) {
                pace.held -= 1;
                self.services.insert(name);
            }
        }
    }

    /// When to call [`Self::advance`].
    pub(crate) fn next(&self) -> Option<Instant> {
        let pace = self.pace.as_ref().filter(|pace| pace.held > 0)?;
        pace.times.front().map(|(due, _)| *due)
    }

    pub(crate) fn poll(&mut self) -> Option<Event> {
        match self.workloads.pop_first() {
            Some((workload, Kind::Up)) => Some(Event::Up(workload)),
            Some((workload, Kind::Changed)) => Some(Event::Changed(workload)),
            Some((workload, Kind::Gone)) => Some(Event::Gone(workload)),
            None => self.poll_service().map(Event::ServiceChanged),
        }
    }

    fn poll_service(&mut self) -> Option<ServiceName> {
        let name = self.services.pop_first()?;
        if let Some(pace) = &mut self.pace {
            pace.told.insert(name.clone(), false);
            pace.times.push_back((pace.now + pace.interval, name.clone()));
        }
        Some(name)
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

    #[test]
    fn a_service_that_changes_all_the_time_is_told_at_once_and_then_once_an_interval() {
        let (mut events, start, slot) = (Events::default(), Instant::now(), Duration::from_millis(100));
        let name: ServiceName = "a.b".parse().unwrap();
        events.pace(slot, start);
        let mut told = Vec::new();
        for step in 0..1000 {
            let now = start + Duration::from_millis(step);
            events.advance(now);
            events.service(&name);
            told.extend(std::iter::from_fn(|| events.poll()).map(|_| step));
        }
        assert_eq!(told, (0..10).map(|slot| slot * 100).collect::<Vec<_>>());
        let due = events.next().unwrap();
        assert_eq!(due, start + Duration::from_millis(1000));
        events.advance(due);
        assert_eq!((events.next(), events.poll()), (None, Some(Event::ServiceChanged(name))));
        events.advance(due + slot);
        assert!(events.poll().is_none() && events.next().is_none());
        assert!(events.pace.is_some_and(|pace| pace.told.is_empty() && pace.times.is_empty()));
    }
}
