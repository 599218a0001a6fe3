//! Acknowledged writes survive: in every replica at or beyond their revision, with their effect.

use super::{Invariant, Verdict, Violation};
use crate::oracle::History;
use crate::world::World;
use causeway_catalog::{Catalog, CommandBody, ExportTo, TokenId, TokenKind};
use causeway_model::{ClusterName, Revision, ServiceName};
use std::collections::{BTreeMap, BTreeSet};

fn broken(what: impl Into<String>) -> Violation {
    Violation::new(Invariant::AcknowledgedWritesSurvive, what)
}

/// The entry at the revision that was acknowledged to `asked` is by `found`.
pub(crate) fn check_kept(revision: Revision, asked: &str, found: Option<&str>) -> Verdict {
    if found == Some(asked) {
        return Ok(());
    }
    let found = found.unwrap_or("nobody");
    Err(broken(format!("revision {revision} was acknowledged to {asked} and now is by {found}")))
}

/// What was asked for, by the words of the commands alone: a second opinion on what a catalog should hold.
#[derive(Default)]
pub(crate) struct Intent {
    services: BTreeSet<ServiceName>,
    exports: BTreeMap<ServiceName, ExportTo>,
    links: BTreeSet<ClusterName>,
    revoked: BTreeSet<TokenId>,
}

impl Intent {
    /// `body` was carried out.
    pub(crate) fn follow(&mut self, body: &CommandBody) {
        match body {
            CommandBody::CreateToken(c) => {
                if let TokenKind::Workload { services, .. } = &c.kind {
                    self.services.extend(services.iter().map(|service| service.name.clone()));
                }
            }
            CommandBody::RevokeToken(c) => _ = self.revoked.insert(c.id),
            CommandBody::RemoveService(c) => _ = self.services.remove(&c.name),
            CommandBody::Export(c) => match (self.exports.get_mut(&c.service), &c.to) {
                (Some(ExportTo::Clusters(old)), ExportTo::Clusters(new)) => old.extend(new.iter().cloned()),
                _ => _ = self.exports.insert(c.service.clone(), c.to.clone()),
            },
            CommandBody::Unexport(c) => match (self.exports.get_mut(&c.service), &c.from) {
                (Some(ExportTo::Clusters(old)), Some(from)) if !old.is_subset(from) => {
                    old.retain(|cluster| !from.contains(cluster));
                }
                _ => _ = self.exports.remove(&c.service),
            },
            CommandBody::EstablishLink(c) => _ = self.links.insert(c.peer.name.clone()),
            CommandBody::RemoveLink(c) => _ = self.links.remove(&c.cluster),
            _ => {}
        }
    }

    fn check(&self, catalog: &Catalog) -> Verdict {
        let services = catalog.services().map(|service| &service.name);
        if !services.eq(&self.services) {
            return Err(broken(format!("its services are not those asked for: {:?}", self.services)));
        }
        let exports = catalog.exports().map(|export| (&export.service, &export.to));
        if !exports.eq(&self.exports) {
            return Err(broken(format!("its exports are not those asked for: {:?}", self.exports)));
        }
        let links = catalog.links().map(|link| &link.peer.name);
        if !links.eq(&self.links) {
            return Err(broken(format!("its links are not those asked for: {:?}", self.links)));
        }
        match catalog.tokens().find(|token| token.revoked != self.revoked.contains(&token.id)) {
            Some(token) => Err(broken(format!("token {} is not as it was left", token.id))),
            None => Ok(()),
        }
    }
}

/// Every replica holds what was acknowledged up to its revision; and those that are up to date have the effect of it.
pub(crate) fn check(world: &World) -> Verdict {
    for gateway in &world.gateways {
        let Some(process) = &gateway.process else { continue };
        let history = &world.oracle.clusters[gateway.cluster];
        check_audit(world, history, &process.catalog)?;
        if process.catalog.revision() == history.reference.revision() {
            history.intent.check(&process.catalog)?;
        }
    }
    Ok(())
}

fn check_audit(world: &World, history: &History, catalog: &Catalog) -> Verdict {
    let mut audit = catalog.audit().peekable();
    for (revision, id) in history.acknowledged.range(..=catalog.revision()) {
        while audit.peek().is_some_and(|entry| entry.revision < *revision) {
            audit.next();
        }
        let found = audit.peek().filter(|entry| entry.revision == *revision);
        check_kept(*revision, &world.oracle.writes[*id].command.by, found.map(|entry| entry.by.as_str()))?;
    }
    Ok(())
}
