//! What the rest of the process sees of the local copy: the newest catalog, and what happened lately.

use causeway_catalog::{Catalog, Event, EventLog, Replay};
use causeway_model::Revision;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// The published face of the state machine. Catalogs are published whole and in order.
#[derive(Debug)]
pub(crate) struct Replica {
    catalog: watch::Sender<Arc<Catalog>>,
    /// The index of the last log entry that was applied, commands and others.
    applied: watch::Sender<Revision>,
    events: Mutex<EventLog>,
}

impl Replica {
    pub(crate) fn new() -> Self {
        let catalog = Arc::new(Catalog::new());
        let events = Mutex::new(EventLog::new(catalog.revision()));
        Self { catalog: watch::Sender::new(catalog), applied: watch::Sender::new(Revision(0)), events }
    }

    fn events(&self) -> MutexGuard<'_, EventLog> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        self.catalog.borrow().clone()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Catalog>> {
        self.catalog.subscribe()
    }

    pub(crate) fn applied(&self) -> watch::Receiver<Revision> {
        self.applied.subscribe()
    }

    pub(crate) fn since(&self, revision: Revision) -> Replay {
        self.events().since(revision)
    }

    /// Shows the catalog after a batch of commands, whose last log entry has the index `applied`.
    pub(crate) fn publish(&self, catalog: &Arc<Catalog>, applied: Revision, news: &[(Revision, Vec<Event>)]) {
        let mut events = self.events();
        for (revision, happened) in news {
            events.record(*revision, happened);
        }
        drop(events);
        // whoever is woken by the catalog finds its events, and whoever waits for an index finds its catalog
        if self.catalog.borrow().revision() != catalog.revision() {
            self.catalog.send_replace(catalog.clone());
        }
        self.applied.send_replace(applied);
    }

    /// Shows a catalog that came as a whole.
    pub(crate) fn replace(&self, catalog: &Arc<Catalog>, applied: Revision) {
        self.events().reset(catalog.revision());
        self.catalog.send_replace(catalog.clone());
        self.applied.send_replace(applied);
    }
}
