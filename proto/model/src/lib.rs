//! Nouns of the mesh: names, ids, addresses, localities, clusters, services, identities.
//!
//! This crate owns what things are called and how a name is checked. It owns no behaviour: no I/O, no clock, no
//! randomness, no wire format. Every type parses on construction, so a value that exists is valid.

mod address;
mod cluster;
mod error;
mod id;
mod locality;
mod name;
mod revocation;
mod service;
mod spiffe;
mod vip;

pub use address::HostPort;
pub use cluster::{ClusterFacts, GatewayFacts, GatewayRole};
pub use error::ParseError;
pub use id::{ClusterId, Epoch, NodeId, Revision, ServiceHandle, WorkloadId};
pub use locality::Locality;
pub use name::{ClusterName, Label, ServiceName};
pub use revocation::{Revocation, RevokedSubject, trust_len};
pub use service::{Health, PortKey, PortSet, Protocol, ServicePort, Transport};
pub use spiffe::{SpiffeId, SpiffeRole, TrustDomain};
pub use vip::{Vip, VipName};
