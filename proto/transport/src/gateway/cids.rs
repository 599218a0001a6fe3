//! The connection IDs of a gateway's own connections.

use causeway_model::{ClusterId, NodeId};
use causeway_wire::Cid;
use causeway_wire::cid::CID_LEN;
use quinn_proto::{ConnectionId, ConnectionIdGenerator, InvalidCid};
use std::time::Duration;

/// Mints GATEWAY ids of one node.
pub(super) struct GatewayCids {
    cluster: ClusterId,
    node: NodeId,
}

impl GatewayCids {
    pub(super) fn new(cluster: ClusterId, node: NodeId) -> Self {
        Self { cluster, node }
    }
}

impl ConnectionIdGenerator for GatewayCids {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&Cid::gateway(self.cluster, self.node, rand::random()).0)
    }

    /// No id is ever "ours but of no connection": quinn would answer it with a stateless reset, which nobody could route.
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
