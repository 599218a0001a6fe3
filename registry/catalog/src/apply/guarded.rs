//! Changes that hold only if the resource still is what it was.

use crate::catalog::{Context, Effect};
use crate::{Catalog, Change, ChangeIf, LinkIntent, MergeRule, Refusal, Witness};
use causeway_model::{ClusterName, ServiceName};

impl Catalog {
    /// What the ports of `service` are, for a [`ChangeIf`].
    pub fn witness_of_service(&self, service: &ServiceName) -> Witness {
        Witness::Service(self.services.get(service).map(|service| service.ports.clone()))
    }

    /// To whom `service` is exported, for a [`ChangeIf`].
    pub fn witness_of_export(&self, service: &ServiceName) -> Witness {
        Witness::Export(self.exports.get(service).map(|export| export.to.clone()))
    }

    /// How the link to `cluster` is used, for a [`ChangeIf`].
    pub fn witness_of_link(&self, cluster: &ClusterName) -> Witness {
        let intent = self.links.get(cluster).map(|link| LinkIntent {
            merge_namespaces: match &link.merge_namespaces {
                MergeRule::Only(namespaces) if namespaces.is_empty() => MergeRule::None,
                rule => rule.clone(),
            },
            stale: link.stale,
            transit: link.transit,
            paused: link.paused,
        });
        Witness::Link(intent)
    }

    pub(crate) fn change_if(&mut self, context: Context<'_>, c: &ChangeIf) -> Result<Effect, Refusal> {
        self.own()?;
        let is = match &c.change {
            Change::DeclarePorts(c) => self.witness_of_service(&c.service),
            Change::Export(c) => self.witness_of_export(&c.service),
            Change::Unexport(c) => self.witness_of_export(&c.service),
            Change::SetLinkPolicy(c) => self.witness_of_link(&c.cluster),
            Change::PauseLink(c) => self.witness_of_link(&c.cluster),
        };
        if is != c.was {
            return Err(Refusal::ResourceChanged { resource: c.change.resource() });
        }
        match &c.change {
            Change::DeclarePorts(c) => self.declare_ports(context, c),
            Change::Export(c) => self.export(context, c),
            Change::Unexport(c) => self.unexport(context, c),
            Change::SetLinkPolicy(c) => self.set_link_policy(context, c),
            Change::PauseLink(c) => self.pause_link(context, c),
        }
    }
}
