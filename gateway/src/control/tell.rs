//! What a sidecar was told: only what differs is told again.

use super::SessionError;
use super::session::Session;
use causeway_catalog::Catalog;
use causeway_model::{ClusterId, GatewayFacts, Revision, ServiceHandle, ServiceName, TrustDomain};
use causeway_wire::ctl::{Bundles, ExportedTo, Gateways, Keys};
use causeway_wire::view::{BundleView, CidSecret, ProbeSecret, ServiceView};
use std::collections::{BTreeMap, BTreeSet};

/// To which trust domains each of `services` is exported.
fn exported(catalog: &Catalog, services: &BTreeSet<ServiceName>) -> Vec<(ServiceName, Vec<TrustDomain>)> {
    let domains = |service: &ServiceName| catalog.export_domains(service).into_iter().collect();
    services.iter().map(|service| (service.clone(), domains(service))).collect()
}

/// What was told last.
#[derive(Default)]
pub(super) struct Told {
    gateways: Vec<GatewayFacts>,
    bundles: Option<(Revision, Vec<BundleView>)>,
    keys: Option<(Vec<CidSecret>, ProbeSecret)>,
    exported: Option<Vec<(ServiceName, Vec<TrustDomain>)>>,
    services: BTreeMap<ServiceName, ServiceView>,
}

impl Told {
    /// Forgets the services that are not in `kept`: they are told anew if they are wanted again.
    pub(super) fn forget_services_but(&mut self, kept: &BTreeSet<ServiceName>) {
        self.services.retain(|name, _| kept.contains(name));
    }

    /// Whether something was told of the service.
    fn knows(&self, name: &ServiceName) -> bool {
        self.services.contains_key(name)
    }

    /// The services of linked clusters among those that were told.
    pub(super) fn handles(&self) -> impl Iterator<Item = (ClusterId, ServiceHandle)> + '_ {
        self.services
            .values()
            .flat_map(|view| &view.offers)
            .filter_map(|offer| offer.handle.map(|handle| (offer.cluster.id, handle)))
    }
}

impl Session<'_> {
    /// Gateways, bundles and keys, where they changed.
    pub(super) async fn tell_cluster(&mut self) -> Result<(), SessionError> {
        let gateways = self.hub.gateways();
        if gateways != self.told.gateways {
            self.told.gateways.clone_from(&gateways);
            self.out.send(Gateways { gateways }).await?;
        }
        let catalog = self.hub.catalog();
        let bundles = (catalog.trust_revision(), self.hub.bundles(&catalog));
        if self.told.bundles.as_ref() != Some(&bundles) {
            self.told.bundles = Some(bundles.clone());
            self.out.send(Bundles { revision: bundles.0, bundles: bundles.1 }).await?;
        }
        let Some(probe_key) = self.hub.probe_secret(self.sidecar.workload) else { return Ok(()) };
        let keys = (self.hub.cid_secrets(), probe_key);
        if self.told.keys.as_ref() != Some(&keys) {
            self.told.keys = Some(keys.clone());
            self.out.send(Keys { cid_keys: keys.0, probe_key: keys.1 }).await?;
        }
        Ok(())
    }

    /// To whom the services that this workload serves are exported, where it changed.
    pub(super) async fn tell_exported(&mut self) -> Result<(), SessionError> {
        if !self.registered {
            return Ok(());
        }
        let catalog = self.hub.catalog();
        let services = exported(&catalog, &self.serves);
        if self.told.exported.as_ref() != Some(&services) {
            self.told.exported = Some(services.clone());
            self.out.send(ExportedTo { revision: catalog.revision(), services }).await?;
        }
        Ok(())
    }

    /// Every service that this sidecar uses, where it changed.
    pub(super) async fn tell_services(&mut self) -> Result<(), SessionError> {
        let names: Vec<ServiceName> = self.subscribed.iter().cloned().collect();
        for name in names {
            self.tell_service(&name).await?;
        }
        self.update_wants();
        Ok(())
    }

    /// Every service that this sidecar uses and was told nothing of: what changed of the others is told when it does.
    pub(super) async fn tell_new_services(&mut self) -> Result<(), SessionError> {
        let new = self.subscribed.iter().filter(|name| !self.told.knows(name));
        for name in new.cloned().collect::<Vec<ServiceName>>() {
            self.tell_service(&name).await?;
        }
        self.update_wants();
        Ok(())
    }

    pub(super) async fn tell_service(&mut self, name: &ServiceName) -> Result<(), SessionError> {
        let merged = self.hub.service(name, self.hub.node.locality());
        for conflict in &merged.conflicts {
            tracing::debug!(service = %name, cluster = %conflict.cluster, reason = conflict.why.reason(), "an offer is left out: {}", conflict.why);
        }
        if self.told.services.get(name) != Some(&merged.view) {
            self.told.services.insert(name.clone(), merged.view.clone());
            self.out.send(merged.view).await?;
        }
        Ok(())
    }
}
