//! Which endpoint of a service gets a new stream. Pure: what is known of the load, and randomness, are arguments.
//!
//! Offers of silent links come last, then the nearer goes before the farther, and within one tier this sidecar keeps to a
//! few endpoints, picked by rendezvous hashing of its own instance, so that other sidecars keep to others. Among those the
//! less loaded of two random ones is taken. Whether a connection to it stands is the pool's concern.

use causeway_model::{ClusterId, Health, Locality, ServiceHandle, WorkloadId};
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

/// How good an offer is; the smallest is best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Tier {
    /// The link to the offering cluster is silent.
    stale: bool,
    /// [`Locality::distance`].
    distance: u8,
    /// The gateway picks: for first contact, and when no endpoint that is known will do.
    fallback: bool,
}

/// Somewhere a stream may go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<'a> {
    /// What to connect to.
    pub(crate) target: Target,
    /// Whose offer it is in.
    pub(crate) offer: &'a Offer,
    /// Where its first flight goes.
    pub(crate) destination: Destination,
    weight: u16,
    tier: Tier,
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
    /// The candidates of the best tier that has a usable one, at most `most`, in this instance's own order.
    pub(crate) fn candidates<'a>(
        &self,
        view: &'a ServiceView,
        port: u16,
        usable: impl Fn(Target) -> bool,
    ) -> Vec<Candidate<'a>> {
        let serves = |offer: &&Offer| offer.ports.protocol(port).is_some() && !offer.identities.is_empty();
        let all = view.offers.iter().filter(serves).flat_map(|offer| self.of_offer(offer));
        let mut found: Vec<Candidate<'a>> = all.filter(|candidate| usable(candidate.target)).collect();
        let Some(best) = found.iter().map(|candidate| candidate.tier).min() else { return found };
        found.retain(|candidate| candidate.tier == best);
        found.sort_by_key(|candidate| std::cmp::Reverse(self.rank(candidate.target)));
        found.truncate(self.most.max(1));
        found
    }

    /// Whether there is any candidate, without making them.
    pub(crate) fn has_any(view: &ServiceView, port: u16) -> bool {
        view.offers.iter().any(|offer| {
            let takes = offer.endpoints.iter().any(|endpoint| endpoint.health == Health::Healthy);
            offer.ports.protocol(port).is_some()
                && !offer.identities.is_empty()
                && (takes || offer.handle.is_some() && offer.healthy > 0)
        })
    }

    fn of_offer<'a>(&self, offer: &'a Offer) -> impl Iterator<Item = Candidate<'a>> {
        let (cluster, stale) = (offer.cluster.id, offer.stale_for.is_some());
        let tier = move |place: &Locality, own: &Locality, fallback| Tier {
            stale,
            distance: own.distance(place),
            fallback,
        };
        let any = offer.handle.filter(|_| offer.healthy > 0).map(|handle| Candidate {
            target: Target::Service(cluster, handle),
            offer,
            destination: Destination::Service { cluster, handle },
            weight: 1,
            tier: tier(&offer.cluster.locality, &self.locality, true),
        });
        let healthy = offer.endpoints.iter().filter(|endpoint| endpoint.health == Health::Healthy);
        let own = self.locality.clone();
        let endpoints = healthy.map(move |endpoint| Candidate {
            target: Target::Endpoint(cluster, endpoint.instance),
            offer,
            destination: Destination::Workload(endpoint.cid),
            weight: endpoint.weight.max(1),
            tier: tier(&endpoint.locality, &own, false),
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

/// The better of two candidates drawn by weight: the one with less `load` for its weight. `None` if there is none.
pub(crate) fn pick<'c, 'a>(
    candidates: &'c [Candidate<'a>],
    load: impl Fn(Target) -> u32,
    random: [u64; 2],
) -> Option<&'c Candidate<'a>> {
    let first = draw(candidates, None, random[0])?;
    let Some(second) = draw(candidates, Some(first), random[1]) else { return candidates.get(first) };
    let (a, b) = (candidates.get(first)?, candidates.get(second)?);
    let weighed =
        |this: &Candidate<'_>, other: &Candidate<'_>| u64::from(load(this.target)) * u64::from(other.weight);
    Some(if weighed(b, a) < weighed(a, b) { b } else { a })
}

/// The index of a candidate other than `without`, drawn by weight.
fn draw(candidates: &[Candidate<'_>], without: Option<usize>, random: u64) -> Option<usize> {
    let open = || candidates.iter().enumerate().filter(|(at, _)| Some(*at) != without);
    let total: u64 = open().map(|(_, candidate)| u64::from(candidate.weight)).sum();
    let mut left = random.checked_rem(total)?;
    for (at, candidate) in open() {
        match left.checked_sub(candidate.weight.into()) {
            Some(rest) => left = rest,
            None => return Some(at),
        }
    }
    None
}

#[cfg(test)]
mod tests;
