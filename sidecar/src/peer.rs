//! A connected peer: who it is, how busy its connection is, and when that ends.

use crate::membership::Membership;
use crate::trust::{Ending, Watched};
use causeway_identity::{CLOCK_SLACK, not_after};
use causeway_model::{ClusterId, SpiffeId, WorkloadId};
use causeway_transport::{Connection, ConnectionError, close_reason, peer_chain};
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
    watched: Watched,
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
        watched: Watched,
        vouched_until: SystemTime,
    ) -> Self {
        let (streams, last_used) = (AtomicU32::new(0), Mutex::new(Instant::now()));
        Self { connection, cluster, instance, identity, watched, vouched_until, streams, last_used }
    }

    /// Whether streams can be opened, and may be.
    pub(crate) fn is_open(&self) -> bool {
        self.connection.close_reason().is_none() && !self.is_expired()
    }

    /// Whether the connection outlived a certificate that it was made with: what is open may finish, and nothing new begins.
    pub(crate) fn is_expired(&self) -> bool {
        SystemTime::now() >= self.vouched_until
    }

    /// Why this side ended the connection, if it did: because the peer is not believed any more, or for another reason.
    pub(crate) fn ending(&self) -> Option<&Ending> {
        self.watched.ending()
    }

    /// The stable word for the end of the connection, whichever side ended it.
    pub(crate) fn reason(&self, end: &ConnectionError) -> &'static str {
        self.ending().map_or_else(|| close_reason(end), |ending| ending.code.reason())
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

    /// Waits for the end of the connection. Closes it when its instance is gone, and when it has no stream and has expired or, if a
    /// time is given, had none for so long.
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
                self.watched.end(CloseCode::InstanceGone, "its gateway says that the instance is gone");
                self.connection.closed().await
            }
            () = self.idle(idle) => {
                self.watched.end(CloseCode::Done, "no stream for a while, or none and an expired certificate");
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

impl Lease {
    /// Whose load it is of.
    pub(crate) fn peer(&self) -> &Peer {
        &self.0
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
