//! What one service's export is, as an operator sees it: a set of clusters. The sequential specification of
//! `PUT /v1/exports/SERVICE`, `DELETE /v1/exports/SERVICE[?from=CLUSTER]` and `GET /v1/exports`.

use std::collections::BTreeSet;
use todc_utils::specifications::Specification;

/// The clusters that a service is exported to, by number.
pub type To = BTreeSet<u32>;

/// How a withdrawal ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withdrawn {
    /// It was exported, and is no more.
    Done,
    /// It was not exported to these.
    NotExported,
    /// Nobody knows.
    Unknown,
}

/// An operation with its outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Export {
    /// Exports to one more cluster; without a condition, so that an unknown outcome needs no word of its own.
    Add(u32),
    /// Withdraws the export to one cluster.
    Remove(u32, Withdrawn),
    /// Withdraws the export.
    Clear(Withdrawn),
    /// Reads; nothing if no answer came.
    Read(Option<To>),
}

/// The specification.
#[derive(Debug)]
pub struct ExportSpec;

impl Specification for ExportSpec {
    type State = To;
    type Operation = Export;

    fn init() -> To {
        To::new()
    }

    fn apply(operation: &Export, state: &To) -> (bool, To) {
        let mut next = state.clone();
        let fits = match operation {
            Export::Add(cluster) => {
                next.insert(*cluster);
                true
            }
            Export::Remove(cluster, outcome) => outcome.fits(next.remove(cluster)),
            Export::Clear(outcome) => {
                let exported = !next.is_empty();
                next.clear();
                outcome.fits(exported)
            }
            Export::Read(seen) => seen.as_ref().is_none_or(|seen| seen == state),
        };
        if fits { (true, next) } else { (false, state.clone()) }
    }
}

impl Withdrawn {
    /// Whether it may end like this where there was something to withdraw, or nothing.
    fn fits(self, was_there: bool) -> bool {
        match self {
            Self::Done => was_there,
            Self::NotExported => !was_there,
            Self::Unknown => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Recorder;

    /// One step of a history: a call begins or is answered.
    enum Step {
        Begin(&'static str, Export),
        End(&'static str, Export),
    }
    use Export::{Add, Clear, Read, Remove};
    use Step::{Begin, End};
    use Withdrawn::{Done, NotExported, Unknown};

    fn saw(clusters: &[u32]) -> Export {
        Read(Some(clusters.iter().copied().collect()))
    }

    fn linearizable(steps: Vec<Step>) -> bool {
        let recorder = Recorder::default();
        let mut running = std::collections::BTreeMap::new();
        for step in steps {
            match step {
                Begin(client, operation) => {
                    running.insert(client, recorder.invoke("a.b", client, operation));
                }
                End(client, operation) => {
                    recorder.complete("a.b", running.remove(client).unwrap(), operation);
                }
            }
        }
        recorder.histories()["a.b"].is_linearizable::<ExportSpec>()
    }

    /// Calls one after the other.
    fn sequence(operations: &[Export]) -> Vec<Step> {
        let each = operations.iter();
        each.flat_map(|operation| [Begin("a", operation.clone()), End("a", operation.clone())]).collect()
    }

    #[test]
    fn what_one_client_does_is_seen_by_it() {
        let all = [
            saw(&[]),
            Add(1),
            Add(2),
            saw(&[1, 2]),
            Remove(1, Done),
            Remove(1, NotExported),
            saw(&[2]),
            Clear(Done),
            Clear(NotExported),
            saw(&[]),
        ];
        assert!(linearizable(sequence(&all)));
    }

    #[test]
    fn a_lost_write_is_refused() {
        assert!(!linearizable(sequence(&[Add(1), saw(&[])])));
        assert!(!linearizable(sequence(&[Add(1), Remove(1, NotExported)])));
        assert!(!linearizable(sequence(&[Add(1), Remove(1, Done), saw(&[1])])), "a lost delete");
        assert!(!linearizable(sequence(&[Add(1), Add(2), Clear(Done), saw(&[2])])), "a part of it");
    }

    #[test]
    fn a_stale_read_is_refused_and_a_concurrent_one_is_not() {
        let reader_begins_after = |late: bool| {
            let (write, read) = (Add(1), saw(&[]));
            let mut steps = vec![Begin("w", write.clone())];
            if !late {
                steps.push(Begin("r", read.clone()));
            }
            steps.push(End("w", write));
            if late {
                steps.push(Begin("r", read.clone()));
            }
            steps.push(End("r", read));
            linearizable(steps)
        };
        assert!(reader_begins_after(false));
        assert!(!reader_begins_after(true));
        // two readers see the write and then do not, while it goes on
        assert!(!linearizable(vec![
            Begin("w", Add(1)),
            Begin("r", saw(&[1])),
            End("r", saw(&[1])),
            Begin("s", saw(&[])),
            End("s", saw(&[])),
            End("w", Add(1)),
        ]));
    }

    #[test]
    fn an_open_write_may_take_effect_late_or_never_but_not_twice() {
        let open = || vec![Begin("w", Add(1))];
        let then =
            |operations: &[Export]| linearizable(open().into_iter().chain(sequence(operations)).collect());
        assert!(then(&[saw(&[]), saw(&[])]), "never");
        assert!(then(&[saw(&[]), saw(&[1])]), "late");
        assert!(then(&[saw(&[]), saw(&[1]), Remove(1, Done), saw(&[])]));
        assert!(!then(&[saw(&[1]), Remove(1, Done), saw(&[1])]), "twice");
        let removal = vec![Begin("w", Remove(1, Unknown))];
        let after = sequence(&[saw(&[1]), saw(&[]), Add(1), saw(&[])]);
        assert!(
            !linearizable(sequence(&[Add(1)]).into_iter().chain(removal).chain(after).collect()),
            "twice"
        );
    }

    #[test]
    fn long_histories_with_open_calls_are_decided() {
        let recorder = Recorder::default();
        let mut state = To::new();
        for round in 0..15 {
            let concurrent: Vec<_> =
                (0..4).map(|client| (client, recorder.invoke("a.b", "c", Add(round * 4 + client)))).collect();
            for (client, id) in concurrent {
                let cluster = round * 4 + client;
                // one of each twenty is never answered, and never happens
                if cluster % 20 != 7 {
                    recorder.complete("a.b", id, Add(cluster));
                    state.insert(cluster);
                }
            }
            let id = recorder.invoke("a.b", "r", Read(None));
            recorder.complete("a.b", id, Read(Some(state.clone())));
        }
        let mut calls = recorder.histories().remove("a.b").unwrap();
        assert_eq!((calls.len(), calls.open()), (75, 3));
        assert!(calls.is_linearizable::<ExportSpec>());
        // the last read forgets one
        if let Some(Read(Some(seen))) = calls.operations().next_back() {
            assert!(seen.pop_first().is_some());
        }
        assert!(!calls.is_linearizable::<ExportSpec>());
    }
}
