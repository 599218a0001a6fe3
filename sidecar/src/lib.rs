//! A sidecar: outbound and inbound proxying of a workload's traffic.
//!
//! Owns what happens between an application's TCP connection and a QUIC stream: which endpoint of which cluster a connection
//! goes to, who may call the workload, what the end of one side means on the other, limits, draining, the access log.
//! Packets and paths are `causeway-transport`'s, membership and discovery `causeway-client`'s, and whether a peer may open a
//! stream `causeway-policy`'s.

mod access;
mod balance;
mod captured;
mod choose;
pub mod config;
mod descriptors;
mod direct;
mod failure;
mod health;
mod hello;
mod inbound;
mod membership;
mod metrics;
mod names;
mod outbound;
mod peer;
mod relay;
mod start;
mod trust;
mod turn;
mod udp;

pub use captured::Outside;
pub use causeway_capture::CaptureMode;
pub use config::{
    CaptureFlags, CaptureSpec, HealthCheck, HealthSpec, Limits, ListenSpec, ServeSpec, SidecarConfig,
    SidecarOptions,
};
pub use metrics::{DirectionMetrics, Handles, SidecarMetrics};
pub use start::{RunningSidecar, Sidecar, run};

#[cfg(test)]
mod tests;
