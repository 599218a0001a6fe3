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

/// A port of a service and what it speaks; written `80` or `80/http`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServicePort {
    /// The port number that clients name, never 0.
    pub port: u16,
    /// What it speaks.
    pub protocol: Protocol,
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

/// The ports of a service: at most [`PortSet::MAX`], each number once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<ServicePort>", into = "Vec<ServicePort>")]
pub struct PortSet(BTreeMap<u16, Protocol>);

impl PortSet {
    /// The most ports a service may have.
    pub const MAX: usize = 64;

    /// True when no port is declared.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What `port` speaks, if the set has it.
    pub fn protocol(&self, port: u16) -> Option<Protocol> {
        self.0.get(&port).copied()
    }

    /// The ports in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = ServicePort> + '_ {
        self.0.iter().map(|(&port, &protocol)| ServicePort { port, protocol })
    }
}

impl TryFrom<Vec<ServicePort>> for PortSet {
    type Error = ParseError;

    fn try_from(ports: Vec<ServicePort>) -> Result<Self, ParseError> {
        let count = ports.len();
        let map: BTreeMap<u16, Protocol> = ports.into_iter().map(|p| (p.port, p.protocol)).collect();
        if map.len() != count || map.contains_key(&0) || count > Self::MAX {
            let text = format!("{count} ports");
            return Err(ParseError::new(
                "port set",
                &text,
                "give each port once, none of them 0, at most 64",
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
        for bad in ["0", "", "80/", "80/ftp", "65536", "x"] {
            assert!(bad.parse::<ServicePort>().is_err(), "{bad}");
        }
    }
}
