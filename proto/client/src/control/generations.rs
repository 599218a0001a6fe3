//! Whether a gateway was started again under a session. Pure.

use causeway_model::NodeId;
use causeway_transport::GatewayStatus;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// The generations of a gateway's addresses that a session has gone by.
#[derive(Debug, Default)]
pub(super) struct Generations {
    seen: BTreeMap<SocketAddr, u64>,
}

impl Generations {
    /// Takes how the gateways are now; whether `node` was started again since the last call. Only the address in use counts, the
    /// first that answers: the others, which are probed less often, show the same restart later.
    pub(super) fn has_grown(&mut self, node: NodeId, statuses: &[GatewayStatus]) -> bool {
        let in_use = statuses.iter().find(|status| status.node == node && status.alive);
        let Some(GatewayStatus { addr, generation, .. }) = in_use else { return false };
        self.seen.insert(*addr, *generation).is_some_and(|before| *generation > before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_is_seen_once_by_the_address_in_use() {
        let status = |port: u16, alive: bool, generation: u64| GatewayStatus {
            node: NodeId(1),
            addr: SocketAddr::from(([127, 0, 0, 1], port)),
            alive,
            generation,
            srtt: None,
            loss: 0.0,
            last_answer: None,
        };
        let mut session = Generations::default();
        let mut grown = |statuses: &[GatewayStatus]| session.has_grown(NodeId(1), statuses);
        assert!(!grown(&[status(1, true, 4), status(2, true, 2)]));
        assert!(!grown(&[status(1, false, 5), status(2, true, 2)]), "not admitted yet");
        assert!(grown(&[status(1, true, 5), status(2, true, 2)]));
        assert!(!grown(&[status(1, true, 5), status(2, true, 3)]), "the same restart");
        assert!(!grown(&[status(1, true, 0), status(2, true, 3)]), "the address is a new one");
        assert!(grown(&[status(1, true, 1)]));
        assert!(!grown(&[]));
    }
}
