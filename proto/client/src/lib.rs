//! What a sidecar asks of its gateways: join, attach, register, subscribe, renew; the last known good cache.
//!
//! A start is [`bootstrap`], which ends with an identity and the keys of this start ([`Joined`]), then [`Control::start`],
//! which keeps control connections to two gateways for as long as the sidecar lives. What was learned is kept when every
//! gateway is gone (fail static), and on disk over a restart.
//!
//! This crate owns the sidecar's side of `causeway-ctl/1` and the folder of its state. It owns no socket and no quinn
//! (`causeway-transport` does), and it decides nothing about traffic: which endpoint a request goes to is the sidecar's.

#![forbid(unsafe_code)]

mod bootstrap;
mod config;
mod control;
mod error;
mod exchange;
mod metrics;
mod moment;
mod refusal;
mod state;
mod throttle;
mod trust;

pub use bootstrap::{Joined, bootstrap};
pub use config::{ClientConfig, ControlConfig};
pub use control::{Control, ControlState, Exports, InstanceWatch, RegistrationError, Subscription, VipError};
pub use error::JoinError;
pub use metrics::ClientMetrics;
pub use state::StateError;
