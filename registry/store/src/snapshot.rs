//! A snapshot that arrives in pieces. Owns the bound on the memory that this takes.

use crate::CallError;
use crate::format::SnapshotHead;
use crate::message::{Chunk, MAX_SNAPSHOT_LEN, refused};

/// What became of a piece.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// More are to come.
    More,
    /// It was the last one: the whole record.
    Whole(Vec<u8>),
    /// Pieces before it are missing.
    Gap,
}

/// The snapshot that is arriving, one at a time: a new one replaces it.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    current: Option<(SnapshotHead, Vec<u8>)>,
}

impl Incoming {
    /// Takes the next piece. Pieces come in order; one that came before may come again.
    pub(crate) fn take(&mut self, chunk: &Chunk) -> Result<Taken, CallError> {
        if chunk.offset == 0 {
            self.current = Some((chunk.head.clone(), Vec::new()));
        }
        let Some((head, bytes)) = &mut self.current else { return Ok(Taken::Gap) };
        let offset = usize::try_from(chunk.offset).unwrap_or(usize::MAX);
        if *head != chunk.head || offset > bytes.len() {
            return Ok(Taken::Gap);
        }
        if offset + chunk.data.len() > MAX_SNAPSHOT_LEN {
            self.current = None;
            return Err(refused("too-large", &format!("a snapshot of more than {MAX_SNAPSHOT_LEN} bytes")));
        }
        bytes.truncate(offset);
        bytes.extend_from_slice(&chunk.data);
        if !chunk.done {
            return Ok(Taken::More);
        }
        Ok(self.current.take().map_or(Taken::Gap, |(_, bytes)| Taken::Whole(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Ballot;
    use crate::raft::SnapshotMeta;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn chunk(name: &str, offset: usize, data: &[u8], done: bool) -> Chunk {
        let meta = SnapshotMeta { snapshot_id: name.to_owned(), ..SnapshotMeta::default() };
        Chunk {
            disk: None,
            ballot: Ballot { term: 1, node: 1, committed: true },
            head: (&meta).into(),
            offset: offset as u64,
            data: Bytes::copy_from_slice(data),
            done,
        }
    }

    proptest! {
        #[test]
        fn pieces_that_come_twice_still_make_the_whole(bytes: Vec<u8>, size in 1usize..9, again: Vec<bool>) {
            let mut incoming = Incoming::default();
            let mut again = again.into_iter().cycle();
            let mut taken = Taken::More;
            for offset in (0..=bytes.len()).step_by(size) {
                let end = bytes.len().min(offset + size);
                let done = offset + size > bytes.len();
                let piece = chunk("a", offset, &bytes[offset..end], done);
                if !done && again.next() == Some(true) {
                    prop_assert_eq!(incoming.take(&piece).unwrap(), Taken::More);
                }
                prop_assert_eq!(taken, Taken::More);
                taken = incoming.take(&piece).unwrap();
            }
            prop_assert_eq!(taken, Taken::Whole(bytes));
        }
    }

    #[test]
    fn a_gap_or_another_snapshot_starts_again() {
        let mut incoming = Incoming::default();
        assert_eq!(incoming.take(&chunk("a", 4, b"x", false)).unwrap(), Taken::Gap);
        assert_eq!(incoming.take(&chunk("a", 0, b"x", false)).unwrap(), Taken::More);
        assert_eq!(incoming.take(&chunk("a", 2, b"x", false)).unwrap(), Taken::Gap);
        assert_eq!(incoming.take(&chunk("b", 1, b"x", false)).unwrap(), Taken::Gap);
        assert_eq!(incoming.take(&chunk("a", usize::MAX, b"x", false)).unwrap(), Taken::Gap);
        assert_eq!(incoming.take(&chunk("a", 1, b"y", true)).unwrap(), Taken::Whole(b"xy".to_vec()));
    }
}
