//! Two linked clusters on this machine, as processes of this program: something to look at, and with `--check` a tour that
//! tries out what the mesh promises.
//!
//! Everything is on loopback addresses, in a folder for temporary files, and ends with the demo. Gateways, sidecars, tokens,
//! link and exports come from the commands that an operator uses; only the two small services and the load are the demo's.

mod child;
mod content;
mod guardian;
mod guide;
mod http;
mod load;
mod mesh;
mod plan;
mod ports;
mod report;
mod service;
mod stall;
mod tour;
mod verb;
mod wait;

use crate::failure::Failure;
use crate::output;
use anyhow::{Context, Result};
use clap::error::ErrorKind;
use mesh::Mesh;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The descriptors that the load of a tour needs, with room.
const DESCRIPTORS: u64 = 3000;

const AFTER: &str = "\
It needs neither root nor a network, and leaves nothing behind: clusters iad and phx run on 127.0.11.* and 127.0.12.*, with
payments.shop in phx and orders.shop in iad. The last line of the tour says whether everything is fine; its exit code is 0 if
so, else 1.

Examples:
  causeway demo                          two clusters to play with, until Ctrl-C
  causeway demo --check                  a tour: gateways are killed under load; about a minute
  causeway demo --check --rounds 5       kill more often, for the median stall
  causeway demo --gateways 3 --keep";

/// What the demo is asked for.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(after_help = AFTER)]
pub(crate) struct Args {
    /// Make a tour alone, tell what was seen, and exit 0 or 1
    #[arg(long)]
    check: bool,
    /// Gateways in each cluster, 1 to 5; a tour needs two
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=5))]
    gateways: u8,
    /// How often the tour kills voters and learners
    #[arg(long, value_name = "N", default_value_t = 1, requires = "check", value_parser = clap::value_parser!(u8).range(1..=100))]
    rounds: u8,
    /// Keep the folder with logs and data at the end
    #[arg(long)]
    keep: bool,
    /// Read process ids from standard input and kill those processes when it ends; the demo runs this itself
    #[arg(long, hide = true)]
    guardian: bool,
}

/// Runs the demo until it is told to stop, or the tour to its end.
pub(crate) fn run(args: Args) -> Result<ExitCode> {
    let Args { check, gateways, rounds, keep, guardian } = args;
    if guardian {
        guardian::guard(std::io::stdin());
        return Ok(ExitCode::SUCCESS);
    }
    if check && gateways < 2 {
        let why = "--check kills a gateway of each cluster: give --gateways 2 or more";
        return Err(clap::Command::new("causeway").error(ErrorKind::ArgumentConflict, why).into());
    }
    if check {
        descriptors()?;
    }
    let dir = tempfile::Builder::new()
        .prefix("causeway-demo-")
        .tempdir()
        .context("cannot make a folder for the demo")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let outcome = runtime.block_on(demo(dir.path(), gateways, check.then_some(rounds)));
    if keep {
        output::note(&format!("logs and data are in {}", dir.keep().display()));
    }
    outcome
}

fn descriptors() -> Result<()> {
    let (soft, hard) =
        causeway_runtime::limits::raise_nofile().context("cannot raise the limit of open files")?;
    if soft < DESCRIPTORS {
        let what =
            format!("the tour needs {DESCRIPTORS} open files, and the limit is {soft} (hard limit {hard})");
        return Err(Failure::new("open_files", what)
            .fix(format!("ulimit -n {DESCRIPTORS}, or ask whoever may"))
            .into());
    }
    Ok(())
}

/// Brings the mesh up, lets it be used, and ends it, whatever happened in between.
async fn demo(dir: &Path, gateways: u8, rounds: Option<u8>) -> Result<ExitCode> {
    let mut signals = Signals::new()?;
    let mut mesh = Mesh::new(dir.to_owned(), gateways)?;
    let result = tokio::select! {
        result = session(&mut mesh, rounds) => result,
        name = signals.next() => {
            output::note(&format!("\n{name}: stopping; once more kills at once"));
            // an unfinished tour proves nothing
            Ok(if rounds.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    };
    let start = Instant::now();
    let killed = tokio::select! {
        killed = mesh.stop() => killed,
        _ = signals.next() => return Ok(ExitCode::FAILURE),
    };
    if killed.is_empty() {
        output::note(&format!("all processes ended in {:.1} s", start.elapsed().as_secs_f64()));
        return result;
    }
    let what = format!("{} did not end when asked to and had to be killed", killed.join(", "));
    let failure = Failure::new("demo_stop", what).cause(mesh.log_tails());
    result.and(Err(failure.into()))
}

async fn session(mesh: &mut Mesh, rounds: Option<u8>) -> Result<ExitCode> {
    let start = Instant::now();
    output::say(&format!("starting two clusters; logs and data in {}", mesh.place.dir.display()))?;
    if let Err(error) = mesh.bring_up().await {
        output::note(&mesh.log_tails());
        return Err(error.context("the two clusters did not come up"));
    }
    let took = start.elapsed().as_secs_f64();
    output::say(&format!("ready after {took:.1} s: iad and phx are linked, a call works both ways"))?;
    output::say(&format!("\n{}", guide::processes(mesh)))?;
    let Some(rounds) = rounds else {
        output::say(&format!("\n{}\n\nCtrl-C ends everything.", guide::commands(mesh)))?;
        return watch(mesh).await;
    };
    let (fine, summary) = tour::make(mesh, rounds).await?;
    output::say(&format!("\n{summary}"))?;
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Tells when a process has ended, for as long as the demo runs.
async fn watch(mesh: &mut Mesh) -> Result<ExitCode> {
    loop {
        for child in mesh.children() {
            if let Some(status) = child.ended() {
                output::say(&format!("{} has ended: {status}", child.name()))?;
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// What asks the demo to end.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let handler = |kind| signal(kind).context("cannot handle signals");
        Ok(Self {
            interrupt: handler(SignalKind::interrupt())?,
            terminate: handler(SignalKind::terminate())?,
            hangup: handler(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.hangup.recv() => "SIGHUP",
        }
    }
}
