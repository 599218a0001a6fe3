//! One choice of an endpoint, from when it is made until its connection ends.

use super::{Line, fault_of_end};
use crate::choose::Target;
use crate::relay::End;
use causeway_balance::{Candidate, Choice, Fault};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// What was chosen for one attempt. Tells the balancer how it went; dropping it is the end of the connection.
pub(crate) struct Pick {
    line: Arc<Line>,
    choice: Choice<Target>,
    began: Instant,
    /// Whether its bytes are counted when they come and go.
    timed: bool,
    /// When the application said its first byte, if it spoke first.
    spoke: OnceLock<Instant>,
    /// The endpoint hung up on an application that had said something and was not done.
    hung_up: AtomicBool,
}

impl Pick {
    /// The choice among `candidates`, if there is any. `timed` is whether the bytes of the connection are counted when they come
    /// and go, so that they show how long an answer takes.
    pub(crate) fn new(line: &Arc<Line>, candidates: &[Candidate<Target>], timed: bool) -> Option<Self> {
        let choice = line.choose(candidates)?;
        let (began, spoke, hung_up) = (Instant::now(), OnceLock::new(), AtomicBool::new(false));
        Some(Self { line: Arc::clone(line), choice, began, timed, spoke, hung_up })
    }

    /// What was chosen.
    pub(crate) fn choice(&self) -> &Choice<Target> {
        &self.choice
    }

    /// The endpoint accepted a stream that was opened at `opened`. `spoken` is whether the application said something by then.
    pub(crate) fn accepted(&self, opened: Instant, spoken: bool) {
        if spoken {
            // it may have spoken on an earlier attempt
            self.spoke.get_or_init(|| opened);
        }
        self.line.accepted(self.choice.key, opened.elapsed());
    }

    /// The application says its first byte.
    pub(crate) fn spoke(&self) {
        self.spoke.get_or_init(Instant::now);
    }

    /// The first byte of the answer is here.
    pub(crate) fn answered(&self) {
        let took = self.spoke.get().filter(|_| self.timed).map(Instant::elapsed);
        self.line.answered(self.choice.key, took);
    }

    /// The endpoint has said all that it has, and the application has not. One that nothing was said to may have waited for long
    /// enough.
    pub(crate) fn heard_all_first(&self) {
        self.hung_up.store(self.spoke.get().is_some(), Relaxed);
    }

    /// The endpoint failed.
    pub(crate) fn failed(&self, fault: Fault) {
        if matches!(self.choice.key, Target::Endpoint(..)) {
            self.line.failed(self.choice.key, fault, self.began);
        }
    }

    /// A connection that was carried ended with `end`, after so many bytes into the mesh and out of it.
    pub(crate) fn carried(&self, end: End, (to_mesh, from_mesh): (u64, u64)) {
        if !self.timed {
            return;
        }
        self.line.carried(to_mesh.saturating_add(from_mesh));
        if from_mesh > 0 {
            return;
        }
        match fault_of_end(end) {
            Some(fault) => self.failed(fault),
            // that one is asked and hangs up without a word may be, but not several times in a row
            None if end == End::Done && self.hung_up.load(Relaxed) => self.failed(Fault::Broken),
            None if end == End::Done => self.line.answered(self.choice.key, None),
            None => {}
        }
    }
}

impl fmt::Debug for Pick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pick").field("choice", &self.choice).finish_non_exhaustive()
    }
}

impl Drop for Pick {
    fn drop(&mut self) {
        self.line.ended(self.choice.key, self.choice.trial);
    }
}
