//! How many rows chain to which root, and how far their sidecars are with the trust bundles.
//!
//! Counted as rows come and go, because the rotation of a certificate authority asks several times a second.

use crate::Row;
use causeway_model::Revision;
use std::collections::BTreeMap;

/// Rows by root and by revision of the trust bundles.
#[derive(Debug, Default)]
pub(crate) struct TrustCounts {
    bundles: BTreeMap<Revision, usize>,
    roots: BTreeMap<[u8; 8], usize>,
}

impl TrustCounts {
    pub(crate) fn add(&mut self, row: &Row) {
        *self.bundles.entry(row.bundle).or_default() += 1;
        *self.roots.entry(row.root).or_default() += 1;
    }

    pub(crate) fn remove(&mut self, row: &Row) {
        take(&mut self.bundles, &row.bundle);
        take(&mut self.roots, &row.root);
    }

    pub(crate) fn least_bundle(&self) -> Option<Revision> {
        self.bundles.first_key_value().map(|(&revision, _)| revision)
    }

    pub(crate) fn roots(&self) -> impl Iterator<Item = ([u8; 8], usize)> {
        self.roots.iter().map(|(&root, &count)| (root, count))
    }
}

fn take<K: Ord>(counts: &mut BTreeMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}
