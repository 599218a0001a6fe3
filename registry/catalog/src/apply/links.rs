//! Link invites and links.

use super::tokens::check_expiry;
use crate::bound::{check_gateways, check_locality, check_revoked, check_roots, check_trust};
use crate::catalog::{Context, Effect, done};
use crate::{
    Bound, Catalog, CreateInvite, EstablishLink, Event, Invite, InviteId, InviteState, Link, MergeRule,
    Outcome, PauseLink, Refusal, SetLinkPolicy, StalePolicy, UpdateLinkPeer,
};
use causeway_model::{ClusterFacts, ClusterName, GatewayFacts, NodeId, Revision};
use std::collections::BTreeMap;

impl Catalog {
    pub(crate) fn create_invite(
        &mut self,
        context: Context<'_>,
        c: &CreateInvite,
    ) -> Result<Effect, Refusal> {
        let own = self.own()?;
        if self.invites.contains_key(&c.id) {
            return Err(Refusal::InviteExists { id: c.id });
        }
        check_expiry("expiry of a link invite", c.expires_at, context.at)?;
        if c.for_cluster.as_ref() == Some(&own.name) {
            return Err(Refusal::invalid(
                "invited cluster",
                own.name.as_str(),
                "invite a cluster other than this one",
            ));
        }
        if self.invites.len() >= Bound::Invites.limit() {
            self.invites.retain(|_, invite| invite.check(context.at).is_ok());
        }
        Bound::Invites.check(self.invites.len() + 1)?;
        self.purge_after(c.expires_at);
        let invite = Invite {
            id: c.id,
            verifier: c.verifier,
            for_cluster: c.for_cluster.clone(),
            expires_at: c.expires_at,
            state: InviteState::Open,
            created_at: context.at,
            created_by: context.by.to_owned(),
        };
        self.invites.insert(c.id, invite);
        Ok(done([Event::TokensChanged]))
    }

    pub(crate) fn revoke_invite(&mut self, id: InviteId) -> Result<Effect, Refusal> {
        self.own()?;
        let invite = self.invites.get_mut(&id).ok_or(Refusal::InviteUnknown { id })?;
        match invite.state {
            InviteState::Used => Err(Refusal::InviteUsed { id }),
            InviteState::Revoked => Ok(done([])),
            InviteState::Open => {
                invite.state = InviteState::Revoked;
                Ok(done([Event::TokensChanged]))
            }
        }
    }

    pub(crate) fn establish_link(
        &mut self,
        context: Context<'_>,
        c: &EstablishLink,
    ) -> Result<Effect, Refusal> {
        self.own()?;
        if let Some(id) = c.invite {
            let invite = self.invites.get(&id).ok_or(Refusal::InviteUnknown { id })?;
            invite.check_for(&c.peer.name, context.at)?;
        }
        check_locality(&c.peer.locality)?;
        check_roots(&c.roots)?;
        check_trust(&c.peer.trust_domain, &c.roots, [])?;
        check_gateways(&c.gateways)?;
        if let MergeRule::Only(namespaces) = &c.merge_namespaces {
            Bound::MergeNamespaces.check(namespaces.len())?;
        }
        self.check_clash(&c.peer)?;
        let replaced = self.links.contains_key(&c.peer.name);
        Bound::Links.check(self.links.len() + usize::from(!replaced))?;

        let mut events = vec![Event::LinkChanged(c.peer.name.clone())];
        if let Some(invite) = c.invite.and_then(|id| self.invites.get_mut(&id)) {
            invite.state = InviteState::Used;
            events.push(Event::TokensChanged);
        }
        self.links.insert(c.peer.name.clone(), new_link(context, c));
        self.trust_changed = context.revision;
        Ok((Outcome::Link { replaced }, events))
    }

    /// Refuses a peer whose trust domain, id or name is that of this cluster or of another linked one.
    fn check_clash(&self, peer: &ClusterFacts) -> Result<(), Refusal> {
        let own = self.own()?;
        let same =
            |o: &ClusterFacts| o.name == peer.name && o.id == peer.id && o.trust_domain == peer.trust_domain;
        let linked = self.links.values().map(|link| &link.peer).filter(|other| !same(other));
        let others: Vec<&ClusterFacts> = std::iter::once(own).chain(linked).collect();
        let name = || peer.name.clone();
        if let Some(other) = others.iter().find(|other| other.trust_domain == peer.trust_domain) {
            let trust_domain = peer.trust_domain.clone();
            return Err(Refusal::LinkTrustDomainClash {
                peer: name(),
                trust_domain,
                holder: other.name.clone(),
            });
        }
        if let Some(other) = others.iter().find(|other| other.id == peer.id) {
            return Err(Refusal::LinkIdClash { peer: name(), id: peer.id, holder: other.name.clone() });
        }
        if others.iter().any(|other| other.name == peer.name) {
            return Err(Refusal::LinkNameClash { peer: name() });
        }
        Ok(())
    }

    pub(crate) fn update_link_peer(
        &mut self,
        context: Context<'_>,
        c: &UpdateLinkPeer,
    ) -> Result<Effect, Refusal> {
        self.own()?;
        let unknown = || Refusal::LinkUnknown { cluster: c.cluster.clone() };
        let link = self.links.get_mut(&c.cluster).ok_or_else(unknown)?;
        if c.peer_revision <= link.peer_revision {
            let (cluster, have) = (c.cluster.clone(), link.peer_revision);
            return Err(Refusal::LinkPeerStale { cluster, have, asked: c.peer_revision });
        }
        check_roots(&c.roots)?;
        check_gateways(&c.gateways)?;
        check_revoked(&c.revoked)?;
        check_trust(&link.peer.trust_domain, &c.roots, &c.revoked)?;
        link.peer_revision = c.peer_revision;
        let gateways = by_node(&c.gateways);
        let same = link.roots == c.roots && link.gateways == gateways;
        if same && link.revoked == c.revoked && link.peer_paused == c.paused {
            return Ok(done([]));
        }
        if link.roots != c.roots || link.revoked != c.revoked {
            link.trust_changed = context.revision;
            self.trust_changed = context.revision;
        }
        link.revoked.clone_from(&c.revoked);
        link.peer_paused = c.paused;
        link.roots.clone_from(&c.roots);
        link.gateways = gateways;
        link.changed = context.revision;
        Ok(done([Event::LinkChanged(c.cluster.clone())]))
    }

    pub(crate) fn pause_link(&mut self, context: Context<'_>, c: &PauseLink) -> Result<Effect, Refusal> {
        let link = self.link_mut(&c.cluster)?;
        if link.paused == c.paused {
            return Ok(done([]));
        }
        link.paused = c.paused;
        link.changed = context.revision;
        Ok(done([Event::LinkChanged(c.cluster.clone())]))
    }

    pub(crate) fn set_link_policy(
        &mut self,
        context: Context<'_>,
        c: &SetLinkPolicy,
    ) -> Result<Effect, Refusal> {
        if let MergeRule::Only(namespaces) = &c.merge_namespaces {
            Bound::MergeNamespaces.check(namespaces.len())?;
        }
        let link = self.link_mut(&c.cluster)?;
        let same = link.stale == c.stale && link.transit == c.transit;
        if same && link.merge_namespaces == c.merge_namespaces {
            return Ok(done([]));
        }
        link.merge_namespaces.clone_from(&c.merge_namespaces);
        (link.stale, link.transit) = (c.stale, c.transit);
        link.changed = context.revision;
        Ok(done([Event::LinkChanged(c.cluster.clone())]))
    }

    fn link_mut(&mut self, cluster: &ClusterName) -> Result<&mut Link, Refusal> {
        self.own()?;
        self.links.get_mut(cluster).ok_or_else(|| Refusal::LinkUnknown { cluster: cluster.clone() })
    }

    pub(crate) fn remove_link(
        &mut self,
        context: Context<'_>,
        cluster: &ClusterName,
    ) -> Result<Effect, Refusal> {
        self.own()?;
        if self.links.remove(cluster).is_none() {
            return Err(Refusal::LinkUnknown { cluster: cluster.clone() });
        }
        self.trust_changed = context.revision;
        Ok(done([Event::LinkRemoved(cluster.clone())]))
    }
}

fn new_link(context: Context<'_>, c: &EstablishLink) -> Link {
    Link {
        peer: c.peer.clone(),
        roots: c.roots.clone(),
        gateways: by_node(&c.gateways),
        key: c.key,
        merge_namespaces: c.merge_namespaces.clone(),
        peer_revision: Revision::default(),
        revoked: Vec::new(),
        peer_paused: false,
        paused: false,
        stale: StalePolicy::default(),
        transit: false,
        confirmed: Revision::default(),
        trust_changed: context.revision,
        established_at: context.at,
        established: context.revision,
        changed: context.revision,
    }
}

fn by_node(gateways: &[GatewayFacts]) -> BTreeMap<NodeId, GatewayFacts> {
    gateways.iter().map(|gateway| (gateway.node, gateway.clone())).collect()
}
