//! A backup: the catalog in a file of its own, and the way back from it.
//!
//! ```text
//! magic (16) | record of the backup, which holds the record of the catalog
//! ```
//!
//! Each record has its version, length and checksum (`envelope`), so that a catalog of another release is told from a
//! backup of one. What is in it is secret: the keys of connection IDs and probes, and the sealed key of the certificate
//! authority.

use crate::config::StoreConfig;
use crate::disk::{self, put, unencodable};
use crate::envelope::{EnvelopeError, Kind, seal, unseal};
use crate::format::{Ballot, EntryId, SnapshotHead};
use crate::member::{DiskId, Member};
use crate::raft::{Membership, SnapshotMeta, StoredMembership};
use crate::registry::Registry;
use crate::{StoreError, disk::Fault};
use causeway_catalog::Catalog;
use causeway_model::{ClusterId, ClusterName, NodeId, Revision, TrustDomain};
use redb::WriteTransaction;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

const MAGIC: &[u8; 16] = b"CAUSEWAY-BACKUP\n";
/// How much newer than its backup a restored registry starts: more changes than a cluster makes between two backups, so
/// that no revision is given out a second time.
pub const REVISION_GAP: u64 = 1_000_000;
/// More revisions than a cluster gives out in a second.
const REVISIONS_A_SECOND: u64 = 1_000;

/// Why a file cannot be restored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackupError {
    /// It does not begin like a backup.
    #[error("this is not a backup of a registry: give the file that `causeway backup` wrote")]
    NotABackup,
    /// The end is missing.
    #[error(
        "the backup is cut off after {found} bytes: it was not copied whole; take another copy or another backup"
    )]
    Truncated {
        /// How many bytes there are.
        found: usize,
    },
    /// It is not what was written.
    #[error("the backup is damaged: {cause}; take another copy or another backup")]
    Damaged {
        /// What is wrong.
        cause: String,
    },
    /// A later release wrote it.
    #[error(
        "the {what} has version {found} and this release knows {known}: restore it with the release that made it, or a later one"
    )]
    Newer {
        /// Which part.
        what: &'static str,
        /// Its version.
        found: u16,
        /// The newest that this release reads.
        known: u16,
    },
}

impl BackupError {
    /// The stable word for logs and answers.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotABackup => "not-a-backup",
            Self::Truncated { .. } => "truncated",
            Self::Damaged { .. } => "damaged",
            Self::Newer { .. } => "newer-format",
        }
    }

    fn of(kind: Kind, error: &EnvelopeError, found: usize) -> Self {
        match *error {
            EnvelopeError::Short(_) => Self::Truncated { found },
            EnvelopeError::Length { announced, found: there } if there < announced => {
                Self::Truncated { found }
            }
            EnvelopeError::Version { found, known } => Self::Newer { what: kind.name(), found, known },
            _ => Self::Damaged { cause: error.to_string() },
        }
    }
}

/// What is told of a backup before its catalog is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    created_at: u64,
    cluster: ClusterName,
    id: ClusterId,
    trust_domain: TrustDomain,
    revision: Revision,
    release: String,
    catalog: Vec<u8>,
}

/// A backup that was read and is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// When it was taken, in seconds since the Unix epoch.
    pub created_at: u64,
    /// Of which cluster.
    pub cluster: ClusterName,
    /// The cluster's number.
    pub id: ClusterId,
    /// The cluster's trust domain.
    pub trust_domain: TrustDomain,
    /// The revision of the catalog.
    pub revision: Revision,
    /// Which release took it.
    pub release: String,
    /// The catalog.
    pub catalog: Catalog,
}

impl Registry {
    /// The local replica's catalog as a backup; [`Registry::current`] before it brings the replica up to date.
    ///
    /// # Errors
    /// There is no cluster yet, or the catalog has no encoding.
    pub fn backup(&self) -> Result<Vec<u8>, StoreError> {
        let catalog = self.catalog();
        let facts = &catalog.cluster().ok_or(StoreError::NotInitialised)?.facts;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let unencodable = |error: causeway_wire::CodecError| StoreError::Config { cause: error.to_string() };
        let head = Head {
            created_at: now,
            cluster: facts.name.clone(),
            id: facts.id,
            trust_domain: facts.trust_domain.clone(),
            revision: catalog.revision(),
            release: env!("CARGO_PKG_VERSION").to_owned(),
            catalog: seal(Kind::Snapshot, &*catalog).map_err(unencodable)?,
        };
        let record = seal(Kind::Backup, &head).map_err(unencodable)?;
        Ok([&MAGIC[..], &record].concat())
    }
}

impl Backup {
    /// Reads a backup and checks all of it.
    ///
    /// # Errors
    /// It is no backup, is cut off, was changed, or was made by a later release.
    pub fn read(bytes: &[u8]) -> Result<Self, BackupError> {
        if bytes.len() < MAGIC.len() && !bytes.is_empty() && MAGIC.starts_with(bytes) {
            return Err(BackupError::Truncated { found: bytes.len() });
        }
        let record = bytes.strip_prefix(MAGIC).ok_or(BackupError::NotABackup)?;
        let head: Head = unseal(Kind::Backup, record)
            .map_err(|error| BackupError::of(Kind::Backup, &error, bytes.len()))?;
        let catalog: Catalog = unseal(Kind::Snapshot, &head.catalog)
            .map_err(|error| BackupError::of(Kind::Snapshot, &error, bytes.len()))?;
        let same = catalog.revision() == head.revision
            && catalog.cluster().is_some_and(|cluster| cluster.facts.name == head.cluster);
        if !same {
            return Err(BackupError::Damaged {
                cause: "its catalog is not the one that it describes".to_owned(),
            });
        }
        Ok(Self {
            created_at: head.created_at,
            cluster: head.cluster,
            id: head.id,
            trust_domain: head.trust_domain,
            revision: head.revision,
            release: head.release,
            catalog,
        })
    }
}

/// Makes a database in the directory of `config`, in which its node is the only voter and which holds `catalog`: that of
/// `backup`, or one made from it, and returns the revision after which its own begin. They go on [`REVISION_GAP`] after the
/// backup's and 1,000 further for each second of its age at `now` (in seconds since the Unix epoch), so that all are newer than any
/// that was given out after the backup was taken, by the lost cluster or by one that was restored from it earlier. Blocks.
///
/// The catalog has to name the node as a gateway, or nobody will find it.
///
/// # Errors
/// There is a database already, the settings are wrong, or the disk fails: then nothing is left behind that would open.
#[allow(clippy::needless_pass_by_value, reason = "what was restored is not to be restored again")]
pub fn restore(
    config: &StoreConfig,
    backup: Backup,
    mut catalog: Catalog,
    now: u64,
) -> Result<Revision, StoreError> {
    config.raft()?;
    let age = now.saturating_sub(backup.created_at).saturating_mul(REVISIONS_A_SECOND);
    let newest = backup.revision.0.max(catalog.revision().0);
    let at = Revision(newest.saturating_add(REVISION_GAP).saturating_add(age));
    catalog.rebase(at);
    disk::make(&config.dir, config.node, |transaction, disk| fill(transaction, config.node, disk, &catalog))?;
    Ok(at)
}

/// As if the node had been alone and taken a snapshot at the catalog's revision.
fn fill(transaction: &WriteTransaction, node: NodeId, disk: DiskId, catalog: &Catalog) -> Result<(), Fault> {
    let last = EntryId { term: 1, node: node.0, index: catalog.revision().0 };
    let voters = vec![BTreeSet::from([node.0])];
    let members = Membership::new(voters, BTreeMap::from([(node.0, Member { disk: Some(disk) })]));
    let meta = SnapshotMeta {
        last_log_id: Some(last.into()),
        last_membership: StoredMembership::new(Some(last.into()), members),
        snapshot_id: format!("restored-{}", last.index),
    };
    put(transaction, Kind::Vote, &Ballot { term: 1, node: node.0, committed: false })?;
    put(transaction, Kind::Purged, &last)?;
    put(transaction, Kind::SnapshotMeta, &SnapshotHead::from(&meta))?;
    let record = seal(Kind::Snapshot, catalog).map_err(|error| unencodable(Kind::Snapshot, &error))?;
    transaction.open_table(disk::STATE)?.insert(Kind::Snapshot.name(), record.as_slice())?;
    Ok(())
}
