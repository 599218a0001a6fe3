//! The digest of a table.

use causeway_model::WorkloadId;
use serde::{Deserialize, Serialize};

/// A summary of the rows of one owner that does not depend on their order and is updated in constant time. Within one
/// incarnation a row's content follows from its workload and sequence number, so only these two are summed up.
///
/// It detects what was lost, not what was forged: only the owner of a table sends its digest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableDigest {
    /// How many rows.
    pub count: u64,
    /// The sum of the rows' hashes, modulo 2^64.
    pub hash: u64,
}

impl TableDigest {
    pub(crate) fn add(&mut self, workload: WorkloadId, seq: u64) {
        self.count = self.count.wrapping_add(1);
        self.hash = self.hash.wrapping_add(hash(workload, seq));
    }

    pub(crate) fn remove(&mut self, workload: WorkloadId, seq: u64) {
        self.count = self.count.wrapping_sub(1);
        self.hash = self.hash.wrapping_sub(hash(workload, seq));
    }
}

fn hash(workload: WorkloadId, seq: u64) -> u64 {
    mix(mix(workload.0).wrapping_add(seq))
}

/// The finalizer of SplitMix64: fixed, so that gateways of different releases agree.
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_does_not_matter_and_content_does() {
        let (mut a, mut b) = (TableDigest::default(), TableDigest::default());
        a.add(WorkloadId(1), 1);
        a.add(WorkloadId(2), 2);
        b.add(WorkloadId(2), 2);
        b.add(WorkloadId(1), 1);
        assert_eq!(a, b);
        b.remove(WorkloadId(1), 1);
        b.add(WorkloadId(1), 3);
        assert_ne!(a, b);
        a.remove(WorkloadId(1), 1);
        a.remove(WorkloadId(2), 2);
        assert_eq!(a, TableDigest::default());
    }

    #[test]
    fn the_hash_is_the_same_in_every_release() {
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
    }
}
