//! What the registry promises, held against real processes. One executable, so that its tests share the cores.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on ends where it stands"
)]

mod disks;
mod faults;
mod leader;
mod linear;
mod presence;
mod quorum;
