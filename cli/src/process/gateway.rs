//! `causeway gateway`.

use super::{refused, to_toml};
use crate::output;
use anyhow::Result;
use causeway_gateway::config::{Advertise, Audience, GatewayConfig, GatewayOptions, load};
use causeway_runtime::ConfigDuration;
use std::path::PathBuf;
use std::process::ExitCode;
use toml::{Table, Value};

const AFTER: &str = "\
Every flag is also a key of the file, without the dashes; a flag wins. All mistakes of both are reported at once.

The first start of a cluster's first gateway makes the cluster: its trust domain, its root certificate, its registry, and a CLI \
context with an operator credential. Further gateways join it with a token. Later starts find all of that in the data \
directory and need no token. SIGTERM or Ctrl-C drains: packets and control connections move to other gateways, then the \
process ends; a second one ends it at once.

One UDP port must be open to sidecars and linked clusters: that of --listen. The admin API is TCP and for operators only.

Examples:
  causeway gateway --config /etc/causeway/gateway.toml --check

  # the first gateway of a cluster
  causeway gateway --cluster iad --region us-ashburn-1 --zone AD-1 \\
      --data-dir /var/lib/causeway --listen 10.0.1.10:7443 \\
      --admin 10.0.1.10:7444

  # a further one, which others reach at addresses that are not its own
  causeway gateway --cluster iad --region us-ashburn-1 --zone AD-2 \\
      --data-dir /var/lib/causeway --listen [::]:7443 \\
      --advertise cluster=10.0.2.10:7443 --advertise link=gw2.example.org:7443 \\
      --join \"$(causeway token create --role gateway)\"";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub(crate) struct Args {
    /// A TOML file with the same keys
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Report every mistake of file and flags, or print the effective configuration with secrets masked, and exit
    #[arg(long)]
    check: bool,

    /// The cluster's name, a DNS label such as iad
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// The region that the gateway runs in; nearer endpoints are used first
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// The zone (availability domain) in that region
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    /// Where registry, keys and certificates are kept; made with mode 0700
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// The overlay's UDP address, usually port 7443; may be given many times
    #[arg(long, value_name = "IP:PORT")]
    listen: Vec<String>,
    /// The address that others reach it at [default: that of --listen]; for everybody, or with cluster= or link= for sidecars
    /// and gateways of this cluster or for linked ones. May be given many times
    #[arg(long, value_name = "[cluster=|link=]HOST:PORT")]
    advertise: Vec<String>,
    /// The admin API's address, HTTPS, usually port 7444 [default: not served]
    #[arg(long, value_name = "IP:PORT")]
    admin: Option<String>,
    /// Where /metrics, /live and /ready are served, plain HTTP, best on loopback [default: not served]
    #[arg(long, value_name = "IP:PORT")]
    telemetry: Option<String>,

    /// The SPIFFE trust domain; fixed at the first start [default: CLUSTER-<12 hex of the root key's hash>.mesh]
    #[arg(long, value_name = "TD", help_heading = "First start")]
    trust_domain: Option<String>,
    /// The cluster's id, 1 to 16777215; fixed at the first start [default: the first 24 bits of SHA-256 of the trust domain]
    #[arg(long, value_name = "N", help_heading = "First start")]
    cluster_id: Option<String>,
    /// The token with which a further gateway joins: `causeway token create --role gateway`
    #[arg(long, value_name = "TOKEN", help_heading = "First start")]
    join: Option<String>,
    /// The name of the CLI context that is written [default: the cluster's name at its first gateway, none at others]
    #[arg(long, value_name = "NAME", help_heading = "First start")]
    context: Option<String>,

    /// gateway (keeps the registry, signs certificates), or forwarder (only forwards) [default: gateway]
    #[arg(long, value_name = "ROLE", help_heading = "Settings")]
    role: Option<String>,
    /// A file with the key that seals the CA's key: 64 hexadecimal digits, the same on every gateway [default: made in the
    /// data directory]
    #[arg(long, value_name = "FILE", help_heading = "Settings")]
    seal_key_file: Option<String>,
    /// Threads and sockets of the packet path [default: one per core]
    #[arg(long, value_name = "N", help_heading = "Settings")]
    threads: Option<String>,
    /// The largest UDP payload in bytes, 1200 to 8900: 1452 fits an MTU of 1500, 8900 one of 9000 [default: 1452]
    #[arg(long, value_name = "BYTES", help_heading = "Settings")]
    datagram_size: Option<String>,
    /// How long draining may take [default: 15s]
    #[arg(long, value_name = "DURATION", help_heading = "Settings")]
    drain: Option<String>,
    /// What is logged, such as info or warn,causeway_gateway=debug [default: $CAUSEWAY_LOG, else $RUST_LOG, else info]
    #[arg(long, value_name = "FILTER", help_heading = "Settings")]
    log: Option<String>,
    /// text or json [default: text]
    #[arg(long, value_name = "FORMAT", help_heading = "Settings")]
    log_format: Option<String>,
}

impl Args {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let (file, check) = (self.config.clone(), self.check);
        let config = load(file.as_deref(), self.options()).map_err(|errors| refused("gateway", &errors))?;
        if check {
            output::say(&to_toml(effective(&config)?)?)?;
        } else {
            causeway_gateway::run(config)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn options(self) -> GatewayOptions {
        GatewayOptions {
            cluster: self.cluster,
            region: self.region,
            zone: self.zone,
            data_dir: self.data_dir,
            listen: self.listen,
            admin: self.admin,
            telemetry: self.telemetry,
            advertise: self.advertise,
            trust_domain: self.trust_domain,
            cluster_id: self.cluster_id,
            join: self.join,
            role: self.role,
            seal_key_file: self.seal_key_file,
            context: self.context,
            threads: self.threads,
            datagram_size: self.datagram_size,
            drain: self.drain,
            log: self.log,
            log_format: self.log_format,
        }
    }
}

/// The keys that would give this configuration, the join token masked.
fn effective(config: &GatewayConfig) -> Result<Table> {
    let mut table = Table::new();
    let mut put = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            table.insert(key.to_owned(), Value::String(value));
        }
    };
    put("cluster", Some(config.cluster.to_string()));
    put("region", Some(config.locality.region.clone()));
    put("zone", Some(config.locality.zone.clone()));
    put("data-dir", Some(config.data_dir.display().to_string()));
    put("admin", config.admin.map(|addr| addr.to_string()));
    put("telemetry", config.telemetry.map(|addr| addr.to_string()));
    put("trust-domain", config.trust_domain.as_ref().map(ToString::to_string));
    put("join", config.join.as_ref().map(|_| "***".to_owned()));
    put("role", Some(config.role.to_string()));
    put("seal-key-file", config.seal_key_file.as_ref().map(|path| path.display().to_string()));
    put("context", config.context.clone());
    put("drain", Some(ConfigDuration(config.drain).to_string()));
    put("log", config.log.clone());
    put("log-format", Some(config.log_format.to_string()));
    let strings = |values: Vec<String>| Value::Array(values.into_iter().map(Value::String).collect());
    table.insert("listen".into(), strings(config.listen.iter().map(ToString::to_string).collect()));
    table.insert("advertise".into(), strings(config.advertise.iter().map(advertised).collect()));
    if let Some(id) = config.cluster_id {
        table.insert("cluster-id".into(), Value::Integer(id.get().into()));
    }
    let threads = Value::Integer(i64::try_from(config.threads)?);
    table.insert("forwarder".into(), Value::Table(Table::from_iter([("threads".to_owned(), threads)])));
    let datagram_size = Value::Integer(config.transport.datagram_size.into());
    let transport = Table::from_iter([("datagram-size".to_owned(), datagram_size)]);
    table.insert("transport".into(), Value::Table(transport));
    Ok(table)
}

fn advertised(advertise: &Advertise) -> String {
    match advertise.audience {
        Audience::Everybody => advertise.addr.to_string(),
        Audience::Cluster => format!("cluster={}", advertise.addr),
        Audience::Link => format!("link={}", advertise.addr),
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

    fn args(line: &str) -> Args {
        Only::parse_from(std::iter::once("x").chain(line.split_whitespace())).args
    }

    const FLAGS: &str = "--cluster iad --region us-ashburn-1 --zone AD-1 --data-dir /d --listen [::]:7443 --admin 127.0.0.1:7444 \
        --advertise cluster=10.0.0.1:7443 --advertise gw.example.org:7443 --cluster-id 7 --drain 1m --threads 2 \
        --datagram-size 8900 --trust-domain iad.mesh --role gateway --log warn --log-format json --context prod";

    #[test]
    fn flags_become_a_configuration_that_can_be_read_back() {
        let config = load(None, args(FLAGS).options()).unwrap();
        let shown = to_toml(effective(&config).unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.toml");
        std::fs::write(&path, &shown).unwrap();
        let again = load(Some(&path), GatewayOptions::default()).unwrap();
        assert_eq!(to_toml(effective(&again).unwrap()).unwrap(), shown);
        for line in [
            "advertise = [\"cluster=10.0.0.1:7443\", \"gw.example.org:7443\"]",
            "drain = \"1m\"",
            "threads = 2",
        ] {
            assert!(shown.contains(line), "{line} is not in\n{shown}");
        }
    }

    #[test]
    fn every_wrong_flag_is_reported_at_once() {
        let errors = load(None, args("--cluster IAD --listen here --drain soon").options()).unwrap_err();
        let failure = refused("gateway", &errors);
        for part in ["IAD", "here", "soon", "region", "zone", "data-dir"] {
            assert!(failure.causes.iter().any(|cause| cause.contains(part)), "{part}: {failure:?}");
        }
    }
}
