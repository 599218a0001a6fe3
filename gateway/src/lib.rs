//! A gateway: the forwarder, the control-plane server, the links and the admin API.
//!
//! A gateway forwards packets that it cannot read ([`forwarder`]), keeps a replica of its cluster's registry, answers its
//! sidecars (`control`), talks to the cluster's other gateways (`peers`) and to those of linked clusters (`links`), and serves
//! operators ([`admin`]). What it knows is in one place, the `hub`.

pub mod admin;
mod authority;
mod bucket;
pub mod config;
pub mod context;
mod control;
pub mod disk;
pub mod forwarder;
mod hub;
mod instance;
mod links;
mod members;
mod node;
mod operator;
mod peers;
mod renew;
pub mod restore;
mod server;
mod siblings;
mod start;
mod tokens;
mod trusted;
mod watched;

pub use config::{GatewayConfig, GatewayOptions};
pub use node::NodeError;
pub use start::{Gateway, run};
