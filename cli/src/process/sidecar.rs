//! `causeway sidecar`.

mod capture;

use super::{refused, to_toml};
use crate::output;
use anyhow::Result;
use causeway_runtime::{ConfigDuration, LogFormat, Secret};
use causeway_sidecar::{
    CaptureFlags, CaptureMode, HealthSpec, ListenSpec, Outside, ServeSpec, SidecarConfig, SidecarOptions,
};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

const AFTER: &str = "\
Every flag is also a key of the file, without the dashes; a flag wins. All mistakes are reported at once. The file has tables \
more: [[health]] (checks), [limits] (max-connections, idle-timeout, connect-timeout, ...) and [transport] (datagram-size, ...); \
--check prints them with their values.

The token says who the workload is and what it may serve. With --state-dir, a restart needs no token while the certificate \
lives (24 h, renewed long before). SIGTERM or Ctrl-C drains: connections may finish, new ones are refused. To restart without \
refusing any, start the new one beside the old one, with the same state directory and as the same user: it takes the listeners \
over, and once it is ready the old one drains and ends.

Examples:
  causeway sidecar --token \"$T\" --state-dir /var/lib/causeway-sidecar/web \\
      --overlay 10.0.1.20:0 --serve payments.shop:80=127.0.0.1:9000 \\
      --listen 127.0.0.1:8080=orders.shop:80
  CAUSEWAY_TOKEN=$T causeway sidecar --listen 127.0.0.1:8080=orders.shop:80
  causeway sidecar --config /etc/causeway/sidecar-web.toml --check";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER, args_conflicts_with_subcommands = true, subcommand_precedence_over_arg = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,

    /// A TOML file with the same keys
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Report every mistake of file and flags, or print the effective configuration with secrets masked, and exit
    #[arg(long)]
    check: bool,

    /// The token with which it joins: `causeway token create`
    #[arg(
        long,
        value_name = "TOKEN",
        env = "CAUSEWAY_TOKEN",
        hide_env_values = true,
        conflicts_with = "token_file"
    )]
    token: Option<Secret<String>>,
    /// A file with the token; other users see a command line, but not a file
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Where key, certificate and the last known state are kept; made with mode 0700 [default: nowhere]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// The UDP address of the overlay socket; port 0 is a free one [default: 0.0.0.0:0]
    #[arg(long, value_name = "IP:PORT")]
    overlay: Option<SocketAddr>,
    /// A service that the workload serves, and where it listens; may be given many times
    #[arg(long, value_name = "SERVICE.NAMESPACE:PORT=IP:PORT")]
    serve: Vec<ServeSpec>,
    /// A local address that leads to a service; may be given many times
    #[arg(long, value_name = "IP:PORT=SERVICE.NAMESPACE:PORT[/udp]")]
    listen: Vec<ListenSpec>,
    /// How the application's other traffic comes here: redirect, vip or listen; `causeway sidecar init` sets up the first two
    /// [default: listen]
    #[arg(long, value_name = "MEANS", help_heading = "Capture")]
    capture: Option<CaptureMode>,
    /// The port on loopback that the rules of --capture redirect lead to [default: 15001]
    #[arg(long, value_name = "PORT", help_heading = "Capture")]
    outbound_port: Option<u16>,
    /// What becomes of captured traffic to destinations outside the mesh: pass or refuse [default: pass]
    #[arg(long, value_name = "POLICY", help_heading = "Capture")]
    outside: Option<Outside>,
    /// Where names are answered; may be given many times [default: loopback, port 15053 for redirect and 53 for vip]
    #[arg(long, value_name = "IP:PORT", help_heading = "Capture")]
    dns_listen: Vec<SocketAddr>,
    /// Who is asked about names that are not the mesh's; may be given many times [default: those of /etc/resolv.conf]
    #[arg(long, value_name = "IP:PORT", help_heading = "Capture")]
    dns_upstream: Vec<SocketAddr>,
    /// Where /metrics, /live and /ready are served, plain HTTP, best on loopback [default: not served]
    #[arg(long, value_name = "IP:PORT")]
    telemetry: Option<SocketAddr>,

    /// A check of what the workload serves: tcp connects, http:/PATH asks; may be given many times. [[health]] in a file has more
    #[arg(long, value_name = "SERVICE.NAMESPACE[:PORT]=tcp|http:/PATH")]
    health: Vec<HealthSpec>,
    /// Neither take the listeners of the process that runs with the same state directory, nor hand them over to the next
    #[arg(long, help_heading = "Settings")]
    no_handover: bool,

    /// The region that the workload runs in; needs --zone [default: that of its gateway]
    #[arg(long, value_name = "REGION", help_heading = "Settings")]
    region: Option<String>,
    /// The zone in that region; needs --region
    #[arg(long, value_name = "ZONE", help_heading = "Settings")]
    zone: Option<String>,
    /// The workload's share of the load among endpoints of its service, 1 to 1000 [default: 100]
    #[arg(long, value_name = "N", help_heading = "Settings")]
    weight: Option<u16>,
    /// How long connections may finish at the end, at most 1h [default: 15s]
    #[arg(long, value_name = "DURATION", help_heading = "Settings")]
    drain: Option<ConfigDuration>,
    /// The address that the application sees as the peer; never 127.0.0.1, which applications trust [default: 127.0.0.6]
    #[arg(long, value_name = "IP", help_heading = "Settings")]
    delivery_source: Option<IpAddr>,
    /// What is logged, such as info or warn,causeway_sidecar=debug [default: $CAUSEWAY_LOG, else $RUST_LOG, else info]
    #[arg(long, value_name = "FILTER", help_heading = "Settings")]
    log: Option<String>,
    /// text or json [default: text]
    #[arg(long, value_name = "FORMAT", help_heading = "Settings")]
    log_format: Option<LogFormat>,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Init(Box<capture::Init>),
    Cleanup(capture::Cleanup),
}

impl Args {
    pub(crate) fn run(mut self) -> Result<ExitCode> {
        match self.verb.take() {
            Some(Verb::Init(init)) => return init.run(),
            Some(Verb::Cleanup(cleanup)) => return cleanup.run(),
            None => {}
        }
        let (file, check) = (self.config.clone(), self.check);
        let loaded = SidecarConfig::load(file.as_deref(), self.options());
        let config = loaded.map_err(|errors| refused("sidecar", &errors))?;
        if check {
            output::say(&to_toml(toml::Table::try_from(&config)?)?)?;
        } else {
            causeway_sidecar::run(config)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn options(self) -> SidecarOptions {
        SidecarOptions {
            token: self.token,
            token_file: self.token_file,
            state_dir: self.state_dir,
            overlay: self.overlay,
            serve: self.serve,
            listen: self.listen,
            capture: CaptureFlags {
                capture: self.capture,
                outbound_port: self.outbound_port,
                outside: self.outside,
                dns_listen: self.dns_listen,
                dns_upstream: self.dns_upstream,
            },
            telemetry: self.telemetry,
            region: self.region,
            zone: self.zone,
            weight: self.weight,
            drain: self.drain,
            delivery_source: self.delivery_source,
            handover: self.no_handover.then_some(false),
            health: self.health,
            log: self.log,
            log_format: self.log_format,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        args: Args,
    }

    fn args(line: &str) -> Result<Args, clap::Error> {
        Only::try_parse_from(std::iter::once("x").chain(line.split_whitespace())).map(|only| only.args)
    }

    #[test]
    fn flags_become_a_configuration_that_can_be_read_back() {
        let line = "--state-dir /s --overlay 10.0.0.1:0 --serve payments.shop:80=127.0.0.1:9000 \
                    --listen 127.0.0.1:8080=orders.shop:80 --health payments.shop=http:/up --no-handover --region r --zone z --drain 1m --log-format json";
        let config = SidecarConfig::load(None, args(line).unwrap().options()).unwrap();
        let shown = to_toml(toml::Table::try_from(&config).unwrap()).unwrap();
        let read = SidecarConfig::from_toml("shown".as_ref(), &shown, SidecarOptions::default()).unwrap();
        assert_eq!(read, config, "{shown}");
    }

    #[test]
    fn wrong_flags_are_named_and_a_token_is_not_shown() {
        for (line, part) in [
            ("--serve payments.shop=127.0.0.1:9000", "--serve"),
            ("--listen 8080=orders.shop:80", "--listen"),
            ("--drain 15", "unit"),
        ] {
            let error = args(line).unwrap_err().to_string();
            assert!(error.contains(part), "{line}: {error}");
        }
        let given = args("--token cwj1_s3cret --state-dir /s").unwrap();
        assert!(!format!("{given:?}").contains("s3cret"));
        let errors = SidecarConfig::load(None, given.options()).unwrap_err().to_string();
        assert!(!errors.contains("s3cret"), "{errors}");
    }
}
