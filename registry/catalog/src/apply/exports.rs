//! Exports.

use crate::catalog::{Context, Effect, done};
use crate::{Bound, Catalog, Event, Export, ExportTo, Exported, Outcome, Refusal, Unexport};
use causeway_model::{ClusterName, ServiceName};
use std::collections::BTreeSet;

impl Catalog {
    pub(crate) fn export(&mut self, context: Context<'_>, c: &Export) -> Result<Effect, Refusal> {
        self.check_targets(c)?;
        if !self.services.contains_key(&c.service) {
            return Err(Refusal::ServiceUnknown { service: c.service.clone() });
        }
        let unlinked = match &c.to {
            ExportTo::All => Vec::new(),
            ExportTo::Clusters(named) => {
                named.iter().filter(|name| !self.links.contains_key(*name)).cloned().collect()
            }
        };
        let (handle, changed) = match self.exports.get_mut(&c.service) {
            Some(known) => {
                let to = merge(&known.to, &c.to)?;
                let changed = known.to != to;
                if changed {
                    known.to = to;
                    known.changed = context.revision;
                }
                (known.handle, changed)
            }
            None => {
                self.export_anew(context, c)?;
                (c.handle, true)
            }
        };
        let events = if changed { vec![Event::ExportChanged(c.service.clone())] } else { Vec::new() };
        Ok((Outcome::Exported { handle, unlinked }, events))
    }

    /// Refuses an export to nobody, to too many, or to this cluster.
    fn check_targets(&self, c: &Export) -> Result<(), Refusal> {
        let own = self.own()?;
        let ExportTo::Clusters(named) = &c.to else { return Ok(()) };
        check_named(named)?;
        if named.contains(&own.name) {
            return Err(Refusal::ExportToSelf { service: c.service.clone(), cluster: own.name.clone() });
        }
        Ok(())
    }

    fn export_anew(&mut self, context: Context<'_>, c: &Export) -> Result<(), Refusal> {
        if let Some(service) = self.by_handle.get(&c.handle) {
            return Err(Refusal::HandleClash { handle: c.handle, service: service.clone() });
        }
        let (service, handle) = (c.service.clone(), c.handle);
        self.by_handle.insert(handle, service.clone());
        let exported = Exported { service, handle, to: c.to.clone(), changed: context.revision };
        self.exports.insert(c.service.clone(), exported);
        Ok(())
    }

    pub(crate) fn unexport(&mut self, context: Context<'_>, c: &Unexport) -> Result<Effect, Refusal> {
        self.own()?;
        let not_exported = || Refusal::NotExported { service: c.service.clone() };
        let known = self.exports.get_mut(&c.service).ok_or_else(not_exported)?;
        let Some(from) = &c.from else { return Ok(self.withdraw(&c.service)) };
        check_named(from)?;
        match &mut known.to {
            ExportTo::All => Err(Refusal::ExportedToAll { service: c.service.clone() }),
            ExportTo::Clusters(named) if named.is_disjoint(from) => Err(not_exported()),
            ExportTo::Clusters(named) if named.is_subset(from) => Ok(self.withdraw(&c.service)),
            ExportTo::Clusters(named) => {
                named.retain(|name| !from.contains(name));
                known.changed = context.revision;
                Ok(done([Event::ExportChanged(c.service.clone())]))
            }
        }
    }

    /// Ends the export of `service`, and with it the handle.
    fn withdraw(&mut self, service: &ServiceName) -> Effect {
        if let Some(gone) = self.exports.remove(service) {
            self.by_handle.remove(&gone.handle);
        }
        done([Event::ExportChanged(service.clone())])
    }
}

/// To whom a service is exported after `new` is asked of one that is exported to `known`.
fn merge(known: &ExportTo, new: &ExportTo) -> Result<ExportTo, Refusal> {
    let (ExportTo::Clusters(known), ExportTo::Clusters(new)) = (known, new) else { return Ok(new.clone()) };
    let union: BTreeSet<ClusterName> = known.union(new).cloned().collect();
    Bound::ExportClusters.check(union.len())?;
    Ok(ExportTo::Clusters(union))
}

fn check_named(named: &BTreeSet<ClusterName>) -> Result<(), Refusal> {
    if named.is_empty() {
        return Err(Refusal::invalid("clusters", "none", "name at least one cluster, or all"));
    }
    Bound::ExportClusters.check(named.len())
}
