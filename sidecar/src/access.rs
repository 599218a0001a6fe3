//! The access log: one line for each connection that was carried or refused, and the counts that go with it.
//!
//! Owns what the line says and that it is written exactly once, when its record is dropped. Lines have the target
//! `access`, so that a filter can keep or drop them.

use crate::balance::Pick;
use crate::metrics::{DirectionMetrics, Pair, SidecarMetrics};
use crate::peer::Peer;
use crate::relay::End;
use causeway_model::{ClusterId, Protocol, ServiceName, SpiffeId, WorkloadId};
use causeway_runtime::DrainGuard;
use causeway_wire::CloseCode;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep;

/// Into how many looks the time is parted that nothing may be carried: a connection ends at most so much later.
const IDLE_LOOKS: u32 = 8;

/// Which way a connection goes, seen from the workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Direction {
    /// The workload called.
    Outbound,
    /// The workload was called.
    Inbound,
}

impl Direction {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Outbound => "outbound",
            Self::Inbound => "inbound",
        }
    }
}

/// Counts the bytes of one connection, and of its direction.
#[derive(Debug)]
pub(crate) struct Meter {
    to_mesh: AtomicU64,
    from_mesh: AtomicU64,
    all: Arc<DirectionMetrics>,
    /// Those of its source and destination, once it is carried.
    pair: Option<Arc<Pair>>,
    /// The endpoint that was chosen last, outbound.
    pick: Option<Pick>,
}

impl Meter {
    fn new(all: Arc<DirectionMetrics>) -> Self {
        Self { to_mesh: AtomicU64::new(0), from_mesh: AtomicU64::new(0), all, pair: None, pick: None }
    }

    /// Bytes so far: into the mesh, and out of it.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (self.to_mesh.load(Relaxed), self.from_mesh.load(Relaxed))
    }

    /// Resolves when nothing was counted for `limit`, or up to an eighth of that later; never if it is zero.
    pub(crate) async fn idle(&self, limit: Duration) {
        if limit.is_zero() {
            return std::future::pending().await;
        }
        let (mut before, mut looks) = (self.bytes(), 0);
        while looks < IDLE_LOOKS {
            sleep(limit / IDLE_LOOKS).await;
            let now = self.bytes();
            looks = if now == before { looks + 1 } else { 0 };
            before = now;
        }
    }

    /// Bytes of the application went into the mesh.
    pub(crate) fn add_to_mesh(&self, count: usize) {
        let before = self.to_mesh.fetch_add(count as u64, Relaxed);
        if let Some(pick) = self.pick.as_ref().filter(|_| before == 0 && count > 0) {
            pick.spoke();
        }
        self.all.bytes_to_mesh.inc_by(count as u64);
        if let Some(pair) = &self.pair {
            pair.to_mesh.inc_by(count as u64);
        }
    }

    /// Bytes came out of the mesh and went to the application.
    pub(crate) fn add_from_mesh(&self, count: usize) {
        let before = self.from_mesh.fetch_add(count as u64, Relaxed);
        if let Some(pick) = self.pick.as_ref().filter(|_| before == 0 && count > 0) {
            pick.answered();
        }
        self.all.bytes_from_mesh.inc_by(count as u64);
        if let Some(pair) = &self.pair {
            pair.from_mesh.inc_by(count as u64);
        }
    }

    /// The peer has said all that it has, and the application has not.
    pub(crate) fn heard_all_first(&self) {
        if let Some(pick) = &self.pick {
            pick.heard_all_first();
        }
    }
}

/// One connection of an application, from when it is accepted until it ends. Dropping it writes its line.
#[derive(Debug)]
pub(crate) struct Access {
    direction: Direction,
    began: Instant,
    metrics: SidecarMetrics,
    /// Its bytes.
    pub(crate) meter: Meter,
    /// Who calls.
    pub(crate) src: Option<SpiffeId>,
    /// Where the caller's TCP connection comes from, outbound.
    pub(crate) src_addr: Option<SocketAddr>,
    /// The instance that calls, inbound.
    pub(crate) src_instance: Option<(ClusterId, WorkloadId)>,
    /// Which service is called, and on which port.
    pub(crate) service: Option<(ServiceName, u16)>,
    /// The instance that is called, outbound.
    pub(crate) dst: Option<(ClusterId, WorkloadId)>,
    /// Who answers.
    pub(crate) dst_identity: Option<SpiffeId>,
    /// Where the application connected to, where that was captured.
    pub(crate) dst_addr: Option<SocketAddr>,
    /// What is spoken, as far as it is declared.
    pub(crate) protocol: Protocol,
    /// The datagrams of a flow: into the mesh, out of it, and dropped.
    pub(crate) datagrams: Option<[u64; 3]>,
    /// How many endpoints were tried, outbound.
    pub(crate) attempts: u32,
    /// How long it took until it was accepted.
    connect: Option<Duration>,
    /// How it ended.
    reason: &'static str,
    /// What an operator should know about the end; empty when there is nothing.
    detail: String,
    /// The descriptor that it takes of those that connections may.
    pub(crate) descriptor: Option<OwnedSemaphorePermit>,
    _live: DrainGuard,
}

impl Access {
    /// A connection that begins now. Until it is told how it ended, it was cut short.
    pub(crate) fn begin(direction: Direction, metrics: &SidecarMetrics, live: DrainGuard) -> Self {
        let all = metrics.direction(direction);
        all.connections.inc();
        all.open.inc();
        Self {
            direction,
            began: Instant::now(),
            metrics: metrics.clone(),
            meter: Meter::new(all),
            src: None,
            src_addr: None,
            src_instance: None,
            service: None,
            dst: None,
            dst_identity: None,
            dst_addr: None,
            protocol: Protocol::default(),
            datagrams: None,
            attempts: 0,
            connect: None,
            reason: "cut-short",
            detail: String::new(),
            descriptor: None,
            _live: live,
        }
    }

    /// It was accepted: from now on it is carried, and counts for its source and destination.
    pub(crate) fn connected(&mut self) {
        self.connect = Some(self.began.elapsed());
        self.count();
    }

    /// Begins to count it for its source and destination.
    fn count(&mut self) {
        // what a caller makes up is no destination
        let unknown = self.connect.is_none() && self.reason == CloseCode::ServiceUnknown.reason();
        let destination = self.service.as_ref().map(|(service, _)| service).filter(|_| !unknown);
        let pair = self.metrics.pairs().of(self.direction, self.src.as_ref(), destination);
        pair.begun(self.meter.bytes(), self.connect);
        self.meter.pair = Some(pair);
    }

    /// Another endpoint was chosen: what was before has ended.
    pub(crate) fn chose(&mut self, pick: Pick) {
        // the old one is told first
        self.meter.pick = None;
        self.meter.pick = Some(pick);
    }

    /// The endpoint that was chosen last.
    pub(crate) fn pick(&self) -> Option<&Pick> {
        self.meter.pick.as_ref()
    }

    /// How it ended.
    pub(crate) fn ended(&mut self, reason: &'static str) {
        self.reason = reason;
    }

    /// How its relay over a connection to `peer` ended. Where this side ended that connection, it knows why.
    pub(crate) fn relayed(&mut self, end: End, peer: &Peer) {
        if let Some(pick) = self.pick() {
            pick.carried(end, self.meter.bytes());
        }
        match (end, peer.ending()) {
            (End::Connection(_), Some(ending)) => self.failed(ending.code.reason(), &ending.text),
            _ => self.ended(end.reason()),
        }
    }

    /// Why it was not carried.
    pub(crate) fn failed(&mut self, reason: &'static str, detail: &impl ToString) {
        self.reason = reason;
        self.detail = detail.to_string();
    }
}

impl Drop for Access {
    fn drop(&mut self) {
        self.metrics.direction(self.direction).open.dec();
        self.metrics.outcome(self.direction, self.reason);
        if self.meter.pair.is_none() {
            self.count();
        }
        if let Some(pair) = &self.meter.pair {
            pair.ended(self.reason, self.began.elapsed());
        }
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let instance = |of: &Option<(ClusterId, WorkloadId)>| of.map(|(_, instance)| instance.to_string());
        let cluster = |of: &Option<(ClusterId, WorkloadId)>| of.map(|(cluster, _)| cluster.get());
        tracing::info!(
            target: "access",
            direction = self.direction.as_str(),
            src.identity = self.src.as_ref().map(tracing::field::display),
            src.addr = self.src_addr.map(tracing::field::display),
            src.cluster = cluster(&self.src_instance),
            src.endpoint = instance(&self.src_instance),
            dst.service = self.service.as_ref().map(|(service, _)| tracing::field::display(service)),
            dst.port = self.service.as_ref().map(|(_, port)| *port),
            dst.addr = self.dst_addr.map(tracing::field::display),
            dst.identity = self.dst_identity.as_ref().map(tracing::field::display),
            dst.cluster = cluster(&self.dst),
            dst.endpoint = instance(&self.dst),
            protocol = %self.protocol,
            attempts = (self.attempts > 0).then_some(self.attempts),
            connect_ms = self.connect.map(millis),
            bytes.to_mesh = self.meter.to_mesh.load(Relaxed),
            bytes.from_mesh = self.meter.from_mesh.load(Relaxed),
            datagrams.to_mesh = self.datagrams.map(|[to_mesh, _, _]| to_mesh),
            datagrams.from_mesh = self.datagrams.map(|[_, from_mesh, _]| from_mesh),
            datagrams.dropped = self.datagrams.map(|[_, _, dropped]| dropped),
            duration_ms = millis(self.began.elapsed()),
            reason = self.reason,
            detail = (!self.detail.is_empty()).then_some(self.detail.as_str()),
        );
    }
}
