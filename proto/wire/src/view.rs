//! What gateways tell of services: offers, endpoints, trust bundles. Shared by the control and the link protocol.

use crate::cid::Cid;
use causeway_model::{
    ClusterFacts, Epoch, Health, Locality, PortSet, Revocation, ServiceHandle, ServiceName, SpiffeId,
    TrustDomain, WorkloadId,
};
use serde::{Deserialize, Serialize};

/// The most endpoints of one service that are handed out at a time.
pub const MAX_ENDPOINTS: usize = 16;
/// The most identities that may serve one service.
pub const MAX_IDENTITIES: usize = 64;
/// The most localities that an export summary names.
pub const MAX_LOCALITIES: usize = 64;

/// An endpoint that a client may choose.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndpointView {
    /// The instance behind it; a new start is a new endpoint.
    pub instance: WorkloadId,
    /// An ENDPOINT id to send the first flight to, with a random half of the client's own ([`Cid::with_random`]); valid for
    /// one epoch.
    pub cid: Cid,
    /// Where it runs.
    pub locality: Locality,
    /// Its share of the load among endpoints of its locality; 1 to 1000.
    pub weight: u16,
    /// Whether it takes new requests.
    pub health: Health,
}

/// One cluster's offer of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Offer {
    /// Who offers it.
    pub cluster: ClusterFacts,
    /// Its handle, when it is offered by another cluster.
    pub handle: Option<ServiceHandle>,
    /// Its ports.
    pub ports: PortSet,
    /// The identities that may serve it: one of them must be the server's.
    pub identities: Vec<SpiffeId>,
    /// Endpoints that take new requests.
    pub healthy: u32,
    /// Endpoints in all.
    pub total: u32,
    /// How long the link to the offering cluster has been silent, in seconds; `None` while it speaks.
    pub stale_for: Option<u32>,
    /// Up to [`MAX_ENDPOINTS`] endpoints; empty until the service has been in use for a round trip.
    pub endpoints: Vec<EndpointView>,
}

/// Everything a sidecar needs to call a service: the offers of every cluster that has it, nearest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceView {
    /// The service.
    pub name: ServiceName,
    /// Who offers it; empty when nobody does.
    pub offers: Vec<Offer>,
}

/// A trust bundle with the name of the cluster that it is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleView {
    /// The trust domain.
    pub trust_domain: TrustDomain,
    /// Its root certificates (DER, RFC 5280).
    pub roots: Vec<Vec<u8>>,
    /// Whose certificates it refuses; at most [`Revocation::MAX_PER_DOMAIN`].
    pub revoked: Vec<Revocation>,
}

/// A service as an exporting cluster sums it up over a link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExportSummary {
    /// The service.
    pub name: ServiceName,
    /// Its handle in connection IDs.
    pub handle: ServiceHandle,
    /// Its ports.
    pub ports: PortSet,
    /// The identities that may serve it, all of the exporting cluster's trust domain; at most [`MAX_IDENTITIES`].
    pub identities: Vec<SpiffeId>,
    /// Endpoints that take new requests.
    pub healthy: u32,
    /// Endpoints in all.
    pub total: u32,
    /// Where the endpoints run and how many there; at most [`MAX_LOCALITIES`].
    pub localities: Vec<(Locality, u32)>,
}

/// A key for WORKLOAD ids.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CidSecret {
    /// Its epoch.
    pub epoch: Epoch,
    /// The AES-128 key.
    pub key: [u8; 16],
}

impl std::fmt::Debug for CidSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CidSecret(epoch {}, ***)", self.epoch)
    }
}

/// A key for probes.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeSecret {
    /// Its epoch.
    pub epoch: Epoch,
    /// The key.
    pub key: [u8; 32],
}

impl std::fmt::Debug for ProbeSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ProbeSecret(epoch {}, ***)", self.epoch)
    }
}

/// The release and protocol of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionInfo {
    /// The release, at most 64 bytes.
    pub release: String,
    /// The newest version of this protocol that it speaks.
    pub protocol: u16,
}

impl VersionInfo {
    /// This release.
    pub fn current() -> Self {
        Self { release: env!("CARGO_PKG_VERSION").to_owned(), protocol: 1 }
    }
}

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The request that was refused, 0 when none in particular.
    pub request: u32,
    /// A stable word.
    pub reason: String,
    /// For the operator: name, value, cause, way out.
    pub message: String,
}
