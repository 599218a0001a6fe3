//! Speaks the mesh's protocols from outside of its processes, with or without an identity that was taken from one's disk.

use causeway_identity::{BundleStore, ServerRule, Svid, SvidSource, TrustBundle, client_config};
use causeway_model::{ClusterFacts, NodeId};
use causeway_transport::{BootstrapEndpoint, Connection, ConnectionError, TransportSettings};
use data_encoding::HEXLOWER;
use serde_json::Value;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tokio::time::timeout;

/// How long a handshake, or a gateway's verdict, may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A cluster, its roots, and one of its identities, as they are in a process' directory.
#[derive(Clone, Debug)]
pub struct Stolen {
    /// The cluster.
    pub cluster: ClusterFacts,
    /// Its bundle.
    pub bundle: TrustBundle,
    /// Key and SVID.
    pub svid: SvidSource,
}

impl Stolen {
    /// What a gateway's data directory holds.
    pub fn from_gateway(data_dir: &Path) -> Self {
        let node = read_json(&data_dir.join("node.json"));
        let cluster: ClusterFacts =
            serde_json::from_value(node["cluster"].clone()).expect("node.json has a cluster");
        let roots = node["roots"].as_array().expect("node.json has roots").iter();
        let roots =
            roots.map(|root| HEXLOWER.decode(root.as_str().expect("text").as_bytes()).expect("hexadecimal"));
        let bundle =
            TrustBundle::new(cluster.trust_domain.clone(), roots.collect()).expect("roots make a bundle");
        Self { cluster, bundle, svid: read_svid(data_dir) }
    }

    /// What a sidecar's state directory holds.
    pub fn from_sidecar(state_dir: &Path) -> Self {
        let known = read_json(&state_dir.join("state.json"))["known"].take();
        let cluster: ClusterFacts =
            serde_json::from_value(known["cluster"].clone()).expect("state.json has a cluster");
        let bundles: Vec<TrustBundle> =
            serde_json::from_value(known["bundles"].clone()).expect("state.json has bundles");
        let own = bundles.into_iter().find(|bundle| bundle.trust_domain == cluster.trust_domain);
        Self {
            bundle: own.expect("a sidecar has its own cluster's bundle"),
            cluster,
            svid: read_svid(state_dir),
        }
    }
}

fn read_json(path: &Path) -> Value {
    let text = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn read_svid(dir: &Path) -> SvidSource {
    let text = fs::read_to_string(dir.join("identity.pem")).expect("an identity is on disk");
    SvidSource::new(Svid::from_pem(&text).expect("the identity can be read"))
}

/// A client of gateways' control protocols. Call its functions on a tokio runtime.
#[derive(Debug)]
pub struct Intruder {
    endpoint: BootstrapEndpoint,
}

impl Intruder {
    /// A client on a port of its own.
    pub fn new() -> Self {
        let settings = TransportSettings::default();
        let endpoint = BootstrapEndpoint::bind([127, 0, 0, 1].into(), &settings).expect("a free port");
        Self { endpoint }
    }

    /// A connection that speaks `alpn` to a gateway of `target` at `addr`, with `identity` or as nobody.
    ///
    /// # Errors
    /// How the connection ended, if there was none.
    pub async fn dial(
        &self,
        addr: SocketAddr,
        target: &Stolen,
        identity: Option<&SvidSource>,
        alpn: &[u8],
    ) -> Result<Connection, ConnectionError> {
        let bundles = BundleStore::new();
        bundles.set(target.bundle.clone()).expect("a bundle is taken");
        let rule = ServerRule::GatewayOf(target.cluster.trust_domain.clone());
        let tls = client_config(rule, &bundles, identity, alpn).expect("a client configuration");
        let connecting =
            self.endpoint.connect(addr, target.cluster.id, NodeId::ANY, tls, "gateway").expect("it begins");
        timeout(PATIENCE, connecting).await.expect("a handshake ends in time")
    }

    /// How the gateway ends a connection that is refused whatever it says.
    pub async fn verdict(
        &self,
        addr: SocketAddr,
        target: &Stolen,
        identity: Option<&SvidSource>,
        alpn: &[u8],
    ) -> ConnectionError {
        match self.dial(addr, target, identity, alpn).await {
            Ok(connection) => {
                timeout(PATIENCE, connection.closed()).await.expect("the gateway closes it in time")
            }
            Err(error) => error,
        }
    }
}

impl Default for Intruder {
    fn default() -> Self {
        Self::new()
    }
}
