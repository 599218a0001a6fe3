//! Why the registry's database cannot be used.

use causeway_model::NodeId;
use std::path::PathBuf;

/// What to do about a damaged database.
const DAMAGED: &str = "check the disk, move the file away and let this gateway join again, or, if it is the only voter, restore a backup";
/// What to do about a disk that refuses.
const REFUSED: &str = "see to the disk (space, permissions, health), then restart this gateway";
/// What to do about a database that is gone.
const GONE: &str = "put the lost file back, or remove the gateway (`causeway gateways remove NODE` at another one) and let it join again";
/// What to do about a database of a later release.
const NEWER: &str = "run the release that wrote it, or a later one";

/// Why the registry's database cannot be used. Every message names the file, the cause and a way out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused to read or write.
    #[error("cannot {action} {}: {cause}; {REFUSED}", path.display())]
    Disk {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: String,
    },
    /// The file is not what this node wrote.
    #[error("{} is damaged, in its {what}: {cause}; {DAMAGED}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The part of it.
        what: String,
        /// What is wrong.
        cause: String,
    },
    /// Another process has the file open.
    #[error("{} is in use by another process: stop the other gateway, or give this one a directory of its own", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// There is no file where one is looked for.
    #[error("{} is missing: {GONE}", path.display())]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// The file belongs to another node.
    #[error("{} belongs to node {found}, and this is node {expected}: each gateway needs a directory of its own", path.display())]
    WrongNode {
        /// The file.
        path: PathBuf,
        /// The node that it was made for.
        found: NodeId,
        /// This node.
        expected: NodeId,
    },
    /// The file was written by a later release.
    #[error("{}: its {what} has version {found} and this release knows {known}: {NEWER}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// The part of it.
        what: String,
        /// Its version.
        found: u16,
        /// The newest that this release reads.
        known: u16,
    },
    /// The registry was shut down.
    #[error("{} is closed: the registry was shut down", path.display())]
    Closed {
        /// The file.
        path: PathBuf,
    },
    /// The consensus engine ended on its own.
    #[error("the registry over {} stopped: {cause}; restart this gateway, and report this if it comes back", path.display())]
    Stopped {
        /// The file.
        path: PathBuf,
        /// What it ended with.
        cause: String,
    },
    /// There is a database where a new one was to be made.
    #[error("{} is there already: restore into an empty directory", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// There is nothing to back up.
    #[error("this gateway has no registry yet: initialise a cluster with it, or let it join one")]
    NotInitialised,
    /// A setting makes no sense.
    #[error("invalid registry settings: {cause}")]
    Config {
        /// Which, and why.
        cause: String,
    },
}

impl StoreError {
    /// The stable word for logs, metrics and answers.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Disk { .. } => "disk",
            Self::Corrupt { .. } => "corrupt",
            Self::Locked { .. } => "locked",
            Self::Missing { .. } => "missing",
            Self::WrongNode { .. } => "wrong-node",
            Self::Newer { .. } => "newer-format",
            Self::Closed { .. } => "closed",
            Self::Stopped { .. } => "stopped",
            Self::Exists { .. } => "exists",
            Self::NotInitialised => "not-initialised",
            Self::Config { .. } => "config",
        }
    }

    /// The way out that the message ends with; empty for an error that has none of its own.
    pub fn way_out(&self) -> &'static str {
        match self {
            Self::Disk { .. } => REFUSED,
            Self::Corrupt { .. } => DAMAGED,
            Self::Missing { .. } => GONE,
            Self::Newer { .. } => NEWER,
            _ => "",
        }
    }
}
