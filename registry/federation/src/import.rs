//! What is believed of one gateway of a peer cluster: its copy of the exports that it tells, in its numbering.

mod error;
mod rules;
mod snapshot;
mod table;
#[cfg(test)]
mod tests;

pub use error::ImportError;
pub use rules::ImportRules;
pub use table::{Import, ImportChange};

use crate::SILENT_AFTER;
use causeway_model::{Epoch, Revision, ServiceHandle};
use causeway_wire::link::{Exports, ExportsDigest, MAX_EXPORTS_PER_FRAME, SnapshotPart};
use snapshot::{Assembly, Step};
use std::time::{Duration, Instant};
use table::Table;

/// How long a request for a snapshot may go unanswered before the next one.
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// How long to wait before the offers that the cap kept out are fetched again after room was made.
const REFILL_AFTER: Duration = Duration::from_secs(30);
/// Repairs that do not help are repeated ever more seldom: up to [`ASK_AGAIN`] times two to this power.
const MAX_FRUITLESS: u32 = 7;

/// What a digest says about our copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DigestVerdict {
    /// It is what the speaker has, as far as the cap lets us hold it.
    InStep,
    /// It differs: send `SendSnapshot`.
    Ask,
    /// It differs, or the digest is a late one; nothing to send now.
    Wait,
}

/// The copy of what one gateway of a peer cluster exports.
///
/// Frames may come over several connections to that gateway, so they may repeat and overlap; within one connection they
/// come in order. A gap leaves the copy as it is and asks for a snapshot. What is older than the copy is taken to be late
/// and ignored while the copy was confirmed within [`SILENT_AFTER`]; after that it is believed, so a gateway that lost
/// its numbering is not shut out.
///
/// Every offer takes a place, a refused one too: its hash is kept, so that the digests of both sides can be compared
/// whatever was refused.
#[derive(Debug)]
pub struct Importer {
    rules: ImportRules,
    have: Option<(Epoch, Revision)>,
    confirmed: Option<Instant>,
    table: Table,
    assembly: Option<Assembly>,
    asked: Option<Instant>,
    fruitless: u32,
}

impl Importer {
    /// A copy of nothing.
    pub fn new(rules: ImportRules) -> Self {
        Self {
            rules,
            have: None,
            confirmed: None,
            table: Table::default(),
            assembly: None,
            asked: None,
            fruitless: 0,
        }
    }

    /// Where the copy ends, for the hello.
    pub fn have(&self) -> Option<(Epoch, Revision)> {
        self.have
    }

    /// When the copy was last known to be what the speaker has.
    pub fn confirmed(&self) -> Option<Instant> {
        self.confirmed
    }

    /// Whether the cap keeps offers out.
    pub fn is_over_cap(&self) -> bool {
        self.table.is_over_cap()
    }

    /// The accepted offers in order of their handles.
    pub fn imports(&self) -> impl Iterator<Item = &Import> {
        self.table.imports()
    }

    /// The accepted offer of `handle`.
    pub fn by_handle(&self, handle: ServiceHandle) -> Option<&Import> {
        self.table.get(handle)
    }

    /// What the copy adds up to, in the form in which the speaker says it.
    pub fn digest(&self) -> Option<ExportsDigest> {
        let (epoch, revision) = self.have?;
        let (count, digest) = self.table.digest();
        Some(ExportsDigest { epoch, revision, count, digest })
    }

    /// A new connection to the gateway: a request on an earlier one may be lost.
    pub fn handle_open(&mut self) {
        self.asked = None;
    }

    /// A delta or a part of a snapshot.
    ///
    /// # Errors
    ///
    /// [`ImportError::Gap`] when it does not follow from what is here; the rest when the frame breaks the protocol, and then
    /// the connection should be closed. The copy is unchanged in either case.
    pub fn handle_exports(&mut self, now: Instant, frame: Exports) -> Result<ImportChange, ImportError> {
        if frame.upserts.len() > MAX_EXPORTS_PER_FRAME {
            return Err(ImportError::TooManyExports(frame.upserts.len()));
        }
        match frame.snapshot {
            Some(part) => self.handle_part(now, frame, part),
            None if frame.to < frame.from => Err(ImportError::Backwards { from: frame.from, to: frame.to }),
            None => self.handle_delta(now, frame),
        }
    }

    fn handle_delta(&mut self, now: Instant, frame: Exports) -> Result<ImportChange, ImportError> {
        match self.have {
            Some((epoch, revision)) if epoch == frame.epoch && frame.from <= revision => {
                if frame.to <= revision {
                    return Ok(ImportChange::default());
                }
            }
            _ if self.is_late(now, (frame.epoch, frame.to)) => return Ok(ImportChange::default()),
            _ => return Err(self.gap(now, frame.epoch, frame.from)),
        }
        let change = self.table.apply(now, &self.rules, frame.upserts, &frame.removed);
        self.have = Some((frame.epoch, frame.to));
        self.confirmed = Some(now);
        Ok(change)
    }

    fn handle_part(
        &mut self,
        now: Instant,
        frame: Exports,
        part: SnapshotPart,
    ) -> Result<ImportChange, ImportError> {
        let at = (frame.epoch, frame.to);
        if self.is_late(now, at) {
            return Ok(ImportChange::default());
        }
        match Assembly::step(self.assembly.as_ref(), now, at, part.index) {
            Step::Next => {}
            Step::Begin => self.assembly = Some(Assembly::new(at, now)),
            Step::Repeated => return Ok(ImportChange::default()),
            // the end of a copy of the snapshot that another connection completed
            Step::Missing if self.assembly.is_none() && self.have == Some(at) => {
                return Ok(ImportChange::default());
            }
            Step::Missing => {
                self.assembly = None;
                return Err(self.gap(now, frame.epoch, frame.to));
            }
            Step::TooMany => {
                self.assembly = None;
                return Err(ImportError::EndlessSnapshot(part.index));
            }
        }
        let Some(assembly) = &mut self.assembly else { return Ok(ImportChange::default()) };
        assembly.add(now, &self.rules, frame.upserts);
        if !part.last {
            return Ok(ImportChange::default());
        }
        let change = self.assembly.take().map(|done| done.finish(&mut self.table)).unwrap_or_default();
        self.have = Some(at);
        self.confirmed = Some(now);
        Ok(change)
    }

    /// What the speaker's exports add up to.
    pub fn handle_digest(&mut self, now: Instant, digest: &ExportsDigest) -> DigestVerdict {
        let theirs = (digest.epoch, digest.revision);
        if self.have != Some(theirs) {
            if self.is_late(now, theirs) {
                return DigestVerdict::Wait;
            }
            return self.ask_after(now, ASK_AGAIN);
        }
        if self.table.is_over_cap() {
            self.confirmed = Some(now);
            let refill = self.table.wants_repair() && self.table.has_room(&self.rules);
            return if refill { self.ask_after(now, REFILL_AFTER) } else { DigestVerdict::InStep };
        }
        if !self.table.wants_repair() && self.table.digest() == (digest.count, digest.digest) {
            self.confirmed = Some(now);
            self.fruitless = 0;
            return DigestVerdict::InStep;
        }
        let verdict = self.ask_after(now, ASK_AGAIN * 2_u32.pow(self.fruitless));
        if verdict == DigestVerdict::Ask {
            self.fruitless = (self.fruitless + 1).min(MAX_FRUITLESS);
        }
        verdict
    }

    /// Drops what is half received of a snapshot whose parts no longer come.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.assembly.take_if(|assembly| assembly.expires() <= now);
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.assembly.as_ref().map(Assembly::expires)
    }

    /// Whether `at` lies before the copy, and the copy was confirmed so lately that it can be no more than late.
    fn is_late(&self, now: Instant, at: (Epoch, Revision)) -> bool {
        let lately = |seen| now.saturating_duration_since(seen) < SILENT_AFTER;
        self.have.is_some_and(|have| at < have) && self.confirmed.is_some_and(lately)
    }

    fn gap(&mut self, now: Instant, epoch: Epoch, from: Revision) -> ImportError {
        let ask = self.ask_after(now, ASK_AGAIN) == DigestVerdict::Ask;
        ImportError::Gap { have: self.have, needed: (epoch, from), ask }
    }

    fn ask_after(&mut self, now: Instant, pause: Duration) -> DigestVerdict {
        let lately = self.asked.is_some_and(|asked| now.saturating_duration_since(asked) < pause);
        if lately || self.assembly.as_ref().is_some_and(|assembly| assembly.is_moving(now)) {
            return DigestVerdict::Wait;
        }
        self.asked = Some(now);
        DigestVerdict::Ask
    }
}
