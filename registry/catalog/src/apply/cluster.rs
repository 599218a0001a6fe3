//! The cluster's facts and its gateways.

use crate::bound::{check_gateway, check_locality, check_roots, check_sealed};
use crate::catalog::{Context, Effect, done};
use crate::{Bound, CaState, Catalog, ClusterState, Event, InitCluster, Refusal};
use causeway_model::{ClusterFacts, GatewayFacts, GatewayRole, NodeId};

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
            ca: CaState { roots, active_root: 0, sealed_key: c.sealed_ca.clone() },
            cid_keys: [c.cid_key].into(),
            probe_keys: [c.probe_key].into(),
            created_at: context.at,
        });
        self.gateways.insert(c.gateway.node, c.gateway.clone());
        Ok(done([Event::ClusterChanged, Event::GatewaysChanged, Event::KeysChanged]))
    }

    pub(crate) fn add_gateway(&mut self, facts: &GatewayFacts) -> Result<Effect, Refusal> {
        self.own()?;
        check_gateway(facts)?;
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

    pub(crate) fn remove_gateway(&mut self, node: NodeId) -> Result<Effect, Refusal> {
        self.own()?;
        let known = self.gateways.get(&node).ok_or(Refusal::GatewayUnknown { node })?;
        let registry = |gateway: &GatewayFacts| gateway.role == GatewayRole::Gateway;
        if registry(known) && self.gateways.values().filter(|gateway| registry(gateway)).count() == 1 {
            return Err(Refusal::GatewayLast { node });
        }
        self.gateways.remove(&node);
        Ok(done([Event::GatewaysChanged]))
    }
}
