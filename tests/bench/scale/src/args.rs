//! The command line.

use clap::{Parser, ValueEnum};
use std::path::{Path, PathBuf};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// The core that believes linked clusters, with their frames
    Imports,
    /// A real gateway with as many links, and a sidecar at it
    Gateway,
    /// The core that knows who is alive
    Workloads,
    /// Control sessions with one gateway
    Subscribers,
    /// From a change in one cluster to the sidecars of another
    Visibility,
    /// Changes of the registry
    Writes,
    /// The leader is killed
    Election,
}

impl Scenario {
    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Imports => "imports",
            Self::Gateway => "gateway",
            Self::Workloads => "workloads",
            Self::Subscribers => "subscribers",
            Self::Visibility => "visibility",
            Self::Writes => "writes",
            Self::Election => "election",
        }
    }
}

/// Measures the registry at scale and prints a table.
#[derive(Clone, Debug, Parser)]
#[command(name = "causeway-bench-scale")]
pub(crate) struct Args {
    /// Linked clusters
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=900))]
    pub(crate) clusters: u32,
    /// Services of each linked cluster
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(10..=10_000))]
    pub(crate) services: u64,
    /// How many gateways of a linked cluster tell them, one run for each
    #[arg(long, value_delimiter = ',', default_values_t = [1, 3], value_parser = clap::value_parser!(u64).range(1..=16))]
    pub(crate) tellers: Vec<u64>,
    /// The time within which the gateways of all linked clusters call, in seconds; 0: all at once
    #[arg(long, default_value_t = 0)]
    pub(crate) spread: u64,
    /// Workloads of one cluster
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(100..=100_000))]
    pub(crate) workloads: u64,
    /// Sidecars at one gateway
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(10..=15_000))]
    pub(crate) sidecars: u32,
    /// Changes of each kind whose way is timed
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(2..))]
    pub(crate) changes: u32,
    /// How long each load of writes lasts, in seconds
    #[arg(long, default_value_t = 10)]
    pub(crate) seconds: u64,
    /// How often the leader is killed
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) kills: u32,
    /// Some scenarios only
    #[arg(long, value_delimiter = ',')]
    only: Vec<Scenario>,
    /// Exit with 1 when a goal is missed
    #[arg(long)]
    pub(crate) check: bool,
    /// Write the figures to a file, too
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// The binary under test; the one beside this program unless given
    #[arg(long, value_name = "FILE")]
    causeway: Option<PathBuf>,
    /// Run this scenario in this process
    #[arg(long, hide = true)]
    pub(crate) inside: Option<Scenario>,
}

impl Args {
    /// The scenarios to run.
    pub(crate) fn scenarios(&self) -> Vec<Scenario> {
        let all = Scenario::value_variants().iter().copied();
        all.filter(|scenario| self.only.is_empty() || self.only.contains(scenario)).collect()
    }

    /// The binary under test.
    pub(crate) fn causeway(&self) -> PathBuf {
        let path = self.causeway.clone().unwrap_or_else(|| {
            let own = std::env::current_exe().expect("the path of this executable");
            own.with_file_name(format!("causeway{}", std::env::consts::EXE_SUFFIX))
        });
        assert!(path.is_file(), "{}: no such file: build the package causeway first", path.display());
        path
    }

    /// The arguments of the process that runs one scenario and writes what it found to `file`.
    pub(crate) fn again(&self, scenario: Scenario, file: &Path) -> Vec<String> {
        let tellers: Vec<String> = self.tellers.iter().map(ToString::to_string).collect();
        [
            ("--clusters", self.clusters.to_string()),
            ("--services", self.services.to_string()),
            ("--tellers", tellers.join(",")),
            ("--spread", self.spread.to_string()),
            ("--workloads", self.workloads.to_string()),
            ("--sidecars", self.sidecars.to_string()),
            ("--changes", self.changes.to_string()),
            ("--seconds", self.seconds.to_string()),
            ("--kills", self.kills.to_string()),
            ("--inside", scenario.name().to_owned()),
            ("--json", file.display().to_string()),
        ]
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_owned(), value])
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inner_run_has_the_sizes_of_the_outer_one() {
        let args = Args::parse_from([
            "bench",
            "--clusters",
            "7",
            "--kills",
            "3",
            "--tellers",
            "2",
            "--only",
            "writes,election",
        ]);
        assert_eq!(args.scenarios(), [Scenario::Writes, Scenario::Election]);
        let again = args.again(Scenario::Writes, Path::new("/x"));
        let inner = Args::parse_from(std::iter::once("bench".to_owned()).chain(again));
        assert_eq!((inner.clusters, inner.kills, inner.tellers), (7, 3, vec![2]));
        assert_eq!((inner.inside, inner.workloads), (Some(Scenario::Writes), args.workloads));
    }
}
