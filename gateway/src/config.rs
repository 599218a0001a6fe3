//! How a gateway is configured: flags and a TOML file with the same names, flags first.

use crate::forwarder::{MAX_LISTENERS, MAX_THREADS};
use causeway_model::{ClusterId, ClusterName, GatewayRole, HostPort, Locality, TrustDomain};
use causeway_runtime::{ConfigDuration, ConfigErrors, LogFormat, Reader, Section};
use causeway_transport::TransportSettings;
use causeway_wire::token::JoinToken;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// What was given on the command line, as text; nothing was checked.
#[derive(Clone, Debug, Default)]
pub struct GatewayOptions {
    /// `--cluster`
    pub cluster: Option<String>,
    /// `--region`
    pub region: Option<String>,
    /// `--zone`
    pub zone: Option<String>,
    /// `--data-dir`
    pub data_dir: Option<String>,
    /// `--listen`, repeatable
    pub listen: Vec<String>,
    /// `--admin`
    pub admin: Option<String>,
    /// `--telemetry`
    pub telemetry: Option<String>,
    /// `--advertise`, repeatable
    pub advertise: Vec<String>,
    /// `--trust-domain`
    pub trust_domain: Option<String>,
    /// `--cluster-id`
    pub cluster_id: Option<String>,
    /// `--join`
    pub join: Option<String>,
    /// `--role`
    pub role: Option<String>,
    /// `--seal-key-file`
    pub seal_key_file: Option<String>,
    /// `--context`
    pub context: Option<String>,
    /// `--threads`
    pub threads: Option<String>,
    /// `--datagram-size`
    pub datagram_size: Option<String>,
    /// `--drain`
    pub drain: Option<String>,
    /// `--log`
    pub log: Option<String>,
    /// `--log-format`
    pub log_format: Option<String>,
}

/// Whom an advertised address is told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Sidecars and gateways of the own cluster, and gateways of linked ones.
    Everybody,
    /// Sidecars and gateways of the own cluster.
    Cluster,
    /// Gateways of linked clusters.
    Link,
}

/// An address that is told to others instead of the one listened on: `[cluster=|link=]HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertise {
    /// To whom.
    pub audience: Audience,
    /// What.
    pub addr: HostPort,
}

impl FromStr for Advertise {
    type Err = causeway_model::ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (audience, addr) = match text.split_once('=') {
            Some(("cluster", addr)) => (Audience::Cluster, addr),
            Some(("link", addr)) => (Audience::Link, addr),
            Some(_) => {
                let rule = "write HOST:PORT, cluster=HOST:PORT or link=HOST:PORT";
                return Err(causeway_model::ParseError::new("advertised address", text, rule));
            }
            None => (Audience::Everybody, text),
        };
        Ok(Self { audience, addr: addr.parse()? })
    }
}

/// How a gateway is set up.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// The cluster's name.
    pub cluster: ClusterName,
    /// Where this gateway runs.
    pub locality: Locality,
    /// Where it keeps its state.
    pub data_dir: PathBuf,
    /// The overlay's UDP addresses.
    pub listen: Vec<SocketAddr>,
    /// The admin API's address, if it is served.
    pub admin: Option<SocketAddr>,
    /// The address of metrics and readiness, if they are served.
    pub telemetry: Option<SocketAddr>,
    /// What is told to others instead of `listen`.
    pub advertise: Vec<Advertise>,
    /// The trust domain, for the first start of a cluster.
    pub trust_domain: Option<TrustDomain>,
    /// The cluster id, for the first start of a cluster.
    pub cluster_id: Option<ClusterId>,
    /// The token to join with, for the first start of a further gateway.
    pub join: Option<JoinToken>,
    /// What the gateway does.
    pub role: GatewayRole,
    /// The file with the key that seals the certificate authority's key.
    pub seal_key_file: Option<PathBuf>,
    /// The name of the CLI context that is written.
    pub context: Option<String>,
    /// Forwarder threads, 0 for one a core.
    pub threads: usize,
    /// QUIC and datagram settings.
    pub transport: TransportSettings,
    /// How long draining may take.
    pub drain: Duration,
    /// The log filter.
    pub log: Option<String>,
    /// The log format.
    pub log_format: LogFormat,
}

/// Reads flags and file; every mistake of both is in the error.
pub fn load(file: Option<&Path>, options: GatewayOptions) -> Result<GatewayConfig, ConfigErrors> {
    let reader = Reader::open(file)?;
    let config = read(&reader, options);
    reader.build(config)
}

/// A value of a flag, else of the file. A flag that does not parse is a mistake under its own name.
fn value<T>(section: &Section, key: &str, flag: Option<String>) -> Option<T>
where
    T: FromStr<Err: std::fmt::Display> + 'static,
{
    let flag = flag.and_then(|text| section.flag(key, &text));
    section.merged(key, flag)
}

fn values<T>(section: &Section, key: &str, flags: &[String]) -> Vec<T>
where
    T: FromStr<Err: std::fmt::Display> + 'static,
{
    let flags = flags.iter().filter_map(|text| section.flag(key, text)).collect();
    section.merged_list(key, flags)
}

fn read(reader: &Reader, options: GatewayOptions) -> Option<GatewayConfig> {
    let top = reader.top();
    let cluster = value(top, "cluster", options.cluster);
    let region = value::<String>(top, "region", options.region);
    let zone = value::<String>(top, "zone", options.zone);
    let data_dir = value::<PathBuf>(top, "data-dir", options.data_dir);
    let listen = values::<SocketAddr>(top, "listen", &options.listen);
    let admin = value(top, "admin", options.admin);
    let telemetry = value(top, "telemetry", options.telemetry);
    let advertise = values(top, "advertise", &options.advertise);
    let trust_domain = value(top, "trust-domain", options.trust_domain);
    let cluster_id = value(top, "cluster-id", options.cluster_id);
    let join = join_token(top, options.join);
    let role = value(top, "role", options.role).unwrap_or(GatewayRole::Gateway);
    let seal_key_file = value(top, "seal-key-file", options.seal_key_file);
    let context = value(top, "context", options.context);
    let drain = value::<ConfigDuration>(top, "drain", options.drain);
    let log = value(top, "log", options.log);
    let log_format = value(top, "log-format", options.log_format).unwrap_or(LogFormat::Text);
    let threads = value(&top.table("forwarder"), "threads", options.threads).unwrap_or(0);
    let transport = transport(&top.table("transport"), options.datagram_size);

    let required = [
        ("cluster", cluster.is_some(), "the name of the cluster this gateway is of, for example iad"),
        ("region", region.is_some(), "the region it runs in, for example us-ashburn-1"),
        ("zone", zone.is_some(), "the zone (availability domain) it runs in, for example AD-1"),
        ("data-dir", data_dir.is_some(), "the directory it keeps its registry and keys in"),
        ("listen", !listen.is_empty(), "the UDP address of the overlay, for example 0.0.0.0:7443"),
    ];
    for (key, given, meaning) in required {
        if !given && !top.is_rejected(key) {
            top.reject(
                key,
                format!("required, but missing: give --{key} or write it in the file: {meaning}"),
            );
        }
    }
    check_limits(top, &listen, threads, &advertise);
    if role == GatewayRole::Forwarder
        && join.is_none()
        && !data_dir.as_ref().is_some_and(|dir| dir.join("node.json").exists())
    {
        top.reject("role", "a forwarder cannot be the first gateway of a cluster: give --join with a token of role forwarder");
    }
    Some(GatewayConfig {
        cluster: cluster?,
        locality: Locality { region: region?, zone: zone? },
        data_dir: data_dir?,
        listen,
        admin,
        telemetry,
        advertise,
        trust_domain,
        cluster_id,
        join,
        role,
        seal_key_file,
        context,
        threads,
        transport,
        drain: drain.map_or(Duration::from_secs(15), |drain| drain.get()),
        log,
        log_format,
    })
}

/// The join token is a secret: what was given is never shown.
fn join_token(top: &Section, flag: Option<String>) -> Option<JoinToken> {
    let given = flag.or_else(|| top.secret::<String>("join").map(causeway_runtime::Secret::into_exposed));
    top.has("join");
    let text = given?;
    match text.parse() {
        Ok(token) => Some(token),
        Err(error) => {
            top.reject("join", error.to_string());
            None
        }
    }
}

fn check_limits(top: &Section, listen: &[SocketAddr], threads: usize, advertise: &[Advertise]) {
    if listen.len() > MAX_LISTENERS {
        top.reject("listen", format!("{} addresses: at most {MAX_LISTENERS} are possible", listen.len()));
    }
    if threads > MAX_THREADS {
        top.reject(
            "forwarder",
            format!("threads = {threads}: at most {MAX_THREADS} are possible; 0 means one a core"),
        );
    }
    if advertise.is_empty()
        && let Some(addr) = listen.iter().find(|addr| addr.ip().is_unspecified())
    {
        let problem = format!(
            "{addr} is not an address that others can reach: also give --advertise HOST:PORT with the one they can"
        );
        top.reject("listen", problem);
    }
}

fn transport(table: &Section, datagram_size: Option<String>) -> TransportSettings {
    let mut settings = TransportSettings::default();
    if let Some(size) = value::<u16>(table, "datagram-size", datagram_size) {
        settings.datagram_size = size;
    }
    for problem in settings.check() {
        // only the size can be wrong, and the key is named already
        let rule = problem.split_once(": ").map_or(problem.as_str(), |(_, rule)| rule);
        table.reject("datagram-size", rule);
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(items: &[&str]) -> Vec<String> {
        items.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_mistake_of_flags_and_file_is_named_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.toml");
        std::fs::write(
            &path,
            "cluster = \"IAD\"\nregoin = \"us-ashburn-1\"\nzone = \"AD-1\"\ndrain = \"soon\"\n",
        )
        .unwrap();
        let options =
            GatewayOptions { listen: text(&["nowhere"]), data_dir: Some("d".into()), ..Default::default() };
        let errors = load(Some(&path), options).unwrap_err().to_string();
        for part in ["IAD", "regoin", "region", "soon", "nowhere"] {
            assert!(errors.contains(part), "{part} is not in:\n{errors}");
        }
    }

    #[test]
    fn a_required_key_with_a_wrong_value_is_one_mistake() {
        let wrong = GatewayOptions {
            cluster: Some("IAD".into()),
            region: Some("r".into()),
            zone: Some("z".into()),
            data_dir: Some("d".into()),
            listen: text(&["nowhere"]),
            ..Default::default()
        };
        let errors = load(None, wrong.clone()).unwrap_err();
        let keys: Vec<&str> = errors.mistakes.iter().map(|mistake| mistake.key.as_str()).collect();
        assert_eq!(keys, ["--cluster", "--listen"], "{errors}");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.toml");
        std::fs::write(&path, "cluster = \"IAD\"\nlisten = []\n").unwrap();
        let errors =
            load(Some(&path), GatewayOptions { cluster: None, listen: Vec::new(), ..wrong }).unwrap_err();
        let keys: Vec<&str> = errors.mistakes.iter().map(|mistake| mistake.key.as_str()).collect();
        assert_eq!(keys, ["cluster", "listen"], "{errors}");
        let said = errors.to_string();
        assert_eq!(said.matches("\"IAD\"").count(), 1, "{said}");
        assert!(said.contains("listen = []: required, but missing"), "{said}");
    }

    #[test]
    fn flags_win_over_the_file_and_defaults_fill_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.toml");
        let file = "cluster = \"iad\"\nregion = \"r\"\nzone = \"z\"\ndata-dir = \"d\"\nlisten = [\"127.0.0.1:7443\"]\n";
        std::fs::write(&path, file).unwrap();
        let options = GatewayOptions { zone: Some("AD-2".into()), ..Default::default() };
        let config = load(Some(&path), options).unwrap();
        assert_eq!((config.cluster.as_str(), config.locality.zone.as_str()), ("iad", "AD-2"));
        assert_eq!((config.drain, config.role), (Duration::from_secs(15), GatewayRole::Gateway));
    }

    #[test]
    fn an_address_that_nobody_can_reach_must_be_advertised() {
        let base = || GatewayOptions {
            cluster: Some("iad".into()),
            region: Some("r".into()),
            zone: Some("z".into()),
            data_dir: Some("d".into()),
            listen: text(&["0.0.0.0:7443"]),
            ..Default::default()
        };
        assert!(load(None, base()).unwrap_err().to_string().contains("--advertise"));
        let told = GatewayOptions {
            advertise: text(&["link=gw.example.org:7443", "cluster=10.0.0.1:7443"]),
            ..base()
        };
        assert_eq!(load(None, told).unwrap().advertise.len(), 2);
        let wrong = GatewayOptions { advertise: text(&["wan=10.0.0.1:7443"]), ..base() };
        assert!(load(None, wrong).unwrap_err().to_string().contains("cluster=HOST:PORT"));
    }
}
