//! Services: what is asked for, pages, one in detail, and what a watch tells.

use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Which services are asked for. What is said of an offer must hold for one and the same offer of the service.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServiceQuery {
    /// `SERVICE.NAMESPACE` or `SERVICE` in any namespace; `*` stands for any part of either: `pay*.shop`.
    pub name: Option<String>,
    /// Only those in this namespace.
    pub namespace: Option<String>,
    /// Only those with an offer in this region.
    pub region: Option<String>,
    /// Only those with an offer that has endpoints in this zone.
    pub zone: Option<String>,
    /// Only those with an offer of this cluster.
    pub cluster: Option<String>,
    /// Only those with an offer in this health.
    pub health: Option<HealthIs>,
    /// Only those with a stale offer: the link it came over is silent.
    pub stale: bool,
    /// Only those with an offer from there.
    pub origin: Option<OfferOrigin>,
    /// Only those with this port: `80`, or `80/http` to name the protocol too.
    pub port: Option<String>,
    /// The order; another one than by name looks at every service, and has no further pages.
    pub sort: SortBy,
    /// At most so many; 100 unless given, at most 1000.
    pub limit: Option<usize>,
    /// Those after this name, which need not exist.
    pub after: Option<String>,
    /// Stream what changes after the first answer.
    pub watch: bool,
    /// Go on with a watch after this cursor of it, which may be of another gateway of the cluster.
    pub resume: Option<String>,
    /// With `resume`: tell everything, but nothing older than the cursor. For who lost what it knew after that.
    pub anew: bool,
}

/// How an offer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthIs {
    /// At least one endpoint takes new requests.
    Healthy,
    /// There are endpoints, but none takes new requests.
    Unhealthy,
    /// There is no endpoint.
    None,
}

/// Where an offer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OfferOrigin {
    /// This cluster.
    Local,
    /// A linked one.
    Imported,
}

/// An order of services. Equal ones are in the order of their names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SortBy {
    /// By namespace, then name.
    #[default]
    Name,
    /// By the cluster of the nearest offer.
    Cluster,
    /// Those with the fewest healthy endpoints first.
    Healthy,
    /// Those whose stalest offer has been so for the longest time first.
    Stale,
}

/// The place of a service in an order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SortKey {
    rank: (u64, Reverse<u64>, String),
    namespace: String,
    service: String,
}

impl SortBy {
    /// The place of `service` in this order.
    pub fn key(self, service: &Service) -> SortKey {
        let none = (0, Reverse(0), String::new());
        let rank = match self {
            Self::Name => none,
            Self::Cluster => {
                (0, Reverse(0), service.offers.first().map(|o| o.cluster.clone()).unwrap_or_default())
            }
            Self::Healthy => {
                (service.offers.iter().map(|offer| u64::from(offer.healthy)).sum(), none.1, none.2)
            }
            // one that is stale for less than a second still comes before those that are not
            Self::Stale => {
                let stalest = service.offers.iter().filter_map(|offer| offer.stale_for).max();
                (0, Reverse(stalest.map_or(0, |age| age.saturating_add(1))), none.2)
            }
        };
        let (name, namespace) = service.name.split_once('.').unwrap_or((&service.name, ""));
        SortKey { rank, namespace: namespace.to_owned(), service: name.to_owned() }
    }
}

/// A page of services.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServicePage {
    /// The gateway that answers.
    pub node: String,
    /// The revision of the registry that it shows.
    pub revision: u64,
    /// How long the gateway took, in microseconds.
    pub took_us: u64,
    /// How many services it looked at.
    pub looked_at: u64,
    /// How many are meant in all; known only when the order made it look at each of them.
    pub matched: Option<u64>,
    /// The services, in the order that was asked for.
    pub services: Vec<Service>,
    /// Give this as `after` for the next page; nothing when this is the last. A page that looked at a great many services
    /// without finding enough has fewer than were asked for, and a next one.
    pub next: Option<String>,
}

/// What a watch reports: one JSON object a line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum ServiceEvent {
    /// What follows up to `synced` is everything there is: what was told before and is not in it is no more.
    Snapshot {
        /// The gateway that tells it.
        node: String,
        /// The revision of its registry.
        revision: u64,
    },
    /// What follows is what changed since the cursor that was given.
    Resumed {
        /// The gateway that tells it.
        node: String,
        /// The revision of its registry.
        revision: u64,
    },
    /// The service is as it is here.
    Set {
        /// The service.
        service: Service,
    },
    /// The service is no more.
    Removed {
        /// Its name.
        name: String,
    },
    /// Everything that exists has been told; what follows are changes.
    Synced {
        /// The revision.
        revision: u64,
    },
    /// Everything up to here has been told: a watch that gives this as `resume` goes on from here.
    Cursor {
        /// The revision.
        revision: u64,
        /// The cursor.
        cursor: String,
    },
}

/// A service wherever it runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// `SERVICE.NAMESPACE`
    pub name: String,
    /// Who offers it, nearest first.
    pub offers: Vec<Offer>,
}

impl Service {
    /// The service without what changes by time alone: for how long offers have been stale. That they are is kept.
    #[must_use]
    pub fn without_ages(&self) -> Self {
        let mut state = self.clone();
        for offer in &mut state.offers {
            offer.stale_for = offer.stale_for.map(|_| 0);
        }
        state
    }
}

/// One cluster's offer of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Offer {
    /// The cluster.
    pub cluster: String,
    /// Its region.
    pub region: String,
    /// The zones that endpoints run in.
    pub zones: Vec<String>,
    /// `80/tcp` and so on.
    pub ports: Vec<String>,
    /// Endpoints that take new requests.
    pub healthy: u32,
    /// Endpoints in all.
    pub total: u32,
    /// `local` or `imported`.
    pub origin: String,
    /// To whom it is exported, if it is local: `*` stands for every linked cluster.
    pub exported_to: Vec<String>,
    /// The SPIFFE IDs that may serve it.
    pub identities: Vec<String>,
    /// For how long the link it came over has been silent, in seconds.
    pub stale_for: Option<u64>,
    /// Endpoints that are known here; for an imported service those in use.
    pub endpoints: Vec<Endpoint>,
}

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The instance.
    pub workload: String,
    /// Its region.
    pub region: String,
    /// Its zone.
    pub zone: String,
    /// `healthy`, `draining` or `unhealthy`.
    pub health: String,
    /// Its weight.
    pub weight: u16,
}

/// Everything that a gateway knows of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceDetail {
    /// `SERVICE.NAMESPACE`
    pub name: String,
    /// The gateway that answers.
    pub node: String,
    /// The revision of the registry that it shows.
    pub revision: u64,
    /// How long the gateway took, in microseconds.
    pub took_us: u64,
    /// The virtual addresses of the service and of its names that are pinned to a cluster, of those that were asked for so far.
    pub vips: Vec<ServiceVip>,
    /// Who offers it, nearest first.
    pub offers: Vec<OfferDetail>,
    /// Offers that do not count here.
    pub left_out: Vec<LeftOut>,
}

/// The virtual address of a name: where applications connect to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceVip {
    /// `SERVICE.NAMESPACE`, or `SERVICE.NAMESPACE@CLUSTER` when it is pinned to a cluster.
    pub name: String,
    /// Its IPv4 address.
    pub v4: Ipv4Addr,
    /// Its IPv6 address.
    pub v6: Ipv6Addr,
}

/// An offer, and how its cluster is reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OfferDetail {
    /// The offer. Of a local one up to 1,000 endpoints are shown.
    #[serde(flatten)]
    pub offer: Offer,
    /// The link that it came over; nothing for the own cluster's.
    pub link: Option<ServiceLink>,
    /// The cluster's gateways, as the one that answers reaches them.
    pub gateways: Vec<PathGateway>,
}

/// The link that an offer came over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceLink {
    /// `up`, `stale` (silent) or `down` (no gateway of it answers).
    pub state: String,
    /// For how long it has been silent, in seconds.
    pub stale_for: Option<u64>,
    /// When it was made, in seconds since 1970.
    pub established_at: u64,
}

/// A gateway on the way to a cluster's endpoints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PathGateway {
    /// Its node id.
    pub node: String,
    /// Where it is reached; nothing for the gateway that answers.
    pub addr: Option<String>,
    /// Whether it answers probes.
    pub answers: bool,
    /// The round-trip time to it, in microseconds.
    pub rtt_us: Option<u32>,
}

/// An offer that does not count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// The cluster that makes it.
    pub cluster: String,
    /// A stable word.
    pub reason: String,
    /// Why, for the operator.
    pub why: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str, cluster: &str, healthy: u32, stale_for: Option<u64>) -> Service {
        let offer = Offer {
            cluster: cluster.into(),
            region: String::new(),
            zones: Vec::new(),
            ports: Vec::new(),
            healthy,
            total: healthy,
            origin: "imported".into(),
            exported_to: Vec::new(),
            identities: Vec::new(),
            stale_for,
            endpoints: Vec::new(),
        };
        Service { name: name.into(), offers: vec![offer] }
    }

    #[test]
    fn what_is_worst_comes_first_and_names_decide_between_equals() {
        let mut services = [
            service("b.a", "phx", 3, None),
            service("a.b", "iad", 0, Some(0)),
            service("a.a", "fra", 3, Some(9)),
        ];
        let mut order = |by: SortBy| {
            services.sort_by_key(|service| by.key(service));
            services.each_ref().map(|service| service.name.clone())
        };
        assert_eq!(order(SortBy::Name), ["a.a", "b.a", "a.b"], "namespaces first, as pages are");
        assert_eq!(order(SortBy::Cluster), ["a.a", "a.b", "b.a"]);
        assert_eq!(order(SortBy::Healthy), ["a.b", "a.a", "b.a"]);
        assert_eq!(order(SortBy::Stale), ["a.a", "a.b", "b.a"]);
    }
}
