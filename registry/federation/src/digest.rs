//! The hash by which both ends of a link compare what one of them exports.
//!
//! It finds accidents, not attacks: a peer that wants its own exports to be misread may simply misstate them.

use causeway_model::ServiceHandle;
use causeway_wire::cid::mix;
use causeway_wire::codec::to_vec;
use causeway_wire::view::ExportSummary;

/// An encoded summary: its hash and its length in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Print {
    pub(crate) hash: u64,
    pub(crate) size: usize,
}

/// The print of `summary`; `None` when it does not fit in a frame at all.
pub(crate) fn print(summary: &ExportSummary) -> Option<Print> {
    let bytes = to_vec(summary).ok()?;
    // FNV-1a; the finalizer spreads the last bytes over the whole word
    let fnv = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    Some(Print { hash: mix(fnv), size: bytes.len() })
}

/// The digest of summaries with these hashes, which must come in order of their handles.
pub(crate) fn fold(hashes: impl Iterator<Item = (ServiceHandle, u64)>) -> u64 {
    hashes.fold(0, |digest, (handle, hash)| mix(digest.rotate_left(7) ^ mix(handle.0) ^ hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_content_count() {
        let (a, b) = ((ServiceHandle(1), 10), (ServiceHandle(2), 20));
        assert_eq!(fold([a, b].into_iter()), fold([a, b].into_iter()));
        assert_ne!(fold([a, b].into_iter()), fold([b, a].into_iter()));
        assert_ne!(fold([a].into_iter()), fold([(a.0, 11)].into_iter()));
        assert_ne!(fold([a].into_iter()), fold([a, b].into_iter()));
    }
}
