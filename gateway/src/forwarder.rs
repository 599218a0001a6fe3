//! The forwarder: the packet path of a gateway.
//!
//! It owns the overlay port. One thread a core receives batches of packets, reads the destination connection ID of each,
//! and sends them on; it holds no keys of the traffic and keeps no state per connection. What it knows is an immutable
//! picture (`tables`) that others replace; nothing on the packet path takes a lock or allocates. Packets to a cluster that answers
//! directly are passed on as they are; those that go through other clusters travel in envelopes (`envelope`).

mod arena;
mod counters;
mod envelope;
mod exit;
mod probing;
mod route;
mod sharded;
mod source;
mod sources;
mod tables;
mod target;
mod worker;

pub use counters::{Counters, DropReason, ForwarderCollector, Totals};
pub use source::{Class, SourceLimits};
pub use tables::{Beside, Inputs, LinkRoute, Links, ServiceRoute, Services, Siblings, TransitRoutes};

use causeway_model::{ClusterId, NodeId, WorkloadId};
use causeway_runtime::{BindError, Tasks, bind_error};
use causeway_transport::forward::ForwardSocket;
use causeway_transport::gateway::{OwnPackets, transit_cluster};
use exit::Exit;
use source::{Source, Strangers};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tables::{Fixed, Tables};
use target::LinkSockets;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use worker::Worker;

/// The most listening addresses of one gateway.
pub const MAX_LISTENERS: usize = 4;
/// The most forwarder threads.
pub const MAX_THREADS: usize = 32;
/// A source that said nothing for this long is forgotten, in milliseconds; a sidecar probes at least twice a second.
const FORGET_MS: u64 = 3_000;
/// One that said nothing for this long is in doubt, in milliseconds: two probes were missed. What goes there takes another way, if there is one,
/// early enough for the retransmission that follows 1.6 s of silence.
const DOUBT_MS: u64 = 1_200;
/// How often silent sources are looked for.
const SWEEP_EVERY: Duration = Duration::from_millis(250);
/// Changes of the tables within this time are published together.
const PUBLISH_EVERY: Duration = Duration::from_millis(2);
/// The most source addresses admitted at a time.
const MAX_ADMITTED: usize = 200_000;
/// The most source ports admitted of one other gateway.
const MAX_PORTS: usize = 2 * MAX_THREADS * MAX_LISTENERS;

/// How a forwarder is set up.
#[derive(Clone, Debug)]
pub struct ForwarderConfig {
    /// Where it listens; at most [`MAX_LISTENERS`].
    pub listen: Vec<SocketAddr>,
    /// How many threads; 0 means one a core.
    pub threads: usize,
    /// How much is taken from each source.
    pub limits: SourceLimits,
}

enum Event {
    Admit { addr: SocketAddr, class: Class, listener: usize },
}

struct Shared {
    fixed: Fixed,
    started: Instant,
    tables: arc_swap::ArcSwap<Tables>,
    inputs: Mutex<Inputs>,
    dirty: Notify,
    strangers: Strangers,
    cookie_secret: [u8; 32],
    events: mpsc::Sender<Event>,
    /// One for each thread, and one for what the gateway itself sends through other clusters.
    counters: Vec<Arc<Counters>>,
    receive_errors: AtomicU64,
    receive_failing: AtomicBool,
    admitted: AtomicU64,
    sockets: Sockets,
}

impl Shared {
    fn nanos(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.started).as_nanos()).unwrap_or(u64::MAX)
    }

    fn millis(&self, now: Instant) -> u64 {
        self.nanos(now) / 1_000_000
    }

    fn inputs(&self) -> MutexGuard<'_, Inputs> {
        self.inputs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says once that a socket fails, and counts the rest.
    fn receive_failed(&self, error: &io::Error) {
        self.receive_errors.fetch_add(1, Relaxed);
        if !self.receive_failing.swap(true, Relaxed) {
            tracing::error!(%error, "the overlay socket fails to receive");
        }
    }
}

/// The sockets of a forwarder that does not run yet.
pub struct BoundForwarder {
    listeners: Vec<Vec<ForwardSocket>>,
    links: LinkSockets,
    own: OwnPackets,
    limits: SourceLimits,
}

/// What the sockets of a forwarder are like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sockets {
    /// Where packets are taken.
    pub listen: Vec<SocketAddr>,
    /// The smallest receive buffer that the system granted, in bytes as it counts them: twice what is usable.
    pub receive_buffer: usize,
    /// The smallest send buffer, counted likewise.
    pub send_buffer: usize,
}

/// A running forwarder.
#[derive(Clone)]
pub struct Forwarder {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Forwarder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Forwarder({} threads)", self.shared.fixed.ports)
    }
}

impl BoundForwarder {
    /// Takes the sockets. The port that is taken is named in the error.
    pub fn bind(config: &ForwarderConfig) -> Result<Self, BindError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = if config.threads == 0 { cores } else { config.threads }.clamp(1, MAX_THREADS);
        let mut listeners: Vec<Vec<ForwardSocket>> = (0..threads).map(|_| Vec::new()).collect();
        let mut links: Vec<Vec<Arc<ForwardSocket>>> = (0..threads).map(|_| Vec::new()).collect();
        for &addr in config.listen.iter().take(MAX_LISTENERS) {
            let failed = |error| bind_error("overlay port (UDP)", "--listen", addr, error);
            for (own, socket) in
                listeners.iter_mut().zip(ForwardSocket::bind_group(addr, threads).map_err(failed)?)
            {
                own.push(socket);
            }
            for own in &mut links {
                own.push(Arc::new(ForwardSocket::bind_any_port(addr.ip()).map_err(failed)?));
            }
        }
        let links = LinkSockets { sockets: links };
        Ok(Self { listeners, links, own: OwnPackets::new(), limits: config.limits })
    }

    /// Where it listens.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.listeners[0].iter().map(ForwardSocket::local_addr).collect()
    }

    /// What the gateway's own endpoint needs: its packets, and sockets to send from.
    pub fn own(&self) -> io::Result<(OwnPackets, Vec<ForwardSocket>)> {
        let sockets = self.listeners[0].iter().map(ForwardSocket::try_clone).collect::<io::Result<_>>()?;
        Ok((self.own.clone(), sockets))
    }

    fn sockets(&self) -> Sockets {
        let links = self.links.sockets.iter().flatten().map(AsRef::as_ref);
        let all = self.listeners.iter().flatten().chain(links);
        let granted: Vec<(usize, usize)> = all.filter_map(|socket| socket.buffer_sizes().ok()).collect();
        Sockets {
            listen: self.local_addrs(),
            receive_buffer: granted.iter().map(|sizes| sizes.0).min().unwrap_or(0),
            send_buffer: granted.iter().map(|sizes| sizes.1).min().unwrap_or(0),
        }
    }

    /// Starts the threads. Nothing is forwarded before the inputs say that the gateway is ready.
    pub fn start(
        self,
        cluster: ClusterId,
        node: NodeId,
        cookie_secret: [u8; 32],
        tasks: &Tasks,
    ) -> io::Result<Forwarder> {
        let ports = self.listeners.len();
        let sockets = self.sockets();
        let fixed = Fixed { cluster, node, ports, limits: self.limits };
        let (events, admissions) = mpsc::channel(4096);
        let seed = u64::from_be_bytes(std::array::from_fn(|i| cookie_secret[i]));
        let shared = Arc::new(Shared {
            started: Instant::now(),
            tables: arc_swap::ArcSwap::from_pointee(Tables::empty(&fixed)),
            inputs: Mutex::new(Inputs::new(&fixed)),
            dirty: Notify::new(),
            strangers: Strangers::new(seed, &fixed.limits),
            cookie_secret,
            events,
            counters: (0..=ports).map(|_| Arc::default()).collect(),
            receive_errors: AtomicU64::new(0),
            receive_failing: AtomicBool::new(false),
            admitted: AtomicU64::new(0),
            sockets,
            fixed,
        });
        let links = Arc::new(self.links);
        self.own.leave_by(Arc::new(Exit { shared: shared.clone(), links: links.clone() }));
        for (index, listeners) in self.listeners.into_iter().enumerate() {
            let worker = Worker {
                index,
                shared: shared.clone(),
                listeners,
                links: links.clone(),
                own: self.own.clone(),
                counters: shared.counters[index].clone(),
            };
            tasks.spawn_critical_thread(format!("forwarder-{index}"), move |stop| worker.run(&stop))?;
        }
        let forwarder = Forwarder { shared };
        tasks.spawn_critical("forwarder-tables", forwarder.clone().keep_tables(admissions, tasks.token()));
        Ok(forwarder)
    }
}

impl Forwarder {
    /// Changes what the tables are built from; the change is in effect within a few milliseconds.
    pub fn update(&self, change: impl FnOnce(&mut Inputs)) {
        change(&mut self.shared.inputs());
        self.shared.dirty.notify_one();
    }

    /// Takes packets of an authenticated control connection from `addr` at a gateway's rate until the guard is dropped. One through
    /// other clusters has no address from which anything comes: its packets are those of the neighbour that brings them.
    pub fn admit_control(&self, addr: SocketAddr) -> ControlAdmission {
        let addr = SocketAddr::new(addr.ip().to_canonical(), addr.port());
        let addr = Some(addr).filter(|addr| transit_cluster(*addr).is_none());
        if let Some(addr) = addr {
            self.update(|inputs| inputs.sources.hold(addr));
        }
        ControlAdmission { forwarder: self.clone(), addr }
    }

    /// Forgets a workload at once: its packets are dropped, and it must probe anew.
    pub fn forget(&self, workload: WorkloadId) {
        self.update(|inputs| inputs.sources.forget(workload));
    }

    /// The workloads that were heard from in the last `within`.
    pub fn heard(&self, within: Duration) -> Vec<WorkloadId> {
        let now_ms = self.shared.millis(Instant::now());
        let since = now_ms.saturating_sub(u64::try_from(within.as_millis()).unwrap_or(u64::MAX));
        let tables = self.shared.tables.load();
        let recent = |source: &&Arc<Source>| source.last_seen_ms.load(Relaxed) >= since;
        tables.workloads.iter().filter(|(_, source)| recent(source)).map(|(&workload, _)| workload).collect()
    }

    /// What its sockets are like.
    pub fn sockets(&self) -> &Sockets {
        &self.shared.sockets
    }

    /// Whether packets are taken.
    pub fn is_ready(&self) -> bool {
        self.shared.tables.load().ready
    }

    /// How many workloads are admitted.
    pub fn admitted_workloads(&self) -> u64 {
        self.shared.admitted.load(Relaxed)
    }

    /// The counters of all threads, added up.
    pub fn totals(&self) -> Totals {
        Totals::of(self.shared.counters.iter().map(AsRef::as_ref))
    }

    /// Whether the tables that the threads read are those of the registry.
    pub fn has_tables(&self) -> bool {
        self.shared.tables.load().filled
    }

    /// Receive calls that failed.
    pub fn receive_errors(&self) -> u64 {
        self.shared.receive_errors.load(Relaxed)
    }

    /// Probes to the gateways that are known now, and that were not answered in time.
    pub fn probes_missed(&self) -> u64 {
        let tables = self.shared.tables.load();
        let ports = tables.targets.iter().flat_map(|target| target.ports.iter());
        ports.map(|port| port.missed.load(Relaxed)).sum()
    }

    /// The paths to other gateways, as they are now.
    pub fn paths(&self) -> Vec<PathStatus> {
        let tables = self.shared.tables.load();
        tables.targets.iter().map(|target| PathStatus::of(target)).collect()
    }

    /// Whether any gateway of `cluster` answers, or `None` when it is not linked.
    pub fn reaches(&self, cluster: ClusterId) -> Option<bool> {
        self.shared
            .tables
            .load()
            .links
            .get(&cluster)
            .map(|targets| targets.iter().any(|target| target.is_alive()))
    }

    /// Which gateways of this cluster are taken to reach which linked one.
    pub fn beside(&self) -> Beside {
        Beside::clone(&self.shared.inputs().beside)
    }

    /// Every gateway of linked clusters that has an address, and whether it answers.
    pub fn answers(&self) -> BTreeMap<(ClusterId, NodeId), bool> {
        let tables = self.shared.tables.load();
        let linked = tables.targets.iter().filter_map(|target| Some((target.cluster()?, target)));
        linked.map(|(cluster, target)| ((cluster, target.node()), target.is_alive())).collect()
    }

    async fn keep_tables(self, mut admissions: mpsc::Receiver<Event>, stop: CancellationToken) {
        let mut sweep = tokio::time::interval(SWEEP_EVERY);
        loop {
            tokio::select! {
                event = admissions.recv() => match event {
                    Some(event) => self.admit(event),
                    None => return,
                },
                () = self.shared.dirty.notified() => {
                    // as many as wait now: what comes meanwhile must not keep the tables from being published
                    for _ in 0..admissions.len() {
                        if let Ok(event) = admissions.try_recv() {
                            self.admit(event);
                        }
                    }
                    self.publish();
                    tokio::time::sleep(PUBLISH_EVERY).await;
                }
                _ = sweep.tick() => self.sweep(),
                () = stop.cancelled() => return,
            }
        }
    }

    fn admit(&self, Event::Admit { addr, class, listener }: Event) {
        let now_ms = self.shared.millis(Instant::now());
        self.shared.inputs().admit(addr, class, listener, now_ms);
        self.shared.dirty.notify_one();
    }

    fn sweep(&self) {
        let now_ms = self.shared.millis(Instant::now());
        let Some(since_ms) = now_ms.checked_sub(DOUBT_MS) else { return };
        self.shared.inputs().sources.doubt(since_ms);
        let Some(since_ms) = now_ms.checked_sub(FORGET_MS) else { return };
        if self.shared.inputs().sources.expire(since_ms) {
            self.shared.dirty.notify_one();
        }
    }

    fn publish(&self) {
        let old = self.shared.tables.load_full();
        let tables = Tables::build(&self.shared.fixed, &self.shared.inputs(), Some(&old));
        self.shared.admitted.store(tables.workloads.len() as u64, Relaxed);
        self.shared.tables.store(Arc::new(tables));
    }
}

/// Keeps a control connection's address admitted.
#[derive(Debug)]
pub struct ControlAdmission {
    forwarder: Forwarder,
    addr: Option<SocketAddr>,
}

impl Drop for ControlAdmission {
    fn drop(&mut self) {
        if let Some(addr) = self.addr {
            self.forwarder.update(|inputs| inputs.sources.release(addr));
        }
    }
}

/// The path to another gateway.
#[derive(Clone, Debug, serde::Serialize)]
pub struct PathStatus {
    /// The linked cluster, or `None` for a gateway of this one.
    pub cluster: Option<ClusterId>,
    /// The gateway.
    pub node: NodeId,
    /// Its address.
    pub addr: SocketAddr,
    /// Source ports from which it answers.
    pub ports_alive: usize,
    /// Source ports in all.
    pub ports: usize,
    /// The smallest smoothed round-trip time, in microseconds.
    pub srtt_us: Option<u32>,
}

impl PathStatus {
    fn of(target: &target::Target) -> Self {
        let alive = target.ports.iter().filter(|port| port.alive.load(Relaxed));
        let srtt = target.ports.iter().map(|port| port.srtt_us.load(Relaxed)).filter(|&us| us > 0).min();
        Self {
            cluster: target.cluster(),
            node: target.node(),
            addr: target.addr,
            ports_alive: alive.count(),
            ports: target.ports.len(),
            srtt_us: srtt,
        }
    }
}
