//! What the catalog holds.

mod audit;
mod cluster;
mod link;
mod service;
mod token;
mod trust;

pub use audit::AuditEntry;
pub use cluster::{CaState, ClusterState, StagedCa};
pub use link::{Invite, InviteState, Link};
pub use service::{Exported, Service};
pub use token::Token;
pub use trust::Revoked;
