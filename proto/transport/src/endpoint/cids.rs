//! The connection IDs that endpoints give themselves.

use crate::overlay::Overlay;
use causeway_wire::cid::CID_LEN;
use quinn::{ConnectionId, ConnectionIdGenerator};
use quinn_proto::InvalidCid;
use std::time::Duration;

/// How long a connection uses one ID. Far above the idle timeout, because the exchange of IDs is traffic: a lifetime below it would
/// keep idle connections alive for ever. Bounded at all, because an epoch's key can only be dropped once no connection has an ID
/// of it.
const CID_LIFETIME: Duration = Duration::from_secs(3600);

/// Mints WORKLOAD ids under the overlay's newest key.
pub(super) struct WorkloadCids {
    overlay: Overlay,
}

impl WorkloadCids {
    pub(super) fn new(overlay: Overlay) -> Self {
        Self { overlay }
    }
}

impl ConnectionIdGenerator for WorkloadCids {
    /// Connections begin only when there is a key, and a key is never taken away; without one the ID leads nowhere.
    fn generate_cid(&mut self) -> ConnectionId {
        match self.overlay.mint() {
            Some(cid) => ConnectionId::new(&cid.0),
            None => ConnectionId::new(&rand::random::<[u8; CID_LEN]>()),
        }
    }

    /// No packet of an unknown connection is answered with a stateless reset, which would have random bytes where gateways read
    /// the destination.
    fn validate(&self, _: &ConnectionId) -> Result<(), InvalidCid> {
        Err(InvalidCid)
    }

    fn cid_len(&self) -> usize {
        CID_LEN
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        Some(CID_LIFETIME)
    }
}

/// Random IDs of the mesh's length, for an endpoint whose packets nobody forwards.
pub(super) struct RandomCids;

impl ConnectionIdGenerator for RandomCids {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&rand::random::<[u8; CID_LEN]>())
    }

    /// As with [`WorkloadCids`]: the gateways' forwarders could not tell a stateless reset from a packet to forward.
    fn validate(&self, _: &ConnectionId) -> Result<(), InvalidCid> {
        Err(InvalidCid)
    }

    fn cid_len(&self) -> usize {
        CID_LEN
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}
