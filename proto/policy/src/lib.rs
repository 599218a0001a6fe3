//! What may reach what: exports and authorization, compiled and decided. Pure.
//!
//! This crate owns the decision "may this peer open a stream for this service, on this port". It owns no certificate
//! check (the peer's identity is already proved when it is asked), no I/O and no clock: a policy is compiled once from a
//! snapshot and asked many times.

mod export_set;
mod inbound;

pub use export_set::ExportSet;
pub use inbound::{Decision, InboundPolicy, RefuseReason};
