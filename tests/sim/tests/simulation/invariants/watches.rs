//! A watch sees each change once and in order, over reconnections and changes of leader.

use super::{Invariant, Verdict, Violation};
use crate::oracle::History;
use crate::world::World;
use causeway_catalog::Event;
use causeway_model::Revision;

/// A watcher that had seen everything up to `from` was told `told`, and goes on from `to`.
pub(crate) fn check_deltas(
    watcher: usize,
    history: &History,
    (from, to): (Revision, Revision),
    told: &[(Revision, Event)],
) -> Verdict {
    let after = Revision(from.0 + 1);
    let truth = history.applied.range(after..=to.max(after)).take_while(|(revision, _)| **revision <= to);
    let truth = truth.flat_map(|(at, (_, applied))| applied.events.iter().map(move |event| (*at, event)));
    if truth.clone().eq(told.iter().map(|(at, event)| (*at, event))) {
        return Ok(());
    }
    let truth: Vec<_> = truth.collect();
    let what = format!("watcher {watcher} from {from} to {to}: told {told:?}, and it was {truth:?}");
    Err(Violation::new(Invariant::WatchesSeeEachChangeOnce, what))
}

/// Who followed the events alone knows what the catalog says.
pub(crate) fn check_settled(world: &World) -> Verdict {
    for (number, watcher) in world.watchers.iter().enumerate() {
        let reference = &world.oracle.clusters[watcher.cluster].reference;
        let is_there = reference.services().map(|service| &service.name);
        if watcher.revision != reference.revision() || !is_there.eq(&watcher.services) {
            let (at, truth) = (watcher.revision, reference.revision());
            let what = format!(
                "watcher {number} is at {at} of {truth} after healing and knows {:?}",
                watcher.services
            );
            return Err(Violation::new(Invariant::WatchesSeeEachChangeOnce, what));
        }
    }
    Ok(())
}
