//! The thread that carries traffic: a single-threaded runtime, which did twice the requests of two threads.

use causeway_runtime::DataRuntime;
use std::io;
use tokio::runtime::Handle;
use tokio::task::JoinError;
use tokio_util::sync::{CancellationToken, DropGuard};

/// The data thread. Dropping it ends it, with whatever runs there.
#[derive(Debug)]
pub(super) struct DataThread {
    handle: Handle,
    stop: DropGuard,
    thread: std::thread::JoinHandle<()>,
}

impl DataThread {
    /// Starts the thread.
    pub(super) fn start() -> io::Result<Self> {
        let stop = CancellationToken::new();
        let (tell, heard) = std::sync::mpsc::sync_channel(1);
        let stopped = stop.clone();
        let thread = DataRuntime::spawn("data", move || async move {
            // the receiver is waiting below
            let _ = tell.send(Handle::current());
            stopped.cancelled().await;
        })?;
        let handle = heard.recv().map_err(|_| io::Error::other("the data thread ended before it began"))?;
        Ok(Self { handle, stop: stop.drop_guard(), thread })
    }

    /// Where tasks of the data path are spawned.
    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Runs `make` on the thread: sockets belong to the runtime that they are made on.
    pub(super) async fn on<T: Send + 'static>(
        &self,
        make: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        self.handle.spawn(async move { make() }).await
    }

    /// Ends the thread and waits for it.
    pub(super) async fn stop(self) {
        drop(self.stop);
        let thread = self.thread;
        // a panic of the thread was reported when it happened
        let _ = tokio::task::spawn_blocking(move || thread.join()).await;
    }
}
