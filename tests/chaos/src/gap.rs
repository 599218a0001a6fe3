//! How long nothing succeeded.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// A time in which nothing succeeded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gap {
    /// How long.
    pub length: Duration,
    /// When it began, since the start of the load.
    pub began: Duration,
}

/// The times between successes, from any thread.
#[derive(Debug)]
pub struct Gaps {
    start: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    last: Instant,
    longest: Gap,
    recent: Gap,
}

impl Default for Gaps {
    fn default() -> Self {
        let start = Instant::now();
        let state = State { last: start, longest: Gap::default(), recent: Gap::default() };
        Self { start, state: Mutex::new(state) }
    }
}

impl Gaps {
    /// Something succeeded now.
    pub fn success(&self) {
        let mut state = self.state.lock().unwrap();
        let now = Instant::now();
        let gap =
            Gap { length: now.duration_since(state.last), began: state.last.duration_since(self.start) };
        state.longest = state.longest.max(gap);
        state.recent = state.recent.max(gap);
        state.last = now;
    }

    /// The longest gap, the one that lasts now included.
    pub fn longest(&self) -> Gap {
        let state = self.state.lock().unwrap();
        state.longest.max(self.open(&state))
    }

    /// The longest gap that has ended.
    pub fn longest_closed(&self) -> Gap {
        self.state.lock().unwrap().longest
    }

    /// The longest gap since this was asked last.
    pub fn take_recent(&self) -> Gap {
        let mut state = self.state.lock().unwrap();
        let open = self.open(&state);
        std::mem::take(&mut state.recent).max(open)
    }

    /// When something succeeded last.
    pub fn last(&self) -> Instant {
        self.state.lock().unwrap().last
    }

    fn open(&self, state: &State) -> Gap {
        Gap { length: state.last.elapsed(), began: state.last.duration_since(self.start) }
    }
}
