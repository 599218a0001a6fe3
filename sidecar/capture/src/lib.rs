//! Capture of an application's traffic: how it reaches the sidecar, and where it was meant to go.
//!
//! Two halves. A privileged step, run once before the application, reads a [`CaptureConfig`], makes a [`Plan`] of it and installs
//! that ([`install()`], [`remove()`], [`inspect()`]). The sidecar itself, without privilege, asks each connection where it was meant
//! to go ([`original_destination`]), receives redirected datagrams ([`TransparentUdp`]) and answers them ([`reply_socket`]), or
//! listens on virtual addresses ([`any_ip`]).
//!
//! | mode | what is installed | what the application notices |
//! | --- | --- | --- |
//! | `redirect` | nftables rules, local routes for virtual addresses | nothing: all of its TCP and DNS, and UDP to virtual addresses, go through the sidecar |
//! | `vip` | local routes for virtual addresses | it needs a resolver that answers them; the rest of its traffic is not touched |
//! | `listen` | nothing | it is given a local address for each service |
//!
//! What a captured connection means and where it goes is the sidecar's; names and their addresses are `causeway-dns`'s.

pub mod any_ip;
pub mod config;
pub mod install;
pub mod plan;

mod error;
mod original;
mod socket;
mod transparent;

pub use config::{
    Accounts, CaptureConfig, CaptureMode, CaptureOptions, DNS_PORT, Inbound, OUTBOUND_PORT, System,
};
pub use error::{CaptureError, SocketError};
pub use install::{Finding, inspect, install, remove};
pub use original::original_destination;
pub use plan::Plan;
pub use transparent::{Batch, Datagram, TransparentUdp, bind_transparent, reply_socket};
