//! The operator's verbs: each asks the admin API for one thing and writes down the answer.

pub(crate) mod apply;
pub(crate) mod backup;
pub(crate) mod ca;
pub(crate) mod check;
pub(crate) mod delete;
pub(crate) mod diff;
pub(crate) mod explain;
pub(crate) mod export;
pub(crate) mod gateways;
pub(crate) mod get;
pub(crate) mod link;
pub(crate) mod resolve;
pub(crate) mod revoke;
pub(crate) mod services;
pub(crate) mod status;
pub(crate) mod token;
pub(crate) mod workloads;

mod documents;
mod listing;
mod spec;

use clap::error::ErrorKind;

/// An error about the command line that only shows when flags are compared.
fn usage(message: impl std::fmt::Display) -> anyhow::Error {
    clap::Command::new("causeway").error(ErrorKind::ArgumentConflict, message).into()
}
