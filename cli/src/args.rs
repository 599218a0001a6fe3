//! The command line as a whole: which commands there are and where each one's arguments live.

use crate::{completions, demo, process, verbs};
use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

const AFTER: &str = "\
Start here:
  causeway demo             two linked clusters here, with commands to try
  causeway check            is everything fine? if not: why, and what to do
  causeway COMMAND --help   every flag, its default and examples

Which cluster a command talks to:
  --context NAME, else $CAUSEWAY_CONTEXT, else the only context there is
  --admin URL --credential FILE, for a cluster without a context

`causeway gateway` writes a context at its first start, into $CAUSEWAY_CONTEXT_DIR, else \
$XDG_CONFIG_HOME/causeway/contexts, else ~/.config/causeway/contexts.

Values:
  durations need a unit: 15s, 10m, 24h
  addresses are IP:PORT, for IPv6 [::]:7443
  services are SERVICE.NAMESPACE, for example payments.shop

Exit codes:
  0 done
  1 failed; standard error says why, and what to try
  2 the command line is wrong";

/// Joins the services of many clusters into one mesh, over QUIC, end to end encrypted.
#[derive(Debug, Parser)]
#[command(name = "causeway", version, after_help = AFTER)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a gateway: forwards packets, keeps the registry, holds links
    Gateway(Box<process::gateway::Args>),
    /// Run a sidecar beside one workload: proxies its traffic
    Sidecar(Box<process::sidecar::Args>),
    /// Tokens by which workloads and gateways join this cluster
    #[command(subcommand)]
    Token(verbs::token::Command),
    /// Links to other clusters
    #[command(subcommand)]
    Link(verbs::link::Command),
    /// Write the registry of a cluster to a file
    Backup(verbs::backup::Backup),
    /// Make a new gateway's data directory from a backup
    Restore(verbs::backup::Restore),
    /// The cluster's certificate authority: roots and their rotation
    #[command(subcommand)]
    Ca(verbs::ca::Command),
    /// Refuse the certificates of an identity, or of one workload, from now on
    Revoke(verbs::revoke::Revoke),
    /// Accept revoked certificates again
    Reinstate(verbs::revoke::Reinstate),
    /// List the revocations of this cluster
    Revocations(verbs::revoke::Revocations),
    /// Offer a service to linked clusters
    Export(verbs::export::Export),
    /// Stop offering a service to linked clusters
    Unexport(verbs::export::Unexport),
    /// List what this cluster exports, and to whom
    Exports(verbs::export::Exports),
    /// Make services, exports and links what files say
    Apply(verbs::apply::Args),
    /// Show what applying files would change
    Diff(verbs::diff::Args),
    /// Print services, exports and links as documents that can be applied
    Get(verbs::get::Args),
    /// Delete a service, export or link, or those that files name
    Delete(verbs::delete::Args),
    /// Explain the fields of a kind of document
    Explain(verbs::explain::Args),
    /// List services wherever they run, in this cluster and over links
    Services(Box<verbs::services::Args>),
    /// List the live workloads of this cluster
    Workloads(verbs::workloads::Args),
    /// List the gateways of this cluster, and take one out of use
    Gateways(verbs::gateways::Args),
    /// Show a service endpoint by endpoint, nearest first
    Resolve(verbs::resolve::Args),
    /// Show the gateway and its cluster at a glance
    Status(verbs::status::Args),
    /// Look for what is wrong, and say what to do about it
    Check(verbs::check::Args),
    /// Run two linked clusters on this machine
    Demo(demo::Args),
    /// Print the completion script of a shell
    Completions(completions::Args),
}

impl Cli {
    /// Does what was asked. The exit code of a command that did it and found something wrong is not 0.
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self.command {
            Command::Gateway(args) => args.run(),
            Command::Sidecar(args) => args.run(),
            Command::Token(command) => done(command.run()),
            Command::Link(command) => done(command.run()),
            Command::Backup(args) => done(args.run()),
            Command::Restore(args) => done(args.run()),
            Command::Ca(command) => done(command.run()),
            Command::Revoke(args) => done(args.run()),
            Command::Reinstate(args) => done(args.run()),
            Command::Revocations(args) => done(args.run()),
            Command::Export(args) => done(args.run()),
            Command::Unexport(args) => done(args.run()),
            Command::Exports(args) => done(args.run()),
            Command::Apply(args) => done(args.run()),
            Command::Diff(args) => Ok(args.run()),
            Command::Get(args) => done(args.run()),
            Command::Delete(args) => done(args.run()),
            Command::Explain(args) => done(args.run()),
            Command::Services(args) => done(args.run()),
            Command::Workloads(args) => done(args.run()),
            Command::Gateways(args) => done(args.run()),
            Command::Resolve(args) => done(args.run()),
            Command::Status(args) => done(args.run()),
            Command::Check(args) => args.run(),
            Command::Demo(args) => demo::run(args),
            Command::Completions(args) => done(args.run()),
        }
    }
}

fn done(result: Result<()>) -> Result<ExitCode> {
    result.map(|()| ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    /// Every command that does something, with the words that lead to it.
    fn leaves(command: &clap::Command, path: &str, found: &mut Vec<(String, clap::Command)>) {
        let path = format!("{path}{}", command.get_name());
        let below: Vec<_> = command.get_subcommands().filter(|sub| sub.get_name() != "help").collect();
        if below.is_empty() {
            found.push((path.clone(), command.clone()));
        }
        for sub in below {
            leaves(sub, &format!("{path} "), found);
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_teaches_by_example() {
        let mut found = Vec::new();
        leaves(&Cli::command(), "", &mut found);
        assert!(found.len() >= 20, "{}", found.len());
        for (path, mut command) in found {
            let help = command.render_long_help().to_string();
            assert!(help.contains("Example"), "{path} has no example:\n{help}");
            assert!(help.contains(&format!("  {path}")), "{path} does not show itself:\n{help}");
            assert!(command.get_about().is_some(), "{path} does not say what it does");
            for arg in
                command.get_arguments().filter(|arg| arg.get_id() != "help" && arg.get_id() != "version")
            {
                assert!(arg.get_help().is_some(), "{path} {} has no help", arg.get_id());
            }
        }
    }

    /// An example that is broken across lines cannot be copied.
    #[test]
    fn every_example_fits_a_terminal() {
        let mut found = Vec::new();
        leaves(&Cli::command(), "", &mut found);
        found.push(("causeway".to_owned(), Cli::command()));
        for (path, command) in found {
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            for line in after.lines().filter(|line| line.starts_with("  causeway")) {
                // what is said about it, after a gap, may be broken
                let example = line.trim_start().split("  ").next().unwrap_or_default();
                assert!(example.len() <= 78, "{path}: {} columns: {line}", example.len());
            }
        }
    }

    #[test]
    fn wrong_input_is_refused_with_the_rule() {
        let refused = |line: &str| match Cli::try_parse_from(line.split(' ')) {
            Ok(_) => panic!("{line} was taken"),
            Err(error) => (error.exit_code(), error.to_string()),
        };
        for (line, part) in [
            ("causeway export Payments", "SERVICE.NAMESPACE"),
            ("causeway token create --service a.b:0", "PORT"),
            ("causeway token create --ttl 15", "unit"),
            ("causeway services --limit 0", "1..=1000"),
            ("causeway link show IAD", "DNS label"),
            ("causeway services -o xml", "table, json, yaml"),
            ("causeway status --admin https://h:1", "--credential"),
            ("causeway status --context a --credential f", "cannot be used with"),
            ("causeway token revoke nonsense", "16 hexadecimal digits"),
        ] {
            let (code, text) = refused(line);
            assert_eq!(code, 2, "{line}");
            assert!(text.contains(part), "{line}: {part} is not in {text}");
        }
    }
}
