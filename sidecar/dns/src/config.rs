//! What an operator may set.

use crate::DnsError;
use hickory_proto::rr::Name;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The settings of a DNS server.
#[derive(Clone, Debug)]
pub struct DnsConfig {
    /// Where it listens, over UDP and TCP; port 0 takes any that is free for both. Name an address of the machine: with
    /// `0.0.0.0` or `::` the kernel chooses from which address it answers. Not read if the sockets are handed over.
    pub listen: Vec<SocketAddr>,
    /// The zone of the mesh's names.
    pub zone: Name,
    /// Whether it also answers for `clusterset.local`, the zone of the Kubernetes Multi-Cluster Services API.
    pub clusterset: bool,
    /// How long an asker may keep an answer. Virtual addresses are stable, so this only bounds how often it asks again, which
    /// is what begins a connection early.
    pub ttl: Duration,
    /// How long an asker may keep the answer that there is no such name. Short: services come.
    pub negative_ttl: Duration,
    /// Who is asked about everything else.
    pub upstream: Upstreams,
    /// Whether names have IPv4 addresses.
    pub ipv4: bool,
    /// Whether names have IPv6 addresses.
    pub ipv6: bool,
    /// Bounds.
    pub limits: Limits,
}

impl Default for DnsConfig {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            zone: zone(["mesh"]),
            clusterset: true,
            ttl: Duration::from_secs(30),
            negative_ttl: Duration::from_secs(5),
            upstream: Upstreams::default(),
            ipv4: true,
            ipv6: true,
            limits: Limits::default(),
        }
    }
}

impl DnsConfig {
    /// Refuses what cannot work.
    pub(crate) fn check(&self) -> Result<(), DnsError> {
        let zone = &self.zone;
        let wrong = |name, value: String, fix| Err(DnsError::Config { name, value, fix });
        if zone.is_root() || zone.iter().any(|label| label.starts_with(b"_")) {
            return wrong("zone", zone.to_string(), "name a zone of its own, for example mesh");
        }
        let taken = clusterset_zone();
        if self.clusterset && (taken.zone_of(zone) || zone.zone_of(&taken)) {
            return wrong("zone", zone.to_string(), "choose another, or turn clusterset off");
        }
        if !self.ipv4 && !self.ipv6 {
            return wrong(
                "ipv4, ipv6",
                "false, false".to_owned(),
                "names need addresses of one family at least",
            );
        }
        if matches!(&self.upstream, Upstreams::List(list) if list.is_empty()) {
            return wrong("upstream", "an empty list".to_owned(), "name one, or say that there is none");
        }
        self.limits.check()
    }
}

/// Who is asked about names that are not the mesh's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstreams {
    /// The name servers of this file (resolv.conf(5)) as it is at the start, on port 53, without the server's own addresses.
    ResolvConf(PathBuf),
    /// These, the first one first; the others when it does not answer.
    List(Vec<SocketAddr>),
    /// Nobody: such questions are refused.
    None,
}

impl Default for Upstreams {
    fn default() -> Self {
        Self::ResolvConf(PathBuf::from("/etc/resolv.conf"))
    }
}

/// The bounds of a DNS server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// TCP connections at a time; further ones are closed.
    pub tcp_connections: usize,
    /// How long a TCP connection may be silent (RFC 7766 section 6.2.3).
    pub tcp_idle: Duration,
    /// Questions of one TCP connection that wait for an answer; the next one is not read before.
    pub tcp_pipeline: usize,
    /// Questions that wait for an upstream or for [`crate::Names::resolve`] at a time; each may have a socket. Further ones are
    /// answered with SERVFAIL at once.
    pub pending: usize,
    /// How long a question may wait. An application's own resolver usually waits five seconds.
    pub question_timeout: Duration,
    /// How long one upstream may take before the next one is asked.
    pub upstream_timeout: Duration,
    /// Bytes of forwarded answers that are kept.
    pub cache_bytes: usize,
    /// The receive buffer of each UDP socket in bytes; the kernel may cap it.
    pub udp_buffer: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            tcp_connections: 256,
            tcp_idle: Duration::from_secs(10),
            tcp_pipeline: 16,
            pending: 1024,
            question_timeout: Duration::from_millis(4_900),
            upstream_timeout: Duration::from_secs(2),
            cache_bytes: 4 << 20,
            udp_buffer: 1 << 20,
        }
    }
}

impl Limits {
    fn check(&self) -> Result<(), DnsError> {
        let counts = [
            ("limits.tcp_connections", self.tcp_connections),
            ("limits.tcp_pipeline", self.tcp_pipeline),
            ("limits.pending", self.pending),
        ];
        for (name, value) in counts {
            if !(1..=1 << 20).contains(&value) {
                return Err(DnsError::Config { name, value: value.to_string(), fix: "use 1 to 1048576" });
            }
        }
        let times = [
            ("limits.tcp_idle", self.tcp_idle),
            ("limits.question_timeout", self.question_timeout),
            ("limits.upstream_timeout", self.upstream_timeout),
        ];
        for (name, value) in times {
            if value.is_zero() {
                return Err(DnsError::Config { name, value: "0".to_owned(), fix: "use more than no time" });
            }
        }
        Ok(())
    }
}

/// `clusterset.local`, which the Multi-Cluster Services API prescribes.
pub(crate) fn clusterset_zone() -> Name {
    zone(["clusterset", "local"])
}

/// A zone with labels that are known to be good.
pub(crate) fn zone<'a>(labels: impl IntoIterator<Item = &'a str>) -> Name {
    let mut name =
        labels.into_iter().fold(Name::root(), |name, label| name.clone().append_label(label).unwrap_or(name));
    name.set_fqdn(true);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(change: impl FnOnce(&mut DnsConfig)) -> String {
        let mut config = DnsConfig::default();
        change(&mut config);
        config.check().map_or_else(|error| error.to_string(), |()| "good".to_owned())
    }

    #[test]
    fn the_default_is_good_and_names_the_usual_zone() {
        assert_eq!(reason(|_| ()), "good");
        assert_eq!(DnsConfig::default().zone.to_string(), "mesh.");
        assert_eq!(clusterset_zone().to_string(), "clusterset.local.");
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        assert!(reason(|c| c.zone = Name::root()).contains("zone"));
        assert!(reason(|c| c.zone = zone(["local"])).contains("clusterset"));
        assert!(reason(|c| c.zone = zone(["a", "clusterset", "local"])).contains("clusterset"));
        assert!(reason(|c| (c.ipv4, c.ipv6) = (false, false)).contains("ipv4"));
        assert!(reason(|c| c.upstream = Upstreams::List(Vec::new())).contains("upstream"));
        assert!(reason(|c| c.limits.pending = 0).contains("limits.pending"));
        assert!(reason(|c| c.limits.tcp_idle = Duration::ZERO).contains("limits.tcp_idle"));
        assert_eq!(reason(|c| (c.zone, c.clusterset) = (zone(["local"]), false)), "good");
    }
}
