//! The access log: one line for each connection that was carried or refused, and the counts that go with it.
//!
//! Owns what the line says and that it is written exactly once, when its record is dropped. Lines have the target
//! `access`, so that a filter can keep or drop them.

use crate::metrics::{DirectionMetrics, SidecarMetrics};
use crate::peer::Peer;
use crate::relay::End;
use causeway_model::{ClusterId, ServiceName, SpiffeId, WorkloadId};
use causeway_runtime::DrainGuard;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

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
}

impl Meter {
    fn new(all: Arc<DirectionMetrics>) -> Self {
        Self { to_mesh: AtomicU64::new(0), from_mesh: AtomicU64::new(0), all }
    }

    /// Bytes of the application went into the mesh.
    pub(crate) fn add_to_mesh(&self, count: usize) {
        self.to_mesh.fetch_add(count as u64, Relaxed);
        self.all.bytes_to_mesh.inc_by(count as u64);
    }

    /// Bytes came out of the mesh and went to the application.
    pub(crate) fn add_from_mesh(&self, count: usize) {
        self.from_mesh.fetch_add(count as u64, Relaxed);
        self.all.bytes_from_mesh.inc_by(count as u64);
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
    /// How it ended.
    reason: &'static str,
    /// What an operator should know about the end; empty when there is nothing.
    detail: String,
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
            reason: "cut-short",
            detail: String::new(),
            _live: live,
        }
    }

    /// How it ended.
    pub(crate) fn ended(&mut self, reason: &'static str) {
        self.reason = reason;
    }

    /// How its relay over a connection to `peer` ended. Where this side ended that connection, it knows why.
    pub(crate) fn relayed(&mut self, end: End, peer: &Peer) {
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
            dst.identity = self.dst_identity.as_ref().map(tracing::field::display),
            dst.cluster = cluster(&self.dst),
            dst.endpoint = instance(&self.dst),
            bytes.to_mesh = self.meter.to_mesh.load(Relaxed),
            bytes.from_mesh = self.meter.from_mesh.load(Relaxed),
            duration_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            reason = self.reason,
            detail = (!self.detail.is_empty()).then_some(self.detail.as_str()),
        );
    }
}
