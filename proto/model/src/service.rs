//! Services: ports, protocols, health.

use crate::ParseError;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// What a port speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Opaque bytes over TCP.
    #[default]
    Tcp,
    /// Datagrams.
    Udp,
    /// HTTP/1.1 or HTTP/2.
    Http,
    /// gRPC over HTTP/2.
    Grpc,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Http => "http",
            Self::Grpc => "grpc",
        })
    }
}

impl FromStr for Protocol {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        match s {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "http" => Ok(Self::Http),
            "grpc" => Ok(Self::Grpc),
            _ => Err(ParseError::new("protocol", s, "write tcp, udp, http or grpc")),
        }
    }
}

impl Protocol {
    /// What carries it.
    pub fn transport(self) -> Transport {
        match self {
            Self::Udp => Transport::Udp,
            Self::Tcp | Self::Http | Self::Grpc => Transport::Tcp,
        }
    }
}

/// What carries a port's bytes. Each counts ports of its own (RFC 6335 section 6): 53 over TCP is another port than 53 over UDP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Connections.
    #[default]
    Tcp,
    /// Datagrams.
    Udp,
}

/// A port number and what carries it; shown as `53` or `53/udp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PortKey {
    /// The number.
    pub port: u16,
    /// What carries it.
    pub transport: Transport,
}

impl PortKey {
    /// Port `port` of connections.
    pub fn tcp(port: u16) -> Self {
        Self { port, transport: Transport::Tcp }
    }

    /// Port `port` of datagrams.
    pub fn udp(port: u16) -> Self {
        Self { port, transport: Transport::Udp }
    }
}

impl fmt::Display for PortKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.transport {
            Transport::Tcp => write!(f, "{}", self.port),
            Transport::Udp => write!(f, "{}/udp", self.port),
        }
    }
}

/// A port of a service and what it speaks; written `80` or `80/http`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServicePort {
    /// The port number that clients name, never 0.
    pub port: u16,
    /// What it speaks.
    pub protocol: Protocol,
}

impl ServicePort {
    /// The port without what is spoken there.
    pub fn key(self) -> PortKey {
        PortKey { port: self.port, transport: self.protocol.transport() }
    }
}

impl FromStr for ServicePort {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        const RULE: &str = "write PORT or PORT/PROTOCOL, for example 80 or 80/http";
        let (port, protocol) = s.split_once('/').map_or((s, None), |(port, protocol)| (port, Some(protocol)));
        let port =
            port.parse().ok().filter(|&port| port != 0).ok_or_else(|| ParseError::new("port", s, RULE))?;
        Ok(Self { port, protocol: protocol.map(str::parse).transpose()?.unwrap_or_default() })
    }
}

impl fmt::Display for ServicePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.port, self.protocol)
    }
}

/// The ports of a service: at most [`PortSet::MAX`], each number once for connections and once for datagrams.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<ServicePort>", into = "Vec<ServicePort>")]
pub struct PortSet(BTreeMap<PortKey, Protocol>);

impl PortSet {
    /// The most ports a service may have.
    pub const MAX: usize = 64;

    /// True when no port is declared.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What `port` speaks, if the set has it.
    pub fn protocol(&self, port: PortKey) -> Option<Protocol> {
        self.0.get(&port).copied()
    }

    /// The ports in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = ServicePort> + '_ {
        self.0.iter().map(|(key, &protocol)| ServicePort { port: key.port, protocol })
    }
}

impl TryFrom<Vec<ServicePort>> for PortSet {
    type Error = ParseError;

    fn try_from(ports: Vec<ServicePort>) -> Result<Self, ParseError> {
        let count = ports.len();
        let map: BTreeMap<PortKey, Protocol> = ports.into_iter().map(|p| (p.key(), p.protocol)).collect();
        if map.len() != count || map.keys().any(|key| key.port == 0) || count > Self::MAX {
            let text = format!("{count} ports");
            return Err(ParseError::new(
                "port set",
                &text,
                "give each port once over TCP and once over UDP, none of them 0, at most 64",
            ));
        }
        Ok(Self(map))
    }
}

impl From<PortSet> for Vec<ServicePort> {
    fn from(set: PortSet) -> Self {
        set.iter().collect()
    }
}

impl fmt::Display for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, port) in self.iter().enumerate() {
            write!(f, "{}{port}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// Whether an endpoint takes new requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// It does.
    #[default]
    Healthy,
    /// It finishes what it has and takes nothing new.
    Draining,
    /// Its checks fail.
    Unhealthy,
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Healthy => "healthy",
            Self::Draining => "draining",
            Self::Unhealthy => "unhealthy",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_set_has_each_port_once() {
        let ports: Vec<ServicePort> = ["80/http", "53/udp"].iter().map(|s| s.parse().unwrap()).collect();
        assert_eq!(PortSet::try_from(ports.clone()).unwrap().to_string(), "53/udp,80/http");
        assert!(PortSet::try_from([ports.clone(), ports].concat()).is_err());
        let both: Vec<ServicePort> = ["53/udp", "53/tcp"].iter().map(|s| s.parse().unwrap()).collect();
        let both = PortSet::try_from(both).unwrap();
        assert_eq!(both.to_string(), "53/tcp,53/udp");
        assert_eq!(both.protocol(PortKey::udp(53)), Some(Protocol::Udp));
        assert_eq!(both.protocol(PortKey::tcp(53)), Some(Protocol::Tcp));
        let twice = ["53/http", "53/tcp"].map(|s| s.parse().unwrap());
        assert!(PortSet::try_from(twice.to_vec()).is_err());
        for bad in ["0", "", "80/", "80/ftp", "65536", "x"] {
            assert!(bad.parse::<ServicePort>().is_err(), "{bad}");
        }
    }
}
