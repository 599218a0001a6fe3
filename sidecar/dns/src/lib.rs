//! A sidecar's DNS server: names of services, and the upstream resolver for everything else.
//!
//! It owns the zones of the mesh (`SERVICE.NAMESPACE.mesh`, `SERVICE.NAMESPACE.at.CLUSTER.mesh`,
//! `SERVICE.NAMESPACE.svc.clusterset.local`, and the reverse zones of virtual addresses), and it forwards every other
//! question. It does not know gateways, services or virtual addresses itself: a [`Names`] tells it.
//!
//! Messages are hickory-proto's, the loops around them are not hickory-server's: that one starts a task and copies the message
//! for each datagram and bounds neither its connections nor its pending questions, while here the answer for a known name
//! is written by the loop that read the question. Forwarded answers are passed on as the upstream wrote them, which a
//! resolver that follows aliases itself (hickory-resolver) cannot do.

mod absent;
mod config;
mod error;
mod flights;
mod forward;
mod handler;
mod metrics;
mod names;
mod question;
mod reply;
mod resolv;
mod server;
mod zone;

pub use config::{DnsConfig, Limits, Upstreams};
pub use error::DnsError;
pub use hickory_proto::rr::Name;
pub use metrics::DnsMetrics;
pub use names::{NameError, Names, Resolved};
pub use server::{DnsServer, Sockets};
