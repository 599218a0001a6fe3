//! `causeway check`: what this machine and the gateway see, what is wrong with it, and what to do.
//!
//! Each look is one [`Check`], the admin API's own form, so that the gateway's list joins ours.

mod admin;
mod finding;
mod local;
mod udp;

use crate::api::Api;
use crate::context::{Access, Target};
use crate::output::{self, Output, Table};
use anyhow::Result;
use causeway_gateway::admin::api::Check;
use finding::Finding;
use std::path::PathBuf;
use std::process::ExitCode;

const AFTER: &str = "\
From here it looks at the context, the admin API and its certificate, the clocks, the releases, the socket buffers, and at the \
gateway's UDP port with a QUIC handshake; the gateway adds what it sees: registry, disk, certificates, gateways, links, sidecars. \
A check is ok, a warning (works, but not well), or failed. The exit code is 1 if any failed.

With --data-dir it asks nobody, and looks at the files of a gateway on this machine that does not answer: whether a process has \
them, whether they are there, readable and in order, and how much space is left. The registry of a gateway that does not run is read \
to its last entry, and its log is replayed; one that is in use is left alone. It changes nothing. Run it as the gateway's user \
or as root.

Examples:
  causeway check
  causeway check --context phx
  causeway check --data-dir /var/lib/causeway
  causeway check -o json | jq '.[] | select(.state != \"ok\")'";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub(crate) struct Args {
    /// Look at the files of a gateway on this machine, which need not run
    #[arg(long, value_name = "DIR", conflicts_with_all = ["context", "admin", "credential", "ca"])]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    target: Target,
}

impl Args {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let checks = match &self.data_dir {
            Some(dir) => causeway_gateway::disk::inspect(dir),
            None => look(self.target.access(|name| std::env::var_os(name))?),
        };
        self.output.show(&checks, |checks| table(checks))?;
        let failed = checks.iter().filter(|check| check.state == "failed").count();
        if failed == 0 {
            return Ok(ExitCode::SUCCESS);
        }
        output::note(&format!("# {failed} of {} failed", checks.len()));
        Ok(ExitCode::FAILURE)
    }
}

/// Everything that was looked at. What depends on an answer of the gateway is left out when there is none.
fn look(access: Access) -> Vec<Check> {
    let mut checks = vec![local::context(&access)];
    checks.extend(local::buffers());
    let api = match Api::new(access) {
        Ok(api) => api,
        Err(error) => {
            checks.push(Finding::new("admin API").failed_by(&error));
            return checks;
        }
    };
    let (seen, status) = admin::look(&api);
    checks.extend(seen);
    if let Some(status) = status {
        checks.extend(udp::look(api.access(), &status));
        match api.get::<Vec<Check>>("/v1/check") {
            Ok(theirs) => checks.extend(theirs),
            Err(error) => checks.push(Finding::new("gateway's own checks").failed_by(&error)),
        }
    }
    checks
}

/// A row for each check; cause and fix, where there are any, below it.
fn table(checks: &[Check]) -> String {
    let mut table = Table::new(["STATE", "CHECK", "SEEN"]);
    for check in checks {
        table.row([check.state.clone(), check.name.clone(), check.seen.clone()]);
        for (label, text) in [("cause", &check.cause), ("fix", &check.fix)] {
            if let Some(text) = text {
                table.row([" ".to_owned(), format!("  {label}"), text.clone()]);
            }
        }
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cause_and_fix_stand_below_what_is_wrong() {
        let checks = [
            Finding::new("context").ok("iad.toml, mode 0600"),
            Finding::new("clock").failed("1h behind", "no NTP", "start chronyd"),
            Finding::new("socket buffers").warning("208 KiB", "the default", "raise it"),
        ];
        let expected = "\
STATE    CHECK           SEEN
ok       context         iad.toml, mode 0600
failed   clock           1h behind
           cause         no NTP
           fix           start chronyd
warning  socket buffers  208 KiB
           cause         the default
           fix           raise it";
        assert_eq!(table(&checks), expected);
    }
}
