//! What downloads consist of: bytes that follow from their position, so that every one of them can be checked.

/// The length of a word: what is computed at once.
const WORD: usize = 8;

/// Writes the content that begins at byte `offset` into `out`.
pub(super) fn fill(offset: u64, out: &mut [u8]) {
    let mut at = offset;
    let mut rest = out;
    while !rest.is_empty() {
        let (bytes, from) = word_at(at);
        let len = (WORD - from).min(rest.len());
        let (head, tail) = rest.split_at_mut(len);
        head.copy_from_slice(&bytes[from..from + len]);
        (rest, at) = (tail, at + len as u64);
    }
}

/// The position of the first byte of `got` that is not the content that begins at byte `offset`.
pub(super) fn first_wrong(offset: u64, got: &[u8]) -> Option<u64> {
    let mut at = offset;
    let mut rest = got;
    while !rest.is_empty() {
        let (bytes, from) = word_at(at);
        let len = (WORD - from).min(rest.len());
        let expected = &bytes[from..from + len];
        if let Some(index) = (0..len).find(|&index| rest[index] != expected[index]) {
            return Some(at + index as u64);
        }
        (rest, at) = (&rest[len..], at + len as u64);
    }
    None
}

/// The word that byte `at` is in, and which of its bytes that is.
fn word_at(at: u64) -> ([u8; WORD], usize) {
    let len = WORD as u64;
    // the remainder is below 8
    #[expect(clippy::cast_possible_truncation, reason = "a remainder of 8")]
    let from = (at % len) as usize;
    (mix(at / len).to_le_bytes(), from)
}

/// The output of SplitMix64 for this step: neighbours have nothing in common.
fn mix(index: u64) -> u64 {
    let mut z = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn content(offset: u64, len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        fill(offset, &mut out);
        out
    }

    proptest! {
        #[test]
        fn pieces_join_to_the_whole(offset in 0..u64::from(u32::MAX), first in 0usize..100, second in 0usize..100) {
            let whole = content(offset, first + second);
            prop_assert_eq!(&content(offset, first), &whole[..first]);
            prop_assert_eq!(&content(offset + first as u64, second), &whole[first..]);
            prop_assert_eq!(first_wrong(offset, &whole), None);
        }

        #[test]
        fn a_wrong_byte_is_found(offset in 0..u64::from(u32::MAX), len in 1usize..100, at: prop::sample::Index, flip in 1u8..) {
            let mut got = content(offset, len);
            let at = at.index(len);
            got[at] ^= flip;
            prop_assert_eq!(first_wrong(offset, &got), Some(offset + at as u64));
        }
    }

    #[test]
    fn a_piece_that_is_missing_or_twice_is_found() {
        let whole = content(0, 4096);
        let missing = [&whole[..1000], &whole[1452..]].concat();
        let twice = [&whole[..1000], &whole[500..]].concat();
        assert!(first_wrong(0, &missing).is_some_and(|at| (1000..1010).contains(&at)));
        assert!(first_wrong(0, &twice).is_some_and(|at| (1000..1010).contains(&at)));
    }
}
