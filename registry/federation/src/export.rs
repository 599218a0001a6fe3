//! What is told to one peer cluster: its exports, numbered.

mod cursor;
mod frames;

pub use cursor::{ExportCursor, SNAPSHOT_INTERVAL};

use crate::digest;
use crate::fault::{OfferFault, check_shape};
use causeway_model::{Epoch, Revision, ServiceHandle, ServiceName};
use causeway_wire::codec::to_vec;
use causeway_wire::link::{Exports, ExportsDigest};
use causeway_wire::view::ExportSummary;
use frames::{Change, Numbering};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

/// How many changes back a peer can resume; one that is further behind gets a snapshot.
pub const MAX_LOG: usize = 4096;

#[derive(Debug)]
struct Held {
    summary: ExportSummary,
    hash: u64,
    /// Encoded, in bytes.
    size: usize,
}

/// An export that the peer would refuse and that it is therefore not told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The service.
    pub name: ServiceName,
    /// Its handle.
    pub handle: ServiceHandle,
    /// What is wrong with it.
    pub fault: OfferFault,
}

/// What a new set of exports came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportOutcome {
    /// How many exports are new, changed or removed: by so much the revision grew.
    pub changed: usize,
    /// What cannot be exported as it is.
    pub left_out: Vec<LeftOut>,
}

/// The exports meant for one peer cluster, as one gateway process tells them.
///
/// Every change of one export is a revision, counted from 1 in the epoch of the process. The handles of the last
/// [`MAX_LOG`] changes are remembered, without the values: a delta always carries the value as it is now, and carries
/// each export once, at the place of its last change. So, after a receiver has applied everything up to revision R, every
/// export that has not changed since R is right, and every other one is in a later frame.
#[derive(Debug)]
pub struct Exporter {
    epoch: Epoch,
    revision: u64,
    exports: BTreeMap<ServiceHandle, Held>,
    digest: u64,
    /// What changed; the last one at `revision`.
    log: VecDeque<ServiceHandle>,
}

impl Exporter {
    /// An exporter with nothing to tell. `epoch` must be new for every process, and should be greater than that of an
    /// earlier process on the same node.
    pub fn new(epoch: Epoch) -> Self {
        Self { epoch, revision: 0, exports: BTreeMap::new(), digest: 0, log: VecDeque::new() }
    }

    /// Where the numbering stands.
    pub fn position(&self) -> (Epoch, Revision) {
        (self.epoch, Revision(self.revision))
    }

    /// What the peer is told of `handle`: nothing if it is not exported, and then the peer may not use it either.
    pub fn get(&self, handle: ServiceHandle) -> Option<&ExportSummary> {
        self.exports.get(&handle).map(|held| &held.summary)
    }

    /// How many services are exported.
    pub fn len(&self) -> usize {
        self.exports.len()
    }

    /// Whether nothing is exported.
    pub fn is_empty(&self) -> bool {
        self.exports.is_empty()
    }

    /// Replaces all exports by `desired`. What the peer would refuse is left out and reported.
    ///
    /// The cost is a comparison for an export that did not change, and its encoding for one that did.
    pub fn set_exports(&mut self, desired: BTreeMap<ServiceHandle, ExportSummary>) -> ExportOutcome {
        let before = self.revision;
        let mut old = std::mem::take(&mut self.exports);
        let (mut kept, mut news, mut left_out) = (BTreeMap::new(), Vec::new(), Vec::new());
        let mut names: BTreeMap<ServiceName, ServiceHandle> = BTreeMap::new();
        for (handle, mut summary) in desired {
            summary.handle = handle;
            let name = summary.name.clone();
            let judged = match names.get(&name) {
                Some(&other) => Err(OfferFault::NameClash(other)),
                None => judge(summary, old.get(&handle)),
            };
            match judged {
                Ok(Judged::Same) => kept.extend(old.remove_entry(&handle)),
                Ok(Judged::New(held)) => news.push((handle, held)),
                Err(fault) => {
                    left_out.push(LeftOut { name, handle, fault });
                    continue;
                }
            }
            names.insert(name, handle);
        }
        self.exports = kept;
        self.replace(old, news);
        let changed = usize::try_from(self.revision - before).unwrap_or(usize::MAX);
        ExportOutcome { changed, left_out }
    }

    /// Removals get their revisions first, so that a name is free before its new handle takes it.
    fn replace(&mut self, old: BTreeMap<ServiceHandle, Held>, news: Vec<(ServiceHandle, Held)>) {
        let added: BTreeSet<ServiceHandle> = news.iter().map(|(handle, _)| *handle).collect();
        old.into_keys().filter(|handle| !added.contains(handle)).for_each(|handle| self.note(handle));
        for (handle, held) in news {
            self.exports.insert(handle, held);
            self.note(handle);
        }
        let terms = self.exports.iter().map(|(handle, held)| digest::term(*handle, held.hash));
        self.digest = terms.fold(0, u64::wrapping_add);
    }

    fn note(&mut self, handle: ServiceHandle) {
        self.revision += 1;
        self.log.push_back(handle);
        if self.log.len() > MAX_LOG {
            self.log.pop_front();
        }
    }

    /// The delta that brings a peer up to date whose copy ends at `have`, of no frame if it is. `None` when the log does not
    /// reach back that far, or `have` is of another process.
    pub fn resume(&self, have: (Epoch, Revision)) -> Option<Vec<Exports>> {
        if have.0 == self.epoch { self.delta(have.1.0) } else { None }
    }

    /// What is to be sent on a connection now; `cursor` then counts it as sent. Nothing to a peer whose copy no delta leads on
    /// from: it is told a digest, and may have what that adds up to from another gateway, or asks for a snapshot.
    pub fn poll(&self, now: Instant, cursor: &mut ExportCursor) -> Vec<Exports> {
        let frames = if cursor.take_snapshot_due(now) {
            Some(self.snapshot())
        } else {
            cursor.sent().and_then(|have| self.resume(have))
        };
        if frames.is_some() {
            cursor.advance(self.position());
        }
        frames.unwrap_or_default()
    }

    /// What the exports add up to.
    pub fn digest(&self) -> ExportsDigest {
        ExportsDigest {
            epoch: self.epoch,
            revision: Revision(self.revision),
            count: u32::try_from(self.exports.len()).unwrap_or(u32::MAX),
            digest: self.digest,
        }
    }

    fn numbering(&self) -> Numbering {
        Numbering { epoch: self.epoch, revision: self.revision }
    }

    /// All exports, in parts.
    pub fn snapshot(&self) -> Vec<Exports> {
        frames::snapshot(self.numbering(), self.exports.values().map(|held| (&held.summary, held.size)))
    }

    /// The changes since `from`; `None` when the log does not reach back, or `from` lies in the future.
    fn delta(&self, from: u64) -> Option<Vec<Exports>> {
        let behind = usize::try_from(self.revision.checked_sub(from)?).ok()?;
        let start = self.log.len().checked_sub(behind)?;
        let mut seen = BTreeSet::new();
        let mut changes: Vec<(u64, Change<'_>)> = Vec::new();
        for (handle, revision) in self.log.range(start..).rev().zip((1..=self.revision).rev()) {
            if seen.insert(*handle) {
                let change = match self.exports.get(handle) {
                    Some(held) => Change::Upsert(&held.summary, held.size),
                    None => Change::Remove(*handle),
                };
                changes.push((revision, change));
            }
        }
        changes.reverse();
        Some(frames::delta(self.numbering(), from, &changes))
    }
}

enum Judged {
    Same,
    New(Held),
}

fn judge(summary: ExportSummary, old: Option<&Held>) -> Result<Judged, OfferFault> {
    if old.is_some_and(|old| old.summary == summary) {
        return Ok(Judged::Same);
    }
    check_shape(&summary)?;
    let size = to_vec(&summary).map_err(|_| OfferFault::TooLarge)?.len();
    Ok(Judged::New(Held { hash: digest::hash(&summary), size, summary }))
}

#[cfg(test)]
mod tests;
