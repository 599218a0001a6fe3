//! A sidecar: outbound and inbound proxying of a workload's traffic.
//!
//! Owns what happens between an application's TCP connection and a QUIC stream: which endpoint of which cluster a connection
//! goes to, who may call the workload, what the end of one side means on the other, limits, draining, the access log.
//! Packets and paths are `causeway-transport`'s, membership and discovery `causeway-client`'s, and whether a peer may open a
//! stream `causeway-policy`'s.

mod access;
mod choose;
pub mod config;
mod direct;
mod failure;
mod hello;
mod inbound;
mod membership;
mod metrics;
mod outbound;
mod peer;
mod relay;
mod start;
mod trust;

pub use config::{Limits, ListenSpec, ServeSpec, SidecarConfig, SidecarOptions};
pub use metrics::{DirectionMetrics, Handles, SidecarMetrics};
pub use start::{RunningSidecar, Sidecar, run};

#[cfg(test)]
mod tests;
