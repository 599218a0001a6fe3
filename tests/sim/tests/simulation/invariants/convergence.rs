//! Once everything is healed, both sides of every link agree within 10 s: the digests are equal, and the imports are what
//! the exporting cluster's catalog and live workloads say.

use super::{Invariant, Verdict, Violation};
use crate::world::{PER_CLUSTER, Peer, World};
use causeway_federation::{DigestVerdict, Exporter};
use causeway_model::{Epoch, ServiceHandle};
use causeway_wire::view::ExportSummary;
use std::collections::BTreeMap;

pub(crate) fn check(world: &World) -> Verdict {
    for gateway in &world.gateways {
        let Some(process) = &gateway.process else { continue };
        for (cluster, peer) in &process.peers {
            let whom = format!("gateway {} about {}", gateway.node, world.clusters[*cluster].name);
            let truth = world.true_exports(*cluster, gateway.cluster);
            // of more offers than the cap some are left out, and are fetched again only after a longer time
            if truth.len() <= world.cap(gateway.cluster, *cluster) && !peer.imports.is_over_cap() {
                check_content(peer, &truth, &whom)?;
                check_digests(world, (gateway.cluster, *cluster), peer, &whom)?;
            }
        }
    }
    Ok(())
}

fn check_content(peer: &Peer, truth: &BTreeMap<ServiceHandle, ExportSummary>, whom: &str) -> Verdict {
    let held = held(peer);
    if held == *truth {
        return Ok(());
    }
    Err(broken(format!("{whom}: imported {held:#?}, exported {truth:#?}")))
}

fn check_digests(world: &World, (here, there): (usize, usize), peer: &Peer, whom: &str) -> Verdict {
    let verdicts: Vec<_> = peer.verdicts.values().collect();
    if verdicts.len() != PER_CLUSTER || verdicts.iter().any(|verdict| **verdict != DigestVerdict::InStep) {
        let (held, capped) = (peer.imports.len(), peer.imports.is_over_cap());
        return Err(broken(format!(
            "{whom}: the last digests came to {:?}; {held} held, over the cap: {capped}",
            peer.verdicts
        )));
    }
    if peer.imports.voices().count() != PER_CLUSTER {
        return Err(broken(format!("{whom}: not all gateways speak")));
    }
    let mut mirror = Exporter::new(Epoch(1));
    mirror.set_exports(held(peer));
    let own = mirror.digest();
    for theirs in world.gateways.iter().filter(|gateway| gateway.cluster == there) {
        let exporter = theirs.process.as_ref().and_then(|process| process.peers.get(&here));
        let digest = exporter.map(|peer| peer.exporter.digest());
        if digest.as_ref().is_none_or(|theirs| (theirs.count, theirs.digest) != (own.count, own.digest)) {
            return Err(broken(format!("{whom}: {own:?} here, {digest:?} at gateway {}", theirs.node)));
        }
    }
    Ok(())
}

fn held(peer: &Peer) -> BTreeMap<ServiceHandle, ExportSummary> {
    peer.imports.imports().map(|import| import.summary()).map(|offer| (offer.handle, offer)).collect()
}

fn broken(what: String) -> Violation {
    Violation::new(Invariant::LinksConverge, what)
}
