//! What one connection has sent.

use causeway_model::{Epoch, Revision};
use std::time::{Duration, Instant};

/// The least time between two snapshots that a peer may ask for on one connection: building and sending one is much more
/// work than asking.
pub const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(1);

/// Where one connection stands in what an [`super::Exporter`] has to tell. Made when the peer's hello arrives.
#[derive(Clone, Debug)]
pub struct ExportCursor {
    sent: Option<(Epoch, Revision)>,
    /// Something was sent that leads to `sent`, or the peer is known to be there.
    settled: bool,
    asked: bool,
    snapshot_at: Option<Instant>,
}

impl ExportCursor {
    /// The cursor of a connection whose peer said in its hello that its copy ends at `have`.
    pub fn new(have: Option<(Epoch, Revision)>) -> Self {
        Self { sent: have, settled: false, asked: false, snapshot_at: None }
    }

    /// The peer asked for a snapshot: the next poll sends it, but no earlier than [`SNAPSHOT_INTERVAL`] after the last one
    /// it asked for.
    pub fn handle_send_snapshot(&mut self) {
        self.asked = true;
    }

    /// The peer's copy is what a digest said of this position; returns whether that is news. Once something was sent, only what lies
    /// beyond it is.
    pub fn handle_have(&mut self, at: (Epoch, Revision)) -> bool {
        let beyond = |sent: (Epoch, Revision)| at.0 == sent.0 && at.1 > sent.1;
        let news = self.sent.is_none_or(|sent| beyond(sent) || (!self.settled && at != sent));
        if news {
            self.sent = Some(at);
        }
        news
    }

    /// When to poll again although nothing changed.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.snapshot_at.filter(|_| self.asked).map(|at| at + SNAPSHOT_INTERVAL)
    }

    /// How far this connection has sent.
    pub fn sent(&self) -> Option<(Epoch, Revision)> {
        self.sent
    }

    pub(super) fn take_snapshot_due(&mut self, now: Instant) -> bool {
        let due = self.asked && self.poll_timeout().is_none_or(|at| now >= at);
        if due {
            self.asked = false;
            self.snapshot_at = Some(now);
        }
        due
    }

    pub(super) fn advance(&mut self, position: (Epoch, Revision)) {
        self.sent = Some(position);
        self.settled = true;
    }
}
