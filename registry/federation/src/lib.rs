//! What to tell a linked cluster, and what to believe from it.
//!
//! The core of federation, without I/O: what happens is passed in (`handle_*`) with the time of it, and what to do comes
//! back. On the telling side an [`Exporter`] numbers the exports meant for one peer and cuts them into frames; each
//! connection keeps an [`ExportCursor`] of what it has sent. On the believing side [`PeerImports`] holds what one peer
//! cluster offers, as its gateways tell it, within the bounds of [`ImportRules`]; [`EndpointCache`] holds the endpoints
//! of its services in use. [`merge_offers`] joins the offers of all clusters of one name. [`InstanceWatch`] and
//! [`UseSet`] add up what the local sidecars want to hear of a peer. [`path`] tells which directions between gateways work, and
//! [`transit`] which clusters are reached through others.
//!
//! It owns no connection, no clock and no registry: links, tokens and trust bundles are the business of others.

mod digest;
mod endpoints;
mod export;
mod fault;
mod import;
mod interest;
mod merge;
mod offers;
mod packed;
pub mod path;
mod peer;
pub mod transit;
mod watch;

pub use endpoints::{EndpointCache, EndpointChange, HeldEndpoints};
pub use export::{ExportCursor, ExportOutcome, Exporter, LeftOut, MAX_LOG, SNAPSHOT_INTERVAL};
pub use fault::{OfferFault, RefusedOffer};
pub use import::{
    DEFAULT_EJECT_AFTER, DigestVerdict, Import, ImportChange, ImportError, ImportRules, StalePolicy,
};
pub use interest::InterestOutcome;
pub use merge::{Conflict, Merged, PeerOffer, Why, merge_offers};
pub use peer::{MAX_PEER_NODES, PeerDigest, PeerImports};
pub use watch::{InstanceWatch, UseSet};

use std::time::Duration;

/// How often a speaker sends its digest on every connection: several fit into [`SILENT_AFTER`]. The first one follows
/// the answer to the hello at once, because it is what confirms a resumed copy that has nothing to catch up on.
pub const DIGEST_INTERVAL: Duration = Duration::from_secs(1);
/// A connection that said nothing for this long is silent. A peer all of whose connections are silent or closed is stale.
pub const SILENT_AFTER: Duration = Duration::from_secs(3);
