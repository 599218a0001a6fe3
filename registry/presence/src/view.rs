//! The merged view: what all tables together say, with an index by service.

use crate::Row;
use crate::event::Events;
use crate::names::Names;
use causeway_model::{Health, NodeId, ServiceName, SpiffeId, WorkloadId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the cluster's gateways together say of a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadView<'a> {
    /// What it is and serves, as its best gateway has it: a live one before a dead one, one with a control connection
    /// before one without, this gateway before its siblings, then the lowest node id.
    pub row: &'a Arc<Row>,
    /// The live gateways that vouch for it, those with a control connection first. Empty while only dead gateways do.
    pub gateways: Vec<NodeId>,
    /// Whether a live gateway vouches for it. When false its gateways died or restarted less than the grace ago, and its
    /// sidecar is likely to re-attach: it is not gone yet.
    pub alive: bool,
}

/// One gateway's word for one workload.
#[derive(Clone, Debug)]
struct Voucher {
    node: NodeId,
    live: bool,
    row: Arc<Row>,
}

/// The endpoints of a service.
#[derive(Debug, Default)]
struct Members {
    rows: BTreeMap<WorkloadId, Arc<Row>>,
    healthy: usize,
}

/// All vouchers by workload, best first, and the index of the best rows by service. Every edit records what it changed.
#[derive(Debug)]
pub(crate) struct View {
    own: NodeId,
    entries: BTreeMap<WorkloadId, Vec<Voucher>>,
    services: BTreeMap<ServiceName, Members>,
    pub(crate) names: Names,
    pub(crate) events: Events,
}

impl View {
    /// An empty view of the gateway `own`.
    pub(crate) fn new(own: NodeId) -> Self {
        Self {
            own,
            entries: BTreeMap::new(),
            services: BTreeMap::new(),
            names: Names::default(),
            events: Events::default(),
        }
    }

    /// `node` vouches for the workload of `row`.
    pub(crate) fn put(&mut self, node: NodeId, row: Arc<Row>, live: bool) {
        self.edit(row.workload, |vouchers| match vouchers.iter_mut().find(|voucher| voucher.node == node) {
            Some(voucher) => (voucher.row, voucher.live) = (row, live),
            None => {
                // one or two are usual: room for four would be most of what a workload takes here
                vouchers.reserve_exact(1);
                vouchers.push(Voucher { node, live, row });
            }
        });
    }

    /// `node` no longer vouches for `workload`.
    pub(crate) fn remove(&mut self, node: NodeId, workload: WorkloadId) {
        self.edit(workload, |vouchers| vouchers.retain(|voucher| voucher.node != node));
    }

    /// The word of `node` for `workload` is that of a live gateway, or of a dead one in its grace.
    pub(crate) fn set_live(&mut self, node: NodeId, workload: WorkloadId, live: bool) {
        self.edit(workload, |vouchers| {
            vouchers
                .iter_mut()
                .filter(|voucher| voucher.node == node)
                .for_each(|voucher| voucher.live = live);
        });
    }

    fn edit(&mut self, workload: WorkloadId, change: impl FnOnce(&mut Vec<Voucher>)) {
        let own = self.own;
        let vouchers = self.entries.entry(workload).or_default();
        let before = vouchers.clone();
        change(vouchers);
        vouchers
            .sort_by_key(|voucher| (!voucher.live, !voucher.row.attached, voucher.node != own, voucher.node));
        let same_ways =
            live(&before).eq(live(vouchers)) && other_than(own, &before) == other_than(own, vouchers);
        match (before.into_iter().next().map(|best| best.row), vouchers.first().map(|best| best.row.clone()))
        {
            (Some(old), Some(new)) => {
                if !same_ways || !old.says_the_same(&new) {
                    self.events.changed(workload);
                }
                if !Arc::ptr_eq(&old, &new) {
                    self.reindex(&old, &new);
                }
            }
            (None, Some(new)) => {
                self.events.up(workload);
                new.services.iter().for_each(|service| self.enter(&service.name, &new));
            }
            (Some(old), None) => {
                self.entries.remove(&workload);
                self.events.gone(workload);
                old.services.iter().for_each(|service| self.leave(&service.name, &old));
            }
            (None, None) => drop(self.entries.remove(&workload)),
        }
    }

    /// Replaces `old` by `new` in the index; services whose endpoint stayed the same are not told as changed.
    fn reindex(&mut self, old: &Row, new: &Arc<Row>) {
        let same_base = old.differs_only_in_services(new);
        for gone in old.services.iter().filter(|service| new.service(&service.name).is_none()) {
            self.leave(&gone.name, old);
        }
        for service in &new.services {
            match old.service(&service.name) {
                Some(before) if same_base && before == service => {
                    if let Some(members) = self.services.get_mut(&service.name) {
                        members.rows.insert(new.workload, new.clone());
                    }
                }
                Some(_) => {
                    self.leave(&service.name, old);
                    self.enter(&service.name, new);
                }
                None => self.enter(&service.name, new),
            }
        }
    }

    fn enter(&mut self, name: &ServiceName, row: &Arc<Row>) {
        let members = self.services.entry(name.clone()).or_default();
        members.rows.insert(row.workload, row.clone());
        members.healthy += usize::from(is_healthy(row, name));
        self.events.service(name);
    }

    fn leave(&mut self, name: &ServiceName, row: &Row) {
        if let Some(members) = self.services.get_mut(name)
            && members.rows.remove(&row.workload).is_some()
        {
            members.healthy -= usize::from(is_healthy(row, name));
            if members.rows.is_empty() {
                self.services.remove(name);
            }
        }
        self.events.service(name);
    }

    /// Whether gateways vouch for `workload`, and none of them for that identity. One that agrees is enough, so that a
    /// lying sibling cannot lock out a workload that others know.
    pub(crate) fn belongs_to_another(&self, workload: WorkloadId, identity: &SpiffeId) -> bool {
        self.entries
            .get(&workload)
            .is_some_and(|vouchers| vouchers.iter().all(|voucher| voucher.row.identity != *identity))
    }

    pub(crate) fn contains(&self, workload: WorkloadId) -> bool {
        self.entries.contains_key(&workload)
    }

    pub(crate) fn get(&self, workload: WorkloadId) -> Option<WorkloadView<'_>> {
        self.entries.get(&workload).and_then(|vouchers| summary(vouchers))
    }

    /// What every gateway that vouches for `workload` says of it, best first.
    pub(crate) fn rows_of(&self, workload: WorkloadId) -> impl Iterator<Item = &Arc<Row>> {
        self.entries.get(&workload).into_iter().flatten().map(|voucher| &voucher.row)
    }

    pub(crate) fn workloads(&self) -> impl Iterator<Item = WorkloadView<'_>> {
        self.entries.values().filter_map(|vouchers| summary(vouchers))
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The gateway to reach `workload` through: the own one if it vouches, else the best live one.
    pub(crate) fn gateway_of(&self, workload: WorkloadId) -> Option<NodeId> {
        let vouchers = self.entries.get(&workload)?;
        let live = || vouchers.iter().filter(|voucher| voucher.live);
        live().find(|voucher| voucher.node == self.own).or_else(|| live().next()).map(|voucher| voucher.node)
    }

    /// The best gateway but the own one to reach `workload` through, also one that is not heard, if there is no other.
    pub(crate) fn other_gateway_of(&self, workload: WorkloadId) -> Option<NodeId> {
        other_than(self.own, self.entries.get(&workload)?)
    }

    /// Whether a live gateway besides the own one vouches for `workload`.
    pub(crate) fn is_known_elsewhere(&self, workload: WorkloadId) -> bool {
        let vouchers = self.entries.get(&workload);
        vouchers.is_some_and(|vouchers| live(vouchers).any(|node| node != self.own))
    }

    pub(crate) fn endpoints(&self, name: &ServiceName) -> impl Iterator<Item = &Arc<Row>> {
        self.services.get(name).into_iter().flat_map(|members| members.rows.values())
    }

    pub(crate) fn services(&self) -> impl Iterator<Item = &ServiceName> {
        self.services.keys()
    }

    pub(crate) fn counts(&self, name: &ServiceName) -> (usize, usize) {
        self.services.get(name).map_or((0, 0), |members| (members.healthy, members.rows.len()))
    }
}

fn summary(vouchers: &[Voucher]) -> Option<WorkloadView<'_>> {
    let best = vouchers.first()?;
    Some(WorkloadView { row: &best.row, gateways: live(vouchers).collect(), alive: best.live })
}

/// The best gateway but `own`.
fn other_than(own: NodeId, vouchers: &[Voucher]) -> Option<NodeId> {
    // live ones come first
    vouchers.iter().map(|voucher| voucher.node).find(|node| *node != own)
}

fn live(vouchers: &[Voucher]) -> impl Iterator<Item = NodeId> {
    vouchers.iter().filter(|voucher| voucher.live).map(|voucher| voucher.node)
}

fn is_healthy(row: &Row, name: &ServiceName) -> bool {
    row.service(name).is_some_and(|service| service.health == Health::Healthy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Event;
    use crate::row::tests::row;

    fn events(view: &mut View) -> Vec<Event> {
        std::iter::from_fn(|| view.events.poll()).collect()
    }

    fn shared(workload: u64, services: &[&str], attached: bool) -> Arc<Row> {
        Arc::new(Row { attached, ..row(workload, services) })
    }

    fn changed(name: &str) -> Event {
        Event::ServiceChanged(name.parse().unwrap())
    }

    #[test]
    fn a_second_gateway_is_no_second_endpoint_and_losing_one_is_no_loss() {
        let (mut view, w) = (View::new(NodeId(2)), WorkloadId(1));
        view.put(NodeId(1), shared(1, &["a.b"], true), true);
        assert_eq!(events(&mut view), [Event::Up(w), changed("a.b")]);
        view.put(NodeId(2), shared(1, &["a.b"], true), true);
        assert_eq!(events(&mut view), [Event::Changed(w)]);
        assert_eq!(view.counts(&"a.b".parse().unwrap()), (1, 1));
        view.remove(NodeId(1), w);
        assert_eq!(events(&mut view), [Event::Changed(w)]);
        view.remove(NodeId(2), w);
        assert_eq!(events(&mut view), [Event::Gone(w), changed("a.b")]);
        assert!(view.entries.is_empty() && view.services.is_empty());
    }

    #[test]
    fn live_comes_before_attached_before_own() {
        let (mut view, w) = (View::new(NodeId(1)), WorkloadId(1));
        view.put(NodeId(1), shared(1, &[], false), true);
        view.put(NodeId(2), shared(1, &[], true), false);
        view.put(NodeId(3), shared(1, &[], true), true);
        assert_eq!(view.get(w).unwrap().gateways, [NodeId(3), NodeId(1)]);
        assert_eq!(view.gateway_of(w), Some(NodeId(1)));
        assert_eq!(view.other_gateway_of(w), Some(NodeId(3)));
        view.set_live(NodeId(2), w, true);
        view.set_live(NodeId(1), w, false);
        assert_eq!(view.gateway_of(w), Some(NodeId(2)));
        view.set_live(NodeId(2), w, false);
        view.set_live(NodeId(3), w, false);
        assert!(!view.is_known_elsewhere(w) && view.other_gateway_of(w).is_some());
        let grace = view.get(w).unwrap();
        assert!(!grace.alive && grace.gateways.is_empty());
        assert_eq!(view.gateway_of(w), None);
    }

    #[test]
    fn the_loss_of_the_only_other_way_is_told_though_nobody_is_heard_on_it() {
        let (mut view, w) = (View::new(NodeId(1)), WorkloadId(1));
        view.put(NodeId(1), shared(1, &[], true), true);
        view.put(NodeId(2), shared(1, &[], true), false);
        events(&mut view);
        assert_eq!(view.other_gateway_of(w), Some(NodeId(2)));
        view.remove(NodeId(2), w);
        assert_eq!(events(&mut view), [Event::Changed(w)]);
        assert_eq!(view.other_gateway_of(w), None);
    }

    #[test]
    fn only_the_service_whose_endpoint_changed_is_told() {
        let mut view = View::new(NodeId(1));
        view.put(NodeId(1), shared(1, &["a.b", "c.d"], true), true);
        events(&mut view);
        let mut sick = row(1, &["a.b", "c.d", "e.f"]);
        sick.services[1].health = Health::Unhealthy;
        view.put(NodeId(1), Arc::new(sick), true);
        assert_eq!(events(&mut view), [Event::Changed(WorkloadId(1)), changed("c.d"), changed("e.f")]);
        let counts = |name: &str| view.counts(&name.parse().unwrap());
        assert_eq!((counts("a.b"), counts("c.d"), counts("e.f")), ((1, 1), (0, 1), (1, 1)));
        assert_eq!(view.endpoints(&"c.d".parse().unwrap()).count(), 1);
    }
}
