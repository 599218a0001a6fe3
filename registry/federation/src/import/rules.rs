//! The bounds of what a peer can make us believe.

use causeway_model::ClusterFacts;
use causeway_wire::link::DEFAULT_MAX_IMPORTS;
use causeway_wire::view::MAX_ENDPOINTS;
use std::time::Duration;

/// What is taken from one peer cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportRules {
    /// The peer, as it was introduced when the link was made.
    pub peer: ClusterFacts,
    /// The most offers that are held, refused ones included. Of more those with the lowest handles are kept: a rule that
    /// leaves every gateway with the same ones, in whatever order it heard of them.
    pub max_imports: usize,
    /// The most encoded bytes of offers that are held of each of the peer's gateways.
    pub max_bytes: usize,
    /// The most endpoints of one service.
    pub max_endpoints: usize,
    /// How long the imports of a silent peer are kept.
    pub withdraw_after: Duration,
}

impl ImportRules {
    /// The defaults: 10,000 offers, 32 MiB, 16 endpoints a service, 24 hours.
    pub fn new(peer: ClusterFacts) -> Self {
        Self {
            peer,
            max_imports: DEFAULT_MAX_IMPORTS,
            max_bytes: 32 << 20,
            max_endpoints: MAX_ENDPOINTS,
            withdraw_after: Duration::from_secs(24 * 3600),
        }
    }
}
