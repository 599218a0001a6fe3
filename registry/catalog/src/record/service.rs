//! Services and their exports.

use crate::ExportTo;
use causeway_model::{PortSet, Revision, ServiceHandle, ServiceName, SpiffeId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A service of this cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// Its ports; empty when nobody has declared them yet.
    pub ports: PortSet,
    /// The identities that may serve it.
    pub identities: BTreeSet<SpiffeId>,
    /// The revision at which it last changed.
    pub changed: Revision,
}

/// The export of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exported {
    /// The service.
    pub service: ServiceName,
    /// Its opaque name in connection IDs, for as long as it is exported.
    pub handle: ServiceHandle,
    /// To whom.
    pub to: ExportTo,
    /// The revision at which it last changed.
    pub changed: Revision,
}
