//! The overlay socket: one UDP socket under quinn, whose packets go to whichever gateway answers.
//!
//! Owns the socket, which gateways and direct peers there are and which of them answer, and the choice among them for each
//! packet. It does not own connections, and it never learns an address by itself: gateways and direct peers are told to it.

mod addr;
mod batch;
mod bind;
mod link;
mod prober;
mod receive;
mod send;
mod socket;
mod table;
#[cfg(test)]
mod tests;
mod watched;

use crate::metrics::OverlayMetrics;
use crate::settings::TransportSettings;
use arc_swap::ArcSwap;
use causeway_model::{ClusterId, NodeId, WorkloadId};
use causeway_wire::CidKeys;
use quinn_udp::UdpSocketState;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use table::Table;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use watched::Watched;

pub use bind::BufferSizes;

/// The most gateways that are kept; more are ignored.
pub const MAX_GATEWAYS: usize = 64;
/// The most addresses of one gateway that are kept; more are ignored.
pub const MAX_ADDRESSES: usize = 4;

/// The one peer address that quinn is told for every packet, so that a change of gateway is no migration: it costs neither path
/// validation nor the congestion window. Nothing is ever sent to it.
pub const fn virtual_addr() -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 255, 255, 254)), 4433)
}

/// What a sidecar is given when it attaches to its gateways.
#[derive(Clone)]
pub struct Attachment {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its instance.
    pub workload: WorkloadId,
    /// The cluster's keys for WORKLOAD ids.
    pub cid_keys: CidKeys,
    /// The key of this workload's probes ([`causeway_wire::probe::workload_key`]); the cluster's own never leaves gateways.
    pub probe_key: [u8; 32],
    /// The low bits of the probe key's epoch.
    pub probe_epoch_bits: u8,
}

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attachment")
            .field("cluster", &self.cluster)
            .field("workload", &self.workload)
            .field("probe_epoch_bits", &self.probe_epoch_bits)
            .finish_non_exhaustive()
    }
}

/// A gateway of the own cluster and where it may be reached, best first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayTarget {
    /// Its node id; [`NodeId::ANY`] while it is not known, as with the addresses of a token.
    pub node: NodeId,
    /// Its addresses.
    pub addrs: Vec<SocketAddr>,
}

/// How one address of a gateway does.
#[derive(Clone, Debug, PartialEq)]
pub struct GatewayStatus {
    /// The gateway.
    pub node: NodeId,
    /// The address.
    pub addr: SocketAddr,
    /// Whether packets may go there.
    pub alive: bool,
    /// How often the cookie of its answers has changed: the gateway was started again, or sees this socket at another address. Its
    /// connections from before are lost in the first case.
    pub generation: u64,
    /// The smoothed round-trip time of its probes, once there was an answer.
    pub srtt: Option<Duration>,
    /// The share of probes that were not answered in time, from 0 to 1.
    pub loss: f32,
    /// When it answered last.
    pub last_answer: Option<Instant>,
}

/// What an attachment means for the socket.
struct Attached {
    attachment: Attachment,
    /// The key of this workload's probes.
    key: [u8; 32],
}

struct Inner {
    io: Watched,
    state: UdpSocketState,
    local: SocketAddr,
    buffers: BufferSizes,
    /// How many datagrams of the largest size one call sends.
    max_segments: usize,
    table: ArcSwap<Table>,
    /// Serialises changes of `table`.
    edits: Mutex<()>,
    born: Instant,
    /// Wakes the prober: there is a path, a key or a use that it does not know of.
    wake: Notify,
    any_alive: watch::Sender<bool>,
    switches: AtomicU64,
    metrics: OverlayMetrics,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Overlay").field("local", &self.local).finish_non_exhaustive()
    }
}

/// The overlay socket of a sidecar. Clones share it.
///
/// - It sends each packet by its destination connection ID: a WORKLOAD id of the own cluster goes straight to its workload, if that
///   has a direct address that answers; a GATEWAY id of the own cluster to that gateway, if it answers; everything else to the
///   gateway that the ID's hash picks among those that answer. If none answers, the hash picks among all.
/// - It takes packets only from the addresses it was told, and gives quinn [`virtual_addr`] as their source.
/// - Answers to probes are read while an [`OverlayEndpoint`](crate::OverlayEndpoint) drives the socket, and probes are sent while
///   [`run_prober`](Self::run_prober) runs: without both, every gateway counts as dead.
#[derive(Clone, Debug)]
pub struct Overlay {
    inner: Arc<Inner>,
}

impl Overlay {
    /// A socket on `addr`; `[::]` takes IPv4 as well. Call it on the runtime that is to drive the endpoint.
    ///
    /// # Errors
    /// What the system says; whoever knows what the address is for names it.
    pub fn bind(addr: SocketAddr, settings: &TransportSettings) -> io::Result<Self> {
        let (socket, buffers) = bind::socket(addr)?;
        let state = UdpSocketState::new((&socket).into())?;
        let local = socket.local_addr()?;
        let datagram = usize::from(settings.bounded().datagram_size);
        let inner = Inner {
            io: Watched::new(socket)?,
            state,
            local,
            buffers,
            max_segments: batch::per_call(datagram),
            table: ArcSwap::default(),
            edits: Mutex::new(()),
            born: Instant::now(),
            wake: Notify::new(),
            any_alive: watch::Sender::new(false),
            switches: AtomicU64::new(0),
            metrics: OverlayMetrics::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The address that the socket is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        self.inner.local
    }

    /// The socket buffers that the system granted.
    pub fn buffer_sizes(&self) -> BufferSizes {
        self.inner.buffers
    }

    /// Gives the socket its keys, or newer ones. Probes to gateways begin with the first.
    pub fn attach(&self, attachment: Attachment) {
        let key = attachment.probe_key;
        let attached = Arc::new(Attached { attachment, key });
        self.edit(|table| table.with_attached(attached));
    }

    /// Sets the gateways of the own cluster. Those that stay keep what is known of them. At most [`MAX_GATEWAYS`] gateways with
    /// [`MAX_ADDRESSES`] addresses each are kept; an address that another gateway has before, or that the socket's address
    /// family cannot reach, is skipped.
    pub fn set_gateways(&self, targets: Vec<GatewayTarget>) {
        let v6 = self.inner.local.is_ipv6();
        self.edit(|table| table.with_gateways(targets, v6));
    }

    /// Every address of every gateway, in the order given.
    pub fn gateways(&self) -> Vec<GatewayStatus> {
        self.inner.table.load().gateways.iter().flat_map(table::Gateway::status).collect()
    }

    /// Whether any gateway answers.
    pub fn any_alive(&self) -> watch::Receiver<bool> {
        self.inner.any_alive.subscribe()
    }

    /// How often a gateway that packets went to stopped answering.
    pub fn switches(&self) -> u64 {
        self.inner.switches.load(Ordering::Relaxed)
    }

    /// Says where `workload` of the own cluster may be reached without a gateway. It is probed under `key`, which both sides
    /// export from their connection, and used once it has answered. An address that the socket's family cannot reach is ignored.
    pub fn set_direct(&self, workload: WorkloadId, addr: SocketAddr, key: [u8; 32]) {
        let v6 = self.inner.local.is_ipv6();
        self.edit(|table| table.with_direct(workload, addr, key, v6));
    }

    /// Forgets the direct address of `workload`.
    pub fn remove_direct(&self, workload: WorkloadId) {
        self.edit(|table| table.without_direct(workload));
    }

    /// Whether packets to `workload` go straight.
    pub fn is_direct(&self, workload: WorkloadId) -> bool {
        self.inner.table.load().direct.get(&workload).is_some_and(|link| link.is_alive())
    }

    /// The socket's metrics.
    pub fn metrics(&self) -> &OverlayMetrics {
        &self.inner.metrics
    }

    /// Probes the gateways and direct peers until `token` is cancelled: every 20 ms those that packets go to, the others every
    /// 500 ms (direct peers: 2 s). Spawn it on the runtime of the endpoint.
    pub fn run_prober(&self, token: CancellationToken) -> impl Future<Output = ()> + Send + 'static {
        prober::run(Arc::clone(&self.inner), token)
    }

    pub(crate) fn attachment(&self) -> Option<Attachment> {
        self.inner.table.load().attached.as_ref().map(|attached| attached.attachment.clone())
    }

    /// The WORKLOAD id of a new connection; `None` while there is no key.
    pub(crate) fn mint(&self) -> Option<causeway_wire::Cid> {
        let table = self.inner.table.load();
        let attachment = &table.attached.as_ref()?.attachment;
        attachment.cid_keys.mint(attachment.workload, rand::random())
    }

    pub(crate) fn socket(&self) -> Arc<dyn quinn::AsyncUdpSocket> {
        Arc::clone(&self.inner) as Arc<dyn quinn::AsyncUdpSocket>
    }

    fn edit(&self, change: impl FnOnce(&Table) -> Table) {
        {
            let _one_at_a_time = self.inner.edits.lock().unwrap_or_else(PoisonError::into_inner);
            let table = change(&self.inner.table.load());
            self.inner.table.store(Arc::new(table));
        }
        self.inner.refresh();
        self.inner.wake.notify_one();
    }
}

impl Inner {
    /// Milliseconds since the socket was made, from 1: 0 stands for never.
    fn clock(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    /// Publishes how many paths answer. Called after each change, which is rare.
    fn refresh(&self) {
        let table = self.table.load();
        let gateways = table.gateways.iter().filter(|gateway| gateway.alive().is_some()).count();
        let direct = table.direct.values().filter(|link| link.is_alive()).count();
        self.metrics.gateways_alive.set(i64::try_from(gateways).unwrap_or(i64::MAX));
        self.metrics.direct_alive.set(i64::try_from(direct).unwrap_or(i64::MAX));
        self.any_alive.send_if_modified(|alive| std::mem::replace(alive, gateways > 0) != (gateways > 0));
    }
}
