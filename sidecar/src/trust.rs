//! Whether the peers of live connections are still believed, and this side by them.
//!
//! A handshake judges a peer once, and a connection may live for days. So what each peer is believed on is kept, and judged
//! again whenever the trust bundles change, by one task for all connections. An SVID that expires, and a root that is dropped
//! at the end of a rotation, end no connection; a revocation and a removed link do. A revocation of this side's own SVID does,
//! too: the peers leave, and their goodbye may not arrive, because a workload that is revoked is delivered nothing.

use causeway_identity::{BundleStore, Standing, SvidSource, VerifyError};
use causeway_transport::{Connection, close, peer_chain};
use causeway_wire::CloseCode;
use rustc_hash::FxHashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio_util::sync::CancellationToken;

/// Why this side ended a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    /// What the peer is told.
    pub(crate) code: CloseCode,
    /// What its operator, and this side's, are told.
    pub(crate) text: String,
}

impl Ending {
    /// How the connection of a peer ends that is refused for `error`; `None` if it goes on.
    fn of(error: &VerifyError) -> Option<Self> {
        match error {
            VerifyError::BadSignature { .. } => None,
            // the peer shall not read whom this side knows
            VerifyError::UnknownTrustDomain { id, .. } => Some(Self {
                code: CloseCode::NotLinked,
                text: format!("the link to the cluster of {id} was removed"),
            }),
            _ => Some(Self { code: CloseCode::Revoked, text: error.to_string() }),
        }
    }
}

/// A connection, what its peer is believed on, and why this side ended it, once it has.
struct Live {
    connection: Connection,
    standing: Standing,
    /// What the peer believes this side on.
    own: Option<Standing>,
    ending: OnceLock<Ending>,
}

impl Live {
    /// How the connection is to end by what `bundles` say now; `None` if it goes on.
    fn judge(&self, bundles: &BundleStore) -> Option<Ending> {
        let peer = bundles.judge(&self.standing).err().and_then(|error| Ending::of(&error));
        let own = || bundles.judge(self.own.as_ref()?).err().and_then(|error| Ending::of(&error));
        // whether this side's own cluster is known at the moment is nobody else's matter
        peer.or_else(|| own().filter(|ending| ending.code == CloseCode::Revoked))
    }

    fn end(&self, ending: Ending) {
        // the first cause is what the peer hears
        if self.ending.set(ending).is_ok()
            && let Some(Ending { code, text }) = self.ending.get()
        {
            close(&self.connection, *code, text);
        }
    }
}

#[derive(Default)]
struct Table {
    live: Mutex<FxHashMap<u64, Arc<Live>>>,
    next: AtomicU64,
}

impl Table {
    fn lock(&self) -> MutexGuard<'_, FxHashMap<u64, Arc<Live>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The connections whose peers are watched. Clones share them.
#[derive(Clone)]
pub(crate) struct Trust {
    bundles: BundleStore,
    svid: SvidSource,
    table: Arc<Table>,
}

impl Trust {
    /// `svid` is what this side shows its peers.
    pub(crate) fn new(bundles: BundleStore, svid: SvidSource) -> Self {
        Self { bundles, svid, table: Arc::default() }
    }

    /// Watches a connection whose handshake succeeded, until the guard is dropped.
    ///
    /// # Errors
    /// How to close it, because what was believed in the handshake is not any more.
    pub(crate) fn watch(&self, connection: &Connection) -> Result<Watched, Ending> {
        let refused = |error: VerifyError| {
            let other = || Ending { code: CloseCode::WrongIdentity, text: error.to_string() };
            Ending::of(&error).unwrap_or_else(other)
        };
        let standing = self.bundles.standing(&peer_chain(connection).unwrap_or_default()).map_err(refused)?;
        let own = self.bundles.standing(self.svid.current().chain()).ok();
        let live = Arc::new(Live { connection: connection.clone(), standing, own, ending: OnceLock::new() });
        let key = self.table.next.fetch_add(1, Relaxed);
        self.table.lock().insert(key, Arc::clone(&live));
        let watched = Watched { table: Arc::clone(&self.table), key, live };
        // what changed before it was in the table is seen here, what changes later by the task
        match watched.live.judge(&self.bundles) {
            None => Ok(watched),
            Some(ending) => Err(ending),
        }
    }

    /// Judges all connections at every change of the bundles, until `end` is cancelled.
    pub(crate) async fn run(self, end: CancellationToken) {
        let mut changes = self.bundles.changes();
        loop {
            changes.mark_unchanged();
            self.judge_all();
            tokio::select! {
                () = end.cancelled() => return,
                // the store has the sender, so this cannot fail
                _ = changes.changed() => {}
            }
        }
    }

    /// Judges all connections by the bundles as they are now.
    pub(crate) fn judge_all(&self) {
        // a copy, so that connections can come and go meanwhile
        let all: Vec<Arc<Live>> = self.table.lock().values().cloned().collect();
        for live in all {
            if let Some(ending) = live.judge(&self.bundles) {
                let (identity, reason) = (live.standing.id(), ending.code.reason());
                tracing::info!(peer = %identity, reason, cause = ending.text, "a connection ends: one side is not to be believed any more");
                live.end(ending);
            }
        }
    }
}

#[cfg(test)]
impl Trust {
    /// How many connections are watched.
    pub(crate) fn watched(&self) -> usize {
        self.table.lock().len()
    }
}

/// Keeps a connection watched.
pub(crate) struct Watched {
    table: Arc<Table>,
    key: u64,
    live: Arc<Live>,
}

impl Watched {
    /// Closes the connection, unless this side has done so.
    pub(crate) fn end(&self, code: CloseCode, text: &str) {
        self.live.end(Ending { code, text: text.to_owned() });
    }

    /// Why this side ended the connection, if it did.
    pub(crate) fn ending(&self) -> Option<&Ending> {
        self.live.ending.get()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.table.lock().remove(&self.key);
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watched").field(self.live.standing.id()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_that_is_dropped_ends_nothing_and_strangers_learn_nothing() {
        let id = || "spiffe://phx.mesh/ns/shop/sa/web".parse::<causeway_model::SpiffeId>().unwrap();
        assert_eq!(Ending::of(&VerifyError::BadSignature { id: id() }), None);
        let known = vec!["lhr.mesh".parse().unwrap()];
        let trust_domain = id().trust_domain().clone();
        let unlinked =
            Ending::of(&VerifyError::UnknownTrustDomain { id: id(), trust_domain, known }).unwrap();
        assert_eq!(unlinked.code, CloseCode::NotLinked);
        assert!(unlinked.text.contains("phx.mesh") && !unlinked.text.contains("lhr.mesh"));
        for error in
            [VerifyError::Revoked { id: id(), issued_before: 7 }, VerifyError::SignerRevoked { id: id() }]
        {
            let revoked = Ending::of(&error).unwrap();
            assert_eq!(revoked.code, CloseCode::Revoked);
            assert!(revoked.text.contains("spiffe://phx.mesh/ns/shop/sa/web"), "{}", revoked.text);
        }
    }
}
