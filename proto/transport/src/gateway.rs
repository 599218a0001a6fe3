//! The gateway's own QUIC endpoint: control connections behind the forwarding sockets.
//!
//! The forwarder receives every datagram; those that are for the gateway itself it puts into [`OwnPackets`], from where
//! this endpoint takes them. What the endpoint sends leaves through the forwarding socket of the same family. Control traffic
//! is small, so the copies in between do not matter; they keep the packet path free of locks.
//!
//! A gateway that is reached only through other clusters has an address that stands for it ([`transit_addr`]): what is sent there
//! leaves by a [`TransitExit`].

mod cids;
mod own;
mod transit;

pub use own::OwnPackets;
pub use transit::{TransitExit, transit_addr, transit_cluster};

use crate::error::ConnectError;
use crate::forward::ForwardSocket;
use crate::settings::TransportSettings;
use causeway_model::{ClusterId, NodeId};
use causeway_wire::{Cid, CloseCode};
use cids::GatewayCids;
use own::OwnSocket;
use std::net::SocketAddr;
use std::sync::Arc;

/// The most bytes of datagrams that wait on one connection.
const DATAGRAMS: usize = 4 << 10;

/// The gateway's endpoint: a server for control connections, a client towards other gateways.
#[derive(Clone, Debug)]
pub struct GatewayEndpoint {
    endpoint: quinn::Endpoint,
    settings: TransportSettings,
}

impl GatewayEndpoint {
    /// An endpoint of gateway `node` of `cluster` that takes its packets from `packets` and sends through `sockets` (one
    /// for each listening address, best first). Call it on the runtime that is to drive it.
    pub fn new(
        packets: &OwnPackets,
        sockets: Vec<ForwardSocket>,
        (cluster, node): (ClusterId, NodeId),
        server: Arc<rustls::ServerConfig>,
        settings: &TransportSettings,
    ) -> Result<Self, ConnectError> {
        let mut config = quinn::EndpointConfig::default();
        config.grease_quic_bit(false);
        config.cid_generator(move || Box::new(GatewayCids::new(cluster, node)));
        let socket = OwnSocket::new(packets.clone(), sockets);
        let endpoint = quinn::Endpoint::new_with_abstract_socket(
            config,
            Some(server_config(server, settings)?),
            Arc::new(socket),
            Arc::new(quinn::TokioRuntime),
        )
        .map_err(ConnectError::Endpoint)?;
        Ok(Self { endpoint, settings: settings.clone() })
    }

    /// Connects to gateway `node` of `cluster` at `addr`, which may be [`transit_addr`]; [`NodeId::ANY`] takes whichever answers there.
    pub fn connect(
        &self,
        addr: SocketAddr,
        (cluster, node): (ClusterId, NodeId),
        tls: Arc<rustls::ClientConfig>,
        server_name: &str,
    ) -> Result<quinn::Connecting, ConnectError> {
        let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).map_err(|_| ConnectError::Tls)?;
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        config.transport_config(Arc::new(with_datagrams(&self.settings)));
        config.initial_dst_cid_provider(Arc::new(move || {
            quinn::ConnectionId::new(&Cid::gateway(cluster, node, rand::random()).0)
        }));
        self.endpoint.connect_with(config, addr, server_name).map_err(ConnectError::Connect)
    }

    /// The next incoming handshake; `None` once the endpoint is closed.
    pub async fn accept(&self) -> Option<quinn::Incoming> {
        self.endpoint.accept().await
    }

    /// Connections that are open or in handshake.
    pub fn open_connections(&self) -> usize {
        self.endpoint.open_connections()
    }

    /// Closes every connection and takes no more.
    pub fn close(&self, code: CloseCode, message: &str) {
        self.endpoint.close(code.code().into(), message.as_bytes());
    }

    /// Waits until every connection has said goodbye.
    pub async fn wait_idle(&self) {
        self.endpoint.wait_idle().await;
    }
}

/// Control connections that take datagrams, of which those between clusters send heartbeats: loss shows in them, and no stream's
/// resending hides it. Few wait to be read; the oldest go first.
fn with_datagrams(settings: &TransportSettings) -> quinn::TransportConfig {
    let mut config = settings.control();
    config.datagram_receive_buffer_size(Some(DATAGRAMS));
    config
}

fn server_config(
    tls: Arc<rustls::ServerConfig>,
    settings: &TransportSettings,
) -> Result<quinn::ServerConfig, ConnectError> {
    let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(tls).map_err(|_| ConnectError::Tls)?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(Arc::new(with_datagrams(settings)));
    config.migration(false);
    config.validation_token.sent(0);
    Ok(config)
}
