//! What a sidecar is told by its operator: a TOML file and flags of the same names.
//!
//! Owns the keys, their defaults and their bounds, and which of them fit together. Reading and reporting is
//! `causeway-runtime`'s; nothing here opens a socket or a file other than the configuration itself.

mod balance;
mod capture;
mod health;
mod limits;
mod options;
mod spec;

pub use balance::BalanceConfig;
pub use capture::{CaptureFlags, CaptureSpec, Zone};
pub use health::{CheckKind, HealthCheck, HealthSpec, StartHealth, StatusRange};
pub use limits::Limits;
pub use options::SidecarOptions;
pub use spec::{ListenSpec, ServeSpec};

use causeway_model::{Locality, PortSet, ServiceName};
use causeway_runtime::config::{ConfigDuration, ConfigErrors, Secret};
use causeway_runtime::logs::LogFormat;
use causeway_transport::TransportSettings;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// The configuration of a sidecar, complete and checked. Serializes as the effective configuration, secrets masked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SidecarConfig {
    /// The join token. Needed until the state directory has an SVID that lives.
    pub token: Option<Secret<String>>,
    /// A file with the join token; read when the sidecar starts.
    pub token_file: Option<PathBuf>,
    /// Where key, SVID and last snapshot are kept, so that a restart needs no token.
    pub state_dir: Option<PathBuf>,
    /// The UDP address of the overlay socket.
    pub overlay: SocketAddr,
    /// The services that the workload serves.
    pub serve: Vec<ServeSpec>,
    /// The local addresses that lead to services.
    pub listen: Vec<ListenSpec>,
    /// How the application's other traffic comes here, and what its names are answered with.
    #[serde(flatten)]
    pub capture: CaptureSpec,
    /// Where `/metrics`, `/live` and `/ready` are served; `None` serves none.
    pub telemetry: Option<SocketAddr>,
    /// The region that the workload runs in; `None` with no zone either means where the gateway runs.
    pub region: Option<String>,
    /// The zone in that region.
    pub zone: Option<String>,
    /// The workload's share of the load, 1 to 1000.
    pub weight: u16,
    /// How long connections may finish when the sidecar is told to stop.
    pub drain: ConfigDuration,
    /// The address that the application sees as the peer of what the mesh delivers to a loopback address of the same
    /// family; for the other family 127.0.0.6 and ::1.
    pub delivery_source: IpAddr,
    /// Whether a process that starts with the same state directory may take the listeners of this one over, and this one those
    /// of the process before. The one that hands over drains and ends.
    pub handover: bool,
    /// Whether a service whose application refuses a connection counts as unhealthy until one is accepted again. That is tried
    /// after 100 ms first and each second at last, by a connection that is closed at once.
    pub passive_health: bool,
    /// How what is served is checked.
    pub health: Vec<HealthCheck>,
    /// How endpoints are chosen.
    pub balance: BalanceConfig,
    /// Bounds.
    pub limits: Limits,
    /// The settings of QUIC.
    pub transport: TransportSettings,
    /// The log filter; `None` leaves it to the environment.
    pub log: Option<String>,
    /// How log lines look.
    pub log_format: LogFormat,
}

/// Where deliveries come from over IPv4, unless configured: not 127.0.0.1, so that an application's trust of localhost
/// does not extend to the mesh.
const DELIVERY_V4: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 6);

impl SidecarConfig {
    /// The configuration of `file`, over which `flags` win.
    ///
    /// # Errors
    /// Every mistake of the file and of the flags at once.
    pub fn load(file: Option<&Path>, flags: SidecarOptions) -> Result<Self, ConfigErrors> {
        options::load(file, flags)
    }

    /// The configuration of the TOML `text`, over which `flags` win; `path` is for messages.
    ///
    /// # Errors
    /// Every mistake of the text and of the flags at once.
    pub fn from_toml(path: &Path, text: &str, flags: SidecarOptions) -> Result<Self, ConfigErrors> {
        options::from_toml(path, text, flags)
    }

    /// Where the workload runs, if that was said.
    pub fn locality(&self) -> Option<Locality> {
        Some(Locality { region: self.region.clone()?, zone: self.zone.clone()? })
    }

    /// The services that are served, each with its ports.
    pub fn services(&self) -> BTreeMap<ServiceName, PortSet> {
        let mut ports: BTreeMap<ServiceName, Vec<_>> = BTreeMap::new();
        for serve in &self.serve {
            ports.entry(serve.service.clone()).or_default().push(serve.port);
        }
        // the specs were checked: no port is there twice and no service has too many
        ports.into_iter().filter_map(|(name, list)| Some((name, PortSet::try_from(list).ok()?))).collect()
    }

    /// Where a delivery to `upstream` comes from; `None` leaves the choice to the system.
    ///
    /// Only what goes to a loopback address could be taken for local traffic; a source of 127.0.0.0/8 reaches nothing else.
    pub fn delivery_to(&self, upstream: SocketAddr) -> Option<IpAddr> {
        let of_family = if self.delivery_source.is_ipv4() == upstream.is_ipv4() {
            self.delivery_source
        } else if upstream.is_ipv4() {
            DELIVERY_V4.into()
        } else {
            Ipv6Addr::LOCALHOST.into()
        };
        (upstream.ip().is_loopback() || !of_family.is_loopback()).then_some(of_family)
    }
}

#[cfg(test)]
mod tests;
