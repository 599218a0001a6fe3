//! Replicas with equal revision are equal, and answer every command alike.

use super::{Invariant, Verdict, Violation};
use crate::oracle::History;
use crate::world::World;
use causeway_catalog::{Applied, Command};
use causeway_model::Revision;
use std::sync::Arc;

fn broken(what: String) -> Violation {
    Violation::new(Invariant::EqualRevisionsAreEqual, what)
}

/// A replica applied at `revision` what others applied there, with the same answer.
pub(crate) fn check_entry(
    history: &History,
    revision: Revision,
    entry: Option<(&Arc<Command>, &Applied)>,
) -> Verdict {
    let other = history.applied.get(&revision).map(|(command, applied)| (command, applied));
    if other == entry {
        return Ok(());
    }
    Err(broken(format!("revision {revision} is {other:?} at one replica and {entry:?} at another")))
}

/// The first replica that applied a command answered as the reference did.
pub(crate) fn check_answer(revision: Revision, expected: &Applied, answer: &Applied) -> Verdict {
    if expected == answer {
        return Ok(());
    }
    Err(broken(format!("revision {revision} gives {expected:?} at one replica and {answer:?} at another")))
}

/// Equal revisions, equal catalogs.
pub(crate) fn check(world: &World) -> Verdict {
    for (cluster, history) in world.oracle.clusters.iter().enumerate() {
        let members = world.gateways.iter().filter(|gateway| gateway.cluster == cluster);
        let mut seen = vec![(&history.reference, "the reference".to_owned())];
        for gateway in members {
            let Some(process) = &gateway.process else { continue };
            let name = format!("gateway {}", gateway.node);
            let equal = seen.iter().find(|(other, _)| other.revision() == process.catalog.revision());
            if let Some((other, whose)) = equal
                && **other != process.catalog
            {
                let revision = other.revision();
                return Err(broken(format!("{name} and {whose} differ at revision {revision}")));
            }
            seen.push((&process.catalog, name));
        }
    }
    Ok(())
}
