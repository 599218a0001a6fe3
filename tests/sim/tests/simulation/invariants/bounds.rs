//! However a peer behaves, no more is believed of it than the caps allow, and nothing about other clusters.

use super::{Invariant, Verdict, Violation};
use crate::world::World;

pub(crate) fn check(world: &World) -> Verdict {
    for gateway in &world.gateways {
        let peers = gateway.process.iter().flat_map(|process| &process.peers);
        for (cluster, peer) in peers {
            let cap = world.cap(gateway.cluster, *cluster);
            let held = peer.imports.len();
            // gateways of the peer may disagree for a while, and each has a copy of its own
            if held > cap * peer.imports.voices().count().max(1) {
                return Err(broken(format!(
                    "gateway {} holds {held} imports, the cap is {cap}",
                    gateway.node
                )));
            }
            let domain = &world.clusters[*cluster].trust_domain;
            for import in peer.imports.imports() {
                let offer = import.summary();
                let foreign = offer.identities.iter().any(|identity| identity.trust_domain() != domain);
                let odd =
                    offer.identities.is_empty() || offer.ports.is_empty() || offer.healthy > offer.total;
                if foreign || odd {
                    return Err(broken(format!("gateway {} believed in {offer:?}", gateway.node)));
                }
            }
        }
    }
    Ok(())
}

fn broken(what: String) -> Violation {
    Violation::new(Invariant::ImportsAreBounded, what)
}
