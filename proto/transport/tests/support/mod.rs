//! A cluster in one process: a certificate authority, gateways that only answer probes and forward, and sidecars.

#![allow(dead_code, unreachable_pub, reason = "each test file is a crate of its own and uses a part")]

use causeway_identity::{
    BundleStore, ClientAuth, ClusterCa, KeyPair, SVID_TTL, ServerRule, Svid, SvidSource, client_config,
    server_config,
};
use causeway_model::{ClusterId, Epoch, NodeId, SpiffeId, WorkloadId};
use causeway_transport::{
    Attachment, Connection, ConnectionKind, Destination, GatewayTarget, Overlay, OverlayEndpoint,
    TransportSettings,
};
use causeway_wire::packet::{Datagram, dcid};
use causeway_wire::probe::{Answer, Probe, ProbeScope, ResponderState, verify, workload_key};
use causeway_wire::{Cid, CidKeys, CidKind, alpn};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

pub const PROBE_KEY: [u8; 32] = [7; 32];
pub const NAME: &str = "workload.mesh";

pub fn cluster() -> ClusterId {
    ClusterId::new(1).unwrap()
}

pub fn cid_keys() -> CidKeys {
    CidKeys::new(cluster(), [(Epoch(1), [5; 16])])
}

/// Waits until `condition` holds; panics with `what` after ten seconds.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "not within ten seconds: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A cluster's identities.
pub struct Identities {
    ca: ClusterCa,
    bundles: BundleStore,
}

impl Identities {
    pub fn new() -> Self {
        let ca = ClusterCa::create(&"iad.mesh".parse().unwrap(), SystemTime::now()).unwrap();
        let bundles = BundleStore::new();
        bundles.set(ca.bundle()).unwrap();
        Self { ca, bundles }
    }

    pub fn id(&self, account: &str) -> SpiffeId {
        SpiffeId::workload(self.ca.trust_domain(), &"shop".parse().unwrap(), &account.parse().unwrap())
    }

    fn svid(&self, account: &str) -> SvidSource {
        let key = KeyPair::generate().unwrap();
        let csr = key.csr().unwrap();
        let chain = self.ca.sign_svid(&csr, &self.id(account), SystemTime::now(), SVID_TTL).unwrap();
        SvidSource::new(Svid::new(chain, key).unwrap())
    }

    pub fn client(&self, account: &str, server: &str) -> Arc<rustls::ClientConfig> {
        let rule = ServerRule::OneOf([self.id(server)].into());
        client_config(rule, &self.bundles, Some(&self.svid(account)), alpn::DATA).unwrap()
    }

    pub fn server(&self, account: &str) -> Arc<rustls::ServerConfig> {
        server_config(&self.svid(account), &self.bundles, &[alpn::DATA], ClientAuth::Required, None).unwrap()
    }
}

/// A gateway that answers the probes of sidecars and forwards between them.
pub struct FakeGateway {
    pub addr: SocketAddr,
    pub node: NodeId,
    /// Takes nothing and says nothing, like a process that was stopped.
    pub stopped: AtomicBool,
    /// Signs its answers with a wrong key.
    pub forges: AtomicBool,
    pub forwarded: AtomicU64,
    /// Its cookies: another process has others.
    process: AtomicU8,
    workloads: Mutex<HashMap<WorkloadId, SocketAddr>>,
}

impl FakeGateway {
    pub async fn start(node: u64) -> Arc<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let gateway = Arc::new(Self {
            addr: socket.local_addr().unwrap(),
            node: NodeId(node),
            stopped: AtomicBool::new(false),
            forges: AtomicBool::new(false),
            forwarded: AtomicU64::new(0),
            process: AtomicU8::new(3),
            workloads: Mutex::default(),
        });
        tokio::spawn(Arc::clone(&gateway).run(socket));
        gateway
    }

    /// Forgets whom it had admitted, like a process that was started again.
    pub fn restart(&self) {
        self.process.fetch_add(1, Ordering::Relaxed);
        self.workloads.lock().unwrap().clear();
    }

    async fn run(self: Arc<Self>, socket: UdpSocket) {
        let mut buffer = vec![0; 65_536];
        loop {
            let Ok((len, from)) = socket.recv_from(&mut buffer).await else { return };
            if self.stopped.load(Ordering::Relaxed) {
                continue;
            }
            let packet = &buffer[..len];
            if Datagram::classify(packet[0]) == Datagram::Probe {
                if let Some(answer) = self.answer(packet, from) {
                    let _ = socket.try_send_to(&answer, from);
                }
            } else if let Some(to) = self.next_hop(packet) {
                self.forwarded.fetch_add(1, Ordering::Relaxed);
                let _ = socket.try_send_to(packet, to);
            }
        }
    }

    fn answer(&self, bytes: &[u8], from: SocketAddr) -> Option<[u8; 64]> {
        let bytes = bytes.try_into().ok()?;
        let probe = Probe::decode(bytes)?;
        let mut key = workload_key(&PROBE_KEY, WorkloadId(probe.sender));
        if probe.scope != ProbeScope::Workload || !verify(bytes, &key) {
            return None;
        }
        if self.forges.load(Ordering::Relaxed) {
            key[0] ^= 1;
        }
        let cookie = [self.process.load(Ordering::Relaxed); 16];
        if probe.cookie == cookie {
            self.workloads.lock().unwrap().insert(WorkloadId(probe.sender), from);
        }
        let answer = Answer {
            scope: ProbeScope::Workload,
            state: ResponderState::Ready,
            interval_ms: 0,
            responder: self.node.0,
            seq: probe.seq,
            cookie,
        };
        Some(answer.encode(&key))
    }

    /// A SERVICE id stands for the workload with the number of its handle.
    fn next_hop(&self, packet: &[u8]) -> Option<SocketAddr> {
        let cid = Cid(*dcid(packet)?);
        let workload = match cid.kind()? {
            CidKind::Workload => cid_keys().open(&cid)?,
            CidKind::Service => WorkloadId(cid.handle()?.0),
            CidKind::Endpoint => self.tagged(cid.tag()?)?,
            CidKind::Gateway => return None,
        };
        self.workloads.lock().unwrap().get(&workload).copied()
    }

    fn tagged(&self, tag: u64) -> Option<WorkloadId> {
        let keys = cid_keys();
        let workloads = self.workloads.lock().unwrap();
        workloads.keys().copied().find(|&workload| keys.newest().unwrap().endpoint_tag(workload) == tag)
    }

    pub fn target(&self) -> GatewayTarget {
        GatewayTarget { node: self.node, addrs: vec![self.addr] }
    }
}

/// An overlay with its endpoint and prober.
pub struct Sidecar {
    pub overlay: Overlay,
    pub endpoint: OverlayEndpoint,
    pub workload: WorkloadId,
    token: CancellationToken,
}

impl Sidecar {
    pub fn start(workload: u64, server: Option<Arc<rustls::ServerConfig>>) -> Self {
        Self::start_on("127.0.0.1:0", workload, server, &TransportSettings::default())
    }

    pub fn start_on(
        addr: &str,
        workload: u64,
        server: Option<Arc<rustls::ServerConfig>>,
        settings: &TransportSettings,
    ) -> Self {
        let overlay = Overlay::bind(addr.parse().unwrap(), settings).unwrap();
        let endpoint = OverlayEndpoint::new(&overlay, server, settings).unwrap();
        let workload = WorkloadId(workload);
        overlay.attach(Attachment {
            cluster: cluster(),
            workload,
            cid_keys: cid_keys(),
            probe_key: workload_key(&PROBE_KEY, workload),
            probe_epoch_bits: 1,
        });
        let token = CancellationToken::new();
        tokio::spawn(overlay.run_prober(token.clone()));
        Self { overlay, endpoint, workload, token }
    }

    pub async fn with_gateways(self, gateways: &[&FakeGateway]) -> Self {
        let targets: Vec<_> = gateways.iter().map(|gateway| gateway.target()).collect();
        self.overlay.set_gateways(targets);
        until("every gateway answers", || self.overlay.gateways().iter().all(|status| status.alive)).await;
        self
    }

    /// A data connection from here to `server`, which has let it in.
    pub async fn connect(&self, server: &Self, tls: Arc<rustls::ClientConfig>) -> (Connection, Connection) {
        let (client, server) = self.handshake(server, tls).await;
        TransportSettings::default().let_in(&server);
        (client, server)
    }

    /// A data connection from here to `server`, right after the handshake.
    pub async fn handshake(&self, server: &Self, tls: Arc<rustls::ClientConfig>) -> (Connection, Connection) {
        let tag = cid_keys().newest().unwrap().endpoint_tag(server.workload);
        let cid = Cid::endpoint(cluster(), Epoch(1), tag, 0);
        let destination = Destination::Workload(cid);
        let connecting = self.endpoint.connect(destination, tls, NAME, ConnectionKind::Data).unwrap();
        let accepted = async { server.endpoint.accept().await.unwrap().await };
        let (client, server) = tokio::join!(connecting, accepted);
        (client.unwrap(), server.unwrap())
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.token.cancel();
    }
}

/// Two gateways, two sidecars, and a connection from the first to the second.
pub struct Pair {
    pub identities: Identities,
    pub gateways: [Arc<FakeGateway>; 2],
    pub a: Sidecar,
    pub b: Sidecar,
    pub client: Connection,
    pub server: Connection,
}

impl Pair {
    pub async fn connected() -> Self {
        let identities = Identities::new();
        let gateways = [FakeGateway::start(1).await, FakeGateway::start(2).await];
        let both = [&*gateways[0], &*gateways[1]];
        let a = Sidecar::start(10, Some(identities.server("a"))).with_gateways(&both).await;
        let b = Sidecar::start(11, Some(identities.server("b"))).with_gateways(&both).await;
        let (client, server) = a.connect(&b, identities.client("a", "b")).await;
        Self { identities, gateways, a, b, client, server }
    }
}
