//! The registry at scale: what a service, a workload and a session cost, how fast clusters learn of each other, how long a change
//! takes to whom it concerns, and how fast the registry writes and elects.
//!
//! This program owns the loads and the figures. Each scenario runs in a process of its own, so that none measures what another
//! left behind; the gateways and sidecars in it are the real binary, started by `causeway-test-mesh`. What there are thousands of (the
//! gateways of linked clusters, sidecars) is played here, with the real protocols over the real transport.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark: what cannot go on ends the scenario and says where"
)]

mod args;
mod election;
mod figures;
mod imports;
mod memory;
mod mesh;
mod operator;
mod peer;
mod played;
mod probes;
mod process;
mod services;
mod subscribers;
mod times;
mod visibility;
mod workloads;
mod writes;

use args::{Args, Scenario};
use clap::Parser;
use figures::Figures;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let args = Args::parse();
    match args.inside {
        Some(scenario) => inside(&args, scenario),
        None => outside(&args),
    }
}

/// Runs one scenario in this process.
fn inside(args: &Args, scenario: Scenario) -> ExitCode {
    let mut figures = Figures::of(scenario.name());
    match scenario {
        Scenario::Imports => imports::run(args, &mut figures),
        Scenario::Gateway => mesh::run(args, &mut figures),
        Scenario::Workloads => workloads::run(args, &mut figures),
        Scenario::Subscribers => subscribers::run(args, &mut figures),
        Scenario::Visibility => visibility::run(args, &mut figures),
        Scenario::Writes => writes::run(args, &mut figures),
        Scenario::Election => election::run(args, &mut figures),
    }
    figures.write(args.json.as_deref().expect("an inner run is given a file"));
    ExitCode::SUCCESS
}

/// Runs the scenarios one after the other, each in a process of its own, and prints what they found.
fn outside(args: &Args) -> ExitCode {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (mut all, mut failed) = (Figures::default(), Vec::new());
    for scenario in args.scenarios() {
        eprintln!("== {}", scenario.name());
        let file = folder.path().join(scenario.name());
        let own = std::env::current_exe().expect("the path of this executable");
        let mut command = Command::new(own);
        command
            .args(args.again(scenario, &file))
            .env("CAUSEWAY_BIN", args.causeway())
            .env("CAUSEWAY_VOTERS", "1");
        let status = command.status().expect("this executable starts again");
        match Figures::read(&file) {
            Some(figures) if status.success() => all.extend(figures),
            _ => failed.push(format!("scenario {} failed: {status}", scenario.name())),
        }
    }
    println!("{}", all.table());
    if let Some(file) = &args.json {
        all.write(file);
    }
    failed.iter().for_each(|failure| eprintln!("{failure}"));
    let missed = all.missed();
    missed.iter().for_each(|figure| eprintln!("missed: {figure}"));
    let well = failed.is_empty() && (missed.is_empty() || !args.check);
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
