//! Nobody is gone while a gateway vouches for him, or while his dead gateway's grace lasts: a workload whose gateway died
//! and which attached elsewhere in time was never gone.

use super::{Invariant, Verdict, Violation};
use crate::world::{Addr, Workload, World};
use causeway_model::WorkloadId;
use std::time::Duration;

/// How long two gateways must have been undisturbed before one must have heard what the other knows.
pub(crate) const CALM: Duration = Duration::from_secs(2);
/// The grace of a dead gateway, less what a tick may take.
pub(crate) const GRACE: Duration = Duration::from_millis(4900);

/// The gateway at `observer` says that `id` is gone.
pub(crate) fn check_gone(world: &World, observer: Addr, id: WorkloadId) -> Verdict {
    let Some(workload) = world.workloads.get(&id) else { return Ok(()) };
    if workload.was_silent(world.now) {
        return Ok(());
    }
    let node = world.gateways[observer].node;
    if let Some(home) = vouching(world, observer, workload) {
        let home = world.gateways[home].node;
        return Err(broken(format!("{id} is gone at gateway {node}, and gateway {home} vouches for it")));
    }
    let lost = workload.lost.as_ref().filter(|lost| lost.observers.contains(&observer));
    match lost {
        Some(lost) if world.now < lost.at + GRACE => {
            let after = world.now - lost.at;
            Err(broken(format!("{id} is gone at gateway {node} {after:?} after its gateway died")))
        }
        _ => Ok(()),
    }
}

/// A gateway that has vouched for `workload` so long, with nothing between it and `observer`, that this must be known.
fn vouching(world: &World, observer: Addr, workload: &Workload) -> Option<Addr> {
    let settled = |home: &Addr| {
        let Some(held) = workload.homes.get(home) else { return false };
        world.process_id(*home) == Some(held.process)
            && held.since + CALM <= world.now
            && world.calm_for(observer, *home) >= CALM
    };
    workload.homes.keys().copied().find(settled)
}

fn broken(what: String) -> Violation {
    Violation::new(Invariant::NobodyIsGoneTooEarly, what)
}
