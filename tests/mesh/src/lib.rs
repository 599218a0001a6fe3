//! Real causeway processes on loopback: the mesh from outside.
//!
//! This crate owns the harness: it finds the binary, gives each process an address of its own, starts and kills processes, asks
//! them as an operator would, and speaks the mesh's protocols with keys taken from a process' disk. What is expected of them is in
//! `tests/`. It needs no root, but for [`Hosts`], and no network, every wait has a deadline, and nothing is tried again to hide a failure.
//!
//! `CAUSEWAY_BIN` names another binary to test, for example a release build.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the harness of tests: what cannot go on ends the test and says where"
)]

mod address;
mod binary;
mod cluster;
mod endpoint;
mod http;
mod intruder;
mod leash;
mod mesh;
mod metrics;
mod netns;
mod process;
mod service;
mod sidecar;
mod skip;
mod wait;

pub use address::loopback;
pub use binary::binary;
pub use cluster::{Cluster, ClusterBuilder, Gateway};
pub use endpoint::{Application, Endpoint, Mood};
pub use http::{Response, get};
pub use intruder::{Intruder, Stolen};
pub use mesh::{Mesh, Ran};
pub use metrics::Scrape;
pub use netns::Hosts;
pub use process::Process;
pub use service::{Service, reset};
pub use sidecar::{Sidecar, SidecarBuilder};
pub use skip::skip;
pub use wait::{wait_for, wait_until};

use std::time::Duration;

/// How long anything may take that should take far less: only a hang takes longer, even where other programs have the cores.
pub const SOON: Duration = Duration::from_secs(20);
