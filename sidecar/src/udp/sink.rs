//! Where the payloads of a flow go that come out of the mesh, and when anything was carried last.

use super::counts::{Counts, DropReason};
use super::socket;
use std::io::{ErrorKind, Result};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// So often an application that has answered before may refuse one after the other, without an answer in between: it may be starting
/// again.
const REFUSALS: u32 = 3;

/// When something was carried last.
#[derive(Debug)]
pub(super) struct Activity {
    began: Instant,
    /// Milliseconds since then.
    last: AtomicU64,
}

impl Activity {
    pub(super) fn new(now: Instant) -> Self {
        Self { began: now, last: AtomicU64::new(0) }
    }

    pub(super) fn touch(&self, now: Instant) {
        let since = now.saturating_duration_since(self.began).as_millis();
        self.last.store(u64::try_from(since).unwrap_or(u64::MAX), Relaxed);
    }

    /// How long nothing was carried.
    pub(super) fn quiet(&self) -> Duration {
        self.began.elapsed().saturating_sub(Duration::from_millis(self.last.load(Relaxed)))
    }
}

/// The application's side of a flow.
#[derive(Debug)]
pub(super) enum Socket {
    /// One of the flow's own, connected to the application that is served.
    Connected(Arc<tokio::net::UdpSocket>),
    /// One that several flows share, and the application that called.
    Shared(Arc<std::net::UdpSocket>, SocketAddr),
}

impl Socket {
    fn send(&self, payload: &[u8]) -> Result<()> {
        match self {
            Self::Connected(socket) => socket::send(socket, payload, None),
            Self::Shared(socket, to) => socket::send(socket, payload, Some(*to)),
        }
    }
}

/// Gives payloads to the application. Never waits.
#[derive(Debug)]
pub(super) struct Sink {
    socket: Socket,
    pub(super) activity: Activity,
    pub(super) counts: Counts,
    /// Refusals since the last answer.
    refusals: AtomicU32,
    /// Wakes who waits for one too many.
    refused: Notify,
}

impl Sink {
    pub(super) fn new(socket: Socket, counts: Counts) -> Self {
        let activity = Activity::new(Instant::now());
        Self { socket, activity, counts, refusals: AtomicU32::new(0), refused: Notify::new() }
    }

    /// A payload came out of the mesh, at about `now`.
    pub(super) fn deliver(&self, payload: &[u8], now: Instant) {
        self.activity.touch(now);
        let mut sent = self.socket.send(payload);
        // that is what became of an earlier payload, and this one was not sent
        if let Err(error) = &sent
            && error.kind() == ErrorKind::ConnectionRefused
        {
            self.refuse();
            sent = self.socket.send(payload);
        }
        match sent {
            Ok(()) => self.counts.add_from_mesh(payload.len()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.counts.dropped(DropReason::SocketFull)
            }
            Err(_) => self.counts.dropped(DropReason::SocketRefused),
        }
    }

    /// The application answered, at about `now`.
    pub(super) fn answered(&self, now: Instant) {
        self.activity.touch(now);
        self.refusals.store(0, Relaxed);
    }

    /// Nobody listened where an earlier payload went.
    pub(super) fn refuse(&self) {
        self.refusals.fetch_add(1, Relaxed);
        self.refused.notify_one();
    }

    /// Resolves when there is no application: it refused what was sent to it, and never answered, or not for a while.
    pub(super) async fn gone(&self, ever_answered: impl Fn() -> bool) {
        loop {
            let least = if ever_answered() { REFUSALS } else { 1 };
            if self.refusals.load(Relaxed) >= least {
                return;
            }
            self.refused.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_time_is_that_since_the_last_payload() {
        let now = Instant::now().checked_sub(Duration::from_secs(10)).unwrap();
        let activity = Activity::new(now);
        assert!(activity.quiet() >= Duration::from_secs(10));
        activity.touch(now + Duration::from_secs(9));
        assert!((Duration::from_millis(900)..Duration::from_secs(9)).contains(&activity.quiet()));
    }
}
