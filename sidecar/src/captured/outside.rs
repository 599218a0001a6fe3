//! What was captured and is not for the mesh: it goes where it was meant to go, or nowhere, as the operator says.

use crate::failure::Failure;
use crate::outbound::{Outbound, Taken};
use crate::relay::reset_tcp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// What becomes of captured traffic to destinations outside the mesh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outside {
    /// It goes there, untouched.
    #[default]
    Pass,
    /// It is refused.
    Refuse,
}

impl FromStr for Outside {
    type Err = causeway_model::ParseError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        match s {
            "pass" => Ok(Self::Pass),
            "refuse" => Ok(Self::Refuse),
            _ => Err(causeway_model::ParseError::new("policy", s, "write pass or refuse")),
        }
    }
}

impl fmt::Display for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pass => "pass",
            Self::Refuse => "refuse",
        })
    }
}

impl Outside {
    /// Carries a connection that was meant for `original`, to its end.
    pub(crate) async fn carry(self, outbound: &Outbound, mut taken: Taken, original: SocketAddr) {
        if self == Self::Refuse {
            return taken.refuse(&Failure::OutsideMesh { addr: original });
        }
        // one for each of its two ends; the other is in its record
        let _descriptor = match outbound.descriptors.take() {
            Ok(descriptor) => descriptor,
            Err(exhausted) => return taken.refuse(&exhausted.into()),
        };
        let limit = outbound.limits.connect_timeout.get();
        let mut far = match connect(original, limit).await {
            Ok(far) => far,
            Err(failure) => return taken.refuse(&failure),
        };
        let Taken { tcp, access, .. } = &mut taken;
        let copied = tokio::select! {
            copied = copy_bidirectional(tcp, &mut far) => Some(copied),
            () = outbound.cut.cancelled() => None,
        };
        match copied {
            Some(Ok((to, from))) => {
                access.meter.add_to_mesh(usize::try_from(to).unwrap_or(usize::MAX));
                access.meter.add_from_mesh(usize::try_from(from).unwrap_or(usize::MAX));
                access.ended("outside");
            }
            Some(Err(error)) => {
                access.failed("outside-reset", &error);
                reset_tcp(&far);
                reset_tcp(tcp);
            }
            None => {
                reset_tcp(&far);
                reset_tcp(tcp);
            }
        }
    }
}

async fn connect(addr: SocketAddr, limit: Duration) -> Result<TcpStream, Failure> {
    let failed = |error: std::io::Error| Failure::OutsideUnreachable { addr, error: error.to_string() };
    let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(failed)?;
    socket.set_nodelay(true).map_err(failed)?;
    match timeout(limit, socket.connect(addr)).await {
        Ok(connected) => connected.map_err(failed),
        Err(_) => Err(Failure::Timeout { what: "the destination outside the mesh did not accept", limit }),
    }
}
