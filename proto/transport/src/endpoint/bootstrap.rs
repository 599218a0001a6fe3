//! The plain endpoint of a process that has no keys yet.

use super::cids::RandomCids;
use super::{client_config, endpoint_config};
use crate::error::ConnectError;
use crate::settings::TransportSettings;
use causeway_model::{ClusterId, NodeId};
use causeway_wire::{Cid, CloseCode};
use quinn::{Connecting, TransportConfig};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;

/// The largest datagram of a bootstrap connection: joining is a few kilobytes, and quinn's own socket does not keep batches of
/// larger ones below the 64 KiB of a send.
const MAX_DATAGRAM: u16 = 1452;

/// A client on a UDP port of its own, for joining before there are keys, and for gateways that join a cluster or accept a link.
/// Clones share it.
#[derive(Clone, Debug)]
pub struct BootstrapEndpoint {
    endpoint: quinn::Endpoint,
    v6: bool,
    control: Arc<TransportConfig>,
}

impl BootstrapEndpoint {
    /// A client on a free UDP port of `ip`; `::` reaches IPv4 as well. Call it on the runtime that is to drive it.
    ///
    /// # Errors
    /// [`ConnectError::Endpoint`] with what the system says, or outside of a runtime.
    pub fn bind(ip: IpAddr, settings: &TransportSettings) -> Result<Self, ConnectError> {
        tokio::runtime::Handle::try_current()
            .map_err(|error| ConnectError::Endpoint(io::Error::other(error)))?;
        let mut settings = settings.bounded();
        settings.datagram_size = settings.datagram_size.min(MAX_DATAGRAM);
        let mut config = endpoint_config(&settings)?;
        config.cid_generator(|| Box::new(RandomCids));
        let socket = socket(ip).map_err(ConnectError::Endpoint)?;
        let endpoint = quinn::Endpoint::new(config, None, socket, Arc::new(quinn::TokioRuntime))
            .map_err(ConnectError::Endpoint)?;
        Ok(Self { endpoint, v6: ip.is_ipv6(), control: Arc::new(settings.control()) })
    }

    /// Begins a control connection to gateway `node` of `cluster` at `addr`; [`NodeId::ANY`] takes whichever answers there.
    ///
    /// # Errors
    /// [`ConnectError::Tls`] and [`ConnectError::Connect`], the latter also for an address of a family that the endpoint does not
    /// reach.
    pub fn connect(
        &self,
        addr: SocketAddr,
        cluster: ClusterId,
        node: NodeId,
        tls: Arc<rustls::ClientConfig>,
        server_name: &str,
    ) -> Result<Connecting, ConnectError> {
        let config = client_config(tls, &self.control, move || Cid::gateway(cluster, node, rand::random()))?;
        Ok(self.endpoint.connect_with(config, addr, server_name)?)
    }

    /// Of `addrs`, in their order, those of a family that the endpoint reaches.
    pub fn reachable(&self, addrs: &[SocketAddr]) -> Vec<SocketAddr> {
        addrs.iter().copied().filter(|addr| self.v6 || addr.is_ipv4()).collect()
    }

    /// Closes every connection.
    pub fn close(&self, code: CloseCode, message: &str) {
        self.endpoint.close(code.code().into(), message.as_bytes());
    }

    /// Waits until every connection has said goodbye.
    pub async fn wait_idle(&self) {
        self.endpoint.wait_idle().await;
    }
}

fn socket(ip: IpAddr) -> io::Result<UdpSocket> {
    let addr = SocketAddr::new(ip, 0);
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    if ip.is_ipv6() {
        socket.set_only_v6(!ip.is_unspecified())?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    Ok(socket.into())
}
