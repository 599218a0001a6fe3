//! A gateway's hub for tests: the first gateway of cluster `iad`, without other gateways or sidecars.

use super::{Hub, drive};
use crate::config::{GatewayOptions, load};
use crate::forwarder::{BoundForwarder, ForwarderConfig, SourceLimits};
use crate::node::Node;
use crate::peers::Peers;
use crate::server;
use causeway_catalog::Command;
use causeway_identity::{
    BundleStore, ClientAuth, ClusterCa, KeyPair, ServerRule, Svid, SvidSource, client_config, server_config,
};
use causeway_model::SpiffeId;
use causeway_runtime::{Drain, DrainTrigger, Tasks};
use causeway_store::{Registry, StoreConfig};
use causeway_transport::gateway::GatewayEndpoint;
use causeway_transport::{BootstrapEndpoint, Connection, TransportSettings};
use causeway_wire::{CloseCode, alpn};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How long a test waits for what must happen.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A running gateway.
pub(crate) struct Fixture {
    pub(crate) hub: Hub,
    pub(crate) drain: DrainTrigger,
    listen: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Fixture {
    /// Starts it, with its control server.
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = GatewayOptions {
            cluster: Some("iad".into()),
            region: Some("us-ashburn-1".into()),
            zone: Some("AD-1".into()),
            data_dir: Some(dir.path().join("data").display().to_string()),
            listen: vec!["127.0.0.1:0".into()],
            threads: Some("1".into()),
            ..GatewayOptions::default()
        };
        let config = load(None, options).unwrap();
        let tasks = Tasks::new();
        let forwarder =
            ForwarderConfig { listen: config.listen.clone(), threads: 1, limits: SourceLimits::default() };
        let forwarder = BoundForwarder::bind(&forwarder).unwrap();
        let listen = forwarder.local_addrs()[0];
        let (node, init) = Node::open(&config, &[listen]).await.unwrap();
        let (own, sockets) = forwarder.own().unwrap();
        let forwarder = forwarder.start(node.cluster().id, node.id(), [7; 32], &tasks).unwrap();
        let protocols = [alpn::RAFT, alpn::LINK, alpn::CTL];
        let root = node.roots().first().cloned();
        let tls = server_config(node.svid(), node.bundles(), &protocols, ClientAuth::Optional, root).unwrap();
        let ids = (node.cluster().id, node.id());
        let endpoint = GatewayEndpoint::new(&own, sockets, ids, tls, &config.transport).unwrap();
        let peers = Peers::new(&tasks);
        causeway_runtime::files::create_private_dir(node.registry_dir()).unwrap();
        let store = StoreConfig::new(node.registry_dir(), node.id());
        let registry = Registry::open(store, Arc::new(peers.clone())).await.unwrap();
        registry.initialise(Command { at: 1, by: "test".into(), body: init.unwrap().into() }).await.unwrap();
        let (drain, drained) = Drain::new();
        let hub = Hub::new(node, registry, forwarder, endpoint, (tasks, drained));
        drive(&hub, &peers);
        hub.tasks.spawn_critical("control server", server::run(hub.clone(), peers));
        Self { hub, drain, listen, _dir: dir }
    }

    /// A connection that speaks `protocol`, with an SVID of `id` that `ca` signed.
    pub(crate) async fn connect(&self, protocol: &[u8], ca: &ClusterCa, id: &SpiffeId) -> Client {
        let key = KeyPair::generate().unwrap();
        let csr = key.csr().unwrap();
        let hour = Duration::from_secs(3600);
        let chain = ca.sign_svid(&csr, id, SystemTime::now(), hour).unwrap();
        let svid = SvidSource::new(Svid::new(chain, key).unwrap());
        self.dial(protocol, Some(&svid)).await
    }

    /// A connection that speaks `protocol`, with `svid` or without a certificate.
    pub(crate) async fn dial(&self, protocol: &[u8], svid: Option<&SvidSource>) -> Client {
        let node = &self.hub.node;
        let bundles: &BundleStore = node.bundles();
        let rule = ServerRule::GatewayNode(node.spiffe_id());
        let tls = client_config(rule, bundles, svid, protocol).unwrap();
        let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let endpoint = BootstrapEndpoint::bind(local, &TransportSettings::default()).unwrap();
        let connecting = endpoint.connect(self.listen, node.cluster().id, node.id(), tls, "gateway").unwrap();
        let connection = tokio::time::timeout(SOON, connecting).await.unwrap().unwrap();
        Client { connection, _endpoint: endpoint }
    }

    /// The gateway's metrics as text.
    pub(crate) fn metrics(&self) -> String {
        let metrics = causeway_runtime::Metrics::new();
        metrics.registry(|registry| self.hub.metrics.register(registry));
        metrics.encode()
    }

    /// Waits until the gateway's metrics have this line.
    pub(crate) async fn shows(&self, line: &str) {
        let deadline = tokio::time::Instant::now() + SOON;
        while !self.metrics().lines().any(|found| found == line) {
            assert!(tokio::time::Instant::now() < deadline, "{line} is not in {}", self.metrics());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) async fn stop(self) {
        self.hub.endpoint.close(CloseCode::GoingAway, "the test is over");
        self.hub.registry.shutdown().await.unwrap();
        self.hub.tasks.shutdown(Duration::from_secs(5)).await.unwrap();
    }
}

/// A connection to the gateway, and the endpoint that it lives on.
pub(crate) struct Client {
    pub(crate) connection: Connection,
    _endpoint: BootstrapEndpoint,
}
