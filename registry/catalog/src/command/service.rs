//! Commands about services and their exports.

use causeway_model::{ClusterName, PortSet, ServiceHandle, ServiceName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// Declares the ports of an existing service, once: from then on only equal ports are accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclarePorts {
    /// The service.
    pub service: ServiceName,
    /// Its ports, at least one.
    pub ports: PortSet,
}

/// Removes a service that is not exported, and with it the right of every identity to serve it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveService {
    /// The service.
    pub name: ServiceName,
}

/// To whom a service is exported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExportTo {
    /// Every linked cluster, now and later.
    All,
    /// These, linked or not yet.
    Clusters(BTreeSet<ClusterName>),
}

impl ExportTo {
    /// True when `cluster` is among them.
    pub fn includes(&self, cluster: &ClusterName) -> bool {
        match self {
            Self::All => true,
            Self::Clusters(clusters) => clusters.contains(cluster),
        }
    }
}

impl fmt::Display for ExportTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all clusters"),
            Self::Clusters(clusters) => {
                let names: Vec<&str> = clusters.iter().map(ClusterName::as_str).collect();
                f.write_str(&names.join(", "))
            }
        }
    }
}

/// Exports an existing service. Of one that is exported already the handle stays, and clusters that are named join those
/// named before; going from named clusters to all or back replaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Export {
    /// The service.
    pub service: ServiceName,
    /// Its handle if it is not exported yet, the proposer's random.
    pub handle: ServiceHandle,
    /// To whom.
    pub to: ExportTo,
}

/// Takes back an export, from some clusters or from all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unexport {
    /// The service.
    pub service: ServiceName,
    /// From whom; `None` takes it back from everybody. When nobody is left, the handle is gone too.
    pub from: Option<BTreeSet<ClusterName>>,
}
