//! The registry: the catalog, replicated by Raft and kept on disk.
//!
//! This crate owns the log, the votes, the snapshots, the file they are in, and the rules by which a change reaches the
//! leader; it is the only user of openraft. It owns no socket (a [`PeerCalls`] carries its calls between gateways), no
//! meaning of a command (the catalog crate) and no liveness (the presence crate).
//!
//! # What is promised
//! - A change that [`Registry::propose`] reports as made is on the disks of a majority of the voters.
//! - A change that times out is *unknown*, never known to be absent.
//! - [`Registry::catalog`] is a state that the cluster did agree on, perhaps not the newest; [`Registry::current`] is.
//! - Damaged or foreign files are refused with an error that names the file; nothing is served from them.
//! - After a disk error the node takes no more part in the group and says so through [`Registry::failure`]. The last
//!   catalog stays readable.
//!
//! # The file
//! Everything is in one redb database, `registry.redb`. Chosen because it is one file, is crash-safe by copy-on-write
//! pages with checksums, fsyncs at every commit, has no background threads and is small, pure Rust. The alternatives:
//! RocksDB is a large C++ library with compaction threads; sled is unmaintained; fjall is a log-structured tree with many
//! files, journals and worker threads, built for far more data than the few megabytes here; a log file of our own would
//! need its own recovery. Every commit is two-phase, because redb's one-phase commit answers a damaged newest page by
//! silently going back to the commit before, and Raft must not forget what it has acknowledged; for the same reason
//! every page is checked when the file is opened.
//!
//! [`examine`] looks at all of a file whose node does not run, and tells everything that is wrong with it and not only the first
//! thing.
//!
//! # A disk that is lost
//! A learner that comes back with an empty disk is filled again by the leader. A *voter* that does so has forgotten what
//! it acknowledged and whom it voted for; with its help the others could lose both. The group records with which
//! database each voter got its vote, every call to a voter names that database, and a voter that has another one refuses
//! all of them (`wrong-disk`): it takes no part, as if it were dead, until it is removed and added again.
//!
//! # Who leads
//! openraft keeps a leader's lease: for the longest election timeout after a voter heard its leader it elects nobody
//! else. [`Registry::transfer_leadership`] therefore lets the lease run out before another voter stands for election, and
//! changes wait for it, for less than half a second.

mod backup;
mod config;
mod contacts;
mod disk;
mod envelope;
mod error;
mod examine;
mod format;
mod log;
mod machine;
mod member;
mod message;
mod network;
mod propose;
mod raft;
mod registry;
mod replica;
mod snapshot;
mod status;
#[cfg(test)]
mod tests;
mod voters;

pub use backup::{Backup, BackupError, REVISION_GAP, restore};
pub use config::{RaftTiming, StoreConfig};
pub use error::StoreError;
pub use examine::{Report, examine};
pub use message::MAX_BODY;
pub use network::{CallError, CallFuture, PeerCalls};
pub use propose::{ProposeError, Proposed};
pub use registry::{InitError, Lagging, Registry};
pub use status::{LearnerLag, MemberStatus, RegistryRole, RegistryStatus};
pub use voters::{CAUGHT_UP, DEAD_AFTER};
