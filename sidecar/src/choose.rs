//! Which endpoints of a service a new stream may go to. Pure.
//!
//! Owns how near each is, and that this sidecar keeps to a few of one tier, picked by rendezvous hashing of its own instance, so that
//! other sidecars keep to others. Which of them is taken is `causeway-balance`'s, and whether a connection to it stands the pool's
//! concern.

use causeway_balance::Tier;
use causeway_model::{ClusterId, Health, Locality, PortKey, ServiceHandle, WorkloadId};
use causeway_transport::Destination;
use causeway_wire::cid::rendezvous;
use causeway_wire::view::{Offer, ServiceView};

/// What a connection can be made to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Target {
    /// One instance.
    Endpoint(ClusterId, WorkloadId),
    /// Whichever endpoint of a service the exporting cluster's gateway picks.
    Service(ClusterId, ServiceHandle),
}

impl Target {
    /// The cluster that it is in.
    pub(crate) fn cluster(self) -> ClusterId {
        match self {
            Self::Endpoint(cluster, _) | Self::Service(cluster, _) => cluster,
        }
    }
}

/// What one endpoint weighs that a gateway picks for first contact.
const USUAL_WEIGHT: u32 = 100;

/// Somewhere a stream may go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<'a> {
    /// What to connect to.
    pub(crate) target: Target,
    /// Whose offer it is in.
    pub(crate) offer: &'a Offer,
    /// Where its first flight goes.
    pub(crate) destination: Destination,
    /// Its share of the load of its tier; at least 1.
    pub(crate) weight: u16,
    /// How near it is.
    pub(crate) tier: Tier,
    /// It takes connections, by what its cluster says.
    pub(crate) healthy: bool,
}

/// Who chooses.
#[derive(Clone, Debug)]
pub(crate) struct Chooser {
    /// This instance.
    pub(crate) own: WorkloadId,
    /// Where it runs.
    pub(crate) locality: Locality,
    /// How many endpoints of a tier it keeps to.
    pub(crate) most: usize,
}

impl Chooser {
    /// The candidates of each tier, at most `most` that take connections, in this instance's own order. Those that take none are there
    /// in proportion: they show how well a tier is. `path` is the class of the path to a cluster.
    pub(crate) fn candidates<'a>(
        &self,
        view: &'a ServiceView,
        port: PortKey,
        path: impl Fn(ClusterId) -> u8,
    ) -> Vec<Candidate<'a>> {
        let serves = |offer: &&Offer| offer.ports.protocol(port).is_some() && !offer.identities.is_empty();
        let all = view.offers.iter().filter(serves);
        let mut found: Vec<Candidate<'a>> =
            all.flat_map(|offer| self.of_offer(offer, path(offer.cluster.id))).collect();
        found.sort_by_key(|candidate| {
            (candidate.tier, !candidate.healthy, std::cmp::Reverse(self.rank(candidate.target)))
        });
        let mut kept = Vec::with_capacity(found.len());
        for tier in found.chunk_by(|one, next| one.tier == next.tier) {
            let healthy = tier.iter().take_while(|candidate| candidate.healthy).count();
            let (well, ill) = tier.split_at(healthy);
            let most = healthy.min(self.most.max(1));
            let shown = (ill.len() * most).checked_div(healthy).unwrap_or(ill.len());
            kept.extend(well.iter().take(most).chain(ill.iter().take(shown)).copied());
        }
        kept
    }

    /// Whether there is any candidate, without making them.
    pub(crate) fn has_any(view: &ServiceView, port: PortKey) -> bool {
        view.offers.iter().any(|offer| Self::is_open(offer, port))
    }

    /// Whether there is any candidate in `offer`.
    pub(crate) fn is_open(offer: &Offer, port: PortKey) -> bool {
        let takes = offer.endpoints.iter().any(|endpoint| endpoint.health == Health::Healthy);
        offer.ports.protocol(port).is_some()
            && !offer.identities.is_empty()
            && (takes || offer.handle.is_some() && offer.healthy > 0)
    }

    fn of_offer<'a>(&self, offer: &'a Offer, path: u8) -> impl Iterator<Item = Candidate<'a>> {
        let cluster = offer.cluster.id;
        let tier = move |place: &Locality| Tier {
            stale: offer.stale_for.is_some(),
            ..Tier::new(&self.locality, place, path)
        };
        let known = !offer.endpoints.is_empty();
        let all = offer.healthy.saturating_mul(USUAL_WEIGHT);
        let any = offer.handle.filter(|_| offer.healthy > 0).map(|handle| Candidate {
            target: Target::Service(cluster, handle),
            offer,
            destination: Destination::Service { cluster, handle },
            weight: if known { 1 } else { u16::try_from(all).unwrap_or(u16::MAX) },
            tier: Tier { last_resort: known, ..tier(&offer.cluster.locality) },
            healthy: true,
        });
        let there = offer.endpoints.iter().filter(|endpoint| endpoint.health != Health::Draining);
        let endpoints = there.map(move |endpoint| Candidate {
            target: Target::Endpoint(cluster, endpoint.instance),
            offer,
            destination: Destination::Workload(endpoint.cid),
            weight: endpoint.weight.max(1),
            tier: tier(&endpoint.locality),
            healthy: endpoint.health == Health::Healthy,
        });
        endpoints.chain(any)
    }

    fn rank(&self, target: Target) -> u64 {
        let member = match target {
            Target::Endpoint(_, instance) => instance.0,
            Target::Service(_, handle) => handle.0,
        };
        rendezvous(self.own.0, member)
    }
}

#[cfg(test)]
mod tests;
