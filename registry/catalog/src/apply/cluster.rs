//! The cluster's facts and its gateways.

use crate::bound::{MAX_REMOVED, check_gateway, check_locality, check_roots, check_sealed};
use crate::catalog::{Context, Effect, done};
use crate::{
    Bound, CaState, Catalog, ClusterState, DrainGateway, Event, InitCluster, Refusal, RemoveGateway,
};
use causeway_model::{ClusterFacts, GatewayFacts, GatewayRole, NodeId, RevokedSubject, SpiffeId};
use std::collections::BTreeSet;

impl Catalog {
    /// The cluster's facts, or the refusal that there are none.
    pub(crate) fn own(&self) -> Result<&ClusterFacts, Refusal> {
        self.cluster.as_ref().map(|cluster| &cluster.facts).ok_or(Refusal::NotInitialised)
    }

    pub(crate) fn init_cluster(&mut self, context: Context<'_>, c: &InitCluster) -> Result<Effect, Refusal> {
        if let Ok(own) = self.own() {
            return Err(Refusal::AlreadyInitialised { cluster: own.name.clone() });
        }
        let roots = vec![c.root_der.clone()];
        check_locality(&c.facts.locality)?;
        check_roots(&roots)?;
        check_sealed(&c.sealed_ca)?;
        check_gateway(&c.gateway)?;
        if c.gateway.role != GatewayRole::Gateway {
            return Err(Refusal::invalid(
                "role of the first gateway",
                "forwarder",
                "start a cluster with role gateway",
            ));
        }
        self.cluster = Some(ClusterState {
            facts: c.facts.clone(),
            ca: CaState {
                roots,
                active_root: 0,
                chain: Vec::new(),
                sealed_key: c.sealed_ca.clone(),
                staged: None,
                roots_changed: context.revision,
                activated: context.revision,
                activated_at: context.at,
                keep_secs: 0,
            },
            cid_keys: [c.cid_key].into(),
            probe_keys: [c.probe_key].into(),
            created_at: context.at,
        });
        self.gateways.insert(c.gateway.node, c.gateway.clone());
        self.own_trust_changes(context.revision);
        Ok(done([Event::ClusterChanged, Event::GatewaysChanged, Event::KeysChanged]))
    }

    pub(crate) fn add_gateway(&mut self, facts: &GatewayFacts) -> Result<Effect, Refusal> {
        self.own()?;
        check_gateway(facts)?;
        self.check_not_removed(facts.node)?;
        match self.gateways.get(&facts.node) {
            Some(known) if known == facts => return Ok(done([])),
            Some(_) => return Err(Refusal::GatewayExists { node: facts.node }),
            None => Bound::Gateways.check(self.gateways.len() + 1)?,
        }
        self.gateways.insert(facts.node, facts.clone());
        Ok(done([Event::GatewaysChanged]))
    }

    pub(crate) fn update_gateway(&mut self, facts: &GatewayFacts) -> Result<Effect, Refusal> {
        self.own()?;
        check_gateway(facts)?;
        let node = facts.node;
        let known = self.gateways.get_mut(&node).ok_or(Refusal::GatewayUnknown { node })?;
        if known.role != facts.role {
            return Err(Refusal::GatewayRoleFixed { node, role: known.role, asked: facts.role });
        }
        if known == facts {
            return Ok(done([]));
        }
        known.clone_from(facts);
        Ok(done([Event::GatewaysChanged]))
    }

    fn check_not_removed(&self, node: NodeId) -> Result<(), Refusal> {
        if self.removed.contains_key(&node) { Err(Refusal::GatewayRemoved { node }) } else { Ok(()) }
    }

    pub(crate) fn drain_gateway(&mut self, c: &DrainGateway) -> Result<Effect, Refusal> {
        self.own()?;
        let node = c.node;
        if !self.gateways.contains_key(&node) {
            return Err(Refusal::GatewayUnknown { node });
        }
        // of two gateways that are drained at once the second sees here that the first is on its way out
        let stays = |other: &NodeId| *other != node && self.is_in_use(*other);
        if c.draining && !self.draining.contains(&node) && !c.ready.iter().any(stays) {
            return Err(Refusal::GatewayLastInUse { node });
        }
        let changed = if c.draining { self.draining.insert(node) } else { self.draining.remove(&node) };
        Ok(done(changed.then_some(Event::GatewaysChanged).into_iter().collect::<Vec<_>>()))
    }

    /// Whether sidecars may turn to that gateway: a forwarder takes none.
    fn is_in_use(&self, node: NodeId) -> bool {
        let serves = |gateway: &GatewayFacts| gateway.role == GatewayRole::Gateway;
        self.gateways.get(&node).is_some_and(serves) && !self.draining.contains(&node)
    }

    pub(crate) fn remove_gateway(
        &mut self,
        context: Context<'_>,
        c: &RemoveGateway,
    ) -> Result<Effect, Refusal> {
        let (trust_domain, node) = (self.own()?.trust_domain.clone(), c.node);
        self.check_not_removed(node)?;
        let known = self.gateways.get(&node).ok_or(Refusal::GatewayUnknown { node })?;
        let registry = |gateway: &GatewayFacts| gateway.role == GatewayRole::Gateway;
        if registry(known) && self.gateways.values().filter(|gateway| registry(gateway)).count() == 1 {
            return Err(Refusal::GatewayLast { node });
        }
        if registry(known) && !self.gateways.keys().any(|other| *other != node && self.is_in_use(*other)) {
            return Err(Refusal::GatewayLastInUse { node });
        }
        let identity = SpiffeId::node(&trust_domain, known.role, node);
        let subjects = BTreeSet::from([RevokedSubject::Identity(identity)]);
        self.check_revocable(context, &subjects, c.revoked_until)?;
        self.gateways.remove(&node);
        self.draining.remove(&node);
        if self.removed.len() >= MAX_REMOVED {
            let oldest = self.removed.iter().min_by_key(|(_, at)| **at).map(|(node, _)| *node);
            oldest.map(|node| self.removed.remove(&node));
        }
        self.removed.insert(node, context.at);
        let revoked = self.refuse_certificates(context, &subjects, c.revoked_until);
        Ok(done([vec![Event::GatewaysChanged], revoked].concat()))
    }
}
