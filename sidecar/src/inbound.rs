//! Inbound: peers that call the services of the workload.
//!
//! Owns whom to let in, the decision on each stream (by `causeway-policy`, again whenever exports change), and the delivery
//! to the application. A peer is told a code; the operator's log says why.

mod callers;
mod deliver;
mod source;
mod stream;

pub(crate) use callers::Callers;
pub(crate) use deliver::Delivery;
pub(crate) use stream::{HEADER, Refused, permitted, revoked, say, serve as serve_stream};

use crate::access::Direction;
use crate::config::Limits;
use crate::descriptors::Descriptors;
use crate::hello;
use crate::membership::Membership;
use crate::metrics::SidecarMetrics;
use crate::peer::{Peer, vouched_until};
use crate::trust::{Ending, Watched};
use crate::udp::{FlowLimits, discard};
use callers::MAX_PER_IDENTITY;
use causeway_model::{SpiffeId, SpiffeRole};
use causeway_policy::InboundPolicy;
use causeway_runtime::{Drain, Tasks};
use causeway_transport::{
    Connection, Incoming, OverlayEndpoint, TransportSettings, VarInt, close, close_reason, close_reason_text,
    peer_identity,
};
use causeway_wire::CloseCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What all inbound connections share.
pub(crate) struct Inbound {
    pub(crate) membership: Arc<Membership>,
    pub(crate) policy: watch::Receiver<Arc<InboundPolicy>>,
    pub(crate) delivery: Delivery,
    pub(crate) limits: Limits,
    /// What a peer may have once it has said its hello; its streams grow from there to the limit.
    pub(crate) transport: TransportSettings,
    pub(crate) metrics: SidecarMetrics,
    pub(crate) drain: Drain,
    pub(crate) tasks: Tasks,
    /// One permit for each peer that may be connected.
    pub(crate) peers: Arc<Semaphore>,
    /// How many connections each identity has.
    pub(crate) callers: Callers,
    /// What flows of UDP may take.
    pub(crate) flows: FlowLimits,
    /// One permit for each stream that may be open.
    pub(crate) streams: Arc<Semaphore>,
    /// What all connections take one of.
    pub(crate) descriptors: Descriptors,
}

impl Inbound {
    /// Takes peers until the endpoint is closed.
    pub(crate) async fn accept(self: Arc<Self>, endpoint: OverlayEndpoint) {
        while let Some(incoming) = endpoint.accept().await {
            let Ok(permit) = Arc::clone(&self.peers).try_acquire_owned() else {
                self.metrics.peer_refused(CloseCode::Overloaded.reason());
                incoming.refuse();
                continue;
            };
            let this = Arc::clone(&self);
            self.tasks.spawn("inbound peer", async move {
                let _permit = permit;
                this.peer(incoming).await;
            });
        }
    }

    async fn peer(self: Arc<Self>, incoming: Incoming) {
        let connection = match timeout(HANDSHAKE, async { incoming.accept()?.await }).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => {
                self.metrics.peer_refused(close_reason(&error));
                tracing::debug!(cause = close_reason_text(&error), "a peer's handshake failed");
                return;
            }
            Err(_) => return self.metrics.peer_refused("timed-out"),
        };
        let (identity, watched) = match self.identify(&connection) {
            Ok(identified) => identified,
            Err(Ending { code, text }) => {
                self.metrics.peer_refused(code.reason());
                tracing::warn!(reason = code.reason(), cause = text, "refused a peer");
                return close(&connection, code, &text);
            }
        };
        let Some(_share) = self.callers.share(&identity) else {
            let text = format!("{MAX_PER_IDENTITY} connections of this identity are open");
            self.metrics.peer_refused(CloseCode::Overloaded.reason());
            tracing::warn!(%identity, reason = CloseCode::Overloaded.reason(), cause = text, "refused a peer");
            return close(&connection, CloseCode::Overloaded, &text);
        };
        let domain = identity.trust_domain();
        let hello = tokio::select! {
            hello = hello::answer(&connection, domain, &self.membership, &self.transport) => hello,
            never = discard(&connection) => match never {},
        };
        match hello {
            Ok(hello) => {
                let until = vouched_until(&connection);
                let peer = Peer::new(connection, hello.cluster, hello.instance, identity, watched, until);
                let peer = Arc::new(peer);
                self.serve(&peer, &hello.direct).await;
            }
            Err(error) => {
                self.metrics.peer_refused(error.reason());
                tracing::debug!(%identity, reason = error.reason(), %error, "a peer said no hello that will do");
            }
        }
    }

    /// Who the peer is: a workload that is believed, and from now on watched.
    fn identify(&self, connection: &Connection) -> Result<(SpiffeId, Watched), Ending> {
        let refused = |text| Ending { code: CloseCode::NotAWorkload, text };
        let identity = peer_identity(connection).map_err(|error| refused(error.to_string()))?;
        if !matches!(identity.role(), SpiffeRole::Workload { .. }) {
            return Err(refused(format!("{identity} is not a workload")));
        }
        Ok((identity, self.membership.trust.watch(connection)?))
    }

    async fn serve(self: Arc<Self>, peer: &Arc<Peer>, direct: &[std::net::SocketAddr]) {
        let _datagrams = peer.flows.read(&peer.connection, self.metrics.udp().direction(Direction::Inbound));
        let open = &self.metrics.direction(Direction::Inbound).peers;
        open.inc();
        tracing::debug!(%peer, identity = %peer.identity, "a peer connected");
        let end = tokio::select! {
            end = peer.supervise(&self.membership, direct, None) => end,
            end = self.streams(peer) => end,
        };
        open.dec();
        tracing::debug!(%peer, reason = peer.reason(&end), cause = close_reason_text(&end), "a peer is gone");
    }

    async fn streams(self: &Arc<Self>, peer: &Arc<Peer>) -> causeway_transport::ConnectionError {
        let mut allowed = self.transport.max_streams;
        loop {
            let halves = match peer.connection.accept_bi().await {
                Ok(halves) => halves,
                Err(error) => return error,
            };
            let lease = peer.lease();
            // each allowed stream costs memory even when it is never opened, so allow more only as they are used
            if peer.streams() > allowed / 2 && allowed < self.limits.max_streams_per_peer {
                allowed = allowed.saturating_mul(2).min(self.limits.max_streams_per_peer);
                peer.connection.set_max_concurrent_bi_streams(VarInt::from_u32(allowed));
            }
            let (this, peer) = (Arc::clone(self), Arc::clone(peer));
            tokio::spawn(async move {
                let _lease = lease;
                serve_stream(&this, &peer, halves).await;
            });
        }
    }
}
