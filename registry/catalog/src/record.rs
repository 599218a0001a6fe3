//! What the catalog holds.

mod audit;
mod cluster;
mod link;
mod service;
mod token;

pub use audit::AuditEntry;
pub use cluster::{CaState, ClusterState};
pub use link::{Invite, InviteState, Link};
pub use service::{Exported, Service};
pub use token::Token;
