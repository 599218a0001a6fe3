//! The task that probes: sends what is due, counts what is overdue.

use super::Inner;
use super::link::Link;
use super::table::Table;
use crate::path::Transition;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// The shortest sleep: timers that are due within it are served together.
const MIN_SLEEP: Duration = Duration::from_millis(1);

/// What to wait for before the next round.
struct Wait {
    until: Option<Instant>,
    /// The socket's buffer was full: a probe waits for room.
    writable: bool,
}

pub(super) async fn run(inner: Arc<Inner>, token: CancellationToken) {
    while !token.is_cancelled() {
        let wait = inner.probe_round();
        let sleep = async {
            match wait.until {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        let room = async {
            match wait.writable {
                true => inner.io.room().await,
                false => std::future::pending().await,
            }
        };
        tokio::select! {
            () = token.cancelled() => {}
            () = sleep => {}
            () = room => {}
            () = inner.wake.notified() => {}
        }
    }
}

impl Inner {
    /// Serves every timer that has expired.
    fn probe_round(&self) -> Wait {
        let (now, clock) = (Instant::now(), self.clock());
        let table = self.table.load();
        let mut wait = Wait { until: None, writable: false };
        for link in table.links() {
            self.expire(link, now, clock);
            wait.writable |= !self.send_due(&table, link, now, clock);
            let (due, timeout) = link.step(|path| (path.next_due(link.in_use(clock)), path.next_timeout()));
            // a probe that is due at once could not be sent: it waits for room or for keys
            wait.until = [wait.until, due, timeout].into_iter().flatten().min();
        }
        wait.until = wait.until.map(|until| until.max(now + MIN_SLEEP));
        wait
    }

    fn expire(&self, link: &Link, now: Instant, clock: u64) {
        let (change, missed) = link.step(|path| {
            let before = path.missed();
            (path.on_timeout(now), path.missed() - before)
        });
        self.metrics.probes_missed.inc_by(missed);
        self.on_change(link, change, clock);
    }

    /// Sends the probe that is due, if one is; false when the socket has no room for it.
    fn send_due(&self, table: &Table, link: &Link, now: Instant, clock: u64) -> bool {
        let Some(attached) = table.attached.as_deref() else { return true };
        let in_use = link.in_use(clock);
        let Some(seq) = link.step(|path| path.poll_probe(now, in_use)) else { return true };
        let (probe, key) = link.probe(attached, seq, in_use);
        match self.io.send(|socket| socket.send_to(&probe.encode(&key), link.addr)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                link.step(|path| path.cancel(seq));
                return false;
            }
            // no route, no buffers: an unanswered probe says it soon enough
            Err(error) => tracing::debug!(addr = %link.addr, %error, "a probe could not be sent"),
            Ok(_) => {}
        }
        self.metrics.probes_sent.inc();
        true
    }

    /// Publishes and logs a link's change.
    pub(super) fn on_change(&self, link: &Link, change: Option<Transition>, clock: u64) {
        let Some(change) = change else { return };
        if change == Transition::Dead && !link.is_direct() && link.in_use(clock) {
            self.switches.fetch_add(1, Ordering::Relaxed);
            self.metrics.gateway_switches.inc();
        }
        self.refresh();
        let (peer, addr) = (link.peer_name(), link.addr);
        match change {
            Transition::Alive => tracing::info!(%peer, %addr, "path is up: it answers probes"),
            Transition::Dead => {
                tracing::warn!(%peer, %addr, "path is down: it does not answer probes, takes no packets, or was started again")
            }
        }
    }
}
