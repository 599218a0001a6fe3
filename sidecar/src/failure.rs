//! Why a connection of the application was not carried to its service.

use crate::descriptors::Exhausted;
use causeway_model::{ServiceName, SpiffeId};
use causeway_wire::CloseCode;
use std::net::SocketAddr;
use std::time::Duration;

/// Why an attempt, or all attempts, to reach a service failed. The text is for the operator of this sidecar; its reason is
/// shared by log and metrics.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// No gateway has said anything about the service, or nobody offers it.
    #[error(
        "no cluster offers service {service}: check its name, that a workload serves it, and that it is exported"
    )]
    ServiceUnknown {
        /// The service.
        service: ServiceName,
    },
    /// The service is offered, without this port.
    #[error(
        "service {service} has no port {port}: check the port, or declare it where the service is served"
    )]
    PortUnknown {
        /// The service.
        service: ServiceName,
        /// The port that was asked for.
        port: u16,
    },
    /// It is offered, and no endpoint takes requests.
    #[error("no endpoint of {service} takes requests: of {total} none is healthy")]
    NoEndpoint {
        /// The service.
        service: ServiceName,
        /// How many endpoints there are.
        total: u32,
    },
    /// No gateway of this cluster answers.
    #[error("no gateway answers, and no endpoint of {service} could be reached without one")]
    NoGateway {
        /// The service.
        service: ServiceName,
    },
    /// A peer is not one of those that may serve the service.
    #[error("{endpoint} is {identity}, which may not serve {service}")]
    WrongIdentity {
        /// The peer.
        endpoint: String,
        /// Who it is.
        identity: SpiffeId,
        /// The service.
        service: ServiceName,
    },
    /// A QUIC connection could not be made, or ended.
    #[error("{endpoint}: {text}")]
    Connection {
        /// The peer.
        endpoint: String,
        /// The stable word.
        reason: &'static str,
        /// What happened.
        text: String,
    },
    /// Nothing at all is heard of a peer whose connection stands.
    #[error("nothing is heard of {endpoint} on the connection to it, another one is tried")]
    Silent {
        /// The peer.
        endpoint: String,
    },
    /// The peer refused the stream.
    #[error("{endpoint} refused: {}", refusal(*code))]
    Refused {
        /// The peer.
        endpoint: String,
        /// A [`CloseCode`], perhaps of a later release.
        code: u64,
    },
    /// Time ran out.
    #[error("{what} within {limit:?}")]
    Timeout {
        /// What did not happen.
        what: &'static str,
        /// How long it was waited for.
        limit: Duration,
    },
    /// A connection came to the port for captured ones, and was not captured.
    #[error(
        "not captured: {error}; applications connect to where they mean to go, not to the sidecar's port"
    )]
    NotCaptured {
        /// What the system says.
        error: String,
    },
    /// A virtual address that nothing has.
    #[error(
        "nothing in the mesh has the address {addr}: its service is gone, or was never asked for by name here"
    )]
    VipUnknown {
        /// The address.
        addr: SocketAddr,
    },
    /// Nobody could say now what a virtual address stands for.
    #[error("what {addr} stands for cannot be found out now: {why}")]
    VipUnavailable {
        /// The address.
        addr: SocketAddr,
        /// Why.
        why: String,
    },
    /// The destination is outside the mesh, where nothing may go.
    #[error("{addr} is outside the mesh, and the setting outside refuses that")]
    OutsideMesh {
        /// The destination.
        addr: SocketAddr,
    },
    /// The destination outside the mesh could not be connected to.
    #[error("{addr}, outside the mesh, cannot be reached: {error}")]
    OutsideUnreachable {
        /// The destination.
        addr: SocketAddr,
        /// What the system says.
        error: String,
    },
    /// The application went away before there was an answer.
    #[error("the application reset its connection before the service answered")]
    ClientGone,
    /// No descriptor is left for another connection.
    #[error(transparent)]
    Descriptors(#[from] Exhausted),
    /// Too many connections are open.
    #[error("{limit} connections are open, which is the limit: raise limits.max-connections")]
    Overloaded {
        /// The limit.
        limit: u32,
    },
}

fn refusal(code: u64) -> String {
    CloseCode::from_code(code).map_or_else(|| format!("code {code}"), |code| code.reason().to_owned())
}

impl Failure {
    /// The stable word for logs and metrics: the close codes' own where there is one.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::ServiceUnknown { .. } => CloseCode::ServiceUnknown.reason(),
            Self::PortUnknown { .. } => CloseCode::PortUnknown.reason(),
            Self::NoEndpoint { .. } => "no-endpoint",
            Self::NoGateway { .. } => "no-gateway",
            Self::WrongIdentity { .. } => CloseCode::WrongIdentity.reason(),
            Self::Connection { reason, .. } => reason,
            Self::Refused { code, .. } => CloseCode::from_code(*code).map_or("refused", CloseCode::reason),
            Self::Silent { .. } => "silent",
            Self::NotCaptured { .. } => "not-captured",
            Self::VipUnknown { .. } => "vip-unknown",
            Self::VipUnavailable { .. } => "vip-unavailable",
            Self::OutsideMesh { .. } => "outside-mesh",
            Self::OutsideUnreachable { .. } => "outside-unreachable",
            Self::Timeout { .. } => "connect-timeout",
            Self::Descriptors(_) => Exhausted::REASON,
            Self::ClientGone => CloseCode::TcpReset.reason(),
            Self::Overloaded { .. } => CloseCode::Overloaded.reason(),
        }
    }
}
