//! What `serve` and `listen` are written as.

use causeway_model::{ParseError, ServiceName, ServicePort};
use serde::{Serialize, Serializer};
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

/// A port of a service that the workload serves, and where its application listens:
/// `SERVICE.NAMESPACE:PORT[/PROTOCOL]=IP:PORT`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServeSpec {
    /// The service.
    pub service: ServiceName,
    /// The port that clients name, and what is spoken on it.
    pub port: ServicePort,
    /// The application.
    pub upstream: SocketAddr,
}

/// A local address that leads to a port of a service: `IP:PORT=SERVICE.NAMESPACE:PORT[/udp]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListenSpec {
    /// Where the application connects to; port 0 lets the system choose.
    pub addr: SocketAddr,
    /// The service.
    pub service: ServiceName,
    /// Its port.
    pub port: u16,
    /// Whether it takes datagrams, and no connections.
    pub udp: bool,
}

const SERVE: &str = "write SERVICE.NAMESPACE:PORT=IP:PORT, for example payments.shop:80/http=127.0.0.1:8080; the protocol is tcp if not given";
const LISTEN: &str = "write IP:PORT=SERVICE.NAMESPACE:PORT, for example 127.0.0.1:8080=payments.shop:80, or 127.0.0.1:5353=dns.net:53/udp for UDP";

impl FromStr for ServeSpec {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        let error = || ParseError::new("serve", s, SERVE);
        let (name, upstream) = s.split_once('=').ok_or_else(error)?;
        let (service, port) = name.rsplit_once(':').ok_or_else(error)?;
        let upstream: SocketAddr = upstream.parse().map_err(|_| error())?;
        if upstream.port() == 0 || upstream.ip().is_unspecified() {
            return Err(error());
        }
        Ok(Self {
            service: service.parse().map_err(|_| error())?,
            port: port.parse().map_err(|_| error())?,
            upstream,
        })
    }
}

impl FromStr for ListenSpec {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        let error = || ParseError::new("listen", s, LISTEN);
        let (addr, name) = s.split_once('=').ok_or_else(error)?;
        let (service, port) = name.rsplit_once(':').ok_or_else(error)?;
        let (port, udp) = match port.split_once('/') {
            None => (port, false),
            Some((port, "tcp")) => (port, false),
            Some((port, "udp")) => (port, true),
            Some(_) => return Err(error()),
        };
        let port: u16 = port.parse().ok().filter(|&port| port != 0).ok_or_else(error)?;
        Ok(Self {
            addr: addr.parse().map_err(|_| error())?,
            service: service.parse().map_err(|_| error())?,
            port,
            udp,
        })
    }
}

impl fmt::Display for ServeSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}={}", self.service, self.port, self.upstream)
    }
}

impl fmt::Display for ListenSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let udp = if self.udp { "/udp" } else { "" };
        write!(f, "{}={}:{}{udp}", self.addr, self.service, self.port)
    }
}

impl Serialize for ServeSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for ListenSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
