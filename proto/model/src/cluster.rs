//! Clusters and their gateways, as told to others.

use crate::{ClusterId, ClusterName, HostPort, Locality, NodeId, ParseError, TrustDomain};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What a cluster is: the facts that never change after its first start.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClusterFacts {
    /// Its name.
    pub name: ClusterName,
    /// Its number in connection IDs.
    pub id: ClusterId,
    /// Its trust domain.
    pub trust_domain: TrustDomain,
    /// Where its first gateway runs.
    pub locality: Locality,
}

/// What a gateway does in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GatewayRole {
    /// Forwards packets, keeps a replica of the registry, signs SVIDs, holds links.
    Gateway,
    /// Forwards packets only and never holds signing keys.
    Forwarder,
}

impl fmt::Display for GatewayRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Gateway => "gateway",
            Self::Forwarder => "forwarder",
        })
    }
}

impl FromStr for GatewayRole {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        match s {
            "gateway" => Ok(Self::Gateway),
            "forwarder" => Ok(Self::Forwarder),
            _ => Err(ParseError::new("gateway role", s, "write gateway or forwarder")),
        }
    }
}

/// A gateway as others reach it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GatewayFacts {
    /// Its number, unique in its cluster.
    pub node: NodeId,
    /// What it does.
    pub role: GatewayRole,
    /// Where it runs.
    pub locality: Locality,
    /// Where sidecars and gateways of its own cluster reach it, best first.
    pub cluster_addrs: Vec<HostPort>,
    /// Where gateways of linked clusters reach it, best first.
    pub link_addrs: Vec<HostPort>,
}
