//! One gateway of a peer: its connections and the copy of its exports.

use crate::SILENT_AFTER;
use crate::import::{ImportRules, Importer};
use causeway_model::{Epoch, Revision};
use std::time::{Duration, Instant};

/// How long the copy of a gateway without connections is kept, so that a new connection can resume from it.
const FORGET_AFTER: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub(super) struct Node {
    pub(super) importer: Importer,
    connections: usize,
    closed_at: Instant,
}

impl Node {
    pub(super) fn new(now: Instant, rules: ImportRules) -> Self {
        Self { importer: Importer::new(rules), connections: 0, closed_at: now }
    }

    pub(super) fn open(&mut self) -> Option<(Epoch, Revision)> {
        self.connections += 1;
        self.importer.handle_open();
        self.importer.have()
    }

    /// Counts a connection as closed; false if none was open.
    pub(super) fn close(&mut self, now: Instant) -> bool {
        self.closed_at = now;
        let open = self.is_open();
        self.connections = self.connections.saturating_sub(1);
        open
    }

    pub(super) fn is_open(&self) -> bool {
        self.connections > 0
    }

    pub(super) fn closed_at(&self) -> Instant {
        self.closed_at
    }

    /// Forgets the copy; the connections stay.
    pub(super) fn reset(&mut self, rules: ImportRules) {
        self.importer = Importer::new(rules);
    }

    /// Until when the copy counts as what the gateway has, unless it is confirmed again.
    pub(super) fn speaks_until(&self) -> Option<Instant> {
        self.importer.confirmed().map(|at| at + SILENT_AFTER)
    }

    pub(super) fn speaks(&self, now: Instant) -> bool {
        self.is_open() && self.speaks_until().is_some_and(|until| now < until)
    }

    pub(super) fn is_forgotten(&self, now: Instant) -> bool {
        !self.is_open() && now.saturating_duration_since(self.closed_at) >= FORGET_AFTER
    }

    /// When time changes something; a `voice` is not forgotten.
    pub(super) fn poll_timeout(&self, voice: bool) -> Option<Instant> {
        let forget = (!self.is_open() && !voice).then(|| self.closed_at + FORGET_AFTER);
        self.importer.poll_timeout().into_iter().chain(forget).min()
    }
}
