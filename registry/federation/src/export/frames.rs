//! Cuts exports into frames.

use causeway_model::{Epoch, Revision, ServiceHandle};
use causeway_wire::link::{Exports, MAX_EXPORTS_PER_FRAME, SnapshotPart};
use causeway_wire::view::ExportSummary;

/// The most bytes of summaries in a frame: half of what a frame may hold, so that no frame is ever too long. A single
/// summary is always smaller, because its identities and localities are bounded.
const MAX_BYTES: usize = 512 * 1024;
/// More than the encoded length of a handle.
const HANDLE_BYTES: usize = 16;

/// Whose numbers a frame carries, and where the numbering stands.
#[derive(Clone, Copy)]
pub(super) struct Numbering {
    pub(super) epoch: Epoch,
    pub(super) revision: u64,
}

impl Numbering {
    fn frame(self, from: u64, snapshot: Option<SnapshotPart>) -> Exports {
        Exports {
            epoch: self.epoch,
            from: Revision(from),
            to: Revision(self.revision),
            snapshot,
            upserts: Vec::new(),
            removed: Vec::new(),
        }
    }
}

/// One export's last change; an upsert with its encoded length.
pub(super) enum Change<'a> {
    Upsert(&'a ExportSummary, usize),
    Remove(ServiceHandle),
}

/// All exports, with their encoded lengths, as the parts of a snapshot: at least one.
pub(super) fn snapshot<'a>(
    at: Numbering,
    exports: impl Iterator<Item = (&'a ExportSummary, usize)>,
) -> Vec<Exports> {
    let mut frames: Vec<Exports> = Vec::new();
    let mut current = at.frame(0, None);
    let mut bytes = 0;
    for (summary, size) in exports {
        if current.upserts.len() == MAX_EXPORTS_PER_FRAME || bytes + size > MAX_BYTES && bytes > 0 {
            frames.push(std::mem::replace(&mut current, at.frame(0, None)));
            bytes = 0;
        }
        bytes += size;
        current.upserts.push(summary.clone());
    }
    frames.push(current);
    let last = frames.len() - 1;
    for (index, frame) in frames.iter_mut().enumerate() {
        let number = u32::try_from(index).unwrap_or(u32::MAX);
        frame.snapshot = Some(SnapshotPart { index: number, last: index == last });
    }
    frames
}

/// `changes`, in order of their revisions, as frames that lead from `from` to where the numbering stands. None when that
/// is the same.
pub(super) fn delta(at: Numbering, from: u64, changes: &[(u64, Change<'_>)]) -> Vec<Exports> {
    let mut frames = Vec::new();
    if from == at.revision {
        return frames;
    }
    let mut current = at.frame(from, None);
    let mut bytes = 0;
    for (revision, change) in changes {
        let size = match change {
            Change::Upsert(_, size) => *size,
            Change::Remove(_) => HANDLE_BYTES,
        };
        let full = current.upserts.len() + current.removed.len() == MAX_EXPORTS_PER_FRAME;
        if full || bytes + size > MAX_BYTES && bytes > 0 {
            current.to = Revision(revision - 1);
            frames.push(std::mem::replace(&mut current, at.frame(revision - 1, None)));
            bytes = 0;
        }
        bytes += size;
        match change {
            Change::Upsert(summary, _) => current.upserts.push((*summary).clone()),
            Change::Remove(handle) => current.removed.push(*handle),
        }
    }
    frames.push(current);
    frames
}
