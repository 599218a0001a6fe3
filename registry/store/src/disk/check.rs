//! The look at every record of a database: when it is opened, so that damage is found before anything is served from it, and when it
//! is examined, which tells all of it.

use super::{Fault, LOG, STATE, get};
use crate::envelope::{Kind, unseal};
use crate::format::{Ballot, EntryId, LogEntry, SnapshotHead};
use crate::member::Owner;
use causeway_catalog::Catalog;
use redb::{Database, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable};

/// The most faults that are told of one database: where there are more, the first ones say enough.
const MOST_FAULTS: usize = 16;

/// What is in a database, as far as it can be read.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) owner: Option<Owner>,
    pub(crate) vote: Option<Ballot>,
    pub(crate) committed: Option<EntryId>,
    pub(crate) purged: Option<EntryId>,
    pub(crate) head: Option<SnapshotHead>,
    pub(crate) catalog: Option<Catalog>,
    /// How many entries the log has.
    pub(crate) entries: u64,
    pub(crate) first: Option<EntryId>,
    pub(crate) last: Option<EntryId>,
}

impl Found {
    /// The index of the last entry that is in the snapshot.
    pub(crate) fn covered(&self) -> Option<u64> {
        self.head.as_ref()?.last.map(|last| last.index)
    }
}

/// A look in the making.
struct Look<F> {
    found: Found,
    faults: Vec<Fault>,
    entry: F,
}

/// Reads everything once and returns whose database it is.
pub(super) fn check(database: &Database) -> Result<Owner, Fault> {
    let (found, faults) = survey(database, |_, _| None);
    match faults.into_iter().next() {
        Some(fault) => Err(fault),
        None => found.owner.ok_or_else(|| Fault::damaged(Kind::Identity.name(), "it is missing")),
    }
}

/// Reads everything once. `entry` is given each entry of the log that can be read, in order, with what was found before it, and may
/// have a fault to add.
pub(super) fn survey(
    database: &Database,
    entry: impl FnMut(&mut Found, LogEntry) -> Option<Fault>,
) -> (Found, Vec<Fault>) {
    let mut look = Look { found: Found::default(), faults: Vec::new(), entry };
    if let Err(fault) = look.read(database) {
        look.add(fault);
    }
    (look.found, look.faults)
}

impl<F: FnMut(&mut Found, LogEntry) -> Option<Fault>> Look<F> {
    fn add(&mut self, fault: Fault) {
        if self.faults.len() < MOST_FAULTS {
            self.faults.push(fault);
        }
    }

    /// What was read, or nothing and a fault more.
    fn note<T>(&mut self, read: Result<Option<T>, Fault>) -> Option<T> {
        read.unwrap_or_else(|fault| {
            self.add(fault);
            None
        })
    }

    fn read(&mut self, database: &Database) -> Result<(), Fault> {
        let transaction = database.begin_read()?;
        self.state(&transaction.open_table(STATE)?);
        self.log(&transaction)?;
        self.judge();
        Ok(())
    }

    fn state(&mut self, state: &ReadOnlyTable<&'static str, &'static [u8]>) {
        let missing = || Fault::damaged(Kind::Identity.name(), "it is missing");
        let owner = get(state, Kind::Identity).and_then(|owner| owner.ok_or_else(missing));
        self.found.owner = self.note(owner.map(Some));
        self.found.vote = self.note(get(state, Kind::Vote));
        self.found.committed = self.note(get(state, Kind::Committed));
        self.found.purged = self.note(get(state, Kind::Purged));
        let (head, catalog) = (get(state, Kind::SnapshotMeta), get(state, Kind::Snapshot));
        let apart = matches!((&head, &catalog), (Ok(Some(_)), Ok(None)) | (Ok(None), Ok(Some(_))));
        self.found.head = self.note(head);
        self.found.catalog = self.note(catalog);
        if apart {
            self.add(Fault::damaged(Kind::Snapshot.name(), "it and its description do not come together"));
        }
    }

    /// The log is whole from the entry after the purged ones on, and its terms never go back.
    fn log(&mut self, transaction: &ReadTransaction) -> Result<(), Fault> {
        let mut expected = self.found.purged.map_or(0, |purged| purged.index.saturating_add(1));
        for row in transaction.open_table(LOG)?.iter()? {
            let (index, record) = row?;
            let (index, what) = (index.value(), format!("log entry {}", index.value()));
            if index != expected {
                self.add(Fault::damaged(&*what, format!("entry {expected} is missing before it")));
            }
            expected = index.saturating_add(1);
            self.found.entries += 1;
            match unseal::<LogEntry>(Kind::Entry, record.value()) {
                Ok(entry) if entry.id.index == index => self.take(&what, entry),
                Ok(entry) => {
                    self.add(Fault::damaged(what, format!("it holds entry {}", entry.id.index)));
                }
                Err(error) => self.add(Fault::record(what, &error)),
            }
        }
        Ok(())
    }

    fn take(&mut self, what: &str, entry: LogEntry) {
        let id = entry.id;
        let before = self.found.last.or(self.found.purged);
        if let Some(before) = before.filter(|before| before.term > id.term) {
            let cause = format!("its term is {}, and {} before it", id.term, before.term);
            self.add(Fault::damaged(what, cause));
        }
        self.found.first.get_or_insert(id);
        self.found.last = Some(id);
        if let Some(fault) = (self.entry)(&mut self.found, entry) {
            self.add(fault);
        }
    }

    /// Whether the parts fit together.
    fn judge(&mut self) {
        let found = &self.found;
        let covered = found.covered();
        let gone = found.purged.is_some_and(|purged| purged.index > covered.unwrap_or(0));
        let end = found.last.map(|last| last.index).max(covered);
        let beyond = found.committed.filter(|committed| end.is_none_or(|end| committed.index > end));
        let term = found.vote.map_or(0, |vote| vote.term);
        let forgotten = found.last.filter(|last| last.term > term);
        // what could not be read is told already
        let readable = self.faults.is_empty();
        if gone && readable {
            self.add(Fault::damaged("log", "entries are gone that no snapshot holds"));
        }
        if let Some(committed) = beyond.filter(|_| readable) {
            let cause = format!("its end is missing: {} was committed", committed.index);
            self.add(Fault::damaged("log", cause));
        }
        if let Some(last) = forgotten.filter(|_| readable) {
            let cause = format!("it is of term {term}, and log entry {} of term {}", last.index, last.term);
            self.add(Fault::damaged(Kind::Vote.name(), cause));
        }
    }
}
