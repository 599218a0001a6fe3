//! A file as redb wants it, of which nothing is changed: what is written stays in memory.
//!
//! redb has no look at a file that would leave it alone: to open one it repairs what a crash left, and marks the file as in use.

use redb::StorageBackend;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

const BLOCK_LEN: usize = 4096;
const BLOCK: u64 = BLOCK_LEN as u64;

/// A file, and what was written over it.
#[derive(Debug)]
pub(super) struct Overlay {
    file: File,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// How long it is.
    len: u64,
    /// Up to where the file counts; beyond it are zeros.
    base: u64,
    /// What was written, whole blocks by their number.
    blocks: BTreeMap<u64, Vec<u8>>,
}

impl Overlay {
    pub(super) fn new(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        Ok(Self { file, state: Mutex::new(State { len, base: len, blocks: BTreeMap::new() }) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the file has at `offset`, and zeros beyond its end.
    fn read_base(&self, base: u64, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let there = usize::try_from(base.saturating_sub(offset)).unwrap_or(usize::MAX).min(out.len());
        let (from_file, beyond) = out.split_at_mut(there);
        self.file.read_exact_at(from_file, offset)?;
        beyond.fill(0);
        Ok(())
    }
}

/// Where in its block `offset` is.
fn within(offset: u64) -> usize {
    usize::try_from(offset % BLOCK).unwrap_or(0)
}

/// The pieces of `length` bytes from `offset` on: the number of the block, where in it, where in the whole, and how much.
fn pieces(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, usize, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let within = within(at);
        let size = (BLOCK_LEN - within).min(length - done);
        let piece = (size > 0).then_some((at / BLOCK, within, done, size));
        done += size;
        piece
    })
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > state.len) {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.read_base(state.base, offset, out)?;
        for (block, within, at, size) in pieces(offset, out.len()) {
            if let Some(written) = state.blocks.get(&block) {
                out[at..at + size].copy_from_slice(&written[within..within + size]);
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        if len < state.len {
            state.blocks.split_off(&len.div_ceil(BLOCK));
            if let Some(last) = state.blocks.get_mut(&(len / BLOCK)) {
                last[within(len)..].fill(0);
            }
        }
        state.base = state.base.min(len);
        state.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let base = state.base;
        for (block, within, at, size) in pieces(offset, data.len()) {
            let mut written = match state.blocks.remove(&block) {
                Some(written) => written,
                None => {
                    let mut whole = vec![0; BLOCK_LEN];
                    self.read_base(base, block * BLOCK, &mut whole)?;
                    whole
                }
            };
            written[within..within + size].copy_from_slice(&data[at..at + size]);
            state.blocks.insert(block, written);
        }
        state.len = state.len.max(offset + data.len() as u64);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Write(u64, Vec<u8>),
        SetLen(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let write = (0u64..20_000, prop::collection::vec(any::<u8>(), 1..6_000));
        let step = prop_oneof![
            3 => write.prop_map(|(at, data)| Step::Write(at, data)),
            1 => (0u64..20_000).prop_map(Step::SetLen),
        ];
        prop::collection::vec(step, 0..12)
    }

    proptest! {
        #[test]
        fn it_is_as_the_file_would_be_and_the_file_stays(before in prop::collection::vec(any::<u8>(), 0..12_000), steps in steps()) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("file");
            std::fs::write(&path, &before).unwrap();
            let overlay = Overlay::new(File::open(&path).unwrap()).unwrap();
            let mut model = before.clone();
            for step in steps {
                match step {
                    Step::Write(at, data) => {
                        let at = usize::try_from(at).unwrap().min(model.len());
                        overlay.write(at as u64, &data).unwrap();
                        model.resize(model.len().max(at + data.len()), 0);
                        model[at..at + data.len()].copy_from_slice(&data);
                    }
                    Step::SetLen(len) => {
                        overlay.set_len(len).unwrap();
                        model.resize(usize::try_from(len).unwrap(), 0);
                    }
                }
                let mut now = vec![1; model.len()];
                overlay.read(0, &mut now).unwrap();
                prop_assert_eq!(&now, &model);
                prop_assert_eq!(overlay.len().unwrap(), model.len() as u64);
                prop_assert!(overlay.read(1, &mut now).is_err() || model.is_empty());
            }
            prop_assert_eq!(std::fs::read(&path).unwrap(), before);
        }
    }
}
