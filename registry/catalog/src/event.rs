//! What a command changed, for those who watch.

use causeway_model::{ClusterName, ServiceName};
use serde::{Deserialize, Serialize};

/// One thing that changed. An event names the thing and not its new value: a watcher reads that from the catalog, whose
/// revision is the event's or newer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Event {
    /// The cluster's facts or CA.
    ClusterChanged,
    /// The list of the cluster's own gateways.
    GatewaysChanged,
    /// A service is new, or its ports or its serving identities changed.
    ServiceChanged(ServiceName),
    /// A service is gone.
    ServiceRemoved(ServiceName),
    /// A service's export is new, gone, or goes to other clusters than before.
    ExportChanged(ServiceName),
    /// A link is new, or its peer's facts, roots or gateways changed.
    LinkChanged(ClusterName),
    /// A link is gone.
    LinkRemoved(ClusterName),
    /// Tokens or invites were created, used, revoked or purged.
    TokensChanged,
    /// Keys for connection IDs or probes were added or dropped.
    KeysChanged,
    /// Names were given virtual addresses.
    VipsAllocated,
}
