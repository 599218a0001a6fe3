//! How the application's traffic comes to the sidecar, and what its names are answered with.

use crate::captured::Outside;
use causeway_capture::{CaptureMode, DNS_PORT, OUTBOUND_PORT};
use causeway_dns::{DnsConfig, Name, Upstreams};
use causeway_runtime::config::{ConfigDuration, Section};
use serde::{Serialize, Serializer};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// The port of DNS (RFC 1035 section 4.2).
const DNS: u16 = 53;

/// How the application's traffic comes to the sidecar. What the system needs for it is set up by `causeway sidecar init`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct CaptureSpec {
    /// By rules, by local routes for virtual addresses, or by `listen` alone, which works beside the others, too.
    pub capture: CaptureMode,
    /// The port on loopback that rules lead to; as given to `causeway sidecar init`.
    pub outbound_port: u16,
    /// Whether datagrams to virtual addresses are captured by rules, too, for which the sidecar needs CAP_NET_RAW.
    pub capture_udp: bool,
    /// What becomes of captured traffic to destinations outside the mesh.
    pub outside: Outside,
    /// Whether names and virtual addresses of IPv4 are used.
    pub ipv4: bool,
    /// Whether those of IPv6 are.
    pub ipv6: bool,
    /// Where questions for names are answered; none unless traffic is captured.
    pub dns_listen: Vec<SocketAddr>,
    /// Who is asked about names that are not the mesh's; empty means the name servers of `dns-resolv-conf`.
    pub dns_upstream: Vec<SocketAddr>,
    /// The file that names the upstream name servers (resolv.conf(5)).
    pub dns_resolv_conf: PathBuf,
    /// The zone of the mesh's names.
    pub dns_zone: Zone,
    /// Whether `clusterset.local` is answered, too (the Kubernetes Multi-Cluster Services API).
    pub dns_clusterset: bool,
    /// How long an answer may be kept.
    pub dns_ttl: ConfigDuration,
    /// How long the answer may be kept that there is no such name.
    pub dns_negative_ttl: ConfigDuration,
}

/// What flags say of it; `None` and empty lists leave it to the file and the defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaptureFlags {
    /// By which means.
    pub capture: Option<CaptureMode>,
    /// The port that rules lead to.
    pub outbound_port: Option<u16>,
    /// What becomes of traffic to destinations outside the mesh.
    pub outside: Option<Outside>,
    /// Where questions for names are answered.
    pub dns_listen: Vec<SocketAddr>,
    /// Who is asked about other names.
    pub dns_upstream: Vec<SocketAddr>,
}

/// A zone of DNS names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(pub Name);

impl FromStr for Zone {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let mut name = Name::from_ascii(s).map_err(|error| format!("{s:?} is no zone: {error}"))?;
        name.set_fqdn(true);
        Ok(Self(name))
    }
}

impl Serialize for Zone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.to_string().trim_end_matches('.'))
    }
}

impl CaptureSpec {
    /// What `file` says, over which `flags` win.
    pub(super) fn read(file: &Section, flags: CaptureFlags) -> Self {
        let usual = DnsConfig::default();
        let spec = Self {
            capture: file.merged("capture", flags.capture).unwrap_or(CaptureMode::Listen),
            outbound_port: file.merged("outbound-port", flags.outbound_port).unwrap_or(OUTBOUND_PORT),
            capture_udp: file.or("capture-udp", true),
            outside: file.merged("outside", flags.outside).unwrap_or_default(),
            ipv4: file.or("ipv4", true),
            ipv6: file.or("ipv6", true),
            dns_listen: file.merged_list("dns-listen", flags.dns_listen),
            dns_upstream: file.merged_list("dns-upstream", flags.dns_upstream),
            dns_resolv_conf: file.or("dns-resolv-conf", PathBuf::from("/etc/resolv.conf")),
            dns_zone: file.or("dns-zone", Zone(usual.zone)),
            dns_clusterset: file.or("dns-clusterset", usual.clusterset),
            dns_ttl: file.or("dns-ttl", ConfigDuration(usual.ttl)),
            dns_negative_ttl: file.or("dns-negative-ttl", ConfigDuration(usual.negative_ttl)),
        };
        spec.check(file);
        spec
    }

    fn check(&self, file: &Section) {
        if self.outbound_port == 0 {
            file.reject("outbound-port", "write a port, 1 to 65535, the same as for causeway sidecar init");
        }
        if !self.ipv4 && !self.ipv6 {
            file.reject("ipv4", "one of ipv4 and ipv6 must be used");
        }
        if self.capture == CaptureMode::Listen && !self.dns_listen.is_empty() {
            file.reject("dns-listen", "virtual addresses lead nowhere unless capture is redirect or vip");
        }
        for (key, value) in [("dns-ttl", *self.dns_ttl), ("dns-negative-ttl", *self.dns_negative_ttl)] {
            if value > Duration::from_secs(86_400) {
                file.reject(key, "write a duration of at most 24h");
            }
        }
    }

    /// Where questions for names are answered: as configured, or on loopback, on the port that rules lead to or on that of DNS.
    pub fn dns_addresses(&self) -> Vec<SocketAddr> {
        let port = match self.capture {
            CaptureMode::Listen => return Vec::new(),
            CaptureMode::Redirect => DNS_PORT,
            CaptureMode::Vip => DNS,
        };
        if !self.dns_listen.is_empty() {
            return self.dns_listen.clone();
        }
        self.loopback(port)
    }

    /// The addresses on loopback that rules lead captured traffic to.
    pub fn outbound_addresses(&self) -> Vec<SocketAddr> {
        match self.capture {
            CaptureMode::Redirect => self.loopback(self.outbound_port),
            CaptureMode::Vip | CaptureMode::Listen => Vec::new(),
        }
    }

    /// The families that are used, and that this host has.
    fn loopback(&self, port: u16) -> Vec<SocketAddr> {
        let v4 = self.ipv4.then_some(IpAddr::from(Ipv4Addr::LOCALHOST));
        let v6 = self.ipv6.then_some(IpAddr::from(Ipv6Addr::LOCALHOST));
        let there = |ip: &IpAddr| ip.is_ipv4() || TcpListener::bind((*ip, 0)).is_ok();
        v4.into_iter().chain(v6).filter(there).map(|ip| SocketAddr::new(ip, port)).collect()
    }

    /// The settings of the DNS server.
    pub fn dns(&self) -> DnsConfig {
        let upstream = if self.dns_upstream.is_empty() {
            Upstreams::ResolvConf(self.dns_resolv_conf.clone())
        } else {
            Upstreams::List(self.dns_upstream.clone())
        };
        DnsConfig {
            listen: self.dns_addresses(),
            zone: self.dns_zone.0.clone(),
            clusterset: self.dns_clusterset,
            ttl: self.dns_ttl.get(),
            negative_ttl: self.dns_negative_ttl.get(),
            upstream,
            ipv4: self.ipv4,
            ipv6: self.ipv6,
            ..DnsConfig::default()
        }
    }
}
