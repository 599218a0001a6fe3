//! Named, tracked tasks that are cancelled together.
//!
//! Owns who is alive, how each task ended, and the one failure that stops the process. A task that panics is always
//! logged by name; when a critical one fails, panics or ends early, everything is cancelled and the reason kept, so that a
//! process never limps on without saying so. What a task does, and when to shut down, is the caller's business.

use futures_util::FutureExt;
use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// A group of tasks. Clones are handles to the same group.
#[derive(Clone)]
pub struct Tasks {
    group: Arc<Group>,
}

/// Why everything was cancelled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("task {task} failed: {reason}")]
pub struct Failure {
    /// The task that failed.
    pub task: String,
    /// What it reported, its panic message, or that it ended early.
    pub reason: String,
}

/// What a task may end with: nothing, never, or a result whose error is logged under the task's name.
pub trait TaskEnd {
    /// The error, if it ended with one.
    fn error(self) -> Option<String>;
}

impl TaskEnd for () {
    fn error(self) -> Option<String> {
        None
    }
}

impl<T, E: fmt::Display> TaskEnd for Result<T, E> {
    fn error(self) -> Option<String> {
        self.err().map(|error| error.to_string())
    }
}

#[expect(private_interfaces, reason = "`Returns` only spells the type `!`, which is not private")]
impl TaskEnd for Never {
    fn error(self) -> Option<String> {
        match self {}
    }
}

/// The type of what never ends, as of an endless loop. Only as a function's result may it be named as `!`.
type Never = <fn() -> ! as Returns>::Value;

/// The result of a function type.
trait Returns {
    type Value;
}

impl<T> Returns for fn() -> T {
    type Value = T;
}

struct Group {
    parent: Option<Arc<Group>>,
    token: CancellationToken,
    tracker: TaskTracker,
    alive: Mutex<Names>,
    root: Arc<Root>,
}

#[derive(Default)]
struct Names {
    next: u64,
    of: BTreeMap<u64, Arc<str>>,
}

struct Root {
    token: CancellationToken,
    failure: OnceLock<Failure>,
}

/// A task's entry in its group and in every group above, for as long as it lives.
struct Alive {
    group: Arc<Group>,
    id: u64,
    _tracked: TaskTrackerToken,
    _above: Option<Box<Alive>>,
}

impl Alive {
    fn new(group: &Arc<Group>, name: &Arc<str>) -> Self {
        let above = group.parent.as_ref().map(|parent| Box::new(Self::new(parent, name)));
        let tracked = group.tracker.token();
        let mut names = group.names();
        let id = names.next;
        names.next += 1;
        names.of.insert(id, name.clone());
        drop(names);
        Self { group: group.clone(), id, _tracked: tracked, _above: above }
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.group.names().of.remove(&self.id);
    }
}

impl Group {
    fn names(&self) -> MutexGuard<'_, Names> {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new()
    }
}

impl Tasks {
    /// An empty group with a token of its own.
    pub fn new() -> Self {
        let token = CancellationToken::new();
        let root = Arc::new(Root { token: token.clone(), failure: OnceLock::new() });
        Self::group(None, token, root)
    }

    fn group(parent: Option<Arc<Group>>, token: CancellationToken, root: Arc<Root>) -> Self {
        let group = Group { parent, token, tracker: TaskTracker::new(), alive: Mutex::default(), root };
        Self { group: Arc::new(group) }
    }

    /// A group inside this one: cancelled and waited for with it, but able to shut down alone. A critical failure in it
    /// still cancels everything.
    pub fn child(&self) -> Self {
        Self::group(Some(self.group.clone()), self.group.token.child_token(), self.group.root.clone())
    }

    /// The token that is cancelled when the group shuts down. Every task should end soon after that.
    pub fn token(&self) -> CancellationToken {
        self.group.token.clone()
    }

    /// Resolves when the group has been told to stop.
    pub fn cancelled(&self) -> impl Future<Output = ()> + Send + Sync + 'static {
        self.token().cancelled_owned()
    }

    /// Tells the group to stop, without waiting.
    pub fn cancel(&self) {
        self.group.token.cancel();
    }

    /// Runs `task` on the current runtime. Panics, as tokio does, when called outside of one.
    pub fn spawn<F>(&self, name: impl Into<String>, task: F) -> JoinHandle<()>
    where
        F: Future<Output: TaskEnd> + Send + 'static,
    {
        self.spawn_on(&Handle::current(), name, task)
    }

    /// Runs `task` on the runtime of `handle`.
    pub fn spawn_on<F>(&self, handle: &Handle, name: impl Into<String>, task: F) -> JoinHandle<()>
    where
        F: Future<Output: TaskEnd> + Send + 'static,
    {
        handle.spawn(self.watched(name.into(), false, task))
    }

    /// Runs `task`, which must live until it is cancelled: if it fails, panics or ends before, everything is cancelled
    /// and [`Tasks::failure`] says why.
    pub fn spawn_critical<F>(&self, name: impl Into<String>, task: F) -> JoinHandle<()>
    where
        F: Future<Output: TaskEnd> + Send + 'static,
    {
        self.spawn_critical_on(&Handle::current(), name, task)
    }

    /// [`Tasks::spawn_critical`] on the runtime of `handle`.
    pub fn spawn_critical_on<F>(&self, handle: &Handle, name: impl Into<String>, task: F) -> JoinHandle<()>
    where
        F: Future<Output: TaskEnd> + Send + 'static,
    {
        handle.spawn(self.watched(name.into(), true, task))
    }

    /// Runs `body` on an OS thread of its own, which must end soon after its token is cancelled.
    ///
    /// # Errors
    /// The thread could not be started (a limit on threads or memory).
    pub fn spawn_blocking_thread<F, T>(&self, name: impl Into<String>, body: F) -> io::Result<()>
    where
        F: FnOnce(CancellationToken) -> T + Send + 'static,
        T: TaskEnd,
    {
        self.thread(name.into(), false, body)
    }

    /// Runs `body` on an OS thread of its own, as critical as in [`Tasks::spawn_critical`].
    ///
    /// # Errors
    /// The thread could not be started (a limit on threads or memory).
    pub fn spawn_critical_thread<F, T>(&self, name: impl Into<String>, body: F) -> io::Result<()>
    where
        F: FnOnce(CancellationToken) -> T + Send + 'static,
        T: TaskEnd,
    {
        self.thread(name.into(), true, body)
    }

    /// Records that `task` failed, if nothing failed before, and cancels everything from the root down.
    pub fn fail(&self, task: impl Into<String>, reason: impl Into<String>) {
        let failure = Failure { task: task.into(), reason: reason.into() };
        tracing::error!(
            task = failure.task,
            reason = failure.reason,
            "a critical task failed, everything stops"
        );
        // the first failure is the cause; what fails while everything stops is a consequence
        let _ = self.group.root.failure.set(failure);
        self.group.root.token.cancel();
    }

    /// The failure that cancelled everything, if one did.
    pub fn failure(&self) -> Option<Failure> {
        self.group.root.failure.get().cloned()
    }

    /// The names of the tasks that are alive, those of child groups included, in the order they were started.
    pub fn alive(&self) -> Vec<String> {
        self.group.names().of.values().map(|name| name.to_string()).collect()
    }

    /// Cancels the group and waits for its tasks, for `deadline` at most.
    ///
    /// # Errors
    /// The names of the tasks that are still alive, which are logged too.
    pub async fn shutdown(&self, deadline: Duration) -> Result<(), Vec<String>> {
        self.cancel();
        self.group.tracker.close();
        if tokio::time::timeout(deadline, self.group.tracker.wait()).await.is_ok() {
            return Ok(());
        }
        let alive = self.alive();
        tracing::error!(alive = alive.join(", "), ?deadline, "tasks still run after the shutdown deadline");
        Err(alive)
    }

    fn watched<F>(&self, name: String, critical: bool, task: F) -> impl Future<Output = ()> + Send + 'static
    where
        F: Future<Output: TaskEnd> + Send + 'static,
    {
        let name: Arc<str> = name.into();
        let (tasks, alive) = (self.clone(), Alive::new(&self.group, &name));
        // unwind safety: nothing that the task held is looked at again after a panic
        AssertUnwindSafe(task).catch_unwind().map(move |end| {
            tasks.ended(&name, critical, end.map(TaskEnd::error));
            drop(alive);
        })
    }

    fn thread<F, T>(&self, name: String, critical: bool, body: F) -> io::Result<()>
    where
        F: FnOnce(CancellationToken) -> T + Send + 'static,
        T: TaskEnd,
    {
        let shared: Arc<str> = name.as_str().into();
        let (tasks, alive, token) = (self.clone(), Alive::new(&self.group, &shared), self.token());
        std::thread::Builder::new().name(name).spawn(move || {
            let end = catch_unwind(AssertUnwindSafe(|| body(token).error()));
            tasks.ended(&shared, critical, end);
            drop(alive);
        })?;
        Ok(())
    }

    fn ended(&self, name: &str, critical: bool, end: Result<Option<String>, Box<dyn Any + Send>>) {
        // what goes wrong during a shutdown did not cause it
        let critical = critical && !self.group.token.is_cancelled();
        let reason = match end {
            Ok(None) if critical => "it ended although nothing asked it to".to_owned(),
            Ok(None) => return,
            Ok(Some(error)) => error,
            Err(panic) => format!("it panicked: {}", panic_message(&*panic)),
        };
        if critical {
            self.fail(name, reason);
        } else {
            tracing::error!(task = name, reason, "a task failed");
        }
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks").field("alive", &self.alive()).field("failure", &self.failure()).finish()
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests;
