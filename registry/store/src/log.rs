//! The log and the vote, as openraft wants them stored. Owns the tables' contents, not the file.

use crate::disk::{Disk, Fault, LOG, STATE, get, put, unencodable};
use crate::envelope::{Kind, seal, unseal};
use crate::format::{Ballot, EntryId, LogEntry};
use crate::raft::{Entry, LogId, StorageError, TypeConfig, Vote};
use crate::{StoreError, message};
use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{AnyError, ErrorSubject, ErrorVerb, LogState, OptionalSend, RaftLogReader, StorageIOError};
use redb::ReadableTable;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

/// openraft's name for a failure of the database.
pub(crate) fn failed(subject: ErrorSubject<u64>, verb: ErrorVerb, error: &StoreError) -> StorageError {
    StorageIOError::new(subject, verb, AnyError::new(error)).into()
}

/// The log of this node. Clones are handles to the same log.
#[derive(Clone, Debug)]
pub(crate) struct LogStore {
    disk: Arc<Disk>,
}

impl LogStore {
    pub(crate) fn new(disk: Arc<Disk>) -> Self {
        Self { disk }
    }

    /// The entries in `range`, in order, as many as fit in `budget` bytes but at least one.
    async fn entries(
        &self,
        range: (Bound<u64>, Bound<u64>),
        budget: usize,
    ) -> Result<Vec<Entry>, StorageError> {
        let read = self.disk.read(move |transaction| {
            let mut entries = Vec::new();
            let mut size = 0usize;
            for row in transaction.open_table(LOG)?.range(range)? {
                let (index, record) = row?;
                let record = record.value();
                size = size.saturating_add(record.len());
                if size > budget && !entries.is_empty() {
                    break;
                }
                let entry: LogEntry = unseal(Kind::Entry, record)
                    .map_err(|error| Fault::record(format!("log entry {}", index.value()), &error))?;
                entries.push(entry.into());
            }
            Ok(entries)
        });
        read.await.map_err(|error| failed(ErrorSubject::Logs, ErrorVerb::Read, &error))
    }

    async fn insert(&self, entries: Vec<Entry>) -> Result<(), StoreError> {
        let insert = self.disk.write(move |transaction| {
            let mut log = transaction.open_table(LOG)?;
            for entry in entries {
                let index = entry.log_id.index;
                let record = seal(Kind::Entry, &LogEntry::from(entry))
                    .map_err(|error| unencodable(Kind::Entry, &error))?;
                log.insert(index, record.as_slice())?;
            }
            Ok(())
        });
        insert.await
    }

    async fn state<T: serde::de::DeserializeOwned + Send + 'static>(
        &self,
        kind: Kind,
        subject: ErrorSubject<u64>,
    ) -> Result<Option<T>, StorageError> {
        let read = self.disk.read(move |transaction| get(&transaction.open_table(STATE)?, kind));
        read.await.map_err(|error| failed(subject, ErrorVerb::Read, &error))
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        let range = (range.start_bound().cloned(), range.end_bound().cloned());
        self.entries(range, usize::MAX).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, StorageError> {
        // what is read here becomes one call to another node, which has a greatest size
        self.entries((Bound::Included(start), Bound::Excluded(end)), message::MAX_ENTRIES_LEN).await
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        let read = self.disk.read(|transaction| {
            let purged = get::<EntryId>(&transaction.open_table(STATE)?, Kind::Purged)?;
            let last = match transaction.open_table(LOG)?.last()? {
                None => purged,
                Some((index, record)) => {
                    let entry: LogEntry = unseal(Kind::Entry, record.value())
                        .map_err(|error| Fault::record(format!("log entry {}", index.value()), &error))?;
                    Some(entry.id)
                }
            };
            Ok(LogState { last_purged_log_id: purged.map(Into::into), last_log_id: last.map(Into::into) })
        });
        read.await.map_err(|error| failed(ErrorSubject::Logs, ErrorVerb::Read, &error))
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let ballot = Ballot::from(*vote);
        let write = self.disk.write(move |transaction| put(transaction, Kind::Vote, &ballot));
        write.await.map_err(|error| failed(ErrorSubject::Vote, ErrorVerb::Write, &error))
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        Ok(self.state::<Ballot>(Kind::Vote, ErrorSubject::Vote).await?.map(Into::into))
    }

    /// Only says how much of the log may be applied at the next start before a leader is heard, so it need not be
    /// synced: an older mark is as true.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        let Some(committed) = committed.map(EntryId::from) else { return Ok(()) };
        let write = self.disk.write_lazily(move |transaction| put(transaction, Kind::Committed, &committed));
        write.await.map_err(|error| failed(ErrorSubject::Logs, ErrorVerb::Write, &error))
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        Ok(self.state::<EntryId>(Kind::Committed, ErrorSubject::Logs).await?.map(Into::into))
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<TypeConfig>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        match self.insert(entries).await {
            Ok(()) => {
                callback.log_io_completed(Ok(()));
                Ok(())
            }
            Err(error) => {
                callback.log_io_completed(Err(io::Error::other(error.clone())));
                Err(failed(ErrorSubject::Logs, ErrorVerb::Write, &error))
            }
        }
    }

    async fn truncate(&mut self, since: LogId) -> Result<(), StorageError> {
        let write = self.disk.write(move |transaction| {
            transaction.open_table(LOG)?.retain_in(since.index.., |_, _| false)?;
            Ok(())
        });
        write.await.map_err(|error| failed(ErrorSubject::Log(since), ErrorVerb::Delete, &error))
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), StorageError> {
        let write = self.disk.write(move |transaction| {
            transaction.open_table(LOG)?.retain_in(..=upto.index, |_, _| false)?;
            put(transaction, Kind::Purged, &EntryId::from(upto))
        });
        write.await.map_err(|error| failed(ErrorSubject::Log(upto), ErrorVerb::Delete, &error))
    }
}
