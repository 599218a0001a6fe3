//! A look at the database of a node that does not run: what is in it, and what is wrong with it. Nothing is changed.
//!
//! redb opens no file without writing to it, so it is given the file with a layer over it, in memory, which takes what it writes. No
//! lock is taken. A gateway that has the file, or comes to have it meanwhile, is told of instead: then the pages are on the move.

use crate::StoreError;
use crate::disk::{self, Fault, Found};
use crate::envelope::Kind;
use crate::format::LogEntry;
use crate::raft::{Entry, EntryPayload, Membership, SnapshotMeta};
use causeway_catalog::{Catalog, Command, Refusal};
use causeway_model::{ClusterName, NodeId, Revision};
use std::fmt;
use std::path::{Path, PathBuf};

/// What a database holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The file.
    pub path: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
    /// The node that it was made for.
    pub node: Option<NodeId>,
    /// The number of this database: a vote is bound to it.
    pub disk: Option<String>,
    /// The cluster that its catalog is of; nothing before a first command was committed.
    pub cluster: Option<ClusterName>,
    /// The newest term in which the node voted, and for whom.
    pub vote: Option<(u64, NodeId)>,
    /// How many entries its log has.
    pub entries: u64,
    /// The index of the first one.
    pub first: Option<u64>,
    /// The index of the last one.
    pub last: Option<u64>,
    /// Up to which index it is known to be committed; all of it, if the node is the only voter.
    pub committed: Option<u64>,
    /// The index up to which everything is in the snapshot.
    pub snapshot: Option<Revision>,
    /// The revision of the catalog: the snapshot, with every later command of the log that is known to be committed.
    pub revision: Revision,
    /// Who votes, by the newest entry that says so.
    pub voters: Vec<NodeId>,
    /// Who follows without a vote.
    pub learners: Vec<NodeId>,
    /// Whether a change of the voters was begun and not completed.
    pub changing_voters: bool,
    /// What is wrong: what a start of the gateway would end with, first. [`StoreError::Locked`] alone when a gateway has the file.
    pub faults: Vec<StoreError>,
}

/// Examines the database in `dir`, the registry's directory: every page, every record and how they fit together; and replays the log
/// onto the snapshot. Of what the state machine made of the log there is the audit in the snapshot, which has to agree with those
/// entries that it covers. Blocks, and takes as long as reading the file.
pub fn examine(dir: &Path) -> Report {
    examined(dir).0
}

/// The report, and the catalog that the replay came to.
pub(crate) fn examined(dir: &Path) -> (Report, Option<Catalog>) {
    let mut report = Report { path: disk::path_in(dir), ..Report::default() };
    let mut members = None;
    let looked = disk::look(&report.path, |found, entry| look_at(found, entry, &mut members));
    match looked {
        Ok((bytes, found, faults)) => {
            (report.bytes, report.faults) = (bytes, faults);
            report.take(&found, members);
            (report, found.catalog)
        }
        Err(error) => {
            report.bytes = std::fs::metadata(&report.path).map_or(0, |metadata| metadata.len());
            report.faults = vec![error];
            (report, None)
        }
    }
}

/// Applies an entry, or compares it with what came of it.
fn look_at(found: &mut Found, entry: LogEntry, members: &mut Option<Membership>) -> Option<Fault> {
    let entry = Entry::from(entry);
    let index = entry.log_id.index;
    match entry.payload {
        EntryPayload::Blank => None,
        EntryPayload::Membership(membership) => {
            *members = Some(membership);
            None
        }
        EntryPayload::Normal(command) if found.covered().is_some_and(|covered| index <= covered) => {
            compare(found, index, &command)
        }
        EntryPayload::Normal(command) => {
            let known = found.committed.is_some_and(|committed| index <= committed.index);
            let known = known || votes_alone(found, members.as_ref());
            known.then(|| replay(found, index, &command)).flatten()
        }
    }
}

/// The audit of the snapshot names the command, if it goes back that far.
fn compare(found: &Found, index: u64, command: &Command) -> Option<Fault> {
    let catalog = found.catalog.as_ref()?;
    let mut audit = catalog.audit().skip_while(|entry| entry.revision.0 < index);
    catalog.audit().next().filter(|oldest| oldest.revision.0 <= index)?;
    let noted = audit.next().filter(|entry| entry.revision.0 == index);
    let body = &command.body;
    if !body.is_audited() {
        return None;
    }
    if noted.is_some_and(|noted| noted.command == body.name() && noted.at == command.at) {
        return None;
    }
    let cause = format!("it does not know of log entry {index}, {}", body.name());
    Some(Fault::damaged(Kind::Snapshot.name(), cause))
}

/// Whether the log of this node is the group's: then all that is in it is committed, whatever the mark says, which is written late.
fn votes_alone(found: &Found, newest: Option<&Membership>) -> bool {
    let Some(owner) = found.owner else { return false };
    let alone = |members: &Membership| members.voter_ids().eq([owner.node.0]);
    match newest {
        Some(members) => alone(members),
        None => of_snapshot(found).is_some_and(|members| alone(&members)),
    }
}

/// The group as the snapshot has it.
fn of_snapshot(found: &Found) -> Option<Membership> {
    Some(SnapshotMeta::from(found.head.clone()?).last_membership.membership().clone())
}

fn replay(found: &mut Found, index: u64, command: &Command) -> Option<Fault> {
    // a snapshot that cannot be read is no ground to build on
    if found.head.is_some() && found.catalog.is_none() {
        return None;
    }
    let applied = found.catalog.get_or_insert_default().apply(Revision(index), command);
    match applied.outcome {
        Err(Refusal::RevisionReplayed { have, .. }) => {
            let cause = format!("the catalog is at revision {have} before it");
            Some(Fault::damaged(format!("log entry {index}"), cause))
        }
        _ => None,
    }
}

impl Report {
    /// Whether it was not looked into, because a gateway has it.
    pub fn is_in_use(&self) -> bool {
        matches!(self.faults[..], [StoreError::Locked { .. }])
    }

    fn take(&mut self, found: &Found, members: Option<Membership>) {
        let covered = found.covered();
        let index = |id: crate::format::EntryId| id.index;
        self.node = found.owner.map(|owner| owner.node);
        self.disk = found.owner.map(|owner| owner.disk.to_string());
        self.vote = found.vote.map(|vote| (vote.term, NodeId(vote.node)));
        self.entries = found.entries;
        (self.first, self.last) = (found.first.map(index), found.last.map(index));
        self.committed = found.committed.map(index).max(covered);
        self.snapshot = covered.map(Revision);
        let catalog = found.catalog.as_ref();
        self.cluster = catalog.and_then(|catalog| Some(catalog.cluster()?.facts.name.clone()));
        self.revision = catalog.map_or(Revision(0), |catalog| catalog.revision());
        if votes_alone(found, members.as_ref()) {
            self.committed = self.last.max(self.committed);
        }
        let Some(members) = members.or_else(|| of_snapshot(found)) else { return };
        self.voters = members.voter_ids().map(NodeId).collect();
        self.learners = members.learner_ids().map(NodeId).collect();
        self.changing_voters = members.get_joint_config().len() > 1;
    }
}

fn listed(nodes: &[NodeId]) -> String {
    nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Report {
    /// What it holds, in a line; not what is wrong.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.node, &self.cluster) {
            (Some(node), Some(cluster)) => write!(f, "gateway {node} of cluster {cluster}")?,
            (Some(node), None) => write!(f, "gateway {node}, of no cluster yet")?,
            (None, _) => write!(f, "of nobody")?,
        }
        write!(f, ": revision {}", self.revision)?;
        if let Some(snapshot) = self.snapshot {
            write!(f, ", snapshot at {snapshot}")?;
        }
        match (self.first, self.last) {
            (Some(first), Some(last)) => write!(f, ", {} log entries {first} to {last}", self.entries)?,
            _ => write!(f, ", no log entries")?,
        }
        let after = self.last.unwrap_or(0).saturating_sub(self.committed.unwrap_or(0));
        if after > 0 {
            write!(f, ", the last {after} not known to be committed")?;
        }
        if let Some((term, node)) = self.vote {
            write!(f, "; term {term}, its vote for {node}")?;
        }
        if !self.voters.is_empty() {
            write!(f, "; voters {}", listed(&self.voters))?;
        }
        if !self.learners.is_empty() {
            write!(f, "; learners {}", listed(&self.learners))?;
        }
        if self.changing_voters {
            write!(f, "; a change of the voters is not complete")?;
        }
        if let Some(disk) = &self.disk {
            write!(f, "; database {disk}")?;
        }
        write!(f, "; {} bytes", self.bytes)
    }
}
