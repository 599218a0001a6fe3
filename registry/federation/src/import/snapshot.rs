//! A snapshot that is being received: it is built aside, within the same bounds, and takes the place of the copy with its
//! last part.

use super::change::{CopyChange, Refusals};
use super::rules::ImportRules;
use super::table::{Ground, Table};
use crate::SILENT_AFTER;
use causeway_model::{Epoch, Revision};
use causeway_wire::view::ExportSummary;
use std::time::{Duration, Instant};

/// The most parts of a snapshot: more than the largest exports that are taken fill.
const MAX_PARTS: u32 = 4096;
/// When what was received of a snapshot is dropped because no part follows.
const ABANDONED_AFTER: Duration = Duration::from_secs(30);

/// The parts so far of one snapshot. Its parts are the same on whichever connection to the gateway they come, because
/// there is one content for each (epoch, revision).
#[derive(Debug)]
pub(super) struct Assembly {
    at: (Epoch, Revision),
    next: u32,
    began: Instant,
    touched: Instant,
    table: Table,
    /// What was refused; what changed is known at the end only.
    refusals: Refusals,
}

/// What a part is to the snapshot that is being received.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The part that is expected.
    Next,
    /// The first part of another snapshot.
    Begin,
    /// One that is here already, or one of an older snapshot.
    Repeated,
    /// A part before it is missing.
    Missing,
    /// More parts than a snapshot may have.
    TooMany,
}

impl Assembly {
    pub(super) fn new(at: (Epoch, Revision), now: Instant) -> Self {
        Self { at, next: 0, began: now, touched: now, table: Table::default(), refusals: Refusals::default() }
    }

    pub(super) fn step(current: Option<&Self>, now: Instant, at: (Epoch, Revision), index: u32) -> Step {
        if index >= MAX_PARTS {
            return Step::TooMany;
        }
        let Some(current) = current else {
            return if index == 0 { Step::Begin } else { Step::Missing };
        };
        let moving = current.is_moving(now);
        if at == current.at && index == current.next {
            Step::Next
        } else if moving && (at < current.at || at == current.at && index < current.next) {
            Step::Repeated
        } else if index == 0 {
            Step::Begin
        } else {
            Step::Missing
        }
    }

    pub(super) fn add(&mut self, now: Instant, ground: Ground<'_>, part: Vec<ExportSummary>) {
        for summary in part {
            self.table.add(ground, summary, &mut self.refusals);
        }
        self.table.enforce_cap(ground.rules, &mut self.refusals);
        self.next += 1;
        self.touched = now;
    }

    /// When its first part came.
    pub(super) fn began(&self) -> Instant {
        self.began
    }

    /// Whether parts still come.
    pub(super) fn is_moving(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.touched) < SILENT_AFTER
    }

    pub(super) fn expires(&self) -> Instant {
        self.touched + ABANDONED_AFTER
    }

    /// Puts the snapshot in the place of `table`.
    pub(super) fn finish(self, table: &mut Table, event: u64) -> CopyChange {
        table.replace_by(self.table, self.refusals, event)
    }

    /// The bounds are others now.
    pub(super) fn handle_rules(&mut self, rules: &ImportRules) {
        self.table.enforce_cap(rules, &mut self.refusals);
    }
}

#[cfg(test)]
impl Assembly {
    pub(super) fn held(&self) -> usize {
        self.table.len()
    }
}
