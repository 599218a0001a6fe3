//! Which services there are, in order, and which of them changed lately.
//!
//! Lists and watches of services ask here first: a list begins anywhere without a look at what comes before it, and a watch learns
//! which services to look at again. What a service is like is not kept here: `hub/answers.rs` composes that.

use super::{Change, Hub};
use causeway_catalog::{Catalog, Event, Replay};
use causeway_federation::PeerImports;
use causeway_model::{NodeId, Revision, ServiceName};
use causeway_presence::Incarnation;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::fmt;
use std::ops::Bound;
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many changes are remembered. A linked cluster that falls silent changes each of its services, 10,000 unless the link says
/// otherwise.
const REMEMBERED: usize = 32_768;

/// The newest changes of the offers and of the liveness of services.
#[derive(Debug, Default)]
pub(super) struct Index(Mutex<Changes>);

#[derive(Debug, Default)]
struct Changes {
    newest: VecDeque<ServiceName>,
    /// How many changes were forgotten: the number of the first one that is remembered.
    forgotten: u64,
}

impl Changes {
    fn note(&mut self, name: ServiceName) {
        if self.newest.len() >= REMEMBERED {
            self.newest.pop_front();
            self.forgotten += 1;
        }
        self.newest.push_back(name);
    }

    fn latest(&self) -> u64 {
        self.forgotten + self.newest.len() as u64
    }

    /// What changed after `seen` changes; nothing when that is forgotten, or still to come.
    fn since(&self, seen: u64) -> Option<impl Iterator<Item = &ServiceName>> {
        let skip = usize::try_from(seen.checked_sub(self.forgotten)?).ok()?;
        (skip <= self.newest.len()).then(|| self.newest.range(skip..))
    }
}

impl Index {
    fn lock(&self) -> MutexGuard<'_, Changes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Up to `most` names of services that exist in the catalog or are imported, in order, from `from` on: what comes before is not
/// looked at. Every linked cluster's imports are in the order of their names, and so is the catalog.
pub(crate) fn names_from(
    catalog: &Catalog,
    peers: &[&PeerImports],
    from: Bound<&ServiceName>,
    most: usize,
) -> Vec<ServiceName> {
    let mut names: Vec<ServiceName> = Vec::with_capacity(most);
    let after = match from {
        Bound::Unbounded => None,
        Bound::Excluded(name) => Some(name),
        Bound::Included(name) => {
            let imported = || peers.iter().any(|imports| imports.by_name(name).is_some());
            if catalog.service(name).is_some() || imported() {
                names.push(name.clone());
            }
            Some(name)
        }
    };
    let local = catalog.services_after(after).map(|service| service.name.clone());
    let mut sources: Vec<Box<dyn Iterator<Item = ServiceName> + '_>> = vec![Box::new(local)];
    for imports in peers {
        sources.push(Box::new(imports.after(after).map(|import| import.name())));
    }
    let mut heads: BinaryHeap<Reverse<(ServiceName, usize)>> = BinaryHeap::with_capacity(sources.len());
    heads.extend(
        sources.iter_mut().enumerate().filter_map(|(index, names)| Some(Reverse((names.next()?, index)))),
    );
    while names.len() < most
        && let Some(Reverse((name, index))) = heads.pop()
    {
        heads.extend(sources[index].next().map(|next| Reverse((next, index))));
        if names.last() != Some(&name) {
            names.push(name);
        }
    }
    names
}

/// Up to where the changes of services were followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// Of the registry: it means the same at every gateway of the cluster.
    pub(crate) revision: Revision,
    /// The gateway whose changes were counted, and the process of it.
    node: NodeId,
    incarnation: Incarnation,
    /// How many changes of offers and liveness.
    changes: u64,
}

/// `REVISION.NODE.INCARNATION.CHANGES`, hexadecimal.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}.{:x}.{:x}.{:x}", self.revision.0, self.node.0, self.incarnation.0, self.changes)
    }
}

/// That a text is no position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor of a watch: give the last one that it told, or leave it out to begin anew")]
pub(crate) struct NoPosition;

impl FromStr for Position {
    type Err = NoPosition;

    fn from_str(text: &str) -> Result<Self, NoPosition> {
        let mut parts = text.split('.').map(|part| {
            let digits = (1..=16).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_hexdigit());
            u64::from_str_radix(part, 16).ok().filter(|_| digits).ok_or(NoPosition)
        });
        let mut next = || parts.next().ok_or(NoPosition)?;
        let position = Self {
            revision: Revision(next()?),
            node: NodeId(next()?),
            incarnation: Incarnation(next()?),
            changes: next()?,
        };
        if parts.next().is_some() { Err(NoPosition) } else { Ok(position) }
    }
}

/// What changed since a [`Position`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// These services may have changed, and no other.
    These(Vec<ServiceName>),
    /// Any service may have changed; those that are gone are among these.
    Any(Vec<ServiceName>),
    /// Nobody remembers: services may have changed, come and gone.
    Lost,
}

impl Hub {
    /// Up to `most` names of services that exist here or are imported, in order, from `from` on. The soft state is held meanwhile,
    /// so they must be few.
    pub(crate) fn service_names(&self, from: Bound<&ServiceName>, most: usize) -> Vec<ServiceName> {
        let (catalog, soft) = (self.catalog(), self.soft());
        let peers: Vec<&PeerImports> = soft.peers.values().map(|peer| &peer.imports).collect();
        names_from(&catalog, &peers, from, most)
    }

    /// Up to where changes are known now.
    pub(crate) fn position(&self) -> Position {
        // what changes in between is told again rather than not at all
        let changes = self.index.lock().latest();
        Position {
            revision: self.registry.revision(),
            node: self.node.id(),
            incarnation: self.incarnation,
            changes,
        }
    }

    /// What changed since `position`, which moves to now.
    pub(crate) fn news(&self, position: &mut Position) -> News {
        if (position.node, position.incarnation) != (self.node.id(), self.incarnation) {
            *position = self.position();
            return News::Lost;
        }
        let changed = {
            let state = self.index.lock();
            let changed = state.since(position.changes).map(|names| names.cloned().collect::<Vec<_>>());
            position.changes = state.latest();
            changed
        };
        match (changed, self.registry.events_since(position.revision)) {
            (Some(mut names), Replay::Deltas(deltas)) => {
                position.revision = deltas.last().map_or(position.revision, |(revision, _)| *revision);
                let any = concerned(deltas.into_iter().map(|(_, event)| event), &mut names);
                if any { News::Any(names) } else { News::These(names) }
            }
            _ => {
                position.revision = self.registry.revision();
                News::Lost
            }
        }
    }

    /// Notes that these services changed, then wakes whoever waits for that.
    pub(super) fn tell_changed(&self, names: Vec<ServiceName>) {
        let mut changes = self.index.lock();
        names.iter().cloned().for_each(|name| changes.note(name));
        drop(changes);
        for name in names {
            self.tell(Change::Service(name));
        }
    }
}

/// Adds the services that `events` name; true when they may show in any other too.
fn concerned(events: impl Iterator<Item = Event>, names: &mut Vec<ServiceName>) -> bool {
    let mut any = false;
    for event in events {
        match event {
            Event::ServiceChanged(name) | Event::ServiceRemoved(name) | Event::ExportChanged(name) => {
                names.push(name)
            }
            Event::LinkChanged(_) | Event::LinkRemoved(_) => any = true,
            _ => {}
        }
    }
    any
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ServiceName {
        text.parse().unwrap()
    }

    #[test]
    fn changes_are_remembered_up_to_a_number() {
        let mut changes = Changes::default();
        for _ in 0..REMEMBERED + 2 {
            changes.note(name("a.b"));
        }
        changes.note(name("c.d"));
        let latest = changes.latest();
        assert_eq!((latest, changes.forgotten), (REMEMBERED as u64 + 3, 3));
        let since = |seen| changes.since(seen).map(|names| names.cloned().collect::<Vec<_>>());
        assert_eq!(since(latest - 1), Some(vec![name("c.d")]));
        assert_eq!(since(latest), Some(Vec::new()));
        assert_eq!((since(2), since(latest + 1)), (None, None));
        assert_eq!(since(3).unwrap().len(), REMEMBERED);
    }

    #[test]
    fn a_position_reads_as_it_was_written() {
        let position = Position {
            revision: Revision(41),
            node: NodeId(u64::MAX),
            incarnation: Incarnation(7),
            changes: 255,
        };
        assert_eq!(position.to_string(), "29.ffffffffffffffff.7.ff");
        assert_eq!(position.to_string().parse(), Ok(position));
        for wrong in ["", "1.2.3", "1.2.3.4.5", "1.2.3.", "+1.2.3.4", "1.2.3.00000000000000001", "g.1.1.1"] {
            assert_eq!(wrong.parse::<Position>(), Err(NoPosition), "{wrong}");
        }
    }

    #[test]
    fn a_change_of_the_catalog_concerns_the_services_it_names() {
        let quiet = [Event::TokensChanged, Event::KeysChanged, Event::GatewaysChanged, Event::ClusterChanged];
        let mut names = Vec::new();
        assert!(!concerned(quiet.into_iter(), &mut names) && names.is_empty());
        let export =
            [Event::ExportChanged(name("a.b")), Event::TokensChanged, Event::ServiceRemoved(name("c.d"))];
        assert!(!concerned(export.into_iter(), &mut names));
        assert_eq!(names, [name("a.b"), name("c.d")]);
        assert!(concerned([Event::LinkRemoved("phx".parse().unwrap())].into_iter(), &mut names));
    }
}
