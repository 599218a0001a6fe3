//! Maps that are read without locks and changed a little at a time.
//!
//! A [`Sharded`] map is a fixed number of small maps, each shared by all copies of it. To copy it is to count references, and a
//! change copies one small map at most: a picture with 100,000 entries is replaced in microseconds. A look-up costs one pointer more
//! than in a map of its own.

use causeway_model::WorkloadId;
use rustc_hash::FxHashMap;
use std::hash::Hash;
use std::net::SocketAddr;
use std::sync::Arc;

/// With 100,000 entries a shard has about 400, so a change copies some 10 KiB.
const SHARDS: usize = 256;

/// What says in which shard a key is.
pub(super) trait ShardKey: Copy + Eq + Hash {
    /// Bits in which keys differ, anywhere in the number.
    fn bits(self) -> u64;
}

impl ShardKey for u64 {
    #[inline]
    fn bits(self) -> u64 {
        self
    }
}

impl ShardKey for WorkloadId {
    #[inline]
    fn bits(self) -> u64 {
        self.0
    }
}

impl ShardKey for SocketAddr {
    #[inline]
    fn bits(self) -> u64 {
        let ip = match self.ip() {
            std::net::IpAddr::V4(v4) => u64::from(v4.to_bits()),
            std::net::IpAddr::V6(v6) => {
                let bytes = v6.octets();
                bytes.chunks(8).fold(0, |all, half| {
                    half.iter().fold(all, |all: u64, &byte| all.rotate_left(8) ^ u64::from(byte))
                })
            }
        };
        ip ^ (u64::from(self.port()) << 40)
    }
}

/// A map in shards.
#[derive(Clone, Debug)]
pub(super) struct Sharded<K, V> {
    shards: [Arc<FxHashMap<K, V>>; SHARDS],
    len: usize,
}

impl<K, V> Default for Sharded<K, V> {
    fn default() -> Self {
        let empty = Arc::default();
        Self { shards: std::array::from_fn(|_| Arc::clone(&empty)), len: 0 }
    }
}

impl<K: ShardKey, V: Clone> Sharded<K, V> {
    /// The first byte of the product: the one that every bit of the key reaches. The map inside the shard uses others.
    #[inline]
    fn shard(key: K) -> usize {
        usize::from(key.bits().wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[0])
    }

    #[inline]
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.shards[Self::shard(*key)].get(key)
    }

    pub(super) fn contains_key(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        let old = Arc::make_mut(&mut self.shards[Self::shard(key)]).insert(key, value);
        self.len += usize::from(old.is_none());
    }

    /// Removes a key. A shard without it is not copied.
    pub(super) fn remove(&mut self, key: &K) {
        if self.contains_key(key) {
            Arc::make_mut(&mut self.shards[Self::shard(*key)]).remove(key);
            self.len -= 1;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }
}

impl<K: ShardKey, V: Clone + PartialEq> Sharded<K, V> {
    /// Makes `key` mean `value`. A shard in which it does already is not copied.
    pub(super) fn set(&mut self, key: K, value: V) {
        if self.get(&key) != Some(&value) {
            self.insert(key, value);
        }
    }
}

impl<K: ShardKey, V: Clone> FromIterator<(K, V)> for Sharded<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = Self::default();
        entries.into_iter().for_each(|(key, value)| map.insert(key, value));
        map
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn keys_spread_over_the_shards_and_a_change_copies_one() {
        let sidecars =
            (0x0a01_0000..0x0a02_0000).map(|ip| SocketAddr::from((std::net::Ipv4Addr::from_bits(ip), 7443)));
        let addrs: Sharded<SocketAddr, u32> = sidecars.zip(0..).collect();
        let six = (0..65_536_u64)
            .map(|i| SocketAddr::from((std::net::Ipv6Addr::from_bits(u128::from(i) << 64 | 7), 7443)));
        let six: Sharded<SocketAddr, u32> = six.zip(0..).collect();
        let ids: Sharded<WorkloadId, u32> = (0..65_536).map(WorkloadId).zip(0..).collect();
        let fullest = |sizes: Vec<usize>| sizes.into_iter().max().unwrap();
        for fullest in [
            fullest(addrs.shards.iter().map(|shard| shard.len()).collect()),
            fullest(six.shards.iter().map(|shard| shard.len()).collect()),
            fullest(ids.shards.iter().map(|shard| shard.len()).collect()),
        ] {
            assert!(fullest < 4 * 65_536 / SHARDS, "{fullest}");
        }
        let mut changed = ids.clone();
        changed.remove(&WorkloadId(7));
        changed.remove(&WorkloadId(1 << 40));
        changed.set(WorkloadId(8), 8);
        let copied = ids.shards.iter().zip(&changed.shards).filter(|(a, b)| !Arc::ptr_eq(a, b)).count();
        assert_eq!((copied, changed.len(), ids.len()), (1, 65_535, 65_536));
    }

    proptest! {
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((0u64..40, prop::option::of(0u32..4)), 0..200)) {
            let (mut map, mut model) = (Sharded::<u64, u32>::default(), BTreeMap::new());
            let mut pictures = Vec::new();
            for (key, value) in steps {
                match value {
                    Some(value) => {
                        map.set(key, value);
                        model.insert(key, value);
                    }
                    None => {
                        map.remove(&key);
                        model.remove(&key);
                    }
                }
                pictures.push((map.clone(), model.clone()));
            }
            // what was taken earlier is as it was
            for (map, model) in pictures {
                let entries: BTreeMap<u64, u32> = map.iter().map(|(&key, &value)| (key, value)).collect();
                prop_assert_eq!((map.len(), &entries), (model.len(), &model));
                prop_assert!((0..40).all(|key| map.get(&key) == model.get(&key)));
            }
        }
    }
}
