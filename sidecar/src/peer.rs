//! A connected peer: who it is, how busy its connection is, and when that ends.

use crate::membership::Membership;
use causeway_model::{ClusterId, SpiffeId, WorkloadId};
use causeway_transport::{Connection, ConnectionError, close};
use causeway_wire::CloseCode;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often an idle connection is looked at.
const LOOK: Duration = Duration::from_secs(30);

/// A peer after the hellos.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) connection: Connection,
    pub(crate) cluster: ClusterId,
    pub(crate) instance: WorkloadId,
    pub(crate) identity: SpiffeId,
    streams: AtomicU32,
    last_used: Mutex<Instant>,
}

/// A stream's share of a peer's load.
#[derive(Debug)]
pub(crate) struct Lease(Arc<Peer>);

impl Peer {
    pub(crate) fn new(
        connection: Connection,
        cluster: ClusterId,
        instance: WorkloadId,
        identity: SpiffeId,
    ) -> Self {
        let (streams, last_used) = (AtomicU32::new(0), Mutex::new(Instant::now()));
        Self { connection, cluster, instance, identity, streams, last_used }
    }

    /// Whether streams can be opened.
    pub(crate) fn is_open(&self) -> bool {
        self.connection.close_reason().is_none()
    }

    /// Streams that are open.
    pub(crate) fn streams(&self) -> u32 {
        self.streams.load(Relaxed)
    }

    /// Counts a stream until the lease is dropped.
    pub(crate) fn lease(self: &Arc<Self>) -> Lease {
        self.streams.fetch_add(1, Relaxed);
        Lease(Arc::clone(self))
    }

    /// Waits for the end of the connection. Closes it when its instance is gone, and, if a time is given, when it had no stream for
    /// so long.
    pub(crate) async fn supervise(
        &self,
        membership: &Membership,
        direct: &[SocketAddr],
        idle: Option<Duration>,
    ) -> ConnectionError {
        let same = self.cluster == membership.cluster && self.instance != membership.instance;
        let guard = same.then(|| membership.directs.add(self.instance, &self.connection, direct));
        let end = tokio::select! {
            end = self.connection.closed() => end,
            () = membership.discovery.gone(self.cluster, self.instance) => {
                close(&self.connection, CloseCode::InstanceGone, "its gateway says that the instance is gone");
                self.connection.closed().await
            }
            () = self.idle(idle) => {
                close(&self.connection, CloseCode::Done, "no stream for a while");
                self.connection.closed().await
            }
        };
        drop(guard);
        end
    }

    async fn idle(&self, limit: Option<Duration>) {
        let Some(limit) = limit else { return std::future::pending().await };
        loop {
            tokio::time::sleep(LOOK.min(limit)).await;
            let since = *self.last_used.lock().unwrap_or_else(PoisonError::into_inner);
            if self.streams() == 0 && since.elapsed() >= limit {
                return;
            }
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        *self.0.last_used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.0.streams.fetch_sub(1, Relaxed);
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "endpoint {} of cluster {}", self.instance, self.cluster)
    }
}
