//! What a sidecar was told: only what differs is told again.

use super::SessionError;
use super::session::Session;
use causeway_catalog::Catalog;
use causeway_model::{ClusterId, GatewayFacts, Revision, ServiceHandle, ServiceName, TrustDomain};
use causeway_wire::ctl::{Bundle, Bundles, ExportedTo, Gateways, Keys};
use causeway_wire::view::{CidSecret, ProbeSecret, ServiceView};
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
    trust: ToldTrust,
    keys: Option<(Vec<CidSecret>, ProbeSecret)>,
    exported: Option<Vec<(ServiceName, Vec<TrustDomain>)>>,
    services: BTreeMap<ServiceName, ServiceView>,
}

/// What was told of trust.
#[derive(Debug, Default)]
struct ToldTrust {
    /// The revision of all of it.
    revision: Option<Revision>,
    /// At which revision each bundle had last changed.
    bundles: BTreeMap<TrustDomain, Revision>,
}

impl ToldTrust {
    /// The bundles to tell of those that are `trusted` at `revision`, which count as told from now on. What is not trusted any more is
    /// forgotten: a link that is made again is told again, though its bundle may be the same.
    fn due(&mut self, revision: Revision, trusted: &BTreeMap<TrustDomain, Revision>) -> Vec<TrustDomain> {
        self.revision = Some(revision);
        let known = std::mem::replace(&mut self.bundles, trusted.clone());
        let new = trusted.iter().filter(|(domain, changed)| known.get(*domain) != Some(changed));
        new.map(|(domain, _)| domain.clone()).collect()
    }
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
        self.tell_trust(&catalog).await?;
        let Some(probe_key) = self.hub.probe_secret(self.sidecar.workload) else { return Ok(()) };
        let keys = (self.hub.cid_secrets(), probe_key);
        if self.told.keys.as_ref() != Some(&keys) {
            self.told.keys = Some(keys.clone());
            self.out.send(Keys { cid_keys: keys.0, probe_key: keys.1 }).await?;
        }
        Ok(())
    }

    /// Whom to trust, where it changed: each bundle in a message of its own, then which of them count.
    async fn tell_trust(&mut self, catalog: &Catalog) -> Result<(), SessionError> {
        let revision = catalog.trust_revision();
        if self.told.trust.revision == Some(revision) {
            return Ok(());
        }
        let trusted = self.hub.trusted(catalog);
        for domain in self.told.trust.due(revision, &trusted) {
            if let Some(bundle) = self.hub.bundle(catalog, &domain) {
                self.out.send(Bundle { bundle }).await?;
            }
        }
        self.out.send(Bundles { revision, domains: trusted.into_keys().collect() }).await
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bundles_that_changed_are_told_again() {
        let mut told = ToldTrust::default();
        let mut due = |revision: u64, trusted: &[(&str, u64)]| {
            let trusted =
                trusted.iter().map(|(domain, at)| (domain.parse().unwrap(), Revision(*at))).collect();
            let due = told.due(Revision(revision), &trusted);
            due.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(due(5, &[("iad.mesh", 5), ("phx.mesh", 3)]), ["iad.mesh", "phx.mesh"]);
        assert_eq!(due(6, &[("iad.mesh", 6), ("phx.mesh", 3), ("lhr.mesh", 6)]), ["iad.mesh", "lhr.mesh"]);
        assert_eq!(due(7, &[("iad.mesh", 7), ("phx.mesh", 7)]), ["iad.mesh", "phx.mesh"]);
        // it went and came back while this session was not looked after
        assert_eq!(due(9, &[("iad.mesh", 9), ("phx.mesh", 9)]), ["iad.mesh", "phx.mesh"]);
        assert_eq!(due(10, &[("iad.mesh", 9)]), [""; 0]);
        assert_eq!(due(11, &[("iad.mesh", 11), ("phx.mesh", 9)]), ["iad.mesh", "phx.mesh"]);
    }
}
