//! What a registry is opened with. Owns the translation to openraft's settings.

use crate::StoreError;
use causeway_catalog::CommandBody;
use causeway_model::NodeId;
use openraft::{Config, SnapshotPolicy};
use std::path::PathBuf;
use std::time::Duration;

/// How long one chunk of a snapshot may take, the last one with its installation, which syncs the disk.
const SNAPSHOT_CHUNK_TIMEOUT: Duration = Duration::from_secs(10);

/// The rhythm of a Raft group. All its members use the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaftTiming {
    /// How often a leader speaks to each member, and how long a member may take to answer; 75 ms.
    pub heartbeat: Duration,
    /// The shortest time between the end of a leader's lease and an election; 150 ms, and more than a heartbeat.
    pub election_min: Duration,
    /// The longest, and for how long a leader that was heard has its lease: nobody else is elected meanwhile; 300 ms. A
    /// leader that dies is replaced after two of these and a heartbeat at the latest, usually after one and a half.
    pub election_max: Duration,
}

impl Default for RaftTiming {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(75),
            election_min: Duration::from_millis(150),
            election_max: Duration::from_millis(300),
        }
    }
}

impl RaftTiming {
    /// How long an election takes at the worst in a group that has a majority: after that it is said to have no leader.
    pub(crate) fn patience(&self) -> Duration {
        // the lease, the wait of each voter, and once more when the first to stand had not the newest log
        self.election_max * 3 + self.heartbeat * 2
    }
}

/// What a registry is opened with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// The directory of the database; it exists, and belongs to this node alone.
    pub dir: PathBuf,
    /// This node. The database is bound to it when it is made.
    pub node: NodeId,
    /// The rhythm of the group.
    pub timing: RaftTiming,
    /// After how many log entries a snapshot is taken; 5,000, and at least 1.
    pub snapshot_every: u64,
    /// The commands up to this number are known to every member, whatever it says; [`CommandBody::FIRST_RELEASE`].
    pub known_to_all: u16,
    /// How many log entries that are in the snapshot are kept, so that a member that was away briefly needs no snapshot;
    /// 1,000.
    pub keep_entries: u64,
}

impl StoreConfig {
    /// The usual settings for `node`, with its database in `dir`.
    pub fn new(dir: impl Into<PathBuf>, node: NodeId) -> Self {
        Self {
            dir: dir.into(),
            node,
            timing: RaftTiming::default(),
            snapshot_every: 5_000,
            known_to_all: CommandBody::FIRST_RELEASE,
            keep_entries: 1_000,
        }
    }

    pub(crate) fn raft(&self) -> Result<Config, StoreError> {
        if self.node == NodeId::ANY {
            return Err(StoreError::Config {
                cause: "node id 0 stands for any gateway: give this one its own".into(),
            });
        }
        if self.snapshot_every == 0 {
            return Err(StoreError::Config { cause: "a snapshot every 0 entries: use 1 or more".into() });
        }
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let config = Config {
            cluster_name: "registry".to_owned(),
            heartbeat_interval: ms(self.timing.heartbeat),
            election_timeout_min: ms(self.timing.election_min),
            election_timeout_max: ms(self.timing.election_max),
            install_snapshot_timeout: ms(SNAPSHOT_CHUNK_TIMEOUT),
            snapshot_max_chunk_size: crate::message::SNAPSHOT_CHUNK,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.snapshot_every),
            max_in_snapshot_log_to_keep: self.keep_entries,
            // a member that is further behind is better served by a snapshot than by the log
            replication_lag_threshold: self.snapshot_every.saturating_add(self.keep_entries),
            ..Config::default()
        };
        config.validate().map_err(|error| StoreError::Config { cause: error.to_string() })
    }
}
