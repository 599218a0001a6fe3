//! `causeway sidecar init` and `cleanup`: the privileged step before a sidecar, and its undoing.
//!
//! What the flags mean and what is installed for them is `causeway-capture`'s.

use crate::failure::Failure;
use crate::output::{self, Table};
use anyhow::Result;
use causeway_capture::config::Means;
use causeway_capture::{
    CaptureConfig, CaptureError, CaptureMode, CaptureOptions, Finding, Inbound, Plan, System,
};
use causeway_runtime::ConfigErrors;
use clap::error::ErrorKind;
use std::path::PathBuf;
use std::process::ExitCode;

const INIT: &str = "\
redirect   nftables rules lead TCP, DNS and UDP to virtual addresses to the sidecar's ports on loopback; the application notices
           nothing. All but the sidecar's own user is captured, so give the sidecar a user that nobody else has.
vip        virtual addresses (240.0.0.0/8, fd9c:43a6:77c1::/48) become addresses of this host, on which the sidecar listens;
           the application needs a resolver that answers them.
listen     nothing is needed.

It changes the network namespace that it runs in, needs CAP_NET_ADMIN there, and can be repeated. Virtual addresses are captured \
whatever is excluded, since they lead nowhere else. Connections that stand are left alone.

Examples:
  causeway sidecar init --capture redirect --uid causeway-sidecar
  causeway sidecar init --capture redirect --uid 1337 --exclude-cidr 10.0.0.0/8
  causeway sidecar init --capture redirect --uid 1337 --print
  causeway sidecar init --capture redirect --inbound refuse --served-port 8080
  causeway sidecar init --capture vip --unprivileged-ports
  causeway sidecar init --capture vip --resolv-conf /etc/resolv.conf \\
      --dns 127.0.0.1 --unprivileged-ports
  causeway sidecar init --capture vip --check";

/// Install what leads the application's traffic to the sidecar; run it as root, before both
#[derive(Debug, clap::Args)]
#[command(after_help = INIT)]
pub(super) struct Init {
    /// How traffic is captured: redirect, vip or listen
    #[arg(long, value_name = "MODE")]
    capture: CaptureMode,
    /// Tell what is installed and what is missing, and exit with 1 if anything is
    #[arg(long, conflicts_with = "print")]
    check: bool,
    /// Print the rules and commands, and run none
    #[arg(long)]
    print: bool,
    /// Let processes without privilege bind ports below 1024, as a sidecar needs that answers on such a port of a service
    #[arg(long)]
    unprivileged_ports: bool,
    /// Whether IPv4 is captured [default: on]
    #[arg(long, value_enum, value_name = "ON|OFF")]
    ipv4: Option<Switch>,
    /// Whether IPv6 is captured [default: on if loopback has it]
    #[arg(long, value_enum, value_name = "ON|OFF")]
    ipv6: Option<Switch>,
    #[command(flatten)]
    redirect: RedirectFlags,
    #[command(flatten)]
    vip: VipFlags,
}

/// What belongs to `redirect` only. Values are text here, so that all mistakes are told at once.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "With --capture redirect")]
struct RedirectFlags {
    /// A user that the sidecar runs as, by name or number; may be given many times [default: causeway]
    #[arg(long, value_name = "USER", value_delimiter = ',')]
    uid: Vec<String>,
    /// A group that the sidecar runs as, by name or number; instead of --uid, or besides
    #[arg(long, value_name = "GROUP", value_delimiter = ',')]
    gid: Vec<String>,
    /// Where captured TCP and UDP goes, on 127.0.0.1 and ::1 [default: 15001]
    #[arg(long, value_name = "PORT")]
    outbound_port: Option<String>,
    /// Where captured DNS questions go, on 127.0.0.1 and ::1 [default: 15053]
    #[arg(long, value_name = "PORT")]
    dns_port: Option<String>,
    /// Capture TCP to these ports only [default: all]
    #[arg(long, value_name = "PORT|FIRST-LAST", value_delimiter = ',')]
    include_port: Vec<String>,
    /// Capture nothing to these ports; 53 leaves DNS alone
    #[arg(long, value_name = "PORT|FIRST-LAST", value_delimiter = ',')]
    exclude_port: Vec<String>,
    /// Capture TCP to these networks only [default: all]
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    include_cidr: Vec<String>,
    /// Capture nothing to these networks
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    exclude_cidr: Vec<String>,
    /// Capture nothing of this user, by name or number; may be given many times
    #[arg(long, value_name = "USER", value_delimiter = ',')]
    exclude_uid: Vec<String>,
    /// Plain traffic from other hosts to served ports: passed, or refused [default: pass]
    #[arg(long, value_enum, value_name = "POLICY")]
    inbound: Option<InboundWord>,
    /// A port on which the application serves, for --inbound refuse; may be given many times
    #[arg(long, value_name = "PORT[/udp]", value_delimiter = ',')]
    served_port: Vec<String>,
}

/// What belongs to `vip` only.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "With --capture vip")]
struct VipFlags {
    /// A resolv.conf to point at the sidecar; the original is kept beside it as FILE.causeway
    #[arg(long, value_name = "FILE")]
    resolv_conf: Option<PathBuf>,
    /// Where the sidecar answers DNS, on port 53
    #[arg(long, value_name = "IP")]
    dns: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Switch {
    /// It is
    On,
    /// It is not
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum InboundWord {
    /// It reaches the application
    Pass,
    /// Connections are reset
    Refuse,
}

const CLEANUP: &str = "\
It removes the rules, the routes and what `init` has changed besides, whatever its flags were; what others have changed since \
stays. It can be repeated.

Examples:
  causeway sidecar cleanup
  causeway sidecar cleanup --print";

/// Remove what `causeway sidecar init` has installed
#[derive(Debug, clap::Args)]
#[command(after_help = CLEANUP)]
pub(super) struct Cleanup {
    /// Print the rules and commands, and run none
    #[arg(long)]
    print: bool,
}

impl Init {
    pub(super) fn run(self) -> Result<ExitCode> {
        let (mode, check, print) = (self.capture, self.check, self.print);
        let config = self.options().build(mode, &System).map_err(|errors| refused(&errors))?;
        let plan = Plan::new(&config);
        if plan.is_empty() {
            output::say("nothing to install: with --capture listen the sidecar needs no privilege")?;
        } else if print {
            output::say(&plan.to_string())?;
        } else if check {
            return report(&causeway_capture::inspect(&config).map_err(|error| failed(&error))?);
        } else {
            install(&config)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn options(self) -> CaptureOptions {
        let (redirect, vip) = (self.redirect, self.vip);
        CaptureOptions {
            uid: redirect.uid,
            gid: redirect.gid,
            exclude_uid: redirect.exclude_uid,
            outbound_port: redirect.outbound_port,
            dns_port: redirect.dns_port,
            include_port: redirect.include_port,
            exclude_port: redirect.exclude_port,
            include_cidr: redirect.include_cidr,
            exclude_cidr: redirect.exclude_cidr,
            inbound: redirect.inbound.map(|word| match word {
                InboundWord::Pass => Inbound::Pass,
                InboundWord::Refuse => Inbound::Refuse,
            }),
            served_port: redirect.served_port,
            ipv4: self.ipv4.map(|switch| switch == Switch::On),
            ipv6: self.ipv6.map(|switch| switch == Switch::On),
            unprivileged_ports: self.unprivileged_ports,
            resolv_conf: vip.resolv_conf,
            dns: vip.dns,
        }
    }
}

impl Cleanup {
    pub(super) fn run(&self) -> Result<ExitCode> {
        if self.print {
            output::say(&Plan::removal().to_string())?;
            return Ok(ExitCode::SUCCESS);
        }
        let removed = causeway_capture::remove().map_err(|error| failed(&error))?;
        let said =
            if removed.is_empty() { "nothing was installed".to_owned() } else { lines("removed", &removed) };
        output::say(&said)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn install(config: &CaptureConfig) -> Result<()> {
    let installed = causeway_capture::install(config).map_err(|error| failed(&error))?;
    output::say(&lines("installed", &installed))?;
    if let Means::Redirect(redirect) = &config.means {
        output::note(&format!(
            "# until the sidecar listens on ports {} and {} of loopback, what is captured is refused",
            redirect.outbound_port, redirect.dns_port
        ));
        if redirect.uids.contains(&0) {
            output::note("# the sidecar runs as root, so nothing that root sends is captured");
        }
    }
    Ok(())
}

fn report(findings: &[Finding]) -> Result<ExitCode> {
    let mut table = Table::new(["STATE", "WHAT"]);
    for finding in findings {
        let state = if finding.installed { "installed" } else { "missing" };
        table.row([state.to_owned(), finding.what.clone()]);
    }
    output::say(&table.to_string())?;
    let missing = findings.iter().filter(|finding| !finding.installed).count();
    if missing == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    output::note(&format!(
        "# {missing} of {} missing; the same command without --check installs them",
        findings.len()
    ));
    Ok(ExitCode::FAILURE)
}

fn lines(done: &str, what: &[String]) -> String {
    what.iter().map(|what| format!("{done} {what}\n")).collect()
}

/// The command line was wrong: every mistake, one a line.
fn refused(errors: &ConfigErrors) -> anyhow::Error {
    let mistakes: Vec<_> = errors.mistakes.iter().map(ToString::to_string).collect();
    clap::Command::new("causeway sidecar init")
        .error(ErrorKind::ValueValidation, mistakes.join("\n  "))
        .into()
}

fn failed(error: &CaptureError) -> anyhow::Error {
    let reason = error.reason();
    Failure::new(reason, error.to_string()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        init: Init,
    }

    fn options(line: &str) -> CaptureOptions {
        let parsed = Only::try_parse_from(std::iter::once("x").chain(line.split_whitespace()));
        parsed.unwrap_or_else(|error| panic!("{line}: {error}")).init.options()
    }

    #[test]
    fn every_flag_arrives() {
        let line = "--capture redirect --uid 1,2 --uid 3 --gid 4 --exclude-uid 5 --outbound-port 6 --dns-port 7 \
                    --include-port 8-9 --exclude-port 10 --include-cidr 11.0.0.0/8,12.0.0.0/8 --exclude-cidr 13.0.0.0/8 \
                    --inbound refuse --served-port 14/udp --ipv4 on --ipv6 off --unprivileged-ports \
                    --resolv-conf /r --dns 127.0.0.1";
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        let expected = CaptureOptions {
            uid: words(&["1", "2", "3"]),
            gid: words(&["4"]),
            exclude_uid: words(&["5"]),
            outbound_port: Some("6".into()),
            dns_port: Some("7".into()),
            include_port: words(&["8-9"]),
            exclude_port: words(&["10"]),
            include_cidr: words(&["11.0.0.0/8", "12.0.0.0/8"]),
            exclude_cidr: words(&["13.0.0.0/8"]),
            inbound: Some(Inbound::Refuse),
            served_port: words(&["14/udp"]),
            ipv4: Some(true),
            ipv6: Some(false),
            unprivileged_ports: true,
            resolv_conf: Some("/r".into()),
            dns: Some("127.0.0.1".into()),
        };
        assert_eq!(options(line), expected);
        assert_eq!(options("--capture listen"), CaptureOptions::default());
    }

    #[test]
    fn every_mistake_is_a_line_of_one_usage_error() {
        let errors = options("--capture redirect --uid 1 --outbound-port 0 --include-cidr nowhere")
            .build(CaptureMode::Redirect, &System)
            .unwrap_err();
        let error = refused(&errors);
        let usage = error.downcast_ref::<clap::Error>().unwrap();
        assert_eq!(usage.exit_code(), 2);
        let told = usage.to_string();
        assert!(
            told.contains("--outbound-port 0: ") && told.contains("\n  --include-cidr nowhere: "),
            "{told}"
        );
    }
}
