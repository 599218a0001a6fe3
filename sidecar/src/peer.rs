//! A connected peer: who it is, how busy its connection is, whether it is in doubt, and when it ends.

mod hearing;

use crate::membership::Membership;
use crate::trust::{Ending, Watched};
use crate::udp::FlowTable;
use causeway_identity::{CLOCK_SLACK, not_after};
use causeway_model::{ClusterId, SpiffeId, WorkloadId};
use causeway_transport::{Connection, ConnectionError, close_reason, peer_chain};
use causeway_wire::CloseCode;
use hearing::Hearing;
use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

/// How often an idle connection is looked at.
const LOOK: Duration = Duration::from_secs(30);
/// How often one is that another has replaced.
const LOOK_SUPERSEDED: Duration = Duration::from_secs(1);
/// How often it is seen whether anything was received.
const LISTEN: Duration = Duration::from_millis(500);
/// The same while there is doubt: streams wait for its end.
const LISTEN_IN_DOUBT: Duration = Duration::from_millis(100);

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
    /// The flows of UDP that are open.
    pub(crate) flows: FlowTable,
    watched: Watched,
    /// Past it a certificate that the connection was made with has expired, and nobody vouches for it any more.
    vouched_until: SystemTime,
    streams: AtomicU32,
    last_used: Mutex<Instant>,
    hearing: Mutex<Hearing>,
    /// Whether nothing is heard of the peer although something should be.
    doubtful: watch::Sender<bool>,
    /// Another connection to the instance has taken the place of this one.
    superseded: AtomicBool,
    /// Wakes who waits for the end of the last stream: it is superseded.
    wake: Notify,
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
        let now = Instant::now();
        let hearing = Hearing::new(connection.stats().udp_rx.datagrams, now);
        Self {
            connection,
            cluster,
            instance,
            identity,
            flows: FlowTable::default(),
            watched,
            vouched_until,
            streams: AtomicU32::new(0),
            last_used: Mutex::new(now),
            hearing: Mutex::new(hearing),
            doubtful: watch::Sender::new(false),
            superseded: AtomicBool::new(false),
            wake: Notify::new(),
        }
    }

    /// Whether streams can be opened, and may be.
    pub(crate) fn is_open(&self) -> bool {
        self.connection.close_reason().is_none() && !self.is_expired()
    }

    /// Whether the connection outlived a certificate that it was made with: what is open may finish, and nothing new begins.
    pub(crate) fn is_expired(&self) -> bool {
        SystemTime::now() >= self.vouched_until
    }

    /// Whether new streams may be opened on it: it stands, and there is no doubt that the peer knows of it.
    pub(crate) fn is_usable(&self) -> bool {
        self.is_open() && !*self.doubtful.borrow()
    }

    /// Datagrams that have been received on the connection.
    pub(crate) fn received(&self) -> u64 {
        self.connection.stats().udp_rx.datagrams
    }

    /// Datagrams that have been sent on it.
    pub(crate) fn sent(&self) -> u64 {
        self.connection.stats().udp_tx.datagrams
    }

    /// Takes note that a stream's header is sent, which the peer acknowledges at once if it hears it.
    pub(crate) fn ask(&self) {
        let mut hearing = self.hearing.lock().unwrap_or_else(PoisonError::into_inner);
        if !hearing.is_asked() {
            let now = Instant::now();
            hearing.look(self.connection.stats().udp_rx.datagrams, now);
            hearing.ask(now);
        }
    }

    /// Waits until the connection is in doubt, or is not any more. Only a peer that is [listened to](Self::listen) ever is.
    pub(crate) async fn doubt(&self, doubtful: bool) {
        // it cannot fail: the sender is here
        let _ = self.doubtful.subscribe().wait_for(|now| *now == doubtful).await;
    }

    /// Keeps judging whether the connection is in doubt. `keep_alive` is how often something is sent on it at least.
    pub(crate) async fn listen(&self, keep_alive: Duration) -> Infallible {
        loop {
            let doubtful = *self.doubtful.borrow();
            sleep(if doubtful { LISTEN_IN_DOUBT } else { LISTEN }).await;
            let (stats, now) = (self.connection.stats(), Instant::now());
            let judged = {
                let mut hearing = self.hearing.lock().unwrap_or_else(PoisonError::into_inner);
                hearing.look(stats.udp_rx.datagrams, now);
                hearing.is_doubtful(now, stats.path.rtt, keep_alive)
            };
            if judged != doubtful {
                tracing::debug!(endpoint = %self, doubtful = judged, "a connection is judged anew");
                self.doubtful.send_replace(judged);
            }
        }
    }

    /// Lets the connection end with its last stream: another to the instance has taken its place.
    pub(crate) fn supersede(&self) {
        self.superseded.store(true, Relaxed);
        self.wake.notify_one();
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

    /// Waits for the end of the connection. Closes it when its instance is gone, and when it has no stream and is superseded, has expired
    /// or, if a time is given, had none for so long.
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
                let (code, text) = if self.superseded.load(Relaxed) {
                    (CloseCode::Superseded, "another connection to this instance stands")
                } else {
                    (CloseCode::Done, "no stream for a while, or none and an expired certificate")
                };
                self.watched.end(code, text);
                self.connection.closed().await
            }
        };
        drop(guard);
        end
    }

    async fn idle(&self, limit: Option<Duration>) {
        loop {
            let look = if self.superseded.load(Relaxed) { LOOK_SUPERSEDED } else { LOOK };
            tokio::select! {
                () = sleep(limit.map_or(look, |limit| look.min(limit))) => {}
                () = self.wake.notified() => continue,
            }
            let since = *self.last_used.lock().unwrap_or_else(PoisonError::into_inner);
            let long = limit.is_some_and(|limit| since.elapsed() >= limit);
            let over = long || self.is_expired() || self.superseded.load(Relaxed);
            if self.streams() == 0 && over {
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
