//! What is to be captured, complete and checked. Reading it from flags is in `options`; nothing here touches the host.

mod accounts;
mod options;
mod ports;

pub use accounts::{Accounts, System};
pub use options::CaptureOptions;
pub use ports::Ports;

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// The port on loopback that captured TCP and UDP is led to, unless configured.
pub const OUTBOUND_PORT: u16 = 15001;
/// The port on loopback that captured DNS questions are led to, unless configured.
pub const DNS_PORT: u16 = 15053;

/// How an application's traffic reaches the sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CaptureMode {
    /// By nftables rules; the application notices nothing.
    Redirect,
    /// By local routes for virtual addresses, which DNS answers.
    Vip,
    /// By local addresses that the application is given; nothing is installed.
    Listen,
}

impl CaptureMode {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::Redirect, Self::Vip, Self::Listen];

    /// Its name in flags and files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Redirect => "redirect",
            Self::Vip => "vip",
            Self::Listen => "listen",
        }
    }
}

impl fmt::Display for CaptureMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for CaptureMode {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|mode| mode.as_str() == s);
        found.ok_or_else(|| format!("{s:?} is no way to capture: write redirect, vip or listen"))
    }
}

/// What becomes of plain traffic from other hosts to a port that the workload serves in the mesh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Inbound {
    /// It reaches the application.
    #[default]
    Pass,
    /// New connections are reset, datagrams answered as unreachable.
    Refuse,
}

/// What is to be captured, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureConfig {
    /// Whether IPv4 is captured.
    pub ipv4: bool,
    /// Whether IPv6 is captured.
    pub ipv6: bool,
    /// Whether a process without privilege may bind ports below 1024 from then on.
    pub unprivileged_ports: bool,
    /// By which means.
    pub means: Means,
}

/// The means of capture, with what belongs to each only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Means {
    /// Rules.
    Redirect(Box<Redirect>),
    /// Local routes.
    Vip(Option<ResolvConf>),
    /// None.
    Listen,
}

/// What the rules select.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redirect {
    /// The users that the sidecar runs as: what they send is left alone.
    pub uids: Vec<u32>,
    /// The groups that the sidecar runs as, the same.
    pub gids: Vec<u32>,
    /// Users whose traffic is left alone, but for what goes to virtual addresses.
    pub exclude_uids: Vec<u32>,
    /// The users of resolvers of this host, whose own questions are left alone.
    pub resolver_uids: Vec<u32>,
    /// Where TCP and UDP is led to, on loopback.
    pub outbound_port: u16,
    /// Where DNS questions are led to, on loopback.
    pub dns_port: u16,
    /// The ports that TCP is captured to; empty means all.
    pub include_ports: Ports,
    /// The ports that nothing is captured to; 53 leaves DNS alone.
    pub exclude_ports: Ports,
    /// The destinations that TCP is captured to.
    pub include: Networks,
    /// The destinations that nothing is captured to.
    pub exclude: Networks,
    /// What becomes of plain traffic to served ports.
    pub inbound: Inbound,
    /// The TCP ports that the workload serves.
    pub served_tcp: Ports,
    /// The UDP ports that the workload serves.
    pub served_udp: Ports,
}

/// Destinations by network, aggregated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    /// IPv4 networks.
    pub v4: Vec<Ipv4Net>,
    /// IPv6 networks.
    pub v6: Vec<Ipv6Net>,
}

impl Networks {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

/// A `resolv.conf` that is to name the sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvConf {
    /// The file.
    pub path: PathBuf,
    /// Where the sidecar answers DNS, on port 53.
    pub dns: IpAddr,
}

impl CaptureConfig {
    /// The mode that this is of.
    pub fn mode(&self) -> CaptureMode {
        match self.means {
            Means::Redirect(_) => CaptureMode::Redirect,
            Means::Vip(_) => CaptureMode::Vip,
            Means::Listen => CaptureMode::Listen,
        }
    }
}
