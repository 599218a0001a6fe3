//! Questions about the merged view and the siblings.

use super::Presence;
use crate::{Counters, Incarnation, PeerStatus, Row, WorkloadView};
use causeway_model::{NodeId, ServiceName, WorkloadId};
use std::collections::BTreeSet;
use std::sync::Arc;

impl Presence {
    /// This gateway.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// This process of the gateway.
    pub fn incarnation(&self) -> Incarnation {
        self.own.incarnation
    }

    /// What the gateways together say of a workload; nothing once it is gone.
    pub fn get(&self, workload: WorkloadId) -> Option<WorkloadView<'_>> {
        self.view.get(workload)
    }

    /// Whether the workload is not gone. True also in the grace of a dead gateway, when [`WorkloadView::alive`] is false.
    pub fn is_alive(&self, workload: WorkloadId) -> bool {
        self.view.contains(workload)
    }

    /// All workloads that are not gone, in ascending order.
    pub fn workloads(&self) -> impl Iterator<Item = WorkloadView<'_>> {
        self.view.workloads()
    }

    /// How many workloads are not gone.
    pub fn workload_count(&self) -> usize {
        self.view.len()
    }

    /// The gateway through which a workload is reached: this one if it vouches for it, else a live one that does, with a
    /// control connection if possible. Nothing while only dead gateways vouch.
    pub fn gateway_of(&self, workload: WorkloadId) -> Option<NodeId> {
        self.view.gateway_of(workload)
    }

    /// Another gateway than this one that reaches a workload, whether this one vouches for it or not. One that is not heard is named
    /// if there is no better: it may be this gateway that cannot hear.
    pub fn other_gateway_of(&self, workload: WorkloadId) -> Option<NodeId> {
        self.view.other_gateway_of(workload)
    }

    /// The rows of the workloads that serve a service, whatever their health, in ascending order of the workloads.
    pub fn endpoints(&self, service: &ServiceName) -> impl Iterator<Item = &Arc<Row>> {
        self.view.endpoints(service)
    }

    /// How many endpoints of a service are healthy, and how many there are.
    pub fn counts(&self, service: &ServiceName) -> (usize, usize) {
        self.view.counts(service)
    }

    /// The services that have endpoints, in ascending order.
    pub fn services(&self) -> impl Iterator<Item = &ServiceName> {
        self.view.services()
    }

    /// The keys of the SVIDs that a workload has, as any gateway knows them: SHA-256 of their SubjectPublicKeyInfo. Empty when it is
    /// gone, or nothing is known. A sidecar renews over one of its control connections, so no single gateway knows them all.
    pub fn svid_keys(&self, workload: WorkloadId) -> BTreeSet<[u8; 32]> {
        self.view.rows_of(workload).flat_map(|row| row.svid_keys()).copied().collect()
    }

    /// The rows that this gateway owns, in ascending order of the workloads.
    pub fn local_rows(&self) -> impl Iterator<Item = &Arc<Row>> {
        self.own.rows()
    }

    /// The version of this gateway's own table: how often it changed.
    pub fn version(&self) -> u64 {
        self.own.version()
    }

    /// The siblings, in ascending order.
    pub fn peers(&self) -> impl Iterator<Item = PeerStatus> {
        self.peers.values().map(super::Peer::status)
    }

    /// What was counted since the start.
    pub fn counters(&self) -> Counters {
        self.counters
    }
}
