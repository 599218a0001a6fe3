//! Signals that stop a process, and the one that asks it to look at its files again.
//!
//! Owns the handlers of SIGTERM, SIGINT and SIGHUP, and the exit when an operator asks twice. What to do on the first
//! request is the caller's business.

use std::io;
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// The exit code after a second signal: 128 + SIGINT, what shells use for "interrupted".
pub const FORCED_EXIT: i32 = 130;

/// Takes over SIGTERM and SIGINT at once, and resolves with the name of the first that arrives. A second one ends the
/// process with code 130, whatever its runtimes are doing: the handlers live on a thread of their own.
///
/// # Errors
/// The thread or the handlers could not be set up.
pub fn shutdown_signal() -> io::Result<impl Future<Output = &'static str> + Send + 'static> {
    let (first, received) = oneshot::channel();
    let (ready, installed) = std::sync::mpsc::sync_channel(1);
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let ready_or_not = Builder::new_current_thread().enable_io().build().and_then(|runtime| {
            let entered = runtime.enter();
            let handlers = Stop::new()?;
            drop(entered);
            Ok((runtime, handlers))
        });
        match ready_or_not {
            Ok((runtime, handlers)) => {
                let _ = ready.send(Ok(()));
                runtime.block_on(twice(handlers, first));
            }
            Err(error) => drop(ready.send(Err(error))),
        }
    })?;
    installed.recv().map_err(|_| io::Error::other("the signal thread died before it was ready"))??;
    Ok(async move {
        match received.await {
            Ok(name) => name,
            // the sender never goes without sending, as the thread then waits for good
            Err(_) => std::future::pending().await,
        }
    })
}

/// A stream of SIGHUP, which from then on no longer ends the process. For one who reads its files again when told to.
/// Panics, as tokio does, when called outside of a runtime.
///
/// # Errors
/// The handler could not be set up.
pub fn hangups() -> io::Result<Signal> {
    signal(SignalKind::hangup())
}

struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

async fn twice(mut stop: Stop, first: oneshot::Sender<&'static str>) {
    let name = stop.next().await;
    tracing::info!(signal = name, "shutting down; a second signal ends the process at once");
    let _ = first.send(name);
    let name = stop.next().await;
    tracing::error!(signal = name, "second signal, the process ends without finishing its shutdown");
    std::process::exit(FORCED_EXIT);
}
