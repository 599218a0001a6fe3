//! Readiness: whether a process may be sent work, and what it waits for if not.
//!
//! Owns the list of what blocks. Each thing that must happen first takes a guard, and dropping the guard marks it ready.
//! How that is told to others (HTTP, systemd) is not decided here.

use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

/// What a process waits for before it is ready. Clones are handles to the same list.
///
/// It is ready while nothing blocks, so take the guards before the telemetry server is started.
#[derive(Clone, Debug)]
pub struct Readiness {
    state: Arc<watch::Sender<State>>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    blocked: BTreeMap<u64, String>,
    failed: BTreeMap<String, String>,
}

impl State {
    fn is_ready(&self) -> bool {
        self.blocked.is_empty() && self.failed.is_empty()
    }
}

/// Something that must happen before the process is ready. Dropping it marks that as done; dropped by a panic, it marks
/// it as failed.
#[derive(Debug)]
#[must_use = "dropping the guard marks it ready"]
pub struct ReadyGuard {
    state: Arc<watch::Sender<State>>,
    id: u64,
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

impl Readiness {
    /// A list on which nothing blocks yet.
    pub fn new() -> Self {
        Self { state: Arc::new(watch::Sender::new(State::default())) }
    }

    /// Makes readiness wait until the guard is dropped.
    pub fn block(&self, name: impl Into<String>) -> ReadyGuard {
        let mut id = 0;
        self.state.send_modify(|state| {
            id = state.next;
            state.next += 1;
            state.blocked.insert(id, name.into());
        });
        ReadyGuard { state: self.state.clone(), id }
    }

    /// Marks `name` as failed: not ready until [`Readiness::recover`] is called with the same name. A later reason
    /// replaces an earlier one.
    pub fn fail(&self, name: impl Into<String>, why: impl Into<String>) {
        self.state.send_modify(|state| drop(state.failed.insert(name.into(), why.into())));
    }

    /// Takes back [`Readiness::fail`].
    pub fn recover(&self, name: &str) {
        self.state.send_if_modified(|state| state.failed.remove(name).is_some());
    }

    /// Whether nothing blocks and nothing failed.
    pub fn is_ready(&self) -> bool {
        self.state.borrow().is_ready()
    }

    /// What is being waited for, oldest first, then what failed, as `name: why`.
    pub fn pending(&self) -> Vec<String> {
        let state = self.state.borrow();
        let failed = state.failed.iter().map(|(name, why)| format!("{name}: {why}"));
        state.blocked.values().cloned().chain(failed).collect()
    }

    /// Resolves when the process is ready.
    pub fn wait(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut changes = self.state.subscribe();
        let state = self.state.clone();
        async move {
            // `state` keeps the sender alive, without which the wait would end in an error
            let _ = changes.wait_for(State::is_ready).await;
            drop(state);
        }
    }
}

impl Drop for ReadyGuard {
    fn drop(&mut self) {
        self.state.send_modify(|state| {
            if let Some(name) = state.blocked.remove(&self.id)
                && std::thread::panicking()
            {
                state.failed.insert(name, "it panicked".to_owned());
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn it_is_ready_once_every_guard_is_dropped() {
        let readiness = Readiness::new();
        assert!(readiness.is_ready());
        let (tables, probes) = (readiness.block("tables"), readiness.block("first round of probes"));
        assert_eq!(readiness.pending(), ["tables", "first round of probes"]);
        let waiting = tokio::spawn(readiness.wait());
        drop(tables);
        assert!(!readiness.is_ready());
        drop(probes);
        tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap().unwrap();
        assert!(readiness.is_ready());
    }

    #[test]
    fn a_failure_says_why_and_may_recover() {
        let readiness = Readiness::new();
        readiness.fail("registry", "the disk is full");
        assert_eq!(readiness.pending(), ["registry: the disk is full"]);
        assert!(!readiness.is_ready());
        readiness.recover("registry");
        assert!(readiness.is_ready());
    }

    #[test]
    fn a_guard_dropped_by_a_panic_does_not_mark_ready() {
        let readiness = Readiness::new();
        let guard = readiness.block("tables");
        std::thread::spawn(move || {
            let _guard = guard;
            panic!("boom");
        })
        .join()
        .unwrap_err();
        assert_eq!(readiness.pending(), ["tables: it panicked"]);
    }
}
