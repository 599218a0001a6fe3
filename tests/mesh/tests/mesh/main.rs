//! What a mesh of real processes must do, and what it must survive. One executable, so that its tests share the cores.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on ends where it stands"
)]

mod calls;
mod damage;
mod forwarders;
mod gateways;
mod hostile;
mod links;
mod protocol;
mod readme;
mod roles;
mod secrecy;
mod spread;
mod starts;
mod streams;
mod tokens;
mod wan;
