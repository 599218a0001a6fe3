//! QUIC endpoints: over the overlay, and plain ones for the first contact with a gateway.
//!
//! Owns how quinn is configured and how a connection's destination becomes a connection ID. Certificates come in as rustls
//! configurations; who may be at the other end was decided when those were made.

mod bootstrap;
mod cids;
mod peer;

use crate::error::ConnectError;
use crate::overlay::{Overlay, virtual_addr};
use crate::settings::TransportSettings;
use causeway_model::{ClusterId, NodeId, ServiceHandle};
use causeway_wire::{Cid, CidKind, CloseCode};
use cids::WorkloadCids;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, Connecting, ConnectionId, EndpointConfig, Incoming, ServerConfig, TransportConfig,
};
use std::io;
use std::sync::Arc;

pub use bootstrap::BootstrapEndpoint;
pub use peer::{
    alpn, close, close_reason, close_reason_text, exporter, peer_chain, peer_identity, resolve, says_revoked,
};

/// The most handshakes that wait to be accepted; more are refused.
const MAX_INCOMING: usize = 1024;
/// The most bytes that are kept of one handshake before it is accepted: its first flight.
const INCOMING_BUFFER: u64 = 64 << 10;
/// The most bytes that are kept of all of them.
const INCOMING_BUFFERS: u64 = 16 << 20;

/// Whom a connection over the overlay is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// One workload, by the ENDPOINT id that its cluster gave out; its random half is made anew for each connection. A WORKLOAD id
    /// is used as it is, and once only: quinn's server takes a first flight to an ID that a live connection began with, whoever
    /// sent it, for a part of that connection.
    Workload(Cid),
    /// Any endpoint of a service; its cluster's gateway picks.
    Service {
        /// The cluster that exports the service.
        cluster: ClusterId,
        /// The name it exports it under.
        handle: ServiceHandle,
    },
    /// A gateway.
    Gateway {
        /// Its cluster.
        cluster: ClusterId,
        /// Its node id, or [`NodeId::ANY`].
        node: NodeId,
    },
}

impl Destination {
    /// The connection ID of a first packet: another one at each call, but for a WORKLOAD id.
    fn cid(self) -> Cid {
        match self {
            Self::Workload(cid) if cid.kind() == Some(CidKind::Endpoint) => cid.with_random(rand::random()),
            Self::Workload(cid) => cid,
            Self::Service { cluster, handle } => Cid::service(cluster, handle, rand::random()),
            Self::Gateway { cluster, node } => Cid::gateway(cluster, node, rand::random()),
        }
    }
}

/// What a connection is for, which decides its windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionKind {
    /// Traffic between sidecars.
    Data,
    /// Control messages.
    Control,
}

/// A QUIC endpoint over an overlay, client and server. Clones share it.
#[derive(Clone, Debug)]
pub struct OverlayEndpoint {
    endpoint: quinn::Endpoint,
    overlay: Overlay,
    data_client: Arc<TransportConfig>,
    data_server: Arc<TransportConfig>,
    control: Arc<TransportConfig>,
}

impl OverlayEndpoint {
    /// An endpoint over `overlay`, which accepts data connections if there is a `server` configuration. Call it on the runtime that
    /// is to drive it; make one endpoint only for each overlay.
    ///
    /// # Errors
    /// [`ConnectError::Endpoint`] outside of a runtime, [`ConnectError::Tls`] if `server` does not fit QUIC.
    pub fn new(
        overlay: &Overlay,
        server: Option<Arc<rustls::ServerConfig>>,
        settings: &TransportSettings,
    ) -> Result<Self, ConnectError> {
        tokio::runtime::Handle::try_current()
            .map_err(|error| ConnectError::Endpoint(io::Error::other(error)))?;
        let data_server = Arc::new(settings.data_server());
        let server = server.map(|tls| server_config(tls, &data_server)).transpose()?;
        let cids = overlay.clone();
        let mut config = endpoint_config(settings)?;
        config.cid_generator(move || Box::new(WorkloadCids::new(cids.clone())));
        let endpoint = quinn::Endpoint::new_with_abstract_socket(
            config,
            server,
            overlay.socket(),
            Arc::new(quinn::TokioRuntime),
        )
        .map_err(ConnectError::Endpoint)?;
        Ok(Self {
            endpoint,
            overlay: overlay.clone(),
            data_client: Arc::new(settings.data_client()),
            data_server,
            control: Arc::new(settings.control()),
        })
    }

    /// Begins a connection. It is established as far as quinn knows when the future resolves; that the peer has accepted it only its
    /// first message says.
    ///
    /// # Errors
    /// [`ConnectError::NotAttached`] before the overlay has keys; [`ConnectError::Tls`] and [`ConnectError::Connect`] for a
    /// configuration, a name or an endpoint that does not do.
    pub fn connect(
        &self,
        destination: Destination,
        tls: Arc<rustls::ClientConfig>,
        server_name: &str,
        kind: ConnectionKind,
    ) -> Result<Connecting, ConnectError> {
        if self.overlay.attachment().is_none_or(|attachment| attachment.cid_keys.newest().is_none()) {
            return Err(ConnectError::NotAttached);
        }
        let transport = match kind {
            ConnectionKind::Data => &self.data_client,
            ConnectionKind::Control => &self.control,
        };
        let config = client_config(tls, transport, move || destination.cid())?;
        Ok(self.endpoint.connect_with(config, virtual_addr(), server_name)?)
    }

    /// The next incoming handshake; `None` once the endpoint is closed.
    pub async fn accept(&self) -> Option<Incoming> {
        self.endpoint.accept().await
    }

    /// Replaces the server configuration for new connections; `None` accepts no more.
    ///
    /// # Errors
    /// [`ConnectError::Tls`] if it does not fit QUIC; then the old one stays.
    pub fn set_server_config(&self, server: Option<Arc<rustls::ServerConfig>>) -> Result<(), ConnectError> {
        let server = server.map(|tls| server_config(tls, &self.data_server)).transpose()?;
        self.endpoint.set_server_config(server);
        Ok(())
    }

    /// Closes every connection and takes no more.
    pub fn close(&self, code: CloseCode, message: &str) {
        self.endpoint.close(code.code().into(), message.as_bytes());
    }

    /// Waits until every connection has said goodbye.
    pub async fn wait_idle(&self) {
        self.endpoint.wait_idle().await;
    }

    /// Connections that are open or in handshake.
    pub fn open_connections(&self) -> usize {
        self.endpoint.open_connections()
    }
}

/// What every endpoint has in common: datagrams of the size that is used, for quinn reserves 2,048 times as much to receive, and
/// the fixed bit set in every packet, by which packets are told from probes (RFC 9287 would clear it at random).
fn endpoint_config(settings: &TransportSettings) -> Result<EndpointConfig, ConnectError> {
    let mut config = EndpointConfig::default();
    config.grease_quic_bit(false);
    config
        .max_udp_payload_size(settings.bounded().datagram_size)
        .map_err(|error| ConnectError::Endpoint(io::Error::other(error)))?;
    Ok(config)
}

/// Without migration (the peer's address never changes) and without address tokens (quinn would spend one packet a handshake on
/// them, and addresses are the gateways' to admit).
fn server_config(
    tls: Arc<rustls::ServerConfig>,
    transport: &Arc<TransportConfig>,
) -> Result<ServerConfig, ConnectError> {
    let crypto = QuicServerConfig::try_from(tls).map_err(|_| ConnectError::Tls)?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config
        .transport_config(Arc::clone(transport))
        .migration(false)
        .max_incoming(MAX_INCOMING)
        .incoming_buffer_size(INCOMING_BUFFER)
        .incoming_buffer_size_total(INCOMING_BUFFERS);
    config.validation_token.sent(0);
    Ok(config)
}

fn client_config(
    tls: Arc<rustls::ClientConfig>,
    transport: &Arc<TransportConfig>,
    cid: impl Fn() -> Cid + Send + Sync + 'static,
) -> Result<ClientConfig, ConnectError> {
    let crypto = QuicClientConfig::try_from(tls).map_err(|_| ConnectError::Tls)?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::clone(transport));
    config.initial_dst_cid_provider(Arc::new(move || ConnectionId::new(&cid().0)));
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use causeway_model::Epoch;

    #[test]
    fn a_first_packet_names_its_destination_and_another_connection() {
        let cluster = ClusterId::new(9).unwrap();
        let service = Destination::Service { cluster, handle: ServiceHandle(4) };
        let gateway = Destination::Gateway { cluster, node: NodeId(3) };
        assert_eq!(service.cid().handle(), Some(ServiceHandle(4)));
        assert_eq!(gateway.cid().node(), Some(NodeId(3)));
        assert_ne!(service.cid(), service.cid());
        let workload = Destination::Workload(Cid([0x10; 20]));
        assert_eq!(workload.cid(), Cid([0x10; 20]));
        let endpoint = Destination::Workload(Cid::endpoint(cluster, Epoch(1), 6, 0));
        assert_eq!((endpoint.cid().tag(), endpoint.cid() == endpoint.cid()), (Some(6), false));
    }
}
