//! The table of this gateway: the rows of the sidecars attached to it, and the journal of their changes.

use crate::message::Message;
use crate::{Incarnation, PresenceConfig, Row, RowChange, TableDigest};
use causeway_model::WorkloadId;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

/// Rows and their journal. Each change takes the next version. The journal keeps the last change of every row that is
/// there, and the last departures, so whoever has a version not older than `floor` is brought up to date from it.
#[derive(Debug)]
pub(crate) struct OwnTable {
    pub(crate) incarnation: Incarnation,
    version: u64,
    digest: TableDigest,
    rows: BTreeMap<WorkloadId, Arc<Row>>,
    journal: BTreeMap<u64, RowChange>,
    tombstones: VecDeque<u64>,
    max_tombstones: usize,
    floor: u64,
}

impl OwnTable {
    pub(crate) fn new(incarnation: Incarnation, config: &PresenceConfig) -> Self {
        Self {
            incarnation,
            version: 0,
            digest: TableDigest::default(),
            rows: BTreeMap::new(),
            journal: BTreeMap::new(),
            tombstones: VecDeque::new(),
            // the newest change must be in the journal, or a delta could not end at the current version
            max_tombstones: config.max_tombstones.max(1),
            floor: 0,
        }
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn digest(&self) -> TableDigest {
        self.digest
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn get(&self, workload: WorkloadId) -> Option<&Arc<Row>> {
        self.rows.get(&workload)
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = &Arc<Row>> {
        self.rows.values()
    }

    /// Whether the journal reaches back to `version`.
    pub(crate) fn covers(&self, version: u64) -> bool {
        version >= self.floor
    }

    /// Adds or replaces a row; returns it as stored, or nothing if it says what is known already.
    pub(crate) fn put(&mut self, mut row: Row) -> Option<Arc<Row>> {
        let workload = row.workload;
        if let Some(old) = self.rows.get(&workload) {
            if old.attached == row.attached && old.says_the_same(&row) && old.has_the_same_keys(&row) {
                return None;
            }
            self.digest.remove(workload, old.seq);
            self.journal.remove(&old.seq);
        }
        self.version += 1;
        row.seq = self.version;
        let row = Arc::new(row);
        self.digest.add(workload, row.seq);
        self.journal.insert(row.seq, RowChange::Up(row.clone()));
        self.rows.insert(workload, row.clone());
        Some(row)
    }

    /// Removes a row; returns whether it was there.
    pub(crate) fn remove(&mut self, workload: WorkloadId) -> bool {
        let Some(old) = self.rows.remove(&workload) else { return false };
        self.digest.remove(workload, old.seq);
        self.journal.remove(&old.seq);
        self.version += 1;
        self.journal.insert(self.version, RowChange::Gone { workload, seq: self.version });
        self.tombstones.push_back(self.version);
        if self.tombstones.len() > self.max_tombstones
            && let Some(oldest) = self.tombstones.pop_front()
        {
            self.journal.remove(&oldest);
            self.floor = oldest;
        }
        true
    }

    /// The next changes after `version`, as many as a message takes, and the version after them.
    pub(crate) fn changes_after(&self, version: u64, max_rows: usize) -> (Vec<RowChange>, u64) {
        let (mut changes, mut bytes, mut to) = (Vec::new(), 0, version);
        for (&seq, change) in self.journal.range((Bound::Excluded(version), Bound::Unbounded)) {
            if changes.len() >= max_rows || bytes >= Message::MAX_BYTES {
                break;
            }
            bytes += change.encoded_len();
            changes.push(change.clone());
            to = seq;
        }
        (changes, to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::tests::row;

    fn table(max_tombstones: usize) -> OwnTable {
        OwnTable::new(Incarnation(1), &PresenceConfig { max_tombstones, ..PresenceConfig::default() })
    }

    #[test]
    fn what_is_said_twice_changes_nothing() {
        let mut own = table(8);
        assert_eq!(own.put(row(1, &["a.b"])).unwrap().seq, 1);
        assert_eq!(own.put(row(1, &["a.b"])), None);
        assert_eq!(own.put(row(1, &["a.c"])).unwrap().seq, 2);
        assert!(own.remove(WorkloadId(1)) && !own.remove(WorkloadId(1)));
        assert_eq!((own.version(), own.digest()), (3, TableDigest::default()));
    }

    #[test]
    fn changes_are_told_once_each_up_to_the_current_version() {
        let mut own = table(8);
        for w in 1..=5 {
            own.put(row(w, &["a.b"]));
        }
        own.put(row(1, &["c.d"]));
        own.remove(WorkloadId(2));
        let (first, to) = own.changes_after(0, 3);
        assert_eq!((first.len(), to), (3, 5));
        let (rest, to) = own.changes_after(to, 3);
        assert_eq!((rest.len(), to), (2, own.version()));
        assert_eq!(rest[1], RowChange::Gone { workload: WorkloadId(2), seq: 7 });
    }

    #[test]
    fn forgotten_departures_raise_the_floor() {
        let mut own = table(2);
        for w in 1..=3 {
            own.put(row(w, &[]));
            own.remove(WorkloadId(w));
        }
        assert!(!own.covers(1) && own.covers(2) && own.covers(6));
        assert_eq!(own.journal.len(), 2);
    }

    #[test]
    fn large_rows_make_short_messages() {
        let mut own = table(2);
        let names: Vec<String> =
            (0..64).map(|i| format!("{}{i}.{}", "s".repeat(60), "n".repeat(63))).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        (1..=200).for_each(|w| drop(own.put(row(w, &names))));
        let (changes, to) = own.changes_after(0, Message::MAX_ROWS);
        assert!(changes.len() < 60 && to < 60, "{}", changes.len());
        let len: usize = changes.iter().map(RowChange::encoded_len).sum();
        assert!(len < Message::MAX_BYTES + Row::MAX_ENCODED, "{len}");
    }
}
