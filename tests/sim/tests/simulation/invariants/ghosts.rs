//! Once everything is healed, nothing is left of what is gone: no import without an export, no link's imports without the
//! link, no workload that is dead.

use super::{Invariant, Verdict, Violation};
use crate::world::World;
use std::collections::BTreeSet;

pub(crate) fn check(world: &World) -> Verdict {
    check_services(world)?;
    check_workloads(world)
}

fn check_services(world: &World) -> Verdict {
    for gateway in &world.gateways {
        let peers = gateway.process.iter().flat_map(|process| &process.peers);
        for (cluster, peer) in peers {
            let truth = world.true_exports(*cluster, gateway.cluster);
            let mut offers = peer.imports.imports().map(|import| import.summary());
            let ghost = offers.find(|offer| !truth.contains_key(&offer.handle));
            if let Some(ghost) = ghost {
                let (name, there) = (&ghost.name, &world.clusters[*cluster].name);
                let what = format!("gateway {} imports {name}, which {there} does not export", gateway.node);
                return Err(broken(what));
            }
        }
    }
    Ok(())
}

fn check_workloads(world: &World) -> Verdict {
    for gateway in &world.gateways {
        let Some(process) = &gateway.process else { continue };
        let said: BTreeSet<_> = process.presence.workloads().map(|view| view.row.workload).collect();
        let of_cluster = world.workloads.iter().filter(|(_, workload)| workload.cluster == gateway.cluster);
        let truth: BTreeSet<_> = of_cluster.map(|(id, _)| *id).collect();
        if said != truth {
            let ghosts: Vec<_> = said.difference(&truth).collect();
            let missing: Vec<_> = truth.difference(&said).collect();
            let what = format!("gateway {}: dead {ghosts:?} are found, {missing:?} are not", gateway.node);
            return Err(broken(what));
        }
    }
    Ok(())
}

fn broken(what: String) -> Violation {
    Violation::new(Invariant::NoGhosts, what)
}
