//! The database file: making, opening, checking and closing it, and transactions on it. Owns the mapping of every error
//! of redb to one that names the file, and remembers the first failure. It does not know what Raft does with its tables.

mod check;
mod file;
mod overlay;

pub(crate) use check::Found;
pub(crate) use file::path_in;

use crate::StoreError;
use crate::envelope::{EnvelopeError, Kind, seal, unseal};
use crate::format::LogEntry;
use crate::member::DiskId;
use causeway_model::NodeId;
use causeway_wire::CodecError;
use redb::{Database, Durability, ReadTransaction, ReadableDatabase, TableDefinition, WriteTransaction};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::watch;

/// The log: index to record.
pub(crate) const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
/// One record of each other kind, by its name.
pub(crate) const STATE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("state");

/// What went wrong inside a transaction. [`Disk`] adds the file.
#[derive(Debug)]
pub(crate) enum Fault {
    Database(redb::Error),
    Damaged { what: String, cause: String },
    Newer { what: String, found: u16, known: u16 },
}

impl Fault {
    pub(crate) fn damaged(what: impl Into<String>, cause: impl Into<String>) -> Self {
        Self::Damaged { what: what.into(), cause: cause.into() }
    }

    pub(crate) fn record(what: impl Into<String>, error: &EnvelopeError) -> Self {
        match *error {
            EnvelopeError::Version { found, known } => Self::Newer { what: what.into(), found, known },
            _ => Self::damaged(what, error.to_string()),
        }
    }
}

impl<E: Into<redb::Error>> From<E> for Fault {
    fn from(error: E) -> Self {
        Self::Database(error.into())
    }
}

/// The open database of one node. Its operations run on the blocking pool, one write at a time.
#[derive(Debug)]
pub(crate) struct Disk {
    path: PathBuf,
    id: DiskId,
    /// `None` once it is closed.
    database: RwLock<Option<Database>>,
    failure: watch::Sender<Option<Arc<StoreError>>>,
}

/// Makes the database of `node` in `dir`, which has none, and fills it. Blocks.
pub(crate) fn make(
    dir: &Path,
    node: NodeId,
    fill: impl FnOnce(&WriteTransaction, DiskId) -> Result<(), Fault>,
) -> Result<(), StoreError> {
    let path = file::path_in(dir);
    match path.try_exists() {
        Ok(true) => Err(StoreError::Exists { path }),
        Ok(false) => file::make(dir, &path, node, fill),
        Err(error) => Err(named(&path, "find", error.into())),
    }
}

/// Looks at every record of the database at `path` and changes nothing: how many bytes it has, what was found, and what is wrong with
/// it. `entry` is given each entry of the log. Blocks.
pub(crate) fn look(
    path: &Path,
    entry: impl FnMut(&mut Found, LogEntry) -> Option<Fault>,
) -> Result<(u64, Found, Vec<StoreError>), StoreError> {
    let looked = || file::look(path, |database| check::survey(database, entry));
    let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(looked));
    let (bytes, (found, faults)) = looked.unwrap_or_else(|_| Err(panicked(path)))?;
    Ok((bytes, found, faults.into_iter().map(|fault| named(path, "read", fault)).collect()))
}

impl Disk {
    /// Opens the database of `node` in `dir`, or makes it, and checks all of it.
    pub(crate) async fn open(dir: &Path, node: NodeId) -> Result<Arc<Self>, StoreError> {
        let dir = dir.to_owned();
        let path = file::path_in(&dir);
        let opened = tokio::task::spawn_blocking(move || file::open_or_make(&dir, node)).await;
        let (database, owner) = joined(&path, opened)?;
        Ok(Arc::new(Self::new(path, database, owner.disk)))
    }

    fn new(path: PathBuf, database: Database, id: DiskId) -> Self {
        Self { path, id, database: RwLock::new(Some(database)), failure: watch::Sender::new(None) }
    }

    /// A database that is not a file of its own, for tests of failing disks.
    #[cfg(test)]
    pub(crate) fn on_backend(path: PathBuf, backend: impl redb::StorageBackend, node: NodeId) -> Arc<Self> {
        let database = file::builder().create_with_backend(backend).unwrap();
        let owner = crate::member::Owner { node, disk: DiskId(7) };
        file::prepare(&database, owner).unwrap();
        Arc::new(Self::new(path, database, owner.disk))
    }

    /// The number of this database.
    pub(crate) fn id(&self) -> DiskId {
        self.id
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The first failure of this database, after which nothing more is read or written.
    pub(crate) fn failure(&self) -> watch::Receiver<Option<Arc<StoreError>>> {
        self.failure.subscribe()
    }

    /// Records a failure, unless there was one before.
    pub(crate) fn fail(&self, error: &StoreError) {
        self.failure.send_if_modified(|failure| {
            let first = failure.is_none();
            if first {
                tracing::error!(reason = error.reason(), %error, "the registry stops taking part");
                *failure = Some(Arc::new(error.clone()));
            }
            first
        });
    }

    /// Reads, in one consistent view.
    pub(crate) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&ReadTransaction) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.run("read", move |database| read(&database.begin_read()?)).await
    }

    /// Writes, all or nothing; on the disk when it returns.
    pub(crate) async fn write<T: Send + 'static>(
        self: &Arc<Self>,
        write: impl FnOnce(&WriteTransaction) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.run("write to", move |database| {
            let mut transaction = database.begin_write()?;
            transaction.set_two_phase_commit(true);
            let value = write(&transaction)?;
            transaction.commit()?;
            Ok(value)
        })
        .await
    }

    /// Writes what need not be on the disk before the next [`Disk::write`] is.
    pub(crate) async fn write_lazily(
        self: &Arc<Self>,
        write: impl FnOnce(&WriteTransaction) -> Result<(), Fault> + Send + 'static,
    ) -> Result<(), StoreError> {
        self.run("write to", move |database| {
            let mut transaction = database.begin_write()?;
            transaction.set_durability(Durability::None)?;
            write(&transaction)?;
            transaction.commit()?;
            Ok(())
        })
        .await
    }

    async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        action: &'static str,
        work: impl FnOnce(&Database) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        if let Some(error) = &*self.failure.borrow() {
            return Err(StoreError::clone(error));
        }
        let disk = self.clone();
        let done = tokio::task::spawn_blocking(move || {
            let database = disk.database.read().unwrap_or_else(PoisonError::into_inner);
            let database = database.as_ref().ok_or_else(|| StoreError::Closed { path: disk.path.clone() })?;
            work(database).map_err(|fault| named(&disk.path, action, fault))
        });
        let result = joined(&self.path, done.await);
        if let Err(error) = &result
            && !matches!(error, StoreError::Closed { .. })
        {
            self.fail(error);
        }
        result
    }

    /// Waits for the operations that run, then closes the file. Later ones fail.
    pub(crate) async fn close(self: &Arc<Self>) -> Result<(), StoreError> {
        let disk = self.clone();
        let closed = tokio::task::spawn_blocking(move || {
            let database = disk.database.write().unwrap_or_else(PoisonError::into_inner).take();
            let closed = database.map_or(Ok(()), Database::close);
            closed.map_err(|error| named(&disk.path, "close", error.into()))
        });
        joined(&self.path, closed.await)
    }
}

/// The result of work on the blocking pool. redb may panic over a file that was damaged in memory or on disk.
fn joined<T>(
    path: &Path,
    done: Result<Result<T, StoreError>, tokio::task::JoinError>,
) -> Result<T, StoreError> {
    done.unwrap_or_else(|error| match error.try_into_panic() {
        Ok(_) => Err(panicked(path)),
        Err(_) => Err(StoreError::Closed { path: path.to_owned() }),
    })
}

fn panicked(path: &Path) -> StoreError {
    let (what, cause) = ("pages".to_owned(), "the storage engine panicked over it".to_owned());
    StoreError::Corrupt { path: path.to_owned(), what, cause }
}

/// The error for `fault` while doing `action` to `path`.
fn named(path: &Path, action: &'static str, fault: Fault) -> StoreError {
    let path = path.to_owned();
    let corrupt = |cause: String| StoreError::Corrupt { path: path.clone(), what: "pages".to_owned(), cause };
    match fault {
        Fault::Damaged { what, cause } => StoreError::Corrupt { path, what, cause },
        Fault::Newer { what, found, known } => StoreError::Newer { path, what, found, known },
        Fault::Database(redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch) => {
            StoreError::Locked { path }
        }
        // the kind that redb gives a file that is not a database
        Fault::Database(redb::Error::Io(error)) if error.kind() == ErrorKind::InvalidData => {
            corrupt(error.to_string())
        }
        Fault::Database(redb::Error::Io(error)) if error.kind() == ErrorKind::UnexpectedEof => {
            corrupt("the file ends too soon".to_owned())
        }
        Fault::Database(redb::Error::Io(error)) => {
            StoreError::Disk { action, path, cause: error.to_string() }
        }
        Fault::Database(redb::Error::PreviousIo) => {
            StoreError::Disk { action, path, cause: "an earlier write failed".to_owned() }
        }
        Fault::Database(redb::Error::DatabaseClosed) => StoreError::Closed { path },
        Fault::Database(error) => corrupt(error.to_string()),
    }
}

/// The record of `kind` among the state, if it was ever written.
pub(crate) fn get<T: DeserializeOwned>(
    state: &impl redb::ReadableTable<&'static str, &'static [u8]>,
    kind: Kind,
) -> Result<Option<T>, Fault> {
    let Some(record) = state.get(kind.name())? else { return Ok(None) };
    unseal(kind, record.value()).map(Some).map_err(|error| Fault::record(kind.name(), &error))
}

/// Writes the record of `kind`.
pub(crate) fn put<T: Serialize>(transaction: &WriteTransaction, kind: Kind, value: &T) -> Result<(), Fault> {
    let record = seal(kind, value).map_err(|error| unencodable(kind, &error))?;
    transaction.open_table(STATE)?.insert(kind.name(), record.as_slice())?;
    Ok(())
}

/// A value that has no encoding: a bug, reported as damage so that nothing goes on from it.
pub(crate) fn unencodable(kind: Kind, error: &CodecError) -> Fault {
    Fault::damaged(kind.name(), error.to_string())
}
