//! The check of every record when a database is opened, so that damage is found before anything is served from it.

use super::{Fault, LOG, STATE, get};
use crate::envelope::{Kind, unseal};
use crate::format::{Ballot, EntryId, LogEntry, SnapshotHead};
use crate::member::Owner;
use causeway_catalog::Catalog;
use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable};

/// Reads everything once and returns whose database it is.
pub(super) fn check(database: &Database) -> Result<Owner, Fault> {
    let transaction = database.begin_read()?;
    let state = transaction.open_table(STATE)?;
    let missing = || Fault::damaged(Kind::Identity.name(), "it is missing");
    let owner = get(&state, Kind::Identity)?.ok_or_else(missing)?;
    get::<Ballot>(&state, Kind::Vote)?;
    get::<EntryId>(&state, Kind::Committed)?;
    let purged = get::<EntryId>(&state, Kind::Purged)?;
    let head = get::<SnapshotHead>(&state, Kind::SnapshotMeta)?;
    let catalog = get::<Catalog>(&state, Kind::Snapshot)?;
    if head.is_some() != catalog.is_some() {
        return Err(Fault::damaged(Kind::Snapshot.name(), "it and its description do not come together"));
    }
    let covered = head.and_then(|head| head.last).map_or(0, |last| last.index);
    if purged.is_some_and(|purged| purged.index > covered) {
        return Err(Fault::damaged("log", "entries are gone that no snapshot holds"));
    }
    check_log(&transaction, purged.map_or(0, |purged| purged.index + 1))?;
    Ok(owner)
}

/// The log is whole from index `first` on.
fn check_log(transaction: &ReadTransaction, first: u64) -> Result<(), Fault> {
    for (expected, row) in (first..).zip(transaction.open_table(LOG)?.iter()?) {
        let (index, record) = row?;
        let what = || format!("log entry {}", index.value());
        if index.value() != expected {
            return Err(Fault::damaged(what(), format!("entry {expected} is missing before it")));
        }
        let entry: LogEntry =
            unseal(Kind::Entry, record.value()).map_err(|error| Fault::record(what(), &error))?;
        if entry.id.index != expected {
            return Err(Fault::damaged(what(), format!("it holds entry {}", entry.id.index)));
        }
    }
    Ok(())
}
