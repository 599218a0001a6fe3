//! Why a server could not begin.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why a DNS server could not begin.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// A setting cannot work.
    #[error("the DNS setting {name} is {value}: {fix}")]
    Config {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: String,
        /// What to write instead.
        fix: &'static str,
    },
    /// A socket could not be bound.
    #[error(
        "cannot listen for DNS on {protocol} {address}: {source}; \
         see what else listens there, or whether the port needs CAP_NET_BIND_SERVICE"
    )]
    Bind {
        /// `udp` or `tcp`.
        protocol: &'static str,
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A socket that was handed over cannot be used.
    #[error("cannot use a socket for DNS that was handed over: {source}")]
    Socket {
        /// What the system said.
        source: io::Error,
    },
    /// There is nothing to listen on.
    #[error("DNS has no address to listen on: name one, for example 127.0.0.1:53")]
    NoListener,
    /// An upstream is this server.
    #[error(
        "the DNS upstream {upstream} is this server itself, which listens on {listen}: \
         questions would go round in circles; name the resolver that was used before"
    )]
    Loop {
        /// The upstream.
        upstream: SocketAddr,
        /// Where this server listens.
        listen: SocketAddr,
    },
    /// The file names only this server.
    #[error("{} names no name server but this one: \
         questions for other names would go round in circles; name the upstream resolver in the settings", path.display())]
    OnlyOurselves {
        /// The file.
        path: PathBuf,
    },
    /// The file names nobody.
    #[error("{} names no name server: name the upstream resolver in the settings, or say that there is none", path.display())]
    NoUpstream {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("cannot read {}, where the upstream resolvers of DNS are: {source}; name them in the settings", path.display())]
    ResolvConf {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl DnsError {
    /// The stable word for logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Config { .. } => "dns-config",
            Self::Bind { .. } => "dns-bind",
            Self::Socket { .. } => "dns-socket",
            Self::NoListener => "dns-no-listener",
            Self::Loop { .. } | Self::OnlyOurselves { .. } => "dns-loop",
            Self::NoUpstream { .. } => "dns-no-upstream",
            Self::ResolvConf { .. } => "dns-resolv-conf",
        }
    }
}
