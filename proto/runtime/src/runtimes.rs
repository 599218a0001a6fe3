//! The two kinds of tokio runtime: one for control, with several threads, and one single-threaded for each data path, so
//! that work of the control plane adds no latency to traffic.
//!
//! Owns how they are built and named. What runs on them, and shutdown, is the caller's.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use tokio::runtime::{Builder, Runtime};

/// A runtime of `threads` worker threads (at least one), named `control-N`.
///
/// # Errors
/// Threads or descriptors could not be had.
pub fn control_runtime(threads: usize) -> io::Result<Runtime> {
    let next = AtomicUsize::new(0);
    Builder::new_multi_thread()
        .worker_threads(threads.max(1))
        .thread_name_fn(move || format!("control-{}", next.fetch_add(1, Ordering::Relaxed)))
        .enable_all()
        .build()
}

/// Single-threaded runtimes for data paths: two threads with four connections did half the requests of one.
#[derive(Debug)]
pub struct DataRuntime;

impl DataRuntime {
    /// A single-threaded runtime, for a thread that the caller starts.
    ///
    /// # Errors
    /// Descriptors could not be had.
    pub fn build() -> io::Result<Runtime> {
        Builder::new_current_thread().enable_all().build()
    }

    /// Starts a thread called `name` (Linux shows its first 15 characters) with a runtime of its own, and runs on it the
    /// future that `main` makes there. The thread ends with that future; tasks that it spawned and left are dropped.
    ///
    /// # Errors
    /// The thread could not be started or descriptors could not be had.
    pub fn spawn<F, Fut>(name: impl Into<String>, main: F) -> io::Result<JoinHandle<Fut::Output>>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output: Send + 'static>,
    {
        let runtime = Self::build()?;
        std::thread::Builder::new().name(name.into()).spawn(move || runtime.block_on(async { main().await }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    fn thread_name() -> String {
        std::thread::current().name().unwrap_or_default().to_owned()
    }

    #[test]
    fn control_threads_are_named() {
        let runtime = control_runtime(2).unwrap();
        let name = runtime.block_on(async { tokio::spawn(async { thread_name() }).await.unwrap() });
        assert!(name.starts_with("control-"), "{name}");
    }

    #[test]
    fn a_data_runtime_runs_on_its_own_named_thread() {
        let thread = DataRuntime::spawn("data-0", || async {
            let local = Rc::new(7);
            let spawned = tokio::spawn(async { thread_name() }).await.unwrap();
            (*local, spawned)
        })
        .unwrap();
        assert_eq!(thread.join().unwrap(), (7, "data-0".to_owned()));
    }
}
