//! The bounds of what a peer can make us believe.

use causeway_model::ClusterFacts;
use causeway_wire::link::DEFAULT_MAX_IMPORTS;
use causeway_wire::view::MAX_ENDPOINTS;
use std::time::Duration;

/// How long a peer may be silent before [`StalePolicy::EjectAfter`] takes its imports out of the answers, unless configured
/// otherwise.
pub const DEFAULT_EJECT_AFTER: Duration = Duration::from_secs(30);

/// What becomes of the imports of a peer that is silent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StalePolicy {
    /// They are served, after those of peers that speak, until they are withdrawn.
    #[default]
    ServeLast,
    /// The same for so long; then they are part of no answer, and are back at once when the peer speaks again.
    EjectAfter(Duration),
    /// They are part of no answer as soon as they are stale, and are back at once when they no longer are.
    Fence,
}

/// What is taken from one peer cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportRules {
    /// The peer, as it was introduced when the link was made.
    pub peer: ClusterFacts,
    /// The most offers that are held, refused ones included. Of more those with the lowest handles are kept: a rule that
    /// leaves every gateway with the same ones, in whatever order it heard of them.
    pub max_imports: usize,
    /// The most bytes of offers, as they are packed in memory, that are held of each of the peer's gateways.
    pub max_bytes: usize,
    /// The most endpoints of one service.
    pub max_endpoints: usize,
    /// What becomes of the imports of a silent peer.
    pub stale: StalePolicy,
    /// How long the imports of a silent peer are kept.
    pub withdraw_after: Duration,
}

impl ImportRules {
    /// The defaults: 10,000 offers, 32 MiB, 16 endpoints a service; stale ones are served last for 24 hours.
    pub fn new(peer: ClusterFacts) -> Self {
        Self {
            peer,
            max_imports: DEFAULT_MAX_IMPORTS,
            max_bytes: 32 << 20,
            max_endpoints: MAX_ENDPOINTS,
            stale: StalePolicy::ServeLast,
            withdraw_after: Duration::from_secs(24 * 3600),
        }
    }
}
