//! The memory in which one thread puts packets into envelopes: taken once, used again for each batch.

use causeway_wire::envelope::ENVELOPE_LEN;

/// What one receive call can bring, 32 messages of 64 KiB, and an eighth more: no packet of the mesh is shorter than eight
/// envelopes' heads. Only what is used is resident.
const SIZE: usize = (32 << 16) * 9 / 8;

/// A thread's memory for envelopes.
pub(super) struct Arena(Box<[u8]>);

impl Arena {
    pub(super) fn new() -> Self {
        Self(vec![0; SIZE].into_boxed_slice())
    }

    /// All of it, for one batch.
    pub(super) fn begin(&mut self) -> Room<'_> {
        Room(&mut self.0)
    }
}

/// What is left of it.
pub(super) struct Room<'a>(&'a mut [u8]);

impl<'a> Room<'a> {
    /// The datagrams of `run`, each of `stride` bytes but the last, with `head` before each; `None` when there is no room.
    pub(super) fn wrap(&mut self, head: [u8; ENVELOPE_LEN], run: &[u8], stride: usize) -> Option<&'a [u8]> {
        let stride = stride.max(1);
        let size = run.len() + run.len().div_ceil(stride) * ENVELOPE_LEN;
        if size > self.0.len() {
            return None;
        }
        let (mine, rest) = std::mem::take(&mut self.0).split_at_mut_checked(size)?;
        self.0 = rest;
        for (to, datagram) in mine.chunks_mut(stride + ENVELOPE_LEN).zip(run.chunks(stride)) {
            let (front, back) = to.split_at_mut(ENVELOPE_LEN);
            front.copy_from_slice(&head);
            back.copy_from_slice(datagram);
        }
        Some(mine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_datagram_gets_a_head_of_its_own() {
        let mut memory = [0; 40];
        let mut room = Room(&mut memory);
        assert_eq!(
            room.wrap([9; 5], &[1, 1, 1, 2, 2], 3).unwrap(),
            [9, 9, 9, 9, 9, 1, 1, 1, 9, 9, 9, 9, 9, 2, 2]
        );
        assert_eq!(room.wrap([8; 5], &[3], 9).unwrap(), [8, 8, 8, 8, 8, 3]);
        assert_eq!(room.wrap([7; 5], &[4; 14], 14).unwrap().len(), 19);
        assert!(room.wrap([7; 5], &[], 3).is_some_and(<[u8]>::is_empty));
        assert!(room.wrap([7; 5], &[1], 1).is_none());
        let mut memory = [0; 20];
        let mut room = Room(&mut memory);
        assert!(room.wrap([7; 5], &[1; 16], 16).is_none());
        assert_eq!(room.wrap([7; 5], &[1; 15], 15).unwrap().len(), 20, "what is too long took the room");
    }

    #[test]
    fn what_one_receive_call_brings_fits_in_the_shortest_packets() {
        let mut arena = Arena::new();
        let mut room = arena.begin();
        let message = vec![0; 65_536 / 41 * 41];
        assert!((0..32).all(|_| room.wrap([0; 5], &message, 41).is_some()));
    }
}
