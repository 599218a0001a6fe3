//! What a mesh of real processes must do, and what it must survive. One executable, so that its tests share the cores.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on ends where it stands"
)]

mod backups;
mod calls;
mod checks;
mod damage;
mod forwarders;
mod gateways;
mod hostile;
mod links;
mod members;
mod pairs;
mod parting;
mod protocol;
mod readme;
mod revocations;
mod roles;
mod rotation;
mod secrecy;
mod spread;
mod starts;
mod streams;
mod succession;
mod tokens;
mod traffic;
mod transit;
mod wan;
