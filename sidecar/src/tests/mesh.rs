//! The test's clusters, sidecars, applications, and the forwarder between them.

use crate::access::Direction;
use crate::balance::Balances;
use crate::captured::Outside;
use crate::choose::{Chooser, Target};
use crate::config::{SidecarConfig, SidecarOptions};
use crate::descriptors::Descriptors;
use crate::direct::Directs;
use crate::inbound::{Callers, Delivery, Inbound};
use crate::membership::{Discovery, Membership};
use crate::metrics::SidecarMetrics;
use crate::outbound::{Connector, Outbound, Pool, Route};
use crate::trust::Trust;
use crate::udp::{self, FlowLimits, FlowSource, Flows, Routes};
use causeway_identity::{
    BundleStore, ClientAuth, ClusterCa, KeyPair, ServerRule, Svid, SvidSource, TrustBundle, client_config,
    server_config,
};
use causeway_model::{
    ClusterFacts, ClusterId, Epoch, Health, Locality, NodeId, PortKey, PortSet, Revocation, RevokedSubject,
    ServiceHandle, ServiceName, SpiffeId, TrustDomain, WorkloadId,
};
use causeway_policy::InboundPolicy;
use causeway_runtime::{Drain, DrainTrigger, Metrics, Tasks, bind_tcp};
use causeway_transport::{
    Attachment, Connection, ConnectionKind, Destination, GatewayTarget, Overlay, OverlayEndpoint,
    TransportSettings,
};
use causeway_wire::packet::{Datagram, Header};
use causeway_wire::probe::{Answer, PROBE_LEN, Probe, ResponderState, verify, workload_key};
use causeway_wire::view::{EndpointView, Offer, ServiceView};
use causeway_wire::{Cid, CidKey, CidKeys, CidKind, CloseCode, alpn};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// What a test waits for at most.
pub(super) const SOON: Duration = Duration::from_secs(30);
const CID_SECRET: [u8; 16] = [7; 16];
const PROBE_SECRET: [u8; 32] = [9; 32];

/// Waits until `condition` holds.
pub(super) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, wait).await.unwrap_or_else(|_| panic!("{what} did not happen"));
}

pub(super) fn service() -> ServiceName {
    "pay.shop".parse().unwrap()
}

/// What the test's service is offered on.
fn ports() -> PortSet {
    PortSet::try_from(vec!["80".parse().unwrap(), "53/udp".parse().unwrap()]).unwrap()
}

/// What the clusters call an instance in ENDPOINT ids.
fn tag(instance: WorkloadId) -> u64 {
    CidKey::new(Epoch(1), CID_SECRET).endpoint_tag(instance)
}

/// A cluster with its CA.
pub(super) struct Cluster {
    ca: ClusterCa,
    pub(super) facts: ClusterFacts,
}

impl Cluster {
    pub(super) fn new(name: &str, id: u32) -> Self {
        let trust_domain: TrustDomain = format!("{name}.mesh").parse().unwrap();
        let facts = ClusterFacts {
            name: name.parse().unwrap(),
            id: ClusterId::new(id).unwrap(),
            trust_domain: trust_domain.clone(),
            locality: Locality { region: name.into(), zone: "1".into() },
        };
        Self { ca: ClusterCa::create(&trust_domain, SystemTime::now()).unwrap(), facts }
    }

    pub(super) fn id(&self, account: &str) -> SpiffeId {
        let account = account.parse().unwrap();
        SpiffeId::workload(&self.facts.trust_domain, &"shop".parse().unwrap(), &account)
    }

    fn svid(&self, account: &str) -> SvidSource {
        SvidSource::new(self.certificate(account, SystemTime::now()))
    }

    /// A certificate of `account` that is good for an hour from `from` on.
    pub(super) fn certificate(&self, account: &str, from: SystemTime) -> Svid {
        let key = KeyPair::generate().unwrap();
        let hour = Duration::from_secs(3600);
        let chain = self.ca.sign_svid(&key.csr().unwrap(), &self.id(account), from, hour).unwrap();
        Svid::new(chain, key).unwrap()
    }

    /// The cluster's bundle, which refuses every certificate of `revoked`.
    pub(super) fn bundle(&self, revoked: &[SpiffeId]) -> TrustBundle {
        let revoke = |id: &SpiffeId| Revocation {
            subject: RevokedSubject::Identity(id.clone()),
            issued_before: u64::MAX,
        };
        self.ca.bundle().with_revoked(revoked.iter().map(revoke).collect()).unwrap()
    }

    fn keys(&self) -> CidKeys {
        CidKeys::new(self.facts.id, [(Epoch(1), CID_SECRET)])
    }

    /// An offer of the test's service whose servers are `account`, without endpoints.
    pub(super) fn offer(&self, account: &str) -> Offer {
        Offer {
            cluster: self.facts.clone(),
            handle: None,
            ports: ports(),
            identities: vec![self.id(account)],
            healthy: 1,
            total: 1,
            stale_for: None,
            endpoints: Vec::new(),
        }
    }

    /// An endpoint view of `instance`.
    pub(super) fn endpoint(&self, instance: u64) -> EndpointView {
        EndpointView {
            instance: WorkloadId(instance),
            cid: Cid::endpoint(self.facts.id, Epoch(1), tag(WorkloadId(instance)), 0),
            locality: self.facts.locality.clone(),
            weight: 1,
            health: Health::Healthy,
        }
    }
}

#[derive(Default)]
struct Tables {
    clusters: HashMap<ClusterId, CidKeys>,
    addrs: HashMap<(ClusterId, WorkloadId), SocketAddr>,
    handles: HashMap<ServiceHandle, WorkloadId>,
    tags: HashMap<u64, WorkloadId>,
    /// Nothing that QUIC says gets through.
    cut: bool,
    /// Nothing that QUIC says gets into or out of this cluster.
    away: Option<ClusterId>,
}

/// Stands for every gateway of every cluster: answers probes and forwards by connection ID.
pub(super) struct Forwarder {
    addr: SocketAddr,
    tables: Arc<Mutex<Tables>>,
    stop: Arc<AtomicBool>,
}

impl Forwarder {
    pub(super) fn start(clusters: &[&Cluster]) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        // bounds how long the thread outlives the test
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let (addr, stop) = (socket.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let clusters = clusters.iter().map(|cluster| (cluster.facts.id, cluster.keys())).collect();
        let tables = Arc::new(Mutex::new(Tables { clusters, ..Tables::default() }));
        let (shared, stopped) = (Arc::clone(&tables), Arc::clone(&stop));
        std::thread::spawn(move || {
            let mut buffer = [0; 65_536];
            while !stopped.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                let mut tables = shared.lock().unwrap();
                let (bytes, to) = match Datagram::classify(buffer[0]) {
                    Datagram::Probe => match tables.answer(&buffer[..length], from) {
                        Some(answer) => (answer.to_vec(), from),
                        None => continue,
                    },
                    Datagram::Quic => match tables.route(&buffer[..length], from) {
                        Some(to) => (buffer[..length].to_vec(), to),
                        None => continue,
                    },
                    Datagram::Envelope => continue,
                };
                drop(tables);
                let _ = socket.send_to(&bytes, to);
            }
        });
        Self { addr, tables, stop }
    }

    /// Drops what QUIC says, or no more; probes are answered all the time.
    pub(super) fn cut(&self, cut: bool) {
        self.tables.lock().unwrap().cut = cut;
    }

    /// Drops what QUIC says to a cluster, and what it says to others.
    pub(super) fn cut_off(&self, cluster: Option<&Cluster>) {
        self.tables.lock().unwrap().away = cluster.map(|cluster| cluster.facts.id);
    }

    /// Lets first contact by `handle` reach `instance`.
    pub(super) fn export(&self, handle: ServiceHandle, instance: u64) {
        self.tables.lock().unwrap().handles.insert(handle, WorkloadId(instance));
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Tables {
    fn answer(&mut self, bytes: &[u8], from: SocketAddr) -> Option<[u8; PROBE_LEN]> {
        let bytes: &[u8; PROBE_LEN] = bytes.try_into().ok()?;
        let probe = Probe::decode(bytes)?;
        let key = workload_key(&PROBE_SECRET, WorkloadId(probe.sender));
        if !verify(bytes, &key) {
            return None;
        }
        self.addrs.insert((probe.cluster, WorkloadId(probe.sender)), from);
        self.tags.insert(tag(WorkloadId(probe.sender)), WorkloadId(probe.sender));
        let (scope, seq) = (probe.scope, probe.seq);
        let state = ResponderState::Ready;
        Some(Answer { scope, state, interval_ms: 0, responder: 1, seq, cookie: [1; 16] }.encode(&key))
    }

    fn route(&self, bytes: &[u8], from: SocketAddr) -> Option<SocketAddr> {
        if self.cut {
            return None;
        }
        let cid: Cid = Header::parse(bytes).ok()?.dcid;
        let cluster = cid.cluster()?;
        let inside = |away: &ClusterId| {
            cluster == *away || self.addrs.iter().any(|((of, _), addr)| of == away && *addr == from)
        };
        if self.away.as_ref().is_some_and(inside) {
            return None;
        }
        let instance = match cid.kind()? {
            CidKind::Workload => self.clusters.get(&cluster)?.open(&cid)?,
            CidKind::Endpoint => *self.tags.get(&cid.tag()?)?,
            CidKind::Service => *self.handles.get(&cid.handle()?)?,
            CidKind::Gateway => return None,
        };
        self.addrs.get(&(cluster, instance)).copied()
    }
}

/// Says which instances are gone.
#[derive(Default)]
pub(super) struct Gone(Mutex<HashMap<(ClusterId, WorkloadId), CancellationToken>>);

impl Gone {
    fn token(&self, cluster: ClusterId, instance: WorkloadId) -> CancellationToken {
        self.0.lock().unwrap().entry((cluster, instance)).or_default().clone()
    }

    pub(super) fn say(&self, cluster: &Cluster, instance: u64) {
        self.token(cluster.facts.id, WorkloadId(instance)).cancel();
    }

    /// Of an instance that is there again.
    pub(super) fn back(&self, cluster: &Cluster, instance: u64) {
        self.0.lock().unwrap().remove(&(cluster.facts.id, WorkloadId(instance)));
    }
}

impl Discovery for Gone {
    fn gone(&self, cluster: ClusterId, instance: WorkloadId) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(self.token(cluster, instance).cancelled_owned())
    }
}

/// A sidecar without a control plane: what that would tell is told by the test.
pub(super) struct Node {
    pub(super) endpoint: OverlayEndpoint,
    pub(super) overlay: Overlay,
    pub(super) gone: Arc<Gone>,
    pub(super) exports: watch::Sender<Arc<InboundPolicy>>,
    pub(super) view: watch::Sender<Option<Arc<ServiceView>>>,
    pub(super) trigger: DrainTrigger,
    pub(super) pool: Pool,
    outbound: Arc<Outbound>,
    inbound: Arc<Inbound>,
    accepting: JoinHandle<()>,
    text: Metrics,
    own: TrustDomain,
    tasks: Tasks,
}

/// What a node is made of.
pub(super) struct Setup<'a> {
    pub(super) forwarder: &'a Forwarder,
    pub(super) cluster: &'a Cluster,
    pub(super) instance: u64,
    pub(super) account: &'a str,
    /// Whose certificates it believes.
    pub(super) believes: &'a [&'a Cluster],
    /// Where the application of the test's service listens.
    pub(super) upstream: Option<SocketAddr>,
    /// Whether it tells where it can be reached directly.
    pub(super) direct: bool,
    /// How much of one stream its peers may have in flight, in bytes.
    pub(super) window: u32,
}

/// The stream window that is usual.
pub(super) const WINDOW: u32 = 2 << 20;

impl Setup<'_> {
    /// The application takes connections and datagrams on ports of the same number; `limits` are lines of that table.
    fn config(&self, limits: &str) -> SidecarConfig {
        let serve = |addr| format!("serve = [\"pay.shop:80={addr}\", \"pay.shop:53/udp={addr}\"]\n");
        let serve = self.upstream.map(serve).unwrap_or_default();
        let text = format!("state-dir = \"/nowhere\"\n{serve}[limits]\nconnect-timeout = \"5s\"\n{limits}");
        SidecarConfig::from_toml(Path::new("test.toml"), &text, SidecarOptions::default()).unwrap()
    }

    async fn overlay(&self, tasks: &Tasks) -> Overlay {
        let overlay = Overlay::bind("127.0.0.1:0".parse().unwrap(), &TransportSettings::default()).unwrap();
        overlay.attach(Attachment {
            cluster: self.cluster.facts.id,
            workload: WorkloadId(self.instance),
            cid_keys: self.cluster.keys(),
            probe_key: workload_key(&PROBE_SECRET, WorkloadId(self.instance)),
            probe_epoch_bits: 1,
        });
        overlay.set_gateways(vec![GatewayTarget { node: NodeId(1), addrs: vec![self.forwarder.addr] }]);
        tasks.spawn("prober", overlay.run_prober(tasks.token()));
        overlay
    }

    pub(super) async fn start(self) -> Node {
        self.start_with("").await
    }

    /// A node with `limits`, as lines of that table.
    pub(super) async fn start_with(self, limits: &str) -> Node {
        let (tasks, config, metrics) = (Tasks::new(), self.config(limits), SidecarMetrics::new());
        let text = Metrics::new();
        text.registry(|registry| metrics.register(registry));
        let overlay = self.overlay(&tasks).await;
        let (svid, bundles) = (self.cluster.svid(self.account), BundleStore::new());
        bundles.replace_all(self.believes.iter().map(|cluster| cluster.ca.bundle()).collect()).unwrap();
        let tls = server_config(&svid, &bundles, &[alpn::DATA], ClientAuth::Required, None).unwrap();
        let transport = TransportSettings { stream_receive_window: self.window, ..config.transport.clone() };
        let endpoint = OverlayEndpoint::new(&overlay, Some(tls), &transport).unwrap();
        let (gone, instance) = (Arc::new(Gone::default()), WorkloadId(self.instance));
        let membership = Arc::new(Membership {
            cluster: self.cluster.facts.id,
            trust_domain: self.cluster.facts.trust_domain.clone(),
            instance,
            direct: self.direct.then(|| overlay.local_addr()).into_iter().collect(),
            svid: svid.clone(),
            trust: Trust::new(bundles.clone(), svid.clone()),
            bundles,
            directs: Directs::new(instance, overlay.clone()),
            discovery: Arc::clone(&gone) as _,
        });
        tasks.spawn_critical("trust", membership.trust.clone().run(tasks.token()));
        let (trigger, drain) = Drain::new();
        let own = self.cluster.facts.trust_domain.clone();
        let policy = InboundPolicy::new(own.clone(), config.services(), BTreeMap::new());
        let (exports, policy) = watch::channel(Arc::new(policy));
        let permits = || Arc::new(Semaphore::new(10_000));
        let inbound = Arc::new(Inbound {
            membership: Arc::clone(&membership),
            policy,
            delivery: Delivery::new(&config),
            limits: config.limits.clone(),
            transport,
            metrics: metrics.clone(),
            drain: drain.clone(),
            tasks: tasks.clone(),
            peers: permits(),
            callers: Callers::default(),
            streams: permits(),
            flows: FlowLimits::new(&config.limits),
            descriptors: Descriptors::new(1_000_000, 0),
        });
        let accepting = tokio::spawn(Arc::clone(&inbound).accept(endpoint.clone()));
        let connector = Connector {
            endpoint: endpoint.clone(),
            membership,
            metrics: metrics.clone(),
            tasks: tasks.clone(),
            timeout: config.limits.connect_timeout.get(),
            keep_alive: config.transport.keep_alive,
        };
        let counts = metrics.balance().clone();
        let (balance, cluster) = (config.balance.clone(), self.cluster.facts.id);
        let balances = Arc::new(Balances::new(balance, cluster, counts, overlay.any_alive(), 0.5));
        let pool = Pool::new(connector, Arc::clone(&balances));
        let outbound = Arc::new(Outbound {
            pool: pool.clone(),
            balances,
            chooser: Chooser { own: instance, locality: self.cluster.facts.locality.clone(), most: 8 },
            svid,
            limits: config.limits.clone(),
            metrics,
            drain,
            gateways: overlay.any_alive(),
            permits: permits(),
            flows: FlowLimits::new(&config.limits),
            descriptors: Descriptors::new(1_000_000, 0),
            cut: tasks.token(),
        });
        let mut alive = overlay.any_alive();
        tokio::time::timeout(SOON, alive.wait_for(|alive| *alive)).await.unwrap().unwrap();
        let view = watch::Sender::new(None);
        Node {
            endpoint,
            overlay,
            gone,
            exports,
            view,
            trigger,
            pool,
            outbound,
            inbound,
            accepting,
            text,
            own,
            tasks,
        }
    }
}

impl Node {
    /// As if it carried all the inbound streams that it may, while the permit lives.
    pub(super) fn fill_streams(&self) -> OwnedSemaphorePermit {
        fill(&self.inbound.streams)
    }

    /// As if connections of a direction had taken all descriptors, while what is returned lives.
    pub(super) fn fill_descriptors(&self, outbound: bool) -> OwnedSemaphorePermit {
        let of = if outbound { &self.outbound.descriptors } else { &self.inbound.descriptors };
        of.take_all()
    }

    /// How many descriptors are left for connections out of the workload.
    pub(super) fn descriptors_left(&self) -> usize {
        self.outbound.descriptors.left()
    }

    /// A connection of the application that was captured on its way to `original`, outside the mesh.
    pub(super) async fn captured(&self, original: SocketAddr) -> TcpStream {
        let (listener, addr) = application().await;
        let (client, accepted) = tokio::join!(TcpStream::connect(addr), listener.accept());
        let (outbound, (tcp, from)) = (Arc::clone(&self.outbound), accepted.unwrap());
        self.tasks.spawn("captured", async move {
            let taken = outbound.take(tcp, from, None).unwrap();
            Outside::Pass.carry(&outbound, taken, original).await;
        });
        client.unwrap()
    }

    /// As if as many peers were connected to it as may be.
    pub(super) fn fill_peers(&self) -> OwnedSemaphorePermit {
        fill(&self.inbound.peers)
    }

    /// Waits until a peer was refused for `reason`.
    pub(super) async fn refused_peer(&self, reason: &str) {
        let line = format!("peers_refused_total{{reason=\"{reason}\"}} ");
        until(&line, || self.text.encode().contains(&line)).await;
    }

    /// What it is from now on without: whoever connects is the test's to accept.
    pub(super) async fn stop_accepting(&mut self) -> &Inbound {
        self.accepting.abort();
        assert!((&mut self.accepting).await.is_err(), "it was accepting");
        &self.inbound
    }

    /// A connection to `server` that says no hello.
    pub(super) async fn mute(&self, cluster: &Cluster, server: u64) -> Connection {
        let rule = ServerRule::OneOf([cluster.id("pay")].into());
        let bundles = &self.inbound.membership.bundles;
        let tls = client_config(rule, bundles, Some(&self.outbound.svid), alpn::DATA).unwrap();
        let to = Destination::Workload(cluster.endpoint(server).cid);
        let connecting = self.endpoint.connect(to, tls, "sidecar.mesh", ConnectionKind::Data).unwrap();
        tokio::time::timeout(SOON, connecting).await.unwrap().unwrap()
    }

    /// A local address that leads to the test's service.
    pub(super) fn listen(&self) -> SocketAddr {
        let listener = bind_tcp("test", "--listen", "127.0.0.1:0".parse().unwrap()).unwrap();
        let addr = listener.local_addr().unwrap();
        let route = Route { service: service(), port: PortKey::tcp(80), view: self.view.subscribe() };
        self.tasks.spawn("listen", Arc::clone(&self.outbound).listen(listener, route));
        addr
    }

    /// A local address whose datagrams go to `port` of the test's service.
    pub(super) fn listen_udp(&self, port: u16) -> SocketAddr {
        let socket = udp::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let addr = socket.local_addr().unwrap();
        let route = Route { service: service(), port: PortKey::udp(port), view: self.view.subscribe() };
        let flows = Flows::new(&self.outbound, FlowSource::port(socket).unwrap(), Routes::One(route));
        self.tasks.spawn("listen udp", flows.run(std::future::pending()));
        addr
    }

    /// The metric whose name and labels begin with `line`, 0 if there is none.
    pub(super) fn metric(&self, line: &str) -> u64 {
        let text = self.text.encode();
        let found = text.lines().find_map(|found| found.split_once(line)?.1.rsplit(' ').next()?.parse().ok());
        found.unwrap_or(0)
    }

    /// Tells this sidecar who offers the test's service.
    pub(super) fn learns(&self, offers: Vec<Offer>) {
        self.view.send_replace(Some(Arc::new(ServiceView { name: service(), offers })));
    }

    /// Tells this sidecar to whom its cluster exports the test's service.
    pub(super) fn exports_to(&self, clusters: &[&Cluster]) {
        let domains: BTreeSet<TrustDomain> =
            clusters.iter().map(|cluster| cluster.facts.trust_domain.clone()).collect();
        let served = BTreeMap::from([(service(), ports())]);
        let exported = BTreeMap::from([(service(), domains)]);
        self.exports.send_replace(Arc::new(InboundPolicy::new(self.own.clone(), served, exported)));
    }

    /// Waits until `count` connections of `direction` ended for `reason`.
    pub(super) async fn ended(&self, direction: Direction, reason: &str, count: usize) {
        let line =
            format!("outcomes_total{{direction=\"{}\",reason=\"{reason}\"}} {count}\n", direction.as_str());
        let mut last = String::new();
        let wait = async {
            loop {
                last = self.text.encode();
                if last.contains(&line) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let done = tokio::time::timeout(SOON, wait).await;
        let outcomes: Vec<&str> = last.lines().filter(|line| line.contains("sidecar_")).collect();
        assert!(done.is_ok(), "no {line} in {outcomes:#?}");
    }

    /// Waits until its metrics have `line`.
    pub(super) async fn shows(&self, line: &str) {
        until(line, || self.text.encode().lines().any(|shown| shown == line)).await;
    }

    /// What the metrics show.
    pub(super) fn text(&self) -> String {
        self.text.encode()
    }

    /// The value of a metric, 0 if it is not shown.
    pub(super) fn value(&self, name: &str) -> u64 {
        let text = self.text();
        let shown = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        shown.map_or(0, |value| value.parse().unwrap())
    }

    /// The bytes that the tasks of an outbound and of an inbound connection take.
    pub(super) async fn task_sizes(&self, target: Target) -> (usize, usize) {
        let (_listener, addr) = application().await;
        let tcp = TcpStream::connect(addr).await.unwrap();
        let route = Route { service: service(), port: PortKey::tcp(80), view: self.view.subscribe() };
        let taken = self.outbound.take(tcp, addr, None).unwrap();
        let outbound = Arc::clone(&self.outbound).run(taken, route);
        let peer = self.pool.up(target).unwrap();
        let halves = peer.connection.open_bi().await.unwrap();
        let inbound = crate::inbound::serve_stream(&self.inbound, &peer, halves);
        (size_of_val(&outbound), size_of_val(&inbound))
    }

    /// Whether this sidecar still believes its peers.
    pub(super) fn trust(&self) -> &Trust {
        &self.inbound.membership.trust
    }

    /// Whom this sidecar believes.
    pub(super) fn bundles(&self) -> &BundleStore {
        &self.inbound.membership.bundles
    }

    /// Gives this sidecar another certificate.
    pub(super) fn renew(&self, svid: Svid) {
        self.outbound.svid.replace(svid);
    }

    pub(super) fn drain(&self) -> Drain {
        self.outbound.drain.clone()
    }

    /// As a crash: every connection ends at once.
    pub(super) fn vanish(&self) {
        self.endpoint.close(CloseCode::GoingAway, "the test is over");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.vanish();
        self.tasks.cancel();
    }
}

fn fill(permits: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    let all = u32::try_from(permits.available_permits()).unwrap();
    Arc::clone(permits).try_acquire_many_owned(all).unwrap()
}

/// An application's listener.
pub(super) async fn application() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

/// An application that answers with what it is told, `tag` first.
pub(super) async fn echo(tag: &'static [u8]) -> SocketAddr {
    let (listener, addr) = application().await;
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = tcp.split();
                if write.write_all(tag).await.is_ok() {
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                }
                let _ = write.shutdown().await;
            });
        }
    });
    addr
}

/// Two sidecars of one cluster: the first calls, the second serves `upstream`.
pub(super) struct Pair {
    pub(super) cluster: Cluster,
    pub(super) client: Node,
    pub(super) server: Node,
    pub(super) listen: SocketAddr,
    pub(super) forwarder: Forwarder,
}

pub(super) async fn pair(upstream: SocketAddr) -> Pair {
    pair_of(upstream, false).await
}

pub(super) async fn pair_of(upstream: SocketAddr, direct: bool) -> Pair {
    pair_with(upstream, direct, WINDOW).await
}

pub(super) async fn pair_with(upstream: SocketAddr, direct: bool, window: u32) -> Pair {
    let cluster = Cluster::new("iad", 1);
    let forwarder = Forwarder::start(&[&cluster]);
    let node = |instance, account, upstream| Setup {
        forwarder: &forwarder,
        cluster: &cluster,
        instance,
        account,
        believes: &[],
        upstream,
        direct,
        window,
    };
    let client = Setup { believes: &[&cluster], ..node(1, "web", None) }.start().await;
    let server = Setup { believes: &[&cluster], ..node(2, "pay", Some(upstream)) }.start().await;
    let mut offer = cluster.offer("pay");
    offer.endpoints = vec![cluster.endpoint(2)];
    client.learns(vec![offer]);
    let listen = client.listen();
    Pair { client, server, listen, cluster, forwarder }
}

/// Says `text` and nothing more, and returns what comes back until the end.
pub(super) async fn ask(addr: SocketAddr, text: &[u8]) -> std::io::Result<Vec<u8>> {
    let talk = async {
        let mut tcp = TcpStream::connect(addr).await?;
        tcp.write_all(text).await?;
        tcp.shutdown().await?;
        let mut answer = Vec::new();
        tcp.read_to_end(&mut answer).await.map(|_| answer)
    };
    tokio::time::timeout(SOON, talk).await.expect("an answer in time")
}
