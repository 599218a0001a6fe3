//! What this sidecar is to its peers, and what both directions of traffic need of the control plane.

use crate::direct::Directs;
use crate::trust::Trust;
use causeway_identity::{BundleStore, SvidSource};
use causeway_model::{ClusterId, TrustDomain, WorkloadId};
use causeway_wire::data::DataHello;
use causeway_wire::view::{ServiceView, VersionInfo};
use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::watch;

/// What is learned of a service; `None` until a gateway has said anything.
pub(crate) type View = watch::Receiver<Option<Arc<ServiceView>>>;

/// What the control plane tells while the sidecar runs.
pub(crate) trait Discovery: Send + Sync + 'static {
    /// Resolves when the control plane says that the instance is gone; until then the future keeps it watched.
    fn gone(&self, cluster: ClusterId, instance: WorkloadId) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// This sidecar's part in the mesh.
pub(crate) struct Membership {
    /// Its cluster.
    pub(crate) cluster: ClusterId,
    /// Its cluster's trust domain.
    pub(crate) trust_domain: TrustDomain,
    /// This instance.
    pub(crate) instance: WorkloadId,
    /// Where sidecars of its cluster may reach it directly.
    pub(crate) direct: Vec<SocketAddr>,
    /// Who it is.
    pub(crate) svid: SvidSource,
    /// Whom it believes.
    pub(crate) bundles: BundleStore,
    /// Whether peers are still believed.
    pub(crate) trust: Trust,
    /// Peers that are reached without a gateway.
    pub(crate) directs: Directs,
    /// What the control plane tells.
    pub(crate) discovery: Arc<dyn Discovery>,
}

impl Membership {
    /// What it says first to a peer of `cluster`. Where it can be reached directly is for peers of its own cluster only.
    pub(crate) fn hello(&self, cluster: ClusterId) -> DataHello {
        let direct = if cluster == self.cluster { self.direct.clone() } else { Vec::new() };
        DataHello { version: VersionInfo::current(), cluster: self.cluster, instance: self.instance, direct }
    }
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Membership")
            .field("cluster", &self.cluster)
            .field("instance", &self.instance)
            .finish_non_exhaustive()
    }
}
