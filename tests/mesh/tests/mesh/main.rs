//! What a mesh of real processes must do, and what it must survive. One executable, so that its tests share the cores.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on ends where it stands"
)]

mod arrivals;
mod backups;
mod bounds;
mod breaking;
mod calls;
mod checks;
mod damage;
mod dig;
mod drains;
mod ejections;
mod forwarders;
mod gateways;
mod hostile;
mod idle;
mod links;
mod members;
mod names;
mod outages;
mod pairs;
mod parting;
mod protocol;
mod readme;
mod regions;
mod revocations;
mod roles;
mod rolling;
mod rotation;
mod secrecy;
mod shares;
mod spread;
mod starts;
mod streams;
mod succession;
mod tokens;
mod traffic;
mod transit;
mod upstream;
mod vips;
mod wan;
