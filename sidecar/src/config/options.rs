//! The keys as flags and as a file give them, and how they become a configuration.

use super::capture::{CaptureFlags, CaptureSpec};
use super::health::{self, HealthSpec};
use super::{BalanceConfig, DELIVERY_V4, Limits, ListenSpec, ServeSpec, SidecarConfig};
use causeway_model::{Locality, PortSet};
use causeway_runtime::config::{ConfigDuration, ConfigErrors, Reader, Secret, Section};
use causeway_runtime::logs::LogFormat;
use causeway_transport::TransportSettings;
use causeway_wire::ctl::{MAX_SERVED, MAX_SUBSCRIPTIONS};
use causeway_wire::token::JoinToken;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What flags say; `None` and empty lists leave it to the file and the defaults. A flag is named as its field, with
/// hyphens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SidecarOptions {
    /// The join token.
    pub token: Option<Secret<String>>,
    /// A file with the join token.
    pub token_file: Option<PathBuf>,
    /// Where key, SVID and last snapshot are kept.
    pub state_dir: Option<PathBuf>,
    /// The UDP address of the overlay socket.
    pub overlay: Option<SocketAddr>,
    /// The services that the workload serves.
    pub serve: Vec<ServeSpec>,
    /// The local addresses that lead to services.
    pub listen: Vec<ListenSpec>,
    /// How the application's other traffic comes here.
    pub capture: CaptureFlags,
    /// Where metrics and health are served.
    pub telemetry: Option<SocketAddr>,
    /// The region that the workload runs in.
    pub region: Option<String>,
    /// The zone in that region.
    pub zone: Option<String>,
    /// The workload's share of the load.
    pub weight: Option<u16>,
    /// How long connections may finish at the end.
    pub drain: Option<ConfigDuration>,
    /// Where deliveries to the application come from.
    pub delivery_source: Option<IpAddr>,
    /// Whether listeners go over to the next process, and come from the one before.
    pub handover: Option<bool>,
    /// How what is served is checked.
    pub health: Vec<HealthSpec>,
    /// The log filter.
    pub log: Option<String>,
    /// How log lines look.
    pub log_format: Option<LogFormat>,
}

pub(super) fn load(file: Option<&Path>, flags: SidecarOptions) -> Result<SidecarConfig, ConfigErrors> {
    read(Reader::open(file)?, flags)
}

pub(super) fn from_toml(
    path: &Path,
    text: &str,
    flags: SidecarOptions,
) -> Result<SidecarConfig, ConfigErrors> {
    read(Reader::parse(path, text)?, flags)
}

fn read(file: Reader, flags: SidecarOptions) -> Result<SidecarConfig, ConfigErrors> {
    let any: SocketAddr = (Ipv4Addr::UNSPECIFIED, 0).into();
    let written = file.secret("token");
    let serve = file.merged_list("serve", flags.serve);
    let config = SidecarConfig {
        token: flags.token.or(written),
        token_file: file.merged("token-file", flags.token_file),
        state_dir: file.merged("state-dir", flags.state_dir),
        overlay: file.merged("overlay", flags.overlay).unwrap_or(any),
        health: health::read(&file, flags.health, &serve),
        serve,
        listen: file.merged_list("listen", flags.listen),
        capture: CaptureSpec::read(&file, flags.capture),
        telemetry: file.merged("telemetry", flags.telemetry),
        region: file.merged("region", flags.region),
        zone: file.merged("zone", flags.zone),
        weight: file.merged("weight", flags.weight).unwrap_or(100),
        drain: file.merged("drain", flags.drain).unwrap_or(ConfigDuration::from_secs(15)),
        delivery_source: file.merged("delivery-source", flags.delivery_source).unwrap_or(DELIVERY_V4.into()),
        handover: file.merged("handover", flags.handover).unwrap_or(true),
        passive_health: file.or("passive-health", true),
        balance: BalanceConfig::read(&file.table("balance")),
        limits: Limits::read(&file.table("limits")),
        transport: transport(&file.table("transport")),
        log: file.merged("log", flags.log),
        log_format: file.merged("log-format", flags.log_format).unwrap_or_default(),
    };
    check_token(&file, &config);
    check_serve(&file, &config.serve);
    check_listen(&file, &config);
    check_place(&file, &config);
    check_values(&file, &config);
    file.build(Some(config))
}

fn transport(section: &Section) -> TransportSettings {
    let usual = TransportSettings::default();
    let duration = |key, usual: Duration| section.or(key, ConfigDuration(usual)).get();
    let settings = TransportSettings {
        datagram_size: section.or("datagram-size", usual.datagram_size),
        stream_receive_window: section.or("stream-receive-window", usual.stream_receive_window),
        connection_receive_window: section.or("connection-receive-window", usual.connection_receive_window),
        send_window: section.or("send-window", usual.send_window),
        idle_timeout: duration("idle-timeout", usual.idle_timeout),
        keep_alive: duration("keep-alive", usual.keep_alive),
        initial_rtt: duration("initial-rtt", usual.initial_rtt),
        max_streams: section.or("max-streams", usual.max_streams),
        datagram_receive_buffer: section.or("datagram-receive-buffer", usual.datagram_receive_buffer),
        datagram_send_buffer: section.or("datagram-send-buffer", usual.datagram_send_buffer),
    };
    for mistake in settings.check() {
        let (key, problem) = mistake.split_once(": ").unwrap_or(("", &mistake));
        section.reject(&key.replace('_', "-"), problem);
    }
    settings
}

fn check_token(file: &Section, config: &SidecarConfig) {
    if config.token.is_some() && config.token_file.is_some() {
        file.reject("token-file", "give either token or token-file, not both");
    }
    // a token that does not parse is already a mistake of its own
    if config.token.is_none()
        && config.token_file.is_none()
        && config.state_dir.is_none()
        && !file.has("token")
    {
        file.reject(
            "token",
            "a sidecar joins with a token: give token, token-file, or a state-dir with an SVID",
        );
    }
    if let Some(Err(error)) = config.token.as_ref().map(|token| token.expose().parse::<JoinToken>()) {
        // under a name that is no key, for a key is reported with its value
        file.reject("join token", error.to_string());
    }
}

fn check_serve(file: &Section, serve: &[ServeSpec]) {
    let mut ports: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for spec in serve {
        if !seen.insert((&spec.service, spec.port.key())) {
            file.reject("serve", format!("{}:{} is served twice", spec.service, spec.port.key()));
            continue;
        }
        ports.entry(&spec.service).or_default().push(spec.port);
    }
    if ports.len() > MAX_SERVED {
        file.reject("serve", format!("{} services, a workload serves at most {MAX_SERVED}", ports.len()));
    }
    for (service, list) in ports.iter().filter(|(_, list)| list.len() > PortSet::MAX) {
        file.reject("serve", format!("{service} has {} ports, at most {}", list.len(), PortSet::MAX));
    }
}

fn check_listen(file: &Section, config: &SidecarConfig) {
    let mut seen = BTreeSet::new();
    for spec in config.listen.iter().filter(|spec| spec.addr.port() != 0) {
        if !seen.insert((spec.addr, spec.udp)) {
            file.reject("listen", format!("{} is listened on twice", spec.addr));
        }
        if config.telemetry == Some(spec.addr) && !spec.udp {
            file.reject("telemetry", format!("{} is listened on for {}", spec.addr, spec.service));
        }
    }
    let services: BTreeSet<_> = config.listen.iter().map(|spec| &spec.service).collect();
    if services.len() > MAX_SUBSCRIPTIONS {
        file.reject("listen", format!("{} services, at most {MAX_SUBSCRIPTIONS}", services.len()));
    }
}

fn check_place(file: &Section, config: &SidecarConfig) {
    match (&config.region, &config.zone) {
        (Some(_), None) => file.reject("zone", "required with region"),
        (None, Some(_)) => file.reject("region", "required with zone"),
        _ => {}
    }
    for (key, value) in [("region", &config.region), ("zone", &config.zone)] {
        if value.as_ref().is_some_and(|value| value.is_empty() || value.len() > Locality::MAX_LEN) {
            file.reject(key, format!("write 1 to {} bytes", Locality::MAX_LEN));
        }
    }
}

fn check_values(file: &Section, config: &SidecarConfig) {
    if !(1..=1000).contains(&config.weight) {
        file.reject("weight", "write a whole number from 1 to 1000");
    }
    if *config.drain > Duration::from_secs(3600) {
        file.reject("drain", "write a duration of at most 1h");
    }
    let source = config.delivery_source;
    if source.is_unspecified() || source.is_multicast() || source == IpAddr::from(Ipv4Addr::LOCALHOST) {
        file.reject(
            "delivery-source",
            "write an address of this host that is not 127.0.0.1, such as 127.0.0.6",
        );
    }
}
