//! How Raft's values are laid out, on disk and between nodes: our own types, so that openraft may change its.

use crate::member::Member;
use crate::raft::{Entry, EntryPayload, LogId, Membership, SnapshotMeta, StoredMembership, Vote};
use causeway_catalog::Command;
use openraft::{CommittedLeaderId, LeaderId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The place of an entry: who led when it was proposed, and its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EntryId {
    pub(crate) term: u64,
    pub(crate) node: u64,
    pub(crate) index: u64,
}

impl From<LogId> for EntryId {
    fn from(id: LogId) -> Self {
        Self { term: id.leader_id.term, node: id.leader_id.node_id, index: id.index }
    }
}

impl From<EntryId> for LogId {
    fn from(id: EntryId) -> Self {
        Self::new(CommittedLeaderId::new(id.term, id.node), id.index)
    }
}

/// Whom a node votes for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ballot {
    pub(crate) term: u64,
    pub(crate) node: u64,
    pub(crate) committed: bool,
}

impl From<Vote> for Ballot {
    fn from(vote: Vote) -> Self {
        Self { term: vote.leader_id.term, node: vote.leader_id.node_id, committed: vote.committed }
    }
}

impl From<Ballot> for Vote {
    fn from(ballot: Ballot) -> Self {
        Self { leader_id: LeaderId::new(ballot.term, ballot.node), committed: ballot.committed }
    }
}

/// Who is in the group: the sets of voters (two while they change), and everybody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Members {
    voters: Vec<BTreeSet<u64>>,
    all: BTreeMap<u64, Member>,
}

impl From<&Membership> for Members {
    fn from(membership: &Membership) -> Self {
        Self {
            voters: membership.get_joint_config().clone(),
            all: membership.nodes().map(|(&node, &member)| (node, member)).collect(),
        }
    }
}

impl From<Members> for Membership {
    fn from(members: Members) -> Self {
        Self::new(members.voters, members.all)
    }
}

/// What an entry holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant, reason = "built once, encoded and dropped")]
pub(crate) enum Content {
    /// Nothing: a leader's first entry.
    Blank,
    /// A change of intent.
    Command(Command),
    /// A change of the group.
    Members(Members),
}

/// One log entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogEntry {
    pub(crate) id: EntryId,
    content: Content,
}

impl From<Entry> for LogEntry {
    fn from(entry: Entry) -> Self {
        let content = match entry.payload {
            EntryPayload::Blank => Content::Blank,
            EntryPayload::Normal(command) => Content::Command(command),
            EntryPayload::Membership(membership) => Content::Members((&membership).into()),
        };
        Self { id: entry.log_id.into(), content }
    }
}

impl From<LogEntry> for Entry {
    fn from(entry: LogEntry) -> Self {
        let payload = match entry.content {
            Content::Blank => EntryPayload::Blank,
            Content::Command(command) => EntryPayload::Normal(command),
            Content::Members(members) => EntryPayload::Membership(members.into()),
        };
        Self { log_id: entry.id.into(), payload }
    }
}

/// What a snapshot covers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotHead {
    pub(crate) last: Option<EntryId>,
    members_at: Option<EntryId>,
    members: Members,
    name: String,
}

impl From<&SnapshotMeta> for SnapshotHead {
    fn from(meta: &SnapshotMeta) -> Self {
        Self {
            last: meta.last_log_id.map(Into::into),
            members_at: meta.last_membership.log_id().map(Into::into),
            members: meta.last_membership.membership().into(),
            name: meta.snapshot_id.clone(),
        }
    }
}

impl From<SnapshotHead> for SnapshotMeta {
    fn from(head: SnapshotHead) -> Self {
        Self {
            last_log_id: head.last.map(Into::into),
            last_membership: StoredMembership::new(head.members_at.map(Into::into), head.members.into()),
            snapshot_id: head.name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{Kind, seal, unseal};
    use crate::member::DiskId;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_layout_of_release_0_1_is_kept() {
        let id = EntryId { term: 3, node: 7, index: 300 };
        let blank = seal(Kind::Entry, &LogEntry { id, content: Content::Blank }).unwrap();
        assert_eq!(
            hex(&blank),
            concat!("0001", "00000006", "d009d862531778690cef00dc2d5b7289", "0307fb2c0100")
        );
        let ballot = seal(Kind::Vote, &Ballot { term: 3, node: 7, committed: true }).unwrap();
        assert_eq!(hex(&ballot), concat!("0001", "00000003", "179a5df49f3adf9ebf2707ffec2e6b70", "030701"));
        assert_eq!(unseal::<LogEntry>(Kind::Entry, &blank).unwrap().id, id);
    }

    #[test]
    fn a_group_reads_back() {
        let membership = Membership::new(
            vec![BTreeSet::from([1, 2]), BTreeSet::from([2, 3])],
            BTreeMap::from([(4, Member { disk: Some(DiskId(9)) })]),
        );
        let entry = Entry {
            log_id: LogId::new(CommittedLeaderId::new(2, 1), 9),
            payload: EntryPayload::Membership(membership),
        };
        let record = seal(Kind::Entry, &LogEntry::from(entry.clone())).unwrap();
        assert_eq!(Entry::from(unseal::<LogEntry>(Kind::Entry, &record).unwrap()), entry);
    }
}
