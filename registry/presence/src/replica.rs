//! The copy of a sibling's table.
//!
//! Invariant that makes lost, repeated and reordered messages harmless: a copy at version `v` holds the final state of
//! every row whose last change is not after `v`. Deltas apply only to a copy that is not older than their start, and only
//! their changes after `v` are taken; a snapshot replaces everything.
//!
//! Rows that are refused are the exception. Of a workload whose new row breaks a limit the row before stays until the sibling says
//! something better, or that the workload is gone; the digests differ meanwhile.

use crate::view::View;
use crate::{Incarnation, Row, RowChange, RowError, TableDigest};
use causeway_model::{NodeId, WorkloadId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A snapshot that pauses longer than this between two parts is asked for again.
const STAGING_PATIENCE: Duration = Duration::from_secs(1);

/// How much of what a sibling says may be taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// The most rows of one gateway.
    pub(crate) per_gateway: usize,
    /// How many more rows of siblings fit in all.
    pub(crate) more: usize,
}

/// What a sibling's words mean for its copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing is missing, as far as these words tell.
    Fine,
    /// The copy equals the table.
    Equal,
    /// Changes are missing.
    Behind,
    /// Same version, other digest: only the whole table helps.
    Different,
}

#[derive(Debug)]
pub(crate) struct Replica {
    node: NodeId,
    alive: bool,
    incarnation: Option<Incarnation>,
    version: u64,
    digest: TableDigest,
    rows: BTreeMap<WorkloadId, Held>,
    staging: Option<Staging>,
    /// Not after the first row of an older incarnation goes. Kept, because to search for it takes a look at every row.
    next_orphan: Option<Instant>,
    /// Rows not taken because a limit was reached, since they were last counted.
    refused: u64,
    bad: BadRows,
}

/// Rows not taken because they break a limit of a row.
#[derive(Debug, Default)]
struct BadRows {
    /// How many, since they were last counted.
    count: u64,
    /// The first of this incarnation, until it is told.
    first: Option<RowError>,
    noted: bool,
}

impl BadRows {
    /// Whether `row` keeps to the limits; noted if not.
    fn pass(&mut self, row: &Row) -> bool {
        let Err(error) = row.check() else { return true };
        self.count += 1;
        if !std::mem::replace(&mut self.noted, true) {
            self.first = Some(error);
        }
        false
    }
}

#[derive(Debug)]
struct Held {
    row: Arc<Row>,
    /// Set when the row is of an older incarnation: when it goes.
    orphan_until: Option<Instant>,
}

/// The parts of a snapshot that have come so far, in any order. Snapshots of the same version have the same parts, so a
/// repeated one fills the holes.
#[derive(Debug)]
struct Staging {
    version: u64,
    parts: BTreeSet<u32>,
    last_part: Option<u32>,
    rows: BTreeMap<WorkloadId, Arc<Row>>,
    /// Workloads with rows that were not taken: what is known of them stays.
    bad: BTreeSet<WorkloadId>,
    touched: Instant,
}

impl Staging {
    fn new(version: u64, now: Instant) -> Self {
        let (rows, bad) = (BTreeMap::new(), BTreeSet::new());
        Self { version, parts: BTreeSet::new(), last_part: None, rows, bad, touched: now }
    }

    /// Takes a part; returns how many rows were left out because there are too many.
    fn add(&mut self, part: Part, room: Room, bad: &mut BadRows) -> u64 {
        if !self.parts.insert(part.number) {
            return 0;
        }
        if part.last {
            self.last_part = Some(part.number);
        }
        let mut refused = 0;
        for row in part.rows {
            if self.rows.len() + self.bad.len() >= room.per_gateway {
                refused += 1;
            } else if bad.pass(&row) {
                self.rows.insert(row.workload, row);
            } else {
                self.bad.insert(row.workload);
            }
        }
        refused
    }

    /// All parts up to the last have come.
    fn is_complete(&self) -> bool {
        let wanted = self.last_part.and_then(|last| usize::try_from(last).ok());
        wanted.is_some_and(|last| self.parts.len() > last)
    }
}

/// A part of a snapshot.
pub(crate) struct Part {
    pub(crate) version: u64,
    pub(crate) number: u32,
    pub(crate) last: bool,
    pub(crate) rows: Vec<Arc<Row>>,
}

impl Replica {
    pub(crate) fn new(node: NodeId) -> Self {
        Self {
            node,
            alive: false,
            incarnation: None,
            version: 0,
            digest: TableDigest::default(),
            rows: BTreeMap::new(),
            staging: None,
            next_orphan: None,
            refused: 0,
            bad: BadRows::default(),
        }
    }

    pub(crate) fn incarnation(&self) -> Option<Incarnation> {
        self.incarnation
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Rows held, those of older incarnations included.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether a snapshot is on its way.
    pub(crate) fn is_staging(&self, now: Instant) -> bool {
        self.staging.as_ref().is_some_and(|staging| now < staging.touched + STAGING_PATIENCE)
    }

    pub(crate) fn abandon_staging(&mut self) {
        self.staging = None;
    }

    /// The sibling came alive or fell silent.
    pub(crate) fn set_alive(&mut self, alive: bool, view: &mut View) {
        if self.alive != alive {
            self.alive = alive;
            let current = self.rows.iter().filter(|(_, held)| held.orphan_until.is_none());
            current.for_each(|(&workload, _)| view.set_live(self.node, workload, alive));
        }
    }

    /// Takes a new incarnation of the sibling: what the older one said stays until `until` at most.
    pub(crate) fn fence(&mut self, incarnation: Incarnation, until: Instant, view: &mut View) {
        for (&workload, held) in &mut self.rows {
            if held.orphan_until.is_none() {
                held.orphan_until = Some(until);
                view.set_live(self.node, workload, false);
            }
        }
        self.next_orphan = self.first_orphan();
        self.incarnation = Some(incarnation);
        self.version = 0;
        self.digest = TableDigest::default();
        self.staging = None;
        self.bad.noted = false;
    }

    /// Keeps what a dead sibling said until `until`, but for what live gateways say better. When it is heard again it has to say
    /// everything again.
    pub(crate) fn hold(&mut self, until: Instant, view: &mut View) {
        if let Some(incarnation) = self.incarnation {
            self.fence(incarnation, until, view);
        }
        let node = self.node;
        self.rows.retain(|&workload, held| {
            held.orphan_until = Some(until);
            // what is attached here as well may be lost here first
            let elsewhere = view.is_known_elsewhere(workload);
            if elsewhere {
                view.remove(node, workload);
            }
            !elsewhere
        });
        self.next_orphan = self.first_orphan();
    }

    /// What is held stays until `until` at most.
    pub(crate) fn release(&mut self, until: Instant) {
        let held = self.rows.values_mut().filter_map(|held| held.orphan_until.as_mut());
        held.for_each(|orphan_until| *orphan_until = until.min(*orphan_until));
        self.next_orphan = self.first_orphan();
    }

    /// When to call [`Self::drop_orphans`].
    pub(crate) fn next_orphan(&self) -> Option<Instant> {
        self.next_orphan
    }

    fn first_orphan(&self) -> Option<Instant> {
        self.rows.values().filter_map(|held| held.orphan_until).min()
    }

    /// The rows refused since this was last asked.
    pub(crate) fn take_refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }

    /// How many rows broke a limit since this was last asked.
    pub(crate) fn take_bad(&mut self) -> u64 {
        std::mem::take(&mut self.bad.count)
    }

    /// What the first such row of this incarnation broke, once.
    pub(crate) fn take_first_bad(&mut self) -> Option<RowError> {
        self.bad.first.take()
    }

    pub(crate) fn drop_orphan(&mut self, workload: WorkloadId, view: &mut View) {
        if self.rows.get(&workload).is_some_and(|held| held.orphan_until.is_some()) {
            self.rows.remove(&workload);
            view.remove(self.node, workload);
            self.next_orphan = self.first_orphan();
        }
    }

    pub(crate) fn drop_orphans(&mut self, now: Instant, view: &mut View) {
        let due = |held: &Held| held.orphan_until.is_some_and(|until| until <= now);
        for (&workload, _) in self.rows.iter().filter(|(_, held)| due(held)) {
            view.remove(self.node, workload);
        }
        self.rows.retain(|_, held| !due(held));
        self.next_orphan = self.first_orphan();
    }

    /// Forgets everything, the incarnation included.
    pub(crate) fn clear(&mut self, view: &mut View) {
        self.rows.keys().for_each(|&workload| view.remove(self.node, workload));
        let bad = BadRows { noted: false, ..std::mem::take(&mut self.bad) };
        *self = Self { refused: self.refused, bad, ..Self::new(self.node) };
    }

    /// The sibling says what its table looks like.
    pub(crate) fn compare(&self, version: u64, digest: Option<TableDigest>) -> Verdict {
        match (version.cmp(&self.version), digest) {
            (std::cmp::Ordering::Greater, _) => Verdict::Behind,
            (std::cmp::Ordering::Equal, Some(digest)) if digest == self.digest => Verdict::Equal,
            (std::cmp::Ordering::Equal, Some(_)) => Verdict::Different,
            // overtaken by what was sent later, or no digest
            _ => Verdict::Fine,
        }
    }

    /// The sibling says what changed. `changes` are in the order of their versions.
    pub(crate) fn apply(
        &mut self,
        (from, to): (u64, u64),
        changes: Vec<RowChange>,
        mut room: Room,
        view: &mut View,
    ) -> Verdict {
        if to <= self.version {
            return Verdict::Fine;
        }
        if from > self.version {
            return Verdict::Behind;
        }
        let known = self.version;
        for change in changes.into_iter().filter(|change| change.seq() > known) {
            match change {
                RowChange::Up(row) if !self.bad.pass(&row) => {}
                RowChange::Up(row) => self.put(row, &mut room, view),
                RowChange::Gone { workload, .. } => self.remove(workload, view),
            }
        }
        self.version = to;
        self.staging.take_if(|staging| staging.version < to);
        Verdict::Fine
    }

    /// A part of the sibling's whole table. Rows beyond the limit of one gateway are counted and left out.
    pub(crate) fn stage(&mut self, now: Instant, part: Part, room: Room, view: &mut View) {
        // every part but the last has a row, so the number of parts is bounded as the number of rows is
        let too_many = usize::try_from(part.number).is_ok_and(|number| number > room.per_gateway);
        if part.version < self.version || too_many {
            return;
        }
        let mut staging = match self.staging.take() {
            Some(staging) if staging.version >= part.version => staging,
            _ => Staging::new(part.version, now),
        };
        if staging.version == part.version {
            staging.touched = now;
            self.refused += staging.add(part, room, &mut self.bad);
        }
        if staging.is_complete() {
            self.replace(staging, room, view);
        } else {
            self.staging = Some(staging);
        }
    }

    /// Makes the copy equal to a snapshot. Rows of an older incarnation are not the snapshot's to remove.
    fn replace(&mut self, snapshot: Staging, mut room: Room, view: &mut View) {
        let missing = |(workload, held): (&WorkloadId, &Held)| {
            let named = snapshot.rows.contains_key(workload) || snapshot.bad.contains(workload);
            (held.orphan_until.is_none() && !named).then_some(*workload)
        };
        let gone: Vec<WorkloadId> = self.rows.iter().filter_map(missing).collect();
        room.more = room.more.saturating_add(gone.len());
        gone.into_iter().for_each(|workload| self.remove(workload, view));
        snapshot.rows.into_values().for_each(|row| self.put(row, &mut room, view));
        self.version = snapshot.version;
    }

    fn put(&mut self, mut row: Arc<Row>, room: &mut Room, view: &mut View) {
        let workload = row.workload;
        match self.rows.get(&workload) {
            Some(held) if held.orphan_until.is_none() => {
                if held.row == row {
                    return;
                }
                self.digest.remove(workload, held.row.seq);
            }
            Some(_) => {}
            None if room.more == 0 || self.rows.len() >= room.per_gateway => {
                self.refused += 1;
                return;
            }
            None => room.more -= 1,
        }
        self.digest.add(workload, row.seq);
        view.names.share(Arc::make_mut(&mut row));
        self.rows.insert(workload, Held { row: row.clone(), orphan_until: None });
        view.put(self.node, row, self.alive);
    }

    fn remove(&mut self, workload: WorkloadId, view: &mut View) {
        let Some(held) = self.rows.remove(&workload) else { return };
        if held.orphan_until.is_none() {
            self.digest.remove(workload, held.row.seq);
        }
        view.remove(self.node, workload);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::tests::row;

    const ROOM: Room = Room { per_gateway: 100, more: 100 };

    fn at(workload: u64, seq: u64) -> Arc<Row> {
        Arc::new(Row { seq, ..row(workload, &["a.b"]) })
    }

    fn up(workload: u64, seq: u64) -> RowChange {
        RowChange::Up(at(workload, seq))
    }

    fn gone(workload: u64, seq: u64) -> RowChange {
        RowChange::Gone { workload: WorkloadId(workload), seq }
    }

    fn fixture() -> (Replica, View) {
        let (mut replica, mut view) = (Replica::new(NodeId(2)), View::new(NodeId(1)));
        replica.set_alive(true, &mut view);
        replica.fence(Incarnation(1), Instant::now(), &mut view);
        (replica, view)
    }

    fn held(view: &View) -> Vec<u64> {
        view.workloads().map(|workload| workload.row.workload.0).collect()
    }

    #[test]
    fn deltas_apply_once_in_order_and_without_gaps() {
        let (mut replica, mut view) = fixture();
        assert_eq!(replica.apply((0, 2), vec![up(1, 1), up(2, 2)], ROOM, &mut view), Verdict::Fine);
        assert_eq!(replica.apply((3, 4), vec![up(4, 4)], ROOM, &mut view), Verdict::Behind);
        assert_eq!(replica.apply((1, 4), vec![gone(2, 3), up(4, 4)], ROOM, &mut view), Verdict::Fine);
        assert_eq!(replica.apply((0, 2), vec![up(1, 1), up(2, 2)], ROOM, &mut view), Verdict::Fine);
        assert_eq!((held(&view), replica.version()), (vec![1, 4], 4));
        let mut digest = TableDigest::default();
        digest.add(WorkloadId(1), 1);
        digest.add(WorkloadId(4), 4);
        assert_eq!(replica.compare(4, Some(digest)), Verdict::Equal);
        assert_eq!(replica.compare(4, Some(TableDigest::default())), Verdict::Different);
        assert_eq!(replica.compare(5, None), Verdict::Behind);
        assert_eq!(replica.compare(3, Some(TableDigest::default())), Verdict::Fine);
    }

    #[test]
    fn a_snapshot_replaces_the_copy_when_all_its_parts_came() {
        let (mut replica, mut view) = fixture();
        let now = Instant::now();
        let part = |number, last, rows| Part { version: 9, number, last, rows };
        replica.apply((0, 2), vec![up(1, 1), up(2, 2)], ROOM, &mut view);
        replica.stage(now, part(2, true, vec![at(4, 4)]), ROOM, &mut view);
        replica.stage(now, part(0, false, vec![at(3, 3)]), ROOM, &mut view);
        replica.stage(now, part(0, false, vec![at(3, 3)]), ROOM, &mut view);
        assert!(replica.is_staging(now) && !replica.is_staging(now + STAGING_PATIENCE));
        assert_eq!(held(&view), [1, 2]);
        replica.stage(now, Part { version: 8, ..part(1, false, vec![at(5, 5)]) }, ROOM, &mut view);
        replica.stage(now, part(1, false, vec![at(2, 8)]), ROOM, &mut view);
        assert_eq!((held(&view), replica.version()), (vec![2, 3, 4], 9));
        assert!(!replica.is_staging(now));
    }

    #[test]
    fn rows_beyond_a_limit_are_counted_and_left_out() {
        let (mut replica, mut view) = fixture();
        let changes = (1..=5).map(|i| up(i, i)).collect();
        replica.apply((0, 5), changes, Room { per_gateway: 3, more: 100 }, &mut view);
        assert_eq!((replica.len(), replica.refused), (3, 2));
        replica.apply((5, 7), vec![up(6, 6), up(1, 7)], Room { per_gateway: 100, more: 0 }, &mut view);
        assert_eq!((replica.len(), replica.refused, replica.version()), (3, 3, 7));
        let rows = (1..=5).map(|i| at(i, i)).collect();
        let part = Part { version: 9, number: 0, last: true, rows };
        replica.stage(Instant::now(), part, Room { per_gateway: 4, more: 0 }, &mut view);
        assert_eq!((replica.len(), replica.refused), (3, 5));
    }

    #[test]
    fn rows_of_an_older_incarnation_wait_for_their_sidecars() {
        let (mut replica, mut view) = fixture();
        let now = Instant::now();
        let until = now + Duration::from_secs(5);
        replica.apply((0, 3), vec![up(1, 1), up(2, 2), up(3, 3)], ROOM, &mut view);
        replica.fence(Incarnation(2), until, &mut view);
        assert_eq!(held(&view), [1, 2, 3]);
        assert!(!view.get(WorkloadId(1)).unwrap().alive);
        replica.apply((0, 2), vec![up(1, 1), gone(2, 2)], ROOM, &mut view);
        assert!(view.get(WorkloadId(1)).unwrap().alive);
        assert_eq!(held(&view), [1, 3]);
        let empty = Part { version: 3, number: 0, last: true, rows: vec![at(1, 1)] };
        replica.stage(now, empty, ROOM, &mut view);
        assert_eq!((held(&view), replica.next_orphan()), (vec![1, 3], Some(until)));
        replica.drop_orphans(until, &mut view);
        assert_eq!((held(&view), replica.next_orphan()), (vec![1], None));
        replica.clear(&mut view);
        assert_eq!((view.len(), replica.incarnation()), (0, None));
    }
}
