//! Services: their ports and who may serve them.

use crate::catalog::{Context, Effect, done};
use crate::{Bound, Catalog, DeclarePorts, Event, Refusal, Service, ServiceDeclaration};
use causeway_model::{PortSet, ServiceName, SpiffeId};
use std::collections::BTreeSet;

impl Catalog {
    /// Refuses a declaration whose ports differ from the service's, or for whose identity there is no room.
    pub(crate) fn check_declaration(
        &self,
        identity: &SpiffeId,
        declaration: &ServiceDeclaration,
    ) -> Result<(), Refusal> {
        let Some(service) = self.services.get(&declaration.name) else { return Ok(()) };
        if !declaration.ports.is_empty() {
            check_ports(service, &declaration.ports)?;
        }
        let new = usize::from(!service.identities.contains(identity));
        Bound::Identities.check(service.identities.len() + new)
    }

    /// Lets `identity` serve a service, which comes into being if it does not exist. The declaration was checked.
    pub(crate) fn grant(
        &mut self,
        context: Context<'_>,
        identity: &SpiffeId,
        declaration: &ServiceDeclaration,
    ) -> Option<Event> {
        let name = &declaration.name;
        let mut changed = !self.services.contains_key(name);
        let service = self.services.entry(name.clone()).or_insert_with(|| Service {
            name: name.clone(),
            ports: PortSet::default(),
            identities: BTreeSet::new(),
            changed: context.revision,
        });
        if service.ports.is_empty() && !declaration.ports.is_empty() {
            service.ports.clone_from(&declaration.ports);
            changed = true;
        }
        changed |= service.identities.insert(identity.clone());
        self.by_identity.entry(identity.clone()).or_default().insert(name.clone());
        changed.then(|| {
            service.changed = context.revision;
            Event::ServiceChanged(name.clone())
        })
    }

    pub(crate) fn declare_ports(
        &mut self,
        context: Context<'_>,
        c: &DeclarePorts,
    ) -> Result<Effect, Refusal> {
        self.own()?;
        let unknown = || Refusal::ServiceUnknown { service: c.service.clone() };
        let service = self.services.get_mut(&c.service).ok_or_else(unknown)?;
        if c.ports.is_empty() {
            return Err(Refusal::invalid("ports", "none", "declare at least one port, for example 80/http"));
        }
        check_ports(service, &c.ports)?;
        if service.ports == c.ports {
            return Ok(done([]));
        }
        service.ports.clone_from(&c.ports);
        service.changed = context.revision;
        Ok(done([Event::ServiceChanged(c.service.clone())]))
    }

    pub(crate) fn remove_service(&mut self, name: &ServiceName) -> Result<Effect, Refusal> {
        self.own()?;
        if self.exports.contains_key(name) {
            return Err(Refusal::ServiceExported { service: name.clone() });
        }
        let Some(service) = self.services.remove(name) else {
            return Err(Refusal::ServiceUnknown { service: name.clone() });
        };
        for identity in &service.identities {
            if let Some(served) = self.by_identity.get_mut(identity) {
                served.remove(name);
                if served.is_empty() {
                    self.by_identity.remove(identity);
                }
            }
        }
        Ok(done([Event::ServiceRemoved(name.clone())]))
    }
}

/// Refuses ports that differ from those that the service has.
fn check_ports(service: &Service, asked: &PortSet) -> Result<(), Refusal> {
    if service.ports.is_empty() || service.ports == *asked {
        return Ok(());
    }
    let declared = service.ports.clone();
    Err(Refusal::PortsDiffer { service: service.name.clone(), declared, asked: asked.clone() })
}
