//! A watch has no gap and no repeat.

use crate::*;
use causeway_model::*;
use proptest::prelude::*;

fn named(n: usize) -> Event {
    Event::ServiceChanged(format!("s{n}.shop").parse().unwrap())
}

#[test]
fn a_watcher_within_the_log_gets_deltas_and_an_older_one_a_snapshot() {
    let mut log = EventLog::with_capacity(Revision(10), 3);
    assert_eq!(log.since(Revision(9)), Replay::Snapshot);
    assert_eq!(log.since(Revision(10)), Replay::Deltas(vec![]));
    log.record(Revision(11), &[named(1), named(2)]);
    log.record(Revision(12), &[]);
    log.record(Revision(13), &[named(3)]);
    assert_eq!(log.latest(), Revision(13));
    assert_eq!(log.since(Revision(11)), Replay::Deltas(vec![(Revision(13), named(3))]));
    log.record(Revision(14), &[named(4)]);
    assert_eq!(log.since(Revision(10)), Replay::Snapshot, "revision 11 was cut in two");
    let later = vec![(Revision(13), named(3)), (Revision(14), named(4))];
    assert_eq!(log.since(Revision(11)), Replay::Deltas(later));
    assert_eq!(log.since(Revision(99)), Replay::Deltas(vec![]));
    log.record(Revision(14), &[named(5)]);
    assert_eq!(log.since(Revision(13)), Replay::Deltas(vec![(Revision(14), named(4))]));
    log.reset(Revision(20));
    assert_eq!(log.since(Revision(19)), Replay::Snapshot);
    assert_eq!(log.since(Revision(20)), Replay::Deltas(vec![]));
}

#[test]
fn a_log_without_room_always_says_snapshot() {
    let mut log = EventLog::with_capacity(Revision(0), 0);
    log.record(Revision(1), &[named(1)]);
    assert_eq!(log.since(Revision(0)), Replay::Snapshot);
    assert_eq!(log.since(Revision(1)), Replay::Deltas(vec![]));
}

#[derive(Clone, Debug)]
enum Step {
    Record { skip: u64, events: usize },
    Reset { skip: u64 },
    Poll(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1..4_u64, 0..4_usize).prop_map(|(skip, events)| Step::Record { skip, events }),
        1 => (1..4_u64).prop_map(|skip| Step::Reset { skip }),
        4 => (0..3_usize).prop_map(Step::Poll),
    ];
    prop::collection::vec(step, 0..100)
}

/// A watcher: the revision that it has reached, and the events of the truth that it has been told or that its snapshots
/// have covered.
#[derive(Clone, Debug, Default)]
struct Watcher {
    reached: Revision,
    covered: usize,
}

impl Watcher {
    fn poll(&mut self, log: &EventLog, truth: &[(Revision, Event)]) {
        match log.since(self.reached) {
            Replay::Snapshot => self.covered = truth.len(),
            Replay::Deltas(deltas) => {
                assert_eq!(deltas, truth[self.covered..], "a gap or a repeat");
                self.covered = truth.len();
            }
        }
        self.reached = log.latest();
    }
}

proptest! {
    #[test]
    fn a_watch_has_no_gap_and_no_repeat(steps in steps(), capacity in 0..12_usize) {
        let mut log = EventLog::with_capacity(Revision(0), capacity);
        let mut truth: Vec<(Revision, Event)> = Vec::new();
        let mut watchers = vec![Watcher::default(); 3];
        for step in steps {
            match step {
                Step::Record { skip, events } => {
                    let revision = Revision(log.latest().0 + skip);
                    let new: Vec<Event> = (0..events).map(|i| named(truth.len() + i)).collect();
                    log.record(revision, &new);
                    truth.extend(new.into_iter().map(|event| (revision, event)));
                }
                Step::Reset { skip } => {
                    // a snapshot replaced the catalog: what happened in between has no events here
                    let revision = Revision(log.latest().0 + skip);
                    truth.push((revision, Event::ClusterChanged));
                    log.reset(revision);
                }
                Step::Poll(who) => watchers[who].poll(&log, &truth),
            }
        }
        for watcher in &mut watchers {
            watcher.poll(&log, &truth);
            prop_assert_eq!(watcher.covered, truth.len());
        }
    }

    #[test]
    fn a_watcher_that_keeps_up_never_needs_a_snapshot(batches in prop::collection::vec(0..4_usize, 0..50)) {
        let mut log = EventLog::with_capacity(Revision(0), 4);
        let mut reached = Revision(0);
        for (i, events) in batches.into_iter().enumerate() {
            let new: Vec<Event> = (0..events).map(named).collect();
            log.record(Revision(i as u64 + 1), &new);
            let Replay::Deltas(deltas) = log.since(reached) else { panic!("snapshot at {reached}") };
            prop_assert_eq!(deltas.len(), events);
            reached = log.latest();
        }
    }
}
