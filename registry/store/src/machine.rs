//! The state machine: applies the log to the catalog, takes and installs snapshots.
//!
//! The catalog lives in memory. On disk are the last snapshot and the log behind it, from which it is built again at the
//! start.

use crate::StoreError;
use crate::disk::{Disk, Fault, STATE, get, put};
use crate::envelope::{EnvelopeError, Kind, seal, unseal};
use crate::format::SnapshotHead;
use crate::log::failed;
use crate::raft::{
    Answered, Entry, EntryPayload, LogId, Snapshot, SnapshotMeta, StorageError, StoredMembership, TypeConfig,
};
use crate::replica::Replica;
use causeway_catalog::{Catalog, Event};
use causeway_model::Revision;
use openraft::storage::RaftStateMachine;
use openraft::{ErrorSubject, ErrorVerb, OptionalSend, RaftSnapshotBuilder};
use redb::WriteTransaction;
use std::io::Cursor;
use std::sync::Arc;

/// The catalog of this node and how far the log was applied to it.
#[derive(Clone, Debug)]
pub(crate) struct StateMachine {
    disk: Arc<Disk>,
    replica: Arc<Replica>,
    catalog: Arc<Catalog>,
    last_applied: Option<LogId>,
    membership: StoredMembership,
}

impl StateMachine {
    /// The state at the last snapshot.
    pub(crate) async fn load(disk: Arc<Disk>, replica: Arc<Replica>) -> Result<Self, StoreError> {
        let stored = disk.read(|transaction| {
            let state = transaction.open_table(STATE)?;
            Ok((get::<SnapshotHead>(&state, Kind::SnapshotMeta)?, get::<Catalog>(&state, Kind::Snapshot)?))
        });
        let (head, catalog) = stored.await?;
        let meta = head.map(SnapshotMeta::from).unwrap_or_default();
        let mut machine = Self {
            disk,
            replica,
            catalog: Arc::default(),
            last_applied: None,
            membership: StoredMembership::default(),
        };
        machine.restore(&meta, catalog.unwrap_or_default());
        Ok(machine)
    }

    fn restore(&mut self, meta: &SnapshotMeta, catalog: Catalog) {
        self.catalog = Arc::new(catalog);
        self.last_applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.replica.replace(&self.catalog, revision(self.last_applied));
    }

    fn apply_one(&mut self, entry: Entry, news: &mut Vec<(Revision, Vec<Event>)>) -> Answered {
        self.last_applied = Some(entry.log_id);
        match entry.payload {
            EntryPayload::Blank => None,
            EntryPayload::Normal(command) => {
                let at = Revision(entry.log_id.index);
                let applied = Arc::make_mut(&mut self.catalog).apply(at, &command);
                news.push((at, applied.events));
                Some(applied.outcome)
            }
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
                None
            }
        }
    }
}

fn revision(applied: Option<LogId>) -> Revision {
    Revision(applied.map_or(0, |id| id.index))
}

/// The catalog in the bytes of a snapshot, which may come from another node.
pub(crate) fn decode_snapshot(bytes: &[u8]) -> Result<Catalog, EnvelopeError> {
    unseal(Kind::Snapshot, bytes)
}

/// Stores a snapshot, unless a newer one is there: one that is being built may be overtaken by one from the leader.
fn store(transaction: &WriteTransaction, head: &SnapshotHead, record: &[u8]) -> Result<(), Fault> {
    let index = |head: &SnapshotHead| head.last.map(|last| last.index);
    let stored = get::<SnapshotHead>(&transaction.open_table(STATE)?, Kind::SnapshotMeta)?;
    if stored.is_some_and(|stored| index(&stored) > index(head)) {
        return Ok(());
    }
    put(transaction, Kind::SnapshotMeta, head)?;
    transaction.open_table(STATE)?.insert(Kind::Snapshot.name(), record)?;
    Ok(())
}

impl RaftSnapshotBuilder<TypeConfig> for StateMachine {
    async fn build_snapshot(&mut self) -> Result<Snapshot, StorageError> {
        let subject = || ErrorSubject::Snapshot(None);
        let name = self.last_applied.map_or_else(|| "empty".to_owned(), |id| id.to_string());
        let meta = SnapshotMeta {
            last_log_id: self.last_applied,
            last_membership: self.membership.clone(),
            snapshot_id: name,
        };
        let (catalog, head) = (self.catalog.clone(), SnapshotHead::from(&meta));
        let build = self.disk.write(move |transaction| {
            let record = seal(Kind::Snapshot, &*catalog)
                .map_err(|error| crate::disk::unencodable(Kind::Snapshot, &error))?;
            store(transaction, &head, &record)?;
            Ok(record)
        });
        let record = build.await.map_err(|error| failed(subject(), ErrorVerb::Write, &error))?;
        tracing::info!(applied = %revision(self.last_applied), bytes = record.len(), "took a snapshot of the registry");
        Ok(Snapshot { meta, snapshot: Box::new(Cursor::new(record)) })
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        Ok((self.last_applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Answered>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut news = Vec::new();
        let answers = entries.into_iter().map(|entry| self.apply_one(entry, &mut news)).collect();
        self.replica.publish(&self.catalog, revision(self.last_applied), &news);
        Ok(answers)
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        // shares the catalog as it is now: the next batch changes a copy
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError> {
        let subject = ErrorSubject::Snapshot(Some(meta.signature()));
        let (head, record) = (SnapshotHead::from(meta), snapshot.into_inner());
        let install = self.disk.write(move |transaction| {
            let catalog = decode_snapshot(&record)
                .map_err(|error| Fault::record("snapshot from the leader", &error))?;
            store(transaction, &head, &record)?;
            Ok(catalog)
        });
        let catalog = install.await.map_err(|error| failed(subject, ErrorVerb::Write, &error))?;
        self.restore(meta, catalog);
        tracing::info!(applied = %revision(self.last_applied), "installed a snapshot of the registry");
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, StorageError> {
        let read = self.disk.read(|transaction| {
            let state = transaction.open_table(STATE)?;
            let Some(head) = get::<SnapshotHead>(&state, Kind::SnapshotMeta)? else { return Ok(None) };
            let missing = || Fault::damaged(Kind::Snapshot.name(), "it is missing");
            let record = state.get(Kind::Snapshot.name())?.ok_or_else(missing)?.value().to_vec();
            Ok(Some((head, record)))
        });
        let read = read.await;
        let stored = read.map_err(|error| failed(ErrorSubject::Snapshot(None), ErrorVerb::Read, &error))?;
        Ok(stored
            .map(|(head, record)| Snapshot { meta: head.into(), snapshot: Box::new(Cursor::new(record)) }))
    }
}
