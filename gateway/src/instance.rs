//! Workload ids: each tells whose it is.
//!
//! A workload id is 40 random bits and 24 bits of a tag over them and the identity, under the cluster's probe key. So every
//! gateway can tell without any state whether an id that a sidecar comes back with was given to that identity, and one
//! workload cannot attach as another.

use causeway_model::{SpiffeId, WorkloadId};
use causeway_wire::mac_tag;

const TAG_BITS: u32 = 24;

fn tag(key: &[u8; 32], identity: &SpiffeId, random: u64) -> u64 {
    let tag =
        mac_tag(key, &[b"causeway workload id", &random.to_be_bytes(), identity.to_string().as_bytes()]);
    u64::from_be_bytes([0, 0, 0, 0, 0, tag[0], tag[1], tag[2]])
}

/// A new id for an instance of `identity`.
pub(crate) fn mint(key: &[u8; 32], identity: &SpiffeId, random: u64) -> WorkloadId {
    let random = random >> TAG_BITS;
    WorkloadId(random << TAG_BITS | tag(key, identity, random))
}

/// Whether `workload` was minted for `identity` under one of `keys`.
pub(crate) fn is_of<'k>(
    keys: impl IntoIterator<Item = &'k [u8; 32]>,
    identity: &SpiffeId,
    workload: WorkloadId,
) -> bool {
    let random = workload.0 >> TAG_BITS;
    let claimed = workload.0 & ((1 << TAG_BITS) - 1);
    keys.into_iter().any(|key| tag(key, identity, random) == claimed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_of_the_identity_it_was_minted_for_under_any_key_in_use() {
        let [a, b]: [SpiffeId; 2] = ["spiffe://iad.mesh/ns/shop/sa/a", "spiffe://iad.mesh/ns/shop/sa/b"]
            .map(|id| id.parse().unwrap());
        let (old, new) = ([1; 32], [2; 32]);
        for random in [0, 1, u64::MAX, 0x0123_4567_89ab_cdef] {
            let id = mint(&old, &a, random);
            assert!(is_of([&new, &old], &a, id));
            assert!(!is_of([&new, &old], &b, id));
            assert!(!is_of([&new], &a, id));
            assert!(!is_of([&old], &a, WorkloadId(id.0 ^ 1)));
        }
        assert_ne!(mint(&old, &a, 1 << 24), mint(&old, &a, 2 << 24));
    }
}
