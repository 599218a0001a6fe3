//! The `causeway` command: every process of the mesh, and the verbs by which operators run one.
//!
//! This crate owns the command line, its help and its output. The processes are their crates' (`causeway-gateway`,
//! `causeway-sidecar`); what a verb does is the gateway's admin API's.

#![forbid(unsafe_code)]

mod api;
mod args;
mod completions;
mod context;
mod demo;
mod failure;
mod output;
mod process;
mod report;
mod verbs;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    match args::Cli::parse().run() {
        Ok(code) => code,
        Err(error) => report::report(&error),
    }
}
