//! Addresses as people write them.

use crate::ParseError;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// A host (name or IP address) and a port, as given to `--advertise` and carried in tokens, links and the registry. A
/// name is resolved by whoever dials it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPort {
    host: String,
    port: u16,
}

impl HostPort {
    /// The host: a DNS name or an IP address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, never 0.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The socket address, when the host is an IP address.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        self.host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, self.port))
    }
}

impl From<SocketAddr> for HostPort {
    fn from(addr: SocketAddr) -> Self {
        Self { host: addr.ip().to_string(), port: addr.port() }
    }
}

impl FromStr for HostPort {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        const RULE: &str = "write HOST:PORT, an IPv6 address in brackets, for example gw.example.org:7443 or [2001:db8::1]:7443";
        let error = || ParseError::new("address", s, RULE);
        if let Ok(addr) = s.parse::<SocketAddr>() {
            return if addr.port() == 0 { Err(error()) } else { Ok(addr.into()) };
        }
        let (host, port) = s.rsplit_once(':').ok_or_else(error)?;
        let port: u16 = port.parse().ok().filter(|&port| port != 0).ok_or_else(error)?;
        let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        if host.is_empty() || host.len() > 253 || !host.bytes().all(letter) {
            return Err(error());
        }
        Ok(Self { host: host.to_ascii_lowercase(), port })
    }
}

impl TryFrom<String> for HostPort {
    type Error = ParseError;

    fn try_from(s: String) -> Result<Self, ParseError> {
        s.parse()
    }
}

impl From<HostPort> for String {
    fn from(addr: HostPort) -> String {
        addr.to_string()
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_port_prints_as_it_parses() {
        for good in ["127.0.0.1:7443", "[2001:db8::1]:7443", "gw.example.org:1"] {
            assert_eq!(good.parse::<HostPort>().unwrap().to_string(), good);
        }
        for bad in ["", "host", "host:0", "host:99999", ":1", "2001:db8::1:7443", "a b:1", "127.0.0.1:0"] {
            assert!(bad.parse::<HostPort>().is_err(), "{bad}");
        }
    }
}
