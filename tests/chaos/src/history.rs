//! Recorded histories of concurrent clients, and whether they are linearizable.
//!
//! A call is recorded before it is made and its outcome after it is known, in one order for all clients: that is the order in time
//! that a linearization must respect. A call without a known outcome stays open to the end of the history: it may have taken
//! effect at any time after its invocation, or never. Histories are kept for each key, since a history is linearizable when
//! that of each key is.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};
use todc_utils::linearizability::WGLChecker;
use todc_utils::linearizability::history::{Action, History};
use todc_utils::specifications::Specification;

/// One call.
#[derive(Clone, Debug)]
pub struct Call<O> {
    /// Who made it, for whoever reads the history.
    pub client: String,
    /// What was asked and answered: the operation with its outcome once it is known.
    pub operation: O,
    /// When it was invoked, since the recording began.
    pub invoked: Duration,
    /// Its place in the order of all events.
    start: usize,
    /// When it was answered, and that event's place. Nothing while, or since, the outcome is unknown.
    returned: Option<(Duration, usize)>,
}

/// Which call is to be answered.
#[derive(Clone, Copy, Debug)]
pub struct CallId(usize);

/// The calls for one key.
#[derive(Clone, Debug)]
pub struct Calls<O>(Vec<Call<O>>);

/// Records the calls of concurrent clients by key.
#[derive(Debug)]
pub struct Recorder<O> {
    began: Instant,
    state: Mutex<State<O>>,
}

#[derive(Debug)]
struct State<O> {
    events: usize,
    /// Nothing stands where a call told nothing.
    calls: BTreeMap<String, Vec<Option<Call<O>>>>,
}

impl<O> Default for Recorder<O> {
    fn default() -> Self {
        let state = State { events: 0, calls: BTreeMap::new() };
        Self { began: Instant::now(), state: Mutex::new(state) }
    }
}

impl<O: Clone> Recorder<O> {
    /// A call is about to be made. `operation` stands for it as long as its outcome is unknown.
    pub fn invoke(&self, key: &str, client: &str, operation: O) -> CallId {
        let mut state = self.locked();
        let start = state.next();
        let calls = state.calls.entry(key.to_owned()).or_default();
        let (client, invoked) = (client.to_owned(), self.began.elapsed());
        calls.push(Some(Call { client, operation, invoked, start, returned: None }));
        CallId(calls.len() - 1)
    }

    /// It was answered; `operation` is what is known now.
    pub fn complete(&self, key: &str, id: CallId, operation: O) {
        let mut state = self.locked();
        let at = state.next();
        let call =
            state.calls.get_mut(key).and_then(|calls| calls[id.0].as_mut()).expect("a call that was invoked");
        call.operation = operation;
        call.returned = Some((self.began.elapsed(), at));
    }

    /// It is known to have changed nothing, and told nothing: a change that was refused, a read without an answer.
    pub fn forget(&self, key: &str, id: CallId) {
        let mut state = self.locked();
        state.calls.get_mut(key).expect("a key that was invoked")[id.0] = None;
    }

    /// What was recorded, by key.
    pub fn histories(&self) -> BTreeMap<String, Calls<O>> {
        let state = self.locked();
        state
            .calls
            .iter()
            .map(|(key, calls)| (key.clone(), Calls(calls.iter().flatten().cloned().collect())))
            .collect()
    }

    fn locked(&self) -> MutexGuard<'_, State<O>> {
        self.state.lock().unwrap()
    }
}

impl<O> State<O> {
    fn next(&mut self) -> usize {
        self.events += 1;
        self.events
    }
}

impl<O: Clone + Debug> Calls<O> {
    /// How many calls there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many of them have no known outcome.
    pub fn open(&self) -> usize {
        self.0.iter().filter(|call| call.returned.is_none()).count()
    }

    /// The operations, to be changed: a test of the checker makes a wrong history of a right one.
    pub fn operations(&mut self) -> impl DoubleEndedIterator<Item = &mut O> {
        self.0.iter_mut().map(|call| &mut call.operation)
    }

    /// Whether there is an order of the calls, each between its invocation and its answer, in which `S` gives these answers.
    pub fn is_linearizable<S: Specification<Operation = O>>(&self) -> bool {
        // the checker takes no empty history
        self.is_empty() || WGLChecker::<S>::is_linearizable(History::from_actions(self.actions()))
    }

    /// The history for whoever has to find out what went wrong.
    pub fn text(&self) -> String {
        let ms = |time: Duration| format!("{:9.1}", time.as_secs_f64() * 1e3);
        let lines = self.0.iter().map(|call| {
            let end = call.returned.map_or_else(|| "        ?".to_owned(), |(end, _)| ms(end));
            format!("{} {end} ms  {:<12} {:?}\n", ms(call.invoked), call.client, call.operation)
        });
        lines.collect()
    }

    /// The events in their order, each call a process of its own; open calls are answered at the end.
    fn actions(&self) -> Vec<(usize, Action<O>)> {
        let mut events = Vec::with_capacity(self.0.len() * 2);
        for (process, call) in self.0.iter().enumerate() {
            let end = call.returned.map_or(usize::MAX, |(_, at)| at);
            events.push((call.start, process, Action::Call(call.operation.clone())));
            events.push((end, process, Action::Response(call.operation.clone())));
        }
        events.sort_by_key(|(at, process, _)| (*at, *process));
        events.into_iter().map(|(_, process, action)| (process, action)).collect()
    }
}
