//! What a cluster exports to another: as its gateways sum it up, and as it is in truth.

use super::{Addr, World};
use crate::sabotage::Sabotage;
use causeway_catalog::{Catalog, Service};
use causeway_model::{ClusterName, Health, Locality, ServiceHandle};
use causeway_presence::{Presence, Row};
use causeway_wire::view::ExportSummary;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Changes within this time are told together.
const DELAY: Duration = Duration::from_millis(20);

pub(crate) type Exports = BTreeMap<ServiceHandle, ExportSummary>;

impl World {
    /// Adds up the exports when something changed, and lets the sessions speak.
    pub(crate) fn step_exports(&mut self, at: Addr) {
        let now = self.now;
        let process = self.process(at);
        if process.exports_changed && process.exported_at + DELAY <= now {
            process.exports_changed = false;
            process.exported_at = now;
            process.flush = true;
            self.refresh_exports(at);
        }
        // digests and snapshots that are due are noticed by and by
        if std::mem::take(&mut self.process(at).flush) || (self.ticks + at as u64).is_multiple_of(10) {
            self.speak_over_links(at);
        }
    }

    fn refresh_exports(&mut self, at: Addr) {
        let keep = self.sabotage == Sabotage::DropDelete;
        let names: Vec<ClusterName> = self.clusters.iter().map(|cluster| cluster.name.clone()).collect();
        let process = self.process(at);
        for (cluster, peer) in &mut process.peers {
            let mut desired = exports(&process.catalog, &process.presence, &names[*cluster]);
            if keep {
                let names: BTreeSet<_> = desired.values().map(|export| export.name.clone()).collect();
                let gone = peer.told.values().filter(|old| !names.contains(&old.name)).cloned();
                desired.extend(gone.map(|old| (old.handle, old)).collect::<Vec<_>>());
                peer.told.clone_from(&desired);
            }
            peer.exporter.set_exports(desired);
        }
    }

    /// What cluster `of` exports to cluster `to` when everybody knows everything.
    pub(crate) fn true_exports(&self, of: usize, to: usize) -> Exports {
        let catalog = &self.oracle.clusters[of].reference;
        if catalog.link_by_id(self.clusters[to].id).is_none() {
            return Exports::new();
        }
        let rows = |service: &Service| {
            let of_cluster = self.workloads.values().filter(|workload| workload.cluster == of);
            let serving = of_cluster.filter(|workload| workload.row.service(&service.name).is_some());
            serving.map(|workload| workload.row.clone()).collect::<Vec<_>>()
        };
        sum_up(catalog, &self.clusters[to].name, |service| summary_of(service, rows(service).iter()))
    }
}

fn exports(catalog: &Catalog, presence: &Presence, to: &ClusterName) -> Exports {
    sum_up(catalog, to, |service| {
        summary_of(service, presence.endpoints(&service.name).map(std::sync::Arc::as_ref))
    })
}

fn sum_up(
    catalog: &Catalog,
    to: &ClusterName,
    summary: impl Fn(&Service) -> ExportSummary,
) -> BTreeMap<ServiceHandle, ExportSummary> {
    let services =
        catalog.exports_to(to).filter_map(|export| Some((export.handle, catalog.service(&export.service)?)));
    let ready = services.filter(|(_, service)| !service.ports.is_empty());
    ready.map(|(handle, service)| (handle, ExportSummary { handle, ..summary(service) })).collect()
}

fn summary_of<'a>(service: &Service, rows: impl Iterator<Item = &'a Row>) -> ExportSummary {
    let (mut healthy, mut total) = (0, 0);
    let mut localities: BTreeMap<Locality, u32> = BTreeMap::new();
    for row in rows {
        total += 1;
        healthy +=
            u32::from(row.service(&service.name).is_some_and(|served| served.health == Health::Healthy));
        *localities.entry(row.locality.clone()).or_default() += 1;
    }
    ExportSummary {
        name: service.name.clone(),
        handle: ServiceHandle(0),
        ports: service.ports.clone(),
        identities: service.identities.iter().cloned().collect(),
        healthy,
        total,
        localities: localities.into_iter().collect(),
    }
}
