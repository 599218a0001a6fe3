//! A linked cluster, played: it makes the link with a token, and its gateways tell what it exports.

use crate::services;
use bytes::Bytes;
use causeway_federation::{DIGEST_INTERVAL, Exporter};
use causeway_identity::{
    BundleStore, ClusterCa, KeyPair, SVID_TTL, ServerRule, Svid, SvidSource, TrustBundle, client_config,
};
use causeway_model::{
    ClusterFacts, Epoch, GatewayFacts, GatewayRole, Health, NodeId, ServiceHandle, SpiffeId, WorkloadId,
};
use causeway_transport::{
    BootstrapEndpoint, Connection, FrameReader, FrameWriter, TransportSettings, exporter,
};
use causeway_wire::link::{Endpoints, Introduction, LinkHello, LinkMessage, Pair, UseServices};
use causeway_wire::token::{EXPORTER_LABEL, LinkToken, PairSide, pair_proof};
use causeway_wire::view::{BundleView, EndpointView, MAX_ENDPOINTS, VersionInfo};
use causeway_wire::{Cid, alpn};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The name that TLS is given; none is sent.
pub(crate) const SERVER_NAME: &str = "gateway";

/// When a lost connection is made again.
const CALL_AGAIN: Duration = Duration::from_secs(1);

/// A cluster whose link is made.
pub(crate) struct Peer {
    cluster: ClusterFacts,
    ca: ClusterCa,
    /// Whom it is linked with.
    far: ClusterFacts,
    bundles: BundleStore,
    endpoint: BootstrapEndpoint,
    /// All exports, as frames.
    snapshot: Bytes,
    /// What they add up to, as a frame.
    digest: Bytes,
    /// Where they end.
    counts: Arc<Counts>,
}

/// What the played clusters did.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Services of which endpoints were told.
    pub(crate) told: AtomicU64,
    /// Connections over which everything was told, or that the other side had it.
    pub(crate) standing: AtomicU64,
    /// Snapshots that were asked for.
    pub(crate) snapshots: AtomicU64,
    /// Connections that were lost, and made again.
    pub(crate) lost: AtomicU64,
}

/// There is none: a connection ends only by being lost.
enum Never {}

/// The loopback address from which a played cluster calls.
fn address(cluster: u32) -> Ipv4Addr {
    let octet = |value: u32| u8::try_from(value).expect("less than 256");
    Ipv4Addr::new(127, 20, octet(cluster / 250), octet(1 + cluster % 250))
}

impl Peer {
    /// Makes a link of cluster `number` with the gateway at `gateway`, by its token.
    pub(crate) async fn link(
        number: u32,
        services: u64,
        gateways: u64,
        (gateway, token): (SocketAddr, &LinkToken),
        counts: Arc<Counts>,
    ) -> Self {
        let cluster = services::facts(number);
        let ca = ClusterCa::create(&cluster.trust_domain, SystemTime::now()).unwrap();
        let endpoint =
            BootstrapEndpoint::bind(address(number).into(), &TransportSettings::default()).unwrap();
        let introduction = Introduction {
            cluster: cluster.clone(),
            bundle: BundleView {
                trust_domain: cluster.trust_domain.clone(),
                roots: vec![ca.root_der().to_vec()],
                revoked: Vec::new(),
            },
            gateways: (1..=gateways).map(|node| facts_of(&cluster, node)).collect(),
        };
        let far = pair(&endpoint, gateway, token, introduction).await;
        let bundles = BundleStore::new();
        bundles.set(TrustBundle::new(far.bundle.trust_domain, far.bundle.roots).unwrap()).unwrap();
        let exporter = services::exporter(number, services);
        let (snapshot, digest) = told_by(&exporter);
        Self { cluster, ca, far: far.cluster, bundles, endpoint, snapshot, digest, counts }
    }

    /// Gateway `node` connects, tells everything, and then answers. It calls again whenever the connection is lost, as gateways do.
    pub(crate) async fn speak(self: Arc<Self>, node: u64, gateway: SocketAddr) {
        while self.once(node, gateway).await.is_none() {
            self.counts.lost.fetch_add(1, Relaxed);
            tokio::time::sleep(CALL_AGAIN).await;
        }
    }

    /// One connection, until it is lost.
    async fn once(&self, node: u64, gateway: SocketAddr) -> Option<Never> {
        let connection = self.connect(NodeId(node), gateway).await?;
        let (send, receive) = connection.open_bi().await.ok()?;
        let (mut writer, mut reader) = (FrameWriter::new(send), FrameReader::new(receive));
        let unix_time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let hello = LinkHello {
            version: VersionInfo::current(),
            cluster: self.cluster.clone(),
            node: NodeId(node),
            unix_time,
            have: None,
        };
        writer.send(&LinkMessage::from(hello)).await.ok()?;
        match reader.next::<LinkMessage>().await.ok()?? {
            LinkMessage::Hello(_) => {}
            other => panic!("{}: no hello but {other:?}", self.cluster.name),
        }
        writer.get_mut().write_chunk(self.digest.clone()).await.ok()?;
        self.answer(writer, reader).await
    }

    async fn connect(&self, node: NodeId, gateway: SocketAddr) -> Option<Connection> {
        let key = KeyPair::generate().unwrap();
        let id = SpiffeId::gateway(&self.cluster.trust_domain, node);
        let chain = self.ca.sign_svid(&key.csr().unwrap(), &id, SystemTime::now(), SVID_TTL).unwrap();
        let svid = SvidSource::new(Svid::new(chain, key).unwrap());
        let rule = ServerRule::GatewayOf(self.far.trust_domain.clone());
        let tls = client_config(rule, &self.bundles, Some(&svid), alpn::LINK).unwrap();
        self.endpoint.connect(gateway, self.far.id, NodeId::ANY, tls, SERVER_NAME).unwrap().await.ok()
    }

    async fn answer(&self, mut writer: FrameWriter, mut reader: FrameReader) -> Option<Never> {
        let mut beat = tokio::time::interval(DIGEST_INTERVAL);
        let mut standing = None;
        loop {
            tokio::select! {
                _ = beat.tick() => writer.get_mut().write_chunk(self.digest.clone()).await.ok()?,
                message = reader.next::<LinkMessage>() => match message.ok()?? {
                    LinkMessage::HaveExports(_) => {
                        standing.get_or_insert_with(|| Standing::new(&self.counts));
                    }
                    LinkMessage::SendSnapshot(_) => {
                        self.counts.snapshots.fetch_add(1, Relaxed);
                        standing.get_or_insert_with(|| Standing::new(&self.counts));
                        writer.get_mut().write_chunk(self.snapshot.clone()).await.ok()?;
                        writer.get_mut().write_chunk(self.digest.clone()).await.ok()?;
                    }
                    LinkMessage::UseServices(UseServices { handles }) => {
                        for handle in handles {
                            writer.send(&LinkMessage::from(self.endpoints(handle))).await.ok()?;
                            self.counts.told.fetch_add(1, Relaxed);
                        }
                    }
                    _ => {}
                },
            }
        }
    }

    /// As many endpoints of a service as are handed out at a time.
    fn endpoints(&self, handle: ServiceHandle) -> Endpoints {
        let endpoint = |number: u64| EndpointView {
            instance: WorkloadId(handle.0 ^ number),
            cid: Cid::endpoint(self.cluster.id, Epoch(1), handle.0.rotate_left(7) ^ number, 0),
            locality: self.cluster.locality.clone(),
            weight: 100,
            health: Health::Healthy,
        };
        Endpoints { handle, endpoints: (0..MAX_ENDPOINTS as u64).map(endpoint).collect() }
    }
}

/// Counts a connection.
struct Standing<'c>(&'c Counts);

impl<'c> Standing<'c> {
    fn new(counts: &'c Counts) -> Self {
        counts.standing.fetch_add(1, Relaxed);
        Self(counts)
    }
}

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        self.0.standing.fetch_sub(1, Relaxed);
    }
}

fn told_by(exporter: &Exporter) -> (Bytes, Bytes) {
    (services::encoded(exporter.snapshot()), services::encoded([exporter.digest()]))
}

/// A gateway that calls and is not called.
fn facts_of(cluster: &ClusterFacts, node: u64) -> GatewayFacts {
    GatewayFacts {
        node: NodeId(node),
        role: GatewayRole::Gateway,
        locality: cluster.locality.clone(),
        cluster_addrs: Vec::new(),
        link_addrs: Vec::new(),
    }
}

/// Proves the token's secret and swaps introductions.
async fn pair(
    endpoint: &BootstrapEndpoint,
    gateway: SocketAddr,
    token: &LinkToken,
    own: Introduction,
) -> Introduction {
    let core = &token.core;
    let rule = ServerRule::Pinned { root: core.root_fingerprint, trust_domain: core.trust_domain.clone() };
    let tls = client_config(rule, &BundleStore::new(), None, alpn::LINK).unwrap();
    let connecting = endpoint.connect(gateway, core.cluster_id, NodeId::ANY, tls, SERVER_NAME).unwrap();
    let connection = connecting.await.expect("a connection for a token");
    let key = exporter(&connection, EXPORTER_LABEL, &[]).unwrap();
    let proof = pair_proof(PairSide::Accepting, &core.verifier(), &key, &own).unwrap();
    let (send, receive) = connection.open_bi().await.expect("a stream");
    let mut writer = FrameWriter::new(send);
    writer
        .send(&LinkMessage::from(Pair { token: core.id, proof, introduction: own }))
        .await
        .expect("it is sent");
    writer.finish().unwrap();
    match FrameReader::new(receive).next().await {
        Ok(Some(LinkMessage::Paired(paired))) => paired.introduction,
        other => panic!("no link: {other:?}"),
    }
}
