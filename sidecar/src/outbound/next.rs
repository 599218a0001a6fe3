//! What is tried next: the choice of an endpoint, and what is connected to meanwhile so that a connection stands when it is chosen.

use super::connect::Dial;
use super::{Outbound, Route};
use crate::balance::{Line, Pick};
use crate::choose::{Candidate, Target};
use crate::peer::Peer;
use causeway_balance::{Class, Tier, UNKNOWN_PATH};
use causeway_model::{ClusterId, Protocol};
use std::sync::Arc;

/// To how many clusters at once a connection is made to learn how far they are.
const MEASURED_AT_ONCE: usize = 3;

/// How an endpoint is come by.
pub(super) enum Way {
    /// By a connection that stands.
    Up(Target, Arc<Peer>),
    /// By one that is to be made.
    Dial(Dial, Class),
}

/// What is tried next.
pub(super) struct Next {
    pub(super) way: Way,
    pub(super) protocol: Protocol,
    pub(super) pick: Pick,
    /// Nobody else could be tried instead.
    pub(super) alone: bool,
}

/// A candidate, and the connection to it that stands.
type Standing<'a> = (Candidate<'a>, Option<Arc<Peer>>);

impl Way {
    pub(super) fn target(&self) -> Target {
        match self {
            Self::Up(target, _) => *target,
            Self::Dial(dial, _) => dial.target,
        }
    }
}

impl Outbound {
    /// Begins a connection to an endpoint of the nearest that `route` leads to, unless one stands or is being made.
    pub(crate) fn prepare(&self, route: &Route) {
        let Some(view) = route.view.borrow().clone() else { return };
        let found = self.chooser.candidates(&view, route.port, |cluster| self.balances.path(cluster));
        let line = self.balances.line(&route.service, route.port);
        let mut well = found.iter().filter(|candidate| {
            candidate.healthy
                && !self.balances.is_suspect(candidate.target.cluster())
                && line.may_connect(candidate.target)
        });
        if let Some(first) = well.next()
            && !self.pool.has(first.target, Class::Small)
        {
            self.pool.warm(Dial::new(first, &route.service), Class::Small);
        }
    }

    /// What to try next: an untried endpoint, while others that are as near are connected to for later. `timed` is whether the bytes of
    /// the connection are counted when they come and go.
    pub(super) fn next(
        &self,
        route: &Route,
        line: &Arc<Line>,
        tried: &[Target],
        timed: bool,
    ) -> Option<Next> {
        let view = route.view.borrow().clone()?;
        self.balances.measure(|| self.pool.peers());
        let found = self.chooser.candidates(&view, route.port, |cluster| self.balances.path(cluster));
        let class = line.class();
        let standing = self.pool.standing(found.iter().map(|candidate| candidate.target), class);
        let found: Vec<Standing<'_>> = found.into_iter().zip(standing).collect();
        let offer = |(candidate, peer): &Standing<'_>| causeway_balance::Candidate {
            key: candidate.target,
            tier: candidate.tier,
            weight: candidate.weight,
            healthy: candidate.healthy,
            reachable: !self.balances.is_suspect(candidate.target.cluster()),
            connected: peer.is_some(),
            tried: tried.contains(&candidate.target),
        };
        let offered: Vec<_> = found.iter().map(offer).collect();
        let pick = Pick::new(line, &offered, timed)?;
        let choice = pick.choice();
        let other = |candidate: &&causeway_balance::Candidate<Target>| {
            candidate.healthy && candidate.reachable && !candidate.tried && candidate.key != choice.key
        };
        let alone = !offered.iter().any(|candidate| other(&candidate));
        let (chosen, peer) = found.iter().find(|(candidate, _)| candidate.target == choice.key)?;
        let protocol = chosen.offer.ports.protocol(route.port).unwrap_or_default();
        let way = match peer {
            Some(peer) => {
                if class == Class::Bulk && !self.pool.has(choice.key, class) {
                    self.pool.warm(Dial::new(chosen, &route.service), class);
                }
                self.warm(&found, choice.tier, line, route);
                Way::Up(choice.key, Arc::clone(peer))
            }
            None => Way::Dial(Dial::new(chosen, &route.service), class),
        };
        Some(Next { way, protocol, pick, alone })
    }

    /// Connects to what is as near as `chosen`, or nearer, and to one endpoint of a cluster that nobody knows how far it is.
    fn warm(&self, found: &[Standing<'_>], chosen: Tier, line: &Line, route: &Route) {
        let mut measured: Vec<ClusterId> = Vec::new();
        for (candidate, _) in found.iter().filter(|(_, peer)| peer.is_none()) {
            let (target, tier) = (candidate.target, candidate.tier);
            if !candidate.healthy || tier.last_resort || self.balances.is_suspect(target.cluster()) {
                continue;
            }
            if tier > chosen {
                let unknown = tier.path == UNKNOWN_PATH && chosen.distance == tier.distance && !tier.stale;
                if !unknown || measured.len() >= MEASURED_AT_ONCE || measured.contains(&target.cluster()) {
                    continue;
                }
                measured.push(target.cluster());
            }
            if line.may_connect(target) && !self.pool.has(target, Class::Small) {
                self.pool.warm(Dial::new(candidate, &route.service), Class::Small);
            }
        }
    }
}
