//! A connected peer: who it is, how busy its connection is, and when that ends.

use crate::membership::Membership;
use causeway_identity::{CLOCK_SLACK, not_after};
use causeway_model::{ClusterId, SpiffeId, WorkloadId};
use causeway_transport::{Connection, ConnectionError, close, peer_chain};
use causeway_wire::CloseCode;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// How often an idle connection is looked at.
const LOOK: Duration = Duration::from_secs(30);

/// Until when the peer of a new connection is vouched for by its certificate.
pub(crate) fn vouched_until(connection: &Connection) -> SystemTime {
    let chain = peer_chain(connection).unwrap_or_default();
    // the handshake verified the chain, so it can be read; if not, nobody vouches for it
    not_after(&chain).map_or(SystemTime::UNIX_EPOCH, |at| at + CLOCK_SLACK)
}

/// A peer after the hellos.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) connection: Connection,
    pub(crate) cluster: ClusterId,
    pub(crate) instance: WorkloadId,
    pub(crate) identity: SpiffeId,
    /// Past it a certificate that the connection was made with has expired, and nobody vouches for it any more.
    vouched_until: SystemTime,
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
        vouched_until: SystemTime,
    ) -> Self {
        let (streams, last_used) = (AtomicU32::new(0), Mutex::new(Instant::now()));
        Self { connection, cluster, instance, identity, vouched_until, streams, last_used }
    }

    /// Whether streams can be opened, and may be.
    pub(crate) fn is_open(&self) -> bool {
        self.connection.close_reason().is_none() && !self.is_expired()
    }

    /// Whether the connection outlived a certificate that it was made with: what is open may finish, and nothing new begins.
    pub(crate) fn is_expired(&self) -> bool {
        SystemTime::now() >= self.vouched_until
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

    /// Waits for the end of the connection. Closes it when its instance is gone, when its cluster is no longer linked (both sides do,
    /// for by then no packet may pass any more), and when it has no stream and has expired or, if a time is given, had none for so long.
    pub(crate) async fn supervise(
        &self,
        membership: &Membership,
        direct: &[SocketAddr],
        idle: Option<Duration>,
    ) -> ConnectionError {
        let same = self.cluster == membership.cluster && self.instance != membership.instance;
        let guard =
            same.then(|| membership.directs.add(self.instance, &self.identity, &self.connection, direct));
        let end = tokio::select! {
            end = self.connection.closed() => end,
            () = membership.discovery.gone(self.cluster, self.instance) => {
                close(&self.connection, CloseCode::InstanceGone, "its gateway says that the instance is gone");
                self.connection.closed().await
            }
            () = membership.discovery.distrusted(self.identity.trust_domain()) => {
                close(&self.connection, CloseCode::NotLinked, "the link to its cluster was removed");
                self.connection.closed().await
            }
            () = self.idle(idle) => {
                close(&self.connection, CloseCode::Done, "no stream for a while, or none and an expired certificate");
                self.connection.closed().await
            }
        };
        drop(guard);
        end
    }

    async fn idle(&self, limit: Option<Duration>) {
        loop {
            tokio::time::sleep(limit.map_or(LOOK, |limit| LOOK.min(limit))).await;
            let since = *self.last_used.lock().unwrap_or_else(PoisonError::into_inner);
            let long = limit.is_some_and(|limit| since.elapsed() >= limit);
            if self.streams() == 0 && (long || self.is_expired()) {
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
