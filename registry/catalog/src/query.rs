//! What can be read from a catalog. All of it is the state at [`Catalog::revision`], in the order of names and numbers.

use crate::{
    AuditEntry, Catalog, ClusterState, Exported, Invite, InviteId, Link, Refusal, Revoked, Service, Token,
    TokenId, TokenUser,
};
use causeway_model::{
    ClusterId, ClusterName, GatewayFacts, NodeId, Revision, ServiceHandle, ServiceName, SpiffeId,
    TrustDomain, Vip, VipName,
};
use std::collections::BTreeSet;
use std::ops::Bound;

impl Catalog {
    /// The revision of the last command that was applied.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The cluster's facts, CA and keys; `None` until it is initialised.
    pub fn cluster(&self) -> Option<&ClusterState> {
        self.cluster.as_ref()
    }

    /// The cluster's own gateways.
    pub fn gateways(&self) -> impl ExactSizeIterator<Item = &GatewayFacts> {
        self.gateways.values()
    }

    /// One of the cluster's own gateways.
    pub fn gateway(&self, node: NodeId) -> Option<&GatewayFacts> {
        self.gateways.get(&node)
    }

    /// Whether that gateway is being taken out of use.
    pub fn is_draining(&self, node: NodeId) -> bool {
        self.draining.contains(&node)
    }

    /// When that gateway was removed, in seconds since the Unix epoch; known of the last 4,096.
    pub fn removed(&self, node: NodeId) -> Option<u64> {
        self.removed.get(&node).copied()
    }

    /// The revision at which it last changed whom this cluster trusts: its own roots, those of a linked cluster, or a
    /// revocation.
    pub fn trust_revision(&self) -> Revision {
        self.trust_changed
    }

    /// The revision at which this cluster's own part of that last changed: its roots, or whom it refuses.
    pub fn own_trust_revision(&self) -> Revision {
        self.own_trust_changed
    }

    /// Whose certificates are refused.
    pub fn revoked(&self) -> impl ExactSizeIterator<Item = &Revoked> {
        self.revoked.values()
    }

    /// All services.
    pub fn services(&self) -> impl ExactSizeIterator<Item = &Service> {
        self.services.values()
    }

    /// The services whose names come after `name`, in their order, without a look at those before it; all of them when there is none.
    pub fn services_after(&self, name: Option<&ServiceName>) -> impl Iterator<Item = &Service> {
        let from = name.map_or(Bound::Unbounded, Bound::Excluded);
        self.services.range::<ServiceName, _>((from, Bound::Unbounded)).map(|(_, service)| service)
    }

    /// The service with that name.
    pub fn service(&self, name: &ServiceName) -> Option<&Service> {
        self.services.get(name)
    }

    /// The services that `identity` may serve.
    pub fn services_of(&self, identity: &SpiffeId) -> impl Iterator<Item = &Service> {
        self.by_identity.get(identity).into_iter().flatten().filter_map(|name| self.services.get(name))
    }

    /// May `identity` serve `service`? Says why not.
    pub fn may_serve(&self, identity: &SpiffeId, service: &ServiceName) -> Result<(), Refusal> {
        let unknown = || Refusal::ServiceUnknown { service: service.clone() };
        if self.services.get(service).ok_or_else(unknown)?.identities.contains(identity) {
            return Ok(());
        }
        Err(Refusal::MayNotServe { identity: identity.clone(), service: service.clone() })
    }

    /// All exports.
    pub fn exports(&self) -> impl ExactSizeIterator<Item = &Exported> {
        self.exports.values()
    }

    /// The export of that service.
    pub fn export_of(&self, service: &ServiceName) -> Option<&Exported> {
        self.exports.get(service)
    }

    /// What is exported to `cluster`, linked or not.
    pub fn exports_to(&self, cluster: &ClusterName) -> impl Iterator<Item = &Exported> {
        self.exports.values().filter(move |export| export.to.includes(cluster))
    }

    /// The trust domains of the linked clusters that `service` is exported to: whose workloads may use it from outside.
    pub fn export_domains(&self, service: &ServiceName) -> BTreeSet<TrustDomain> {
        let Some(export) = self.exports.get(service) else { return BTreeSet::new() };
        let linked = self.links.values().filter(|link| export.to.includes(&link.peer.name));
        linked.map(|link| link.peer.trust_domain.clone()).collect()
    }

    /// The export that has that handle.
    pub fn service_by_handle(&self, handle: ServiceHandle) -> Option<&Exported> {
        self.exports.get(self.by_handle.get(&handle)?)
    }

    /// All links.
    pub fn links(&self) -> impl ExactSizeIterator<Item = &Link> {
        self.links.values()
    }

    /// The link to the cluster of that name.
    pub fn link(&self, cluster: &ClusterName) -> Option<&Link> {
        self.links.get(cluster)
    }

    /// The link to the cluster of that trust domain.
    pub fn link_by_domain(&self, trust_domain: &TrustDomain) -> Option<&Link> {
        self.links.values().find(|link| link.peer.trust_domain == *trust_domain)
    }

    /// The link to the cluster of that id.
    pub fn link_by_id(&self, id: ClusterId) -> Option<&Link> {
        self.links.values().find(|link| link.peer.id == id)
    }

    /// All tokens, dead ones too for a while.
    pub fn tokens(&self) -> impl ExactSizeIterator<Item = &Token> {
        self.tokens.values()
    }

    /// The token with that number. [`Token::check_for`] tells whether it can be used.
    pub fn token(&self, id: TokenId) -> Option<&Token> {
        self.tokens.get(&id)
    }

    /// Has `user` used that token? Known of the last 1,000 uses of all tokens. [`Token::check_again`] tells whether it may be
    /// answered once more.
    pub fn used_by(&self, id: TokenId, user: TokenUser) -> bool {
        self.last_uses.contains(&(id, user))
    }

    /// All link invites, dead ones too for a while.
    pub fn invites(&self) -> impl ExactSizeIterator<Item = &Invite> {
        self.invites.values()
    }

    /// The link invite with that number. [`Invite::check_for`] tells whether it can be used.
    pub fn invite(&self, id: InviteId) -> Option<&Invite> {
        self.invites.get(&id)
    }

    /// The virtual address of `name`, if it was given one. It says nothing of whether anybody offers the service now.
    pub fn vip(&self, name: &VipName) -> Option<Vip> {
        self.vips.vip(name)
    }

    /// The name that has this virtual address.
    pub fn vip_name(&self, vip: Vip) -> Option<VipName> {
        self.vips.name(vip)
    }

    /// How many names have a virtual address, of at most [`crate::MAX_VIPS`].
    pub fn vips(&self) -> usize {
        self.vips.len()
    }

    /// The last commands, oldest first.
    pub fn audit(&self) -> impl ExactSizeIterator<Item = &AuditEntry> {
        self.audit.iter()
    }
}
