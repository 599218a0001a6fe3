//! What is believed of one gateway of a peer cluster: its copy of the exports that it tells, in its numbering.

mod change;
mod error;
mod offer;
mod rules;
mod snapshot;
mod table;
#[cfg(test)]
mod tests;

pub use change::ImportChange;
pub(crate) use change::{CopyChange, Refusals};
pub use error::ImportError;
pub use offer::Import;
pub use rules::{DEFAULT_EJECT_AFTER, ImportRules, StalePolicy};

use crate::SILENT_AFTER;
use crate::offers::Offers;
use crate::packed::Packed;
use causeway_model::{Epoch, Revision};
use causeway_wire::link::{Exports, ExportsDigest, MAX_EXPORTS_PER_FRAME, SnapshotPart};
use snapshot::{Assembly, Step};
use std::sync::Arc;
use std::time::{Duration, Instant};
use table::Ground;
pub(crate) use table::Table;

/// How long a request for a snapshot may go unanswered before the next one.
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// How long to wait before the offers that the cap kept out are fetched again after room was made.
const REFILL_AFTER: Duration = Duration::from_secs(30);
/// The longest that others wait for a snapshot that one gateway sends.
const PATIENCE: Duration = Duration::from_secs(10);
/// Repairs that do not help are repeated ever more seldom: up to [`ASK_AGAIN`] times two to this power.
const MAX_FRUITLESS: u32 = 7;

/// What a digest says about our copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DigestVerdict {
    /// It is what the speaker has, as far as the cap lets us hold it: the first time on a connection send `HaveExports` with the
    /// position in the digest, which the speaker may not know.
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
pub(crate) struct Importer {
    rules: ImportRules,
    have: Option<(Epoch, Revision)>,
    confirmed: Option<Instant>,
    table: Table,
    assembly: Option<Assembly>,
    asked: Option<Instant>,
    /// A snapshot was asked for then, and nothing of it has come.
    awaited: Option<Instant>,
    /// When the copy of another gateway took the place of this one.
    adopted: Option<Instant>,
    fruitless: u32,
}

impl Importer {
    /// A copy of nothing.
    pub(crate) fn new(rules: ImportRules) -> Self {
        Self {
            rules,
            have: None,
            confirmed: None,
            table: Table::default(),
            assembly: None,
            asked: None,
            awaited: None,
            adopted: None,
            fruitless: 0,
        }
    }

    /// Where the copy ends, for the hello.
    pub(crate) fn have(&self) -> Option<(Epoch, Revision)> {
        self.have
    }

    /// When the copy was last known to be what the speaker has.
    pub(crate) fn confirmed(&self) -> Option<Instant> {
        self.confirmed
    }

    /// Whether the cap keeps offers out.
    pub(crate) fn is_over_cap(&self) -> bool {
        self.table.is_over_cap()
    }

    /// The accepted offers.
    pub(crate) fn offers(&self) -> &Arc<Offers> {
        self.table.offers()
    }

    /// Lets the copy have its offers in common with others: `equal` is the same set.
    pub(crate) fn pool(&mut self, equal: &Arc<Offers>) {
        self.table.pool(equal);
    }

    /// Lets an offer that is here share the memory of an equal one.
    pub(crate) fn share(&mut self, equal: &Arc<Packed>) {
        self.table.share(equal);
    }

    /// The bounds are others now: what exceeds them is dropped, and what fits is fetched when the next digest comes.
    pub(crate) fn handle_rules(&mut self, rules: ImportRules) -> CopyChange {
        self.rules = rules;
        if let Some(assembly) = &mut self.assembly {
            assembly.handle_rules(&self.rules);
        }
        self.table.handle_rules(&self.rules)
    }

    /// What the copy adds up to, in the form in which the speaker says it.
    #[cfg(test)]
    pub(crate) fn digest(&self) -> Option<ExportsDigest> {
        let (epoch, revision) = self.have?;
        let (count, digest) = self.table.digest();
        Some(ExportsDigest { epoch, revision, count, digest })
    }

    /// A new connection to the gateway: a request on an earlier one may be lost.
    pub(crate) fn handle_open(&mut self) {
        self.asked = None;
        self.awaited = None;
    }

    /// A delta or a part of a snapshot. `known` is what other gateways of the peer offer, and `event` counts up.
    ///
    /// # Errors
    ///
    /// [`ImportError::Gap`] when it does not follow from what is here; the rest when the frame breaks the protocol, and then
    /// the connection should be closed. The copy is unchanged in either case.
    pub(crate) fn handle_exports(
        &mut self,
        now: Instant,
        frame: Exports,
        known: &Offers,
        event: u64,
    ) -> Result<CopyChange, ImportError> {
        if frame.upserts.len() > MAX_EXPORTS_PER_FRAME {
            return Err(ImportError::TooManyExports(frame.upserts.len()));
        }
        match frame.snapshot {
            Some(part) => self.handle_part(now, frame, part, (known, event)),
            None if frame.to < frame.from => Err(ImportError::Backwards { from: frame.from, to: frame.to }),
            None => self.handle_delta(now, frame, (known, event)),
        }
    }

    fn handle_delta(
        &mut self,
        now: Instant,
        frame: Exports,
        (known, event): (&Offers, u64),
    ) -> Result<CopyChange, ImportError> {
        match self.have {
            Some((epoch, revision)) if epoch == frame.epoch && frame.from <= revision => {
                if frame.to <= revision {
                    return Ok(CopyChange::default());
                }
            }
            _ if self.is_late(now, (frame.epoch, frame.to)) => return Ok(CopyChange::default()),
            _ => return Err(self.gap(now, frame.epoch, frame.from)),
        }
        let change =
            self.table.apply(Ground { rules: &self.rules, known, event }, frame.upserts, &frame.removed);
        self.have = Some((frame.epoch, frame.to));
        self.confirmed = Some(now);
        Ok(change)
    }

    fn handle_part(
        &mut self,
        now: Instant,
        frame: Exports,
        part: SnapshotPart,
        (known, event): (&Offers, u64),
    ) -> Result<CopyChange, ImportError> {
        let at = (frame.epoch, frame.to);
        if self.is_late(now, at) {
            return Ok(CopyChange::default());
        }
        match Assembly::step(self.assembly.as_ref(), now, at, part.index) {
            Step::Next => {}
            Step::Begin => self.assembly = Some(Assembly::new(at, now)),
            Step::Repeated => return Ok(CopyChange::default()),
            // the end of a copy of the snapshot that another connection completed
            Step::Missing if self.assembly.is_none() && self.have == Some(at) => {
                return Ok(CopyChange::default());
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
        self.awaited = None;
        let Some(assembly) = &mut self.assembly else { return Ok(CopyChange::default()) };
        assembly.add(now, Ground { rules: &self.rules, known, event }, frame.upserts);
        if !part.last {
            return Ok(CopyChange::default());
        }
        let change = self.assembly.take().map(|done| done.finish(&mut self.table, event)).unwrap_or_default();
        self.have = Some(at);
        self.confirmed = Some(now);
        Ok(change)
    }

    /// Whether the copy ends elsewhere than what `digest` is of, and not because that is a late one.
    pub(crate) fn is_behind(&self, now: Instant, digest: &ExportsDigest) -> bool {
        let theirs = (digest.epoch, digest.revision);
        self.have != Some(theirs) && !self.is_late(now, theirs)
    }

    /// The copy, if it is what `digest` adds up to.
    pub(crate) fn equals(&self, digest: &ExportsDigest) -> Option<&Table> {
        let whole = !self.table.is_over_cap() && !self.table.wants_repair();
        (whole && self.table.digest() == (digest.count, digest.digest)).then_some(&self.table)
    }

    /// The copy is what `digest` adds up to: the speaker counts anew, or something was changed and changed back.
    pub(crate) fn renumber(&mut self, now: Instant, digest: &ExportsDigest) {
        self.assembly = None;
        self.asked = None;
        self.awaited = None;
        self.fruitless = 0;
        self.have = Some((digest.epoch, digest.revision));
        self.confirmed = Some(now);
    }

    /// Whether it is time to look at another gateway's copy: to take that over is much more work than to say a digest.
    pub(crate) fn may_adopt(&self, now: Instant) -> bool {
        self.adopted.is_none_or(|at| now.saturating_duration_since(at) >= ASK_AGAIN)
    }

    /// The copy is `table` now, which is what `digest` adds up to.
    pub(crate) fn adopt(
        &mut self,
        now: Instant,
        digest: &ExportsDigest,
        table: Table,
        event: u64,
    ) -> CopyChange {
        self.renumber(now, digest);
        self.adopted = Some(now);
        self.table.adopt(table, event)
    }

    /// Whether a snapshot was asked for, or is under way, for no longer than a snapshot takes.
    pub(crate) fn is_fetching(&self, now: Instant) -> bool {
        let lately = |at: Instant| now.saturating_duration_since(at) < PATIENCE;
        match &self.assembly {
            Some(assembly) => assembly.is_moving(now) && lately(assembly.began()),
            None => self.awaited.is_some_and(|asked| now.saturating_duration_since(asked) < ASK_AGAIN),
        }
    }

    /// What the speaker's exports add up to. A snapshot is asked for only if there is `room` for one.
    pub(crate) fn handle_digest(
        &mut self,
        now: Instant,
        digest: &ExportsDigest,
        room: bool,
    ) -> DigestVerdict {
        let theirs = (digest.epoch, digest.revision);
        if self.have != Some(theirs) {
            if !room || self.is_late(now, theirs) {
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
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.assembly.take_if(|assembly| assembly.expires() <= now);
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
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
        self.awaited = Some(now);
        DigestVerdict::Ask
    }
}
