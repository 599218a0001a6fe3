//! An accepted offer, as others read it.

use crate::packed::Packed;
use causeway_model::{ClusterFacts, Locality, PortSet, ServiceHandle, ServiceName, SpiffeId};
use causeway_wire::view::{EndpointView, ExportSummary, MAX_ENDPOINTS, Offer};
use std::time::Duration;

/// An offer of a peer that was accepted.
///
/// It is kept packed: to read its name, handle or counts costs little, what else it holds is unpacked at each call.
#[derive(Clone, Copy, Debug)]
pub struct Import<'a> {
    packed: &'a Packed,
    peer: &'a ClusterFacts,
}

impl<'a> Import<'a> {
    pub(crate) fn new(packed: &'a Packed, peer: &'a ClusterFacts) -> Self {
        Self { packed, peer }
    }

    /// The service.
    pub fn name(&self) -> ServiceName {
        self.packed.name()
    }

    /// The part of the name before the dot.
    pub fn service(&self) -> &'a str {
        self.packed.service()
    }

    /// The part of the name after the dot.
    pub fn namespace(&self) -> &'a str {
        self.packed.namespace()
    }

    /// Its handle.
    pub fn handle(&self) -> ServiceHandle {
        *self.packed.handle()
    }

    /// Endpoints that take new requests.
    pub fn healthy(&self) -> u32 {
        self.packed.counts().0
    }

    /// Endpoints in all.
    pub fn total(&self) -> u32 {
        self.packed.counts().1
    }

    /// Its ports.
    pub fn ports(&self) -> PortSet {
        self.summary().ports
    }

    /// The identities that may serve it.
    pub fn identities(&self) -> Vec<SpiffeId> {
        self.summary().identities
    }

    /// Where the endpoints run, and how many there.
    pub fn localities(&self) -> Vec<(Locality, u32)> {
        self.summary().localities
    }

    /// All of it.
    pub fn summary(&self) -> ExportSummary {
        self.packed.open(self.peer)
    }

    /// The offer as sidecars are told of it. `stale_for` is how long the peer has been silent. Where it is served from is what
    /// the link says of the peer, not what the offer says.
    pub fn offer(&self, stale_for: Option<Duration>, endpoints: &[EndpointView]) -> Offer {
        let summary = self.summary();
        Offer {
            cluster: self.peer.clone(),
            handle: Some(summary.handle),
            ports: summary.ports,
            identities: summary.identities,
            healthy: summary.healthy,
            total: summary.total,
            stale_for: stale_for.map(|silent| u32::try_from(silent.as_secs()).unwrap_or(u32::MAX)),
            endpoints: endpoints.iter().take(MAX_ENDPOINTS).cloned().collect(),
        }
    }
}
