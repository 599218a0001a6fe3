//! Whom this gateway's sidecars trust and by whom they are signed: what a rotation of roots waits for.

use super::Hub;
use crate::siblings::Siblings;
use causeway_model::{Revision, WorkloadId};
use causeway_wire::ctl::TrustReport;
use causeway_wire::peer::GatewayStatus;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// The first bytes of a root's fingerprint.
pub(crate) type RootId = [u8; 8];

/// The first bytes of `fingerprint`.
pub(crate) fn root_id(fingerprint: &[u8; 32]) -> RootId {
    let [a, b, c, d, e, f, g, h, ..] = *fingerprint;
    [a, b, c, d, e, f, g, h]
}

/// What the sidecars with a control connection to this gateway said last.
#[derive(Debug, Default)]
pub(crate) struct Reports(BTreeMap<WorkloadId, Option<TrustReport>>);

impl Reports {
    /// A sidecar is here; it has not said anything yet.
    pub(super) fn open(&mut self, workload: WorkloadId) {
        self.0.entry(workload).or_default();
    }

    /// It is gone.
    pub(super) fn close(&mut self, workload: WorkloadId) {
        self.0.remove(&workload);
    }

    fn report(&mut self, workload: WorkloadId, report: TrustReport) {
        if let Some(last) = self.0.get_mut(&workload) {
            *last = Some(report);
        }
    }

    /// The least revision of trust bundles that any of them has; 0 while one has not said. Nothing without any.
    fn least(&self) -> Option<Revision> {
        self.0.values().map(|report| report.as_ref().map_or(Revision(0), |report| report.bundles)).min()
    }

    /// The roots that their certificates chain to.
    fn roots(&self) -> BTreeSet<RootId> {
        self.0.values().flatten().map(|report| report.root).collect()
    }
}

impl Hub {
    /// A sidecar says whom it trusts.
    pub(crate) fn trust_reported(&self, workload: WorkloadId, report: TrustReport) {
        self.soft().reports.report(workload, report);
    }

    /// How this gateway is doing, for the others.
    pub(crate) fn own_status(&self) -> GatewayStatus {
        let catalog = self.catalog();
        let root = root_id(&self.node.own_root());
        let packets = self.forwarder.totals().packets_out;
        let soft = self.soft();
        GatewayStatus {
            release: env!("CARGO_PKG_VERSION").to_owned(),
            revision: catalog.revision(),
            root,
            ready: self.not_ready().is_empty(),
            draining: catalog.is_draining(self.node.id()),
            attached: u32::try_from(soft.attached.len()).unwrap_or(u32::MAX),
            packets,
            up_secs: self.up().as_secs(),
            least_bundle: soft.reports.least(),
            roots: soft.reports.roots().into_iter().collect(),
            admin: self.admin.get().cloned(),
            unix_time: causeway_runtime::clock::unix_now(),
        }
    }

    /// Whether every gateway of this cluster that is alive, with its sidecars, trusts whom the registry said to trust at
    /// `revision`.
    pub(crate) fn have_taken(&self, now: Instant, revision: Revision) -> bool {
        // one that is cut off from its cluster cannot speak for it
        let taken_here = self.registry.status().leader.is_some() && self.registry.revision() >= revision;
        let own = self.node.id();
        let soft = self.soft();
        let others = soft.members.iter().copied().filter(|node| *node != own).collect();
        let sidecars = soft.reports.least().is_none_or(|least| least >= revision);
        taken_here && sidecars && soft.siblings.have_taken(now, revision, &others)
    }

    /// The roots that certificates of this cluster's gateways and sidecars chain to, as far as they are alive.
    pub(crate) fn roots_in_use(&self, now: Instant) -> BTreeSet<RootId> {
        let own = root_id(&self.node.own_root());
        let soft = self.soft();
        let siblings: &Siblings = &soft.siblings;
        siblings.roots(now).into_iter().chain(soft.reports.roots()).chain([own]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sidecar_that_said_nothing_holds_a_rotation_up() {
        let mut reports = Reports::default();
        assert_eq!(reports.least(), None);
        let report = |bundles, root| TrustReport { bundles: Revision(bundles), root: [root; 8] };
        reports.open(WorkloadId(1));
        reports.open(WorkloadId(2));
        reports.report(WorkloadId(1), report(5, 1));
        reports.report(WorkloadId(9), report(1, 9));
        assert_eq!(reports.least(), Some(Revision(0)));
        reports.report(WorkloadId(2), report(4, 2));
        assert_eq!(reports.least(), Some(Revision(4)));
        assert_eq!(reports.roots(), [[1; 8], [2; 8]].into());
        reports.open(WorkloadId(2));
        reports.close(WorkloadId(1));
        assert_eq!((reports.least(), reports.roots()), (Some(Revision(4)), [[2; 8]].into()));
    }
}
