//! Liveness: which workloads of a cluster are alive, at which gateways, serving what, how healthy.
//!
//! Soft state, kept by the cluster's gateways among themselves. Each gateway owns a table with one [`Row`] for every
//! sidecar attached to it and sends changes of that table straight to its siblings, with digests that repair what was
//! lost. The tables of all gateways, merged, are the view that is served: a workload is there while any gateway vouches
//! for it.
//!
//! This crate owns leases, tables, their replication and the merged view. It owns no I/O, no clock and no encoding: a
//! driver feeds [`Presence`] with inputs (`handle_*`, with the time as argument) and carries out its outputs (`poll_*`).
//! Intent (which services exist, who may serve them) is the catalog's.

mod config;
mod counters;
mod digest;
mod event;
mod lease;
mod message;
mod names;
mod outbox;
mod own;
mod peer;
mod presence;
mod replica;
mod row;
mod view;

pub use config::PresenceConfig;
pub use counters::Counters;
pub use digest::TableDigest;
pub use event::Event;
pub use message::{Incarnation, Message, MessageError, RowChange};
pub use peer::PeerStatus;
pub use presence::Presence;
pub use row::{Row, RowError, ServedService};
pub use view::WorkloadView;
