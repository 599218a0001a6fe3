//! A gateway that speaks `causeway-ctl/1` out of a script, on a real socket with real certificates.

use causeway_identity::{
    BundleStore, ClientAuth, ClusterCa, KeyPair, Svid, SvidSource, TrustBundle, VerifyError, request_key_id,
    server_config,
};
use causeway_model::{
    ClusterFacts, ClusterId, Epoch, GatewayFacts, GatewayRole, Locality, NodeId, Revision, Revocation,
    ServiceName, SpiffeId, Vip, VipName, WorkloadId,
};
use causeway_transport::forward::{ForwardSocket, ReceiveBatch};
use causeway_transport::gateway::{GatewayEndpoint, OwnPackets};
use causeway_transport::{
    Connection, FrameReader, FrameWriter, TransportSettings, close, exporter, peer_chain, peer_identity,
};
use causeway_wire::ctl::{
    Attached, Bundle, Bundles, Issued, Registered, ToGateway, ToSidecar, VipIs, Welcome,
};
use causeway_wire::probe::{Answer, PROBE_LEN, Probe, ProbeScope, ResponderState, verify, workload_key};
use causeway_wire::token::{EXPORTER_LABEL, JoinFor, JoinToken, TokenCore, verify_join_proof};
use causeway_wire::view::{BundleView, CidSecret, ProbeSecret, Refusal, ServiceView, VersionInfo};
use causeway_wire::{Cid, CloseCode, alpn};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::broadcast;

const HOUR: Duration = Duration::from_secs(3600);
const PROBE_KEY: [u8; 32] = [9; 32];
const TOKEN: ([u8; 8], [u8; 32]) = ([1; 8], [2; 32]);

/// What the gateways of one cluster share, and what they do.
pub(crate) struct World {
    pub(crate) ca: ClusterCa,
    /// The CA that signs after a rotation.
    pub(crate) next: ClusterCa,
    /// Whom the gateways believe, and tell to believe.
    bundles: BundleStore,
    /// The bundle that comes with SVIDs, if it is not what is told.
    pub(crate) issues: Mutex<Option<BundleView>>,
    /// Whether the next CA signs.
    pub(crate) rotated: AtomicBool,
    pub(crate) facts: ClusterFacts,
    pub(crate) gateways: Mutex<Vec<GatewayFacts>>,
    pub(crate) heard: Mutex<Vec<(NodeId, ToGateway)>>,
    pub(crate) services: Mutex<BTreeMap<ServiceName, ServiceView>>,
    /// How often the token may still be used.
    pub(crate) uses: AtomicU64,
    /// How far the gateways' clocks are ahead, in seconds.
    pub(crate) ahead: AtomicU64,
    pub(crate) ttl: Mutex<Duration>,
    pub(crate) refuse: Mutex<Option<Refusal>>,
    /// The gateways that have no room for another session, as they say after the handshake.
    pub(crate) full: Mutex<Vec<NodeId>>,
    /// The virtual addresses that the gateways know.
    pub(crate) vips: Mutex<BTreeMap<VipName, Vip>>,
    /// With what they refuse names that they do not know.
    pub(crate) vip_refusal: Mutex<Option<String>>,
    /// What they answer to every question for one.
    pub(crate) vip_lie: Mutex<Option<(VipName, Vip)>>,
    /// The gateways that answer no such question.
    pub(crate) silent: Mutex<Vec<NodeId>>,
    /// Whether the gateways keep their answer to a join to themselves.
    pub(crate) mute: AtomicBool,
    /// The keys that the token was used with.
    pub(crate) joined: Mutex<Vec<u64>>,
    push: broadcast::Sender<(Option<NodeId>, ToSidecar)>,
    instances: AtomicU64,
}

impl World {
    pub(crate) fn new(domain: &str) -> Arc<Self> {
        let trust_domain = domain.parse().unwrap();
        Self::of(ClusterCa::create(&trust_domain, SystemTime::now()).unwrap())
    }

    /// A cluster whose first CA is `ca`.
    pub(crate) fn of(ca: ClusterCa) -> Arc<Self> {
        let trust_domain = ca.trust_domain().clone();
        let next = ClusterCa::create(&trust_domain, SystemTime::now()).unwrap();
        let bundles = BundleStore::new();
        bundles.set(ca.bundle()).unwrap();
        let locality = Locality { region: "us-ashburn-1".to_owned(), zone: "AD-1".to_owned() };
        let facts = ClusterFacts {
            name: "iad".parse().unwrap(),
            id: ClusterId::new(7).unwrap(),
            trust_domain,
            locality,
        };
        Arc::new(Self {
            ca,
            next,
            bundles,
            issues: Mutex::default(),
            rotated: AtomicBool::new(false),
            facts,
            gateways: Mutex::default(),
            heard: Mutex::default(),
            services: Mutex::default(),
            uses: AtomicU64::new(1),
            ahead: AtomicU64::new(0),
            ttl: Mutex::new(HOUR),
            refuse: Mutex::default(),
            full: Mutex::default(),
            vips: Mutex::default(),
            vip_refusal: Mutex::default(),
            vip_lie: Mutex::default(),
            silent: Mutex::default(),
            mute: AtomicBool::new(false),
            joined: Mutex::default(),
            push: broadcast::channel(64).0,
            instances: AtomicU64::new(100),
        })
    }

    pub(crate) fn token(&self, gateways: &[SocketAddr], services: &[&str]) -> JoinToken {
        let core = TokenCore {
            id: TOKEN.0,
            secret: TOKEN.1,
            cluster: self.facts.name.clone(),
            cluster_id: self.facts.id,
            trust_domain: self.facts.trust_domain.clone(),
            root_fingerprint: self.ca.bundle().fingerprint(),
            gateways: gateways.iter().map(|addr| (*addr).into()).collect(),
            expires_at: unix_now() + 600,
        };
        let services = services.iter().map(|service| service.parse().unwrap());
        JoinToken { core, join: JoinFor::Workload(services.collect()) }
    }

    pub(crate) fn cid_keys(&self) -> Vec<CidSecret> {
        vec![CidSecret { epoch: Epoch(1), key: [8; 16] }]
    }

    fn probe_key(&self, workload: WorkloadId) -> ProbeSecret {
        ProbeSecret { epoch: Epoch(1), key: workload_key(&PROBE_KEY, workload) }
    }

    fn issue(&self, request: u32, csr: &[u8], id: &SpiffeId) -> ToSidecar {
        let ca = if self.rotated.load(Ordering::Relaxed) { &self.next } else { &self.ca };
        let chain = ca.sign_svid(csr, id, SystemTime::now(), *self.ttl.lock().unwrap()).unwrap();
        let bundle = self.issues.lock().unwrap().clone().unwrap_or_else(|| self.bundle());
        Issued { request, chain, bundle }.into()
    }

    pub(crate) fn bundle(&self) -> BundleView {
        let bundle = self.bundles.get(&self.facts.trust_domain).unwrap();
        let TrustBundle { trust_domain, roots, revoked, .. } = TrustBundle::clone(&bundle);
        BundleView { trust_domain, roots, revoked }
    }

    /// The cluster's own bundle as a gateway tells it.
    pub(crate) fn told(&self, revision: u64) -> Trust {
        Trust { revision, bundles: vec![self.bundle()] }
    }

    /// Lets one gateway, or all, tell their sidecars whom to trust.
    pub(crate) fn tell_trust(&self, node: Option<NodeId>, trust: Trust) {
        let domains = trust.bundles.iter().map(|bundle| bundle.trust_domain.clone()).collect();
        trust.bundles.into_iter().for_each(|bundle| self.tell(node, Bundle { bundle }));
        self.tell(node, Bundles { revision: Revision(trust.revision), domains });
    }

    /// From now on the gateways believe both roots, the next one first.
    pub(crate) fn stage(&self) {
        let roots = vec![self.next.root_der().to_vec(), self.ca.root_der().to_vec()];
        let known = self.bundles.get(&self.facts.trust_domain).unwrap();
        let bundle = TrustBundle::new(self.facts.trust_domain.clone(), roots).unwrap();
        self.bundles.set(bundle.with_revoked(known.revoked.clone()).unwrap()).unwrap();
    }

    /// From now on the gateways refuse `id` with every certificate that it has, and end its connections.
    pub(crate) fn revoke(&self, id: &SpiffeId, issued_before: u64) {
        let revocation = Revocation { subject: id.to_string().parse().unwrap(), issued_before };
        let known = self.bundles.get(&self.facts.trust_domain).unwrap();
        let bundle = TrustBundle::clone(&known).with_revoked(vec![revocation]).unwrap();
        self.bundles.set(bundle).unwrap();
    }

    /// Waits until a certificate of `connection` is revoked.
    async fn revoked(&self, connection: &Connection) -> VerifyError {
        let mut changes = self.bundles.changes();
        let Some(chain) = peer_chain(connection) else { return std::future::pending().await };
        loop {
            match self.bundles.standing(&chain) {
                Err(error @ (VerifyError::Revoked { .. } | VerifyError::SignerRevoked { .. })) => {
                    return error;
                }
                _ => changes.changed().await.unwrap(),
            }
        }
    }

    /// Lets one gateway, or all, tell their sidecars something without being asked.
    pub(crate) fn tell(&self, node: Option<NodeId>, message: impl Into<ToSidecar>) {
        self.push.send((node, message.into())).unwrap();
    }

    /// Whether a gateway has heard a message that `wanted` accepts.
    pub(crate) fn has_heard(&self, wanted: impl Fn(NodeId, &ToGateway) -> bool) -> bool {
        self.heard.lock().unwrap().iter().any(|(node, message)| wanted(*node, message))
    }
}

/// Whom a gateway says to trust.
pub(crate) struct Trust {
    pub(crate) revision: u64,
    pub(crate) bundles: Vec<BundleView>,
}

pub(crate) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A running gateway; dropping it stops it in good order.
pub(crate) struct FakeGateway {
    pub(crate) node: NodeId,
    pub(crate) addr: SocketAddr,
    world: Arc<World>,
    socket: ForwardSocket,
    dead: Arc<AtomicBool>,
    process: Arc<Process>,
    /// Of the process that runs, and of those before it.
    endpoints: Mutex<Vec<GatewayEndpoint>>,
}

/// What another process of the same gateway has anew.
struct Process {
    cookie: AtomicU8,
    packets: Mutex<OwnPackets>,
}

impl FakeGateway {
    /// Starts gateway `node` on `addr` and adds it to the cluster.
    pub(crate) fn start(world: &Arc<World>, node: u64, addr: &str) -> Self {
        let node = NodeId(node);
        let socket = ForwardSocket::bind_group(addr.parse().unwrap(), 1).unwrap().remove(0);
        let addr = socket.local_addr();
        world.gateways.lock().unwrap().push(GatewayFacts {
            node,
            role: GatewayRole::Gateway,
            locality: world.facts.locality.clone(),
            cluster_addrs: vec![addr.into()],
            link_addrs: Vec::new(),
        });
        let dead = Arc::new(AtomicBool::new(false));
        let packets = OwnPackets::new();
        let process = Arc::new(Process { cookie: AtomicU8::new(5), packets: Mutex::new(packets.clone()) });
        let (received, running, stop) = (socket.try_clone().unwrap(), process.clone(), dead.clone());
        std::thread::spawn(move || pump(&received, &running, node, &stop));
        let (world, endpoints) = (world.clone(), Mutex::default());
        let gateway = Self { node, addr, world, socket, dead, process, endpoints };
        gateway.listen(&packets);
        gateway
    }

    /// Takes control connections whose packets are in `packets`.
    fn listen(&self, packets: &OwnPackets) {
        let (world, node) = (&self.world, self.node);
        let key = KeyPair::generate().unwrap();
        let id = SpiffeId::gateway(&world.facts.trust_domain, node);
        let chain = world.ca.sign_svid(&key.csr().unwrap(), &id, SystemTime::now(), HOUR).unwrap();
        let bundles = &world.bundles;
        let svid = SvidSource::new(Svid::new(chain, key).unwrap());
        let root = world.ca.root_der().to_vec();
        let tls = server_config(&svid, bundles, &[alpn::CTL], ClientAuth::Optional, Some(root)).unwrap();
        let endpoint = GatewayEndpoint::new(
            packets,
            vec![self.socket.try_clone().unwrap()],
            (world.facts.id, node),
            tls,
            &TransportSettings::default(),
        )
        .unwrap();
        tokio::spawn(serve(world.clone(), endpoint.clone(), node));
        self.endpoints.lock().unwrap().push(endpoint);
    }

    /// As if it had been killed and started again at once: it knows of no connection, and admits nobody until its new cookie is
    /// echoed.
    pub(crate) fn restart(&self) {
        let packets = OwnPackets::new();
        self.listen(&packets);
        *self.process.packets.lock().unwrap() = packets;
        self.process.cookie.fetch_add(1, Ordering::Relaxed);
    }

    /// From now on it answers to nothing, as if it had been killed.
    pub(crate) fn crash(&self) {
        self.dead.store(true, Ordering::Relaxed);
    }
}

impl Drop for FakeGateway {
    fn drop(&mut self) {
        self.dead.store(true, Ordering::Relaxed);
        for endpoint in self.endpoints.lock().unwrap().iter() {
            endpoint.close(CloseCode::GoingAway, "");
        }
    }
}

/// Answers probes and hands over the gateway's own packets, until it is dead.
fn pump(socket: &ForwardSocket, process: &Process, node: NodeId, dead: &AtomicBool) {
    let mut batch = ReceiveBatch::new();
    while !dead.load(Ordering::Relaxed) {
        if socket.receive(&mut batch).unwrap() == 0 {
            std::thread::sleep(Duration::from_micros(500));
            continue;
        }
        let packets = process.packets.lock().unwrap().clone();
        let cookie = [process.cookie.load(Ordering::Relaxed); 16];
        for message in batch.iter() {
            for datagram in message.data.chunks(message.stride) {
                if let Some(answer) = answer(datagram, node, cookie) {
                    let _ = socket.send_to(&answer, message.from);
                } else if destination(datagram).is_some_and(|to| to == node || to == NodeId::ANY) {
                    packets.push((message.from, None), message.ecn, datagram, datagram.len());
                }
            }
        }
    }
}

fn answer(datagram: &[u8], node: NodeId, cookie: [u8; 16]) -> Option<[u8; PROBE_LEN]> {
    let bytes: &[u8; PROBE_LEN] = datagram.try_into().ok()?;
    let probe = Probe::decode(bytes)?;
    let key = workload_key(&PROBE_KEY, WorkloadId(probe.sender));
    if !verify(bytes, &key) {
        return None;
    }
    let answer = Answer {
        scope: ProbeScope::Workload,
        state: ResponderState::Ready,
        interval_ms: 0,
        responder: node.0,
        seq: probe.seq,
        cookie,
    };
    Some(answer.encode(&key))
}

fn destination(datagram: &[u8]) -> Option<NodeId> {
    let at = if datagram.first()? & 0x80 == 0 { 1 } else { 6 };
    Cid::from_slice(datagram.get(at..at + 20)?)?.node()
}

async fn serve(world: Arc<World>, endpoint: GatewayEndpoint, node: NodeId) {
    while let Some(incoming) = endpoint.accept().await {
        let world = world.clone();
        tokio::spawn(async move {
            if let Ok(connection) = incoming.await {
                if world.full.lock().unwrap().contains(&node) {
                    return close(&connection, CloseCode::Overloaded, "1024 sessions are open");
                }
                tokio::select! {
                    _ = talk(&world, node, &connection) => {}
                    error = world.revoked(&connection) => {
                        close(&connection, CloseCode::Revoked, &error.to_string());
                    }
                }
            }
        });
    }
}

/// Speaks until the connection ends.
async fn talk(world: &World, node: NodeId, connection: &Connection) -> Option<()> {
    let (send, recv) = connection.accept_bi().await.ok()?;
    let (mut writer, mut reader) = (FrameWriter::new(send), FrameReader::new(recv));
    let mut pushed = world.push.subscribe();
    let mut instance = None;
    loop {
        let answers = tokio::select! {
            message = reader.next::<ToGateway>() => {
                let message = message.ok()??;
                if let ToGateway::Hello(hello) = &message {
                    instance = hello.workload;
                }
                world.heard.lock().unwrap().push((node, message.clone()));
                answers(world, node, connection, instance, message)
            }
            pushed = pushed.recv() => match pushed.ok()? {
                (to, message) if to.is_none_or(|to| to == node) => vec![message],
                _ => Vec::new(),
            },
        };
        for answer in answers {
            writer.send(&answer).await.ok()?;
        }
    }
}

fn answers(
    world: &World,
    node: NodeId,
    connection: &Connection,
    instance: Option<WorkloadId>,
    message: ToGateway,
) -> Vec<ToSidecar> {
    let refused = |request: u32, reason: &str| {
        vec![Refusal { request, reason: reason.to_owned(), message: "no".to_owned() }.into()]
    };
    match message {
        ToGateway::Hello(_) => {
            let unix_time = unix_now() + world.ahead.load(Ordering::Relaxed);
            let (version, cluster) = (VersionInfo::current(), world.facts.clone());
            vec![Welcome { version, cluster, node, unix_time }.into()]
        }
        ToGateway::Join(join) => {
            let bound_to = exporter(connection, EXPORTER_LABEL, b"").unwrap();
            let verifier = world.token(&[], &[]).core.verifier();
            if join.token != TOKEN.0 || !verify_join_proof(&verifier, &bound_to, &join.csr, &join.proof) {
                return refused(join.request, "token-unknown");
            }
            let (key, used) = (request_key_id(&join.csr).unwrap(), |uses: u64| uses.checked_sub(1));
            let mut joined = world.joined.lock().unwrap();
            if !joined.contains(&key) {
                if world.uses.fetch_update(Ordering::Relaxed, Ordering::Relaxed, used).is_err() {
                    return refused(join.request, "token-used-up");
                }
                joined.push(key);
            }
            if world.mute.load(Ordering::Relaxed) {
                return Vec::new();
            }
            let id = format!("spiffe://{}/ns/shop/sa/web", world.facts.trust_domain).parse().unwrap();
            vec![world.issue(join.request, &join.csr, &id)]
        }
        ToGateway::Renew(renew) => {
            *world.ttl.lock().unwrap() = 24 * HOUR;
            vec![world.issue(renew.request, &renew.csr, &peer_identity(connection).unwrap())]
        }
        ToGateway::Attach(attach) => {
            let new = || WorkloadId(world.instances.fetch_add(1, Ordering::Relaxed));
            let workload = instance.unwrap_or_else(new);
            let attached = Attached {
                request: attach.request,
                workload,
                cid_keys: world.cid_keys(),
                probe_key: world.probe_key(workload),
                gateways: world.gateways.lock().unwrap().clone(),
            };
            vec![attached.into()]
        }
        ToGateway::Register(register) => match world.refuse.lock().unwrap().clone() {
            Some(refusal) => vec![Refusal { request: register.request, ..refusal }.into()],
            None => vec![Registered { request: register.request }.into()],
        },
        ToGateway::AskVip(_) | ToGateway::FindVip(_) if world.silent.lock().unwrap().contains(&node) => {
            Vec::new()
        }
        ToGateway::AskVip(ask) => {
            let vip = world.vips.lock().unwrap().get(&ask.name).copied();
            vip_is(world, ask.request, vip.map(|vip| (ask.name, vip)), "service-unknown")
        }
        ToGateway::FindVip(find) => {
            let vips = world.vips.lock().unwrap();
            let found = vips.iter().find(|(_, vip)| **vip == find.vip);
            vip_is(world, find.request, found.map(|(name, vip)| (name.clone(), *vip)), "vip-unknown")
        }
        ToGateway::Subscribe(subscribe) => {
            let services = world.services.lock().unwrap();
            let known = subscribe.services.iter().filter_map(|name| services.get(name));
            known.map(|view| view.clone().into()).collect()
        }
        _ => Vec::new(),
    }
}

fn vip_is(world: &World, request: u32, found: Option<(VipName, Vip)>, reason: &str) -> Vec<ToSidecar> {
    let lie = world.vip_lie.lock().unwrap().clone();
    if let Some((name, vip)) = lie.or(found) {
        return vec![VipIs { request, name, vip }.into()];
    }
    let reason = world.vip_refusal.lock().unwrap().clone().unwrap_or_else(|| reason.to_owned());
    vec![Refusal { request, reason, message: "no: ask for something else".to_owned() }.into()]
}
