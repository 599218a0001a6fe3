//! Joins what all clusters offer under one name.

use causeway_model::{ClusterFacts, ClusterId, Locality, PortSet, Protocol, Revision, ServiceName};
use causeway_wire::view::{Offer, ServiceView};
use std::collections::BTreeSet;

/// A linked cluster's offer of a service.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerOffer {
    /// The offer; stale if it says so.
    pub offer: Offer,
    /// Whether the link allows its namespace to merge with a local service of the same name.
    pub may_merge: bool,
    /// The revision of the local registry at which the link was made.
    pub linked_at: Revision,
}

/// Why an offer is not part of a service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// The service exists here and the link does not merge its namespace.
    #[error(
        "the service exists here and the link does not merge its namespace: allow it on the link, or rename one of the two"
    )]
    NotMerged,
    /// A port is missing.
    #[error(
        "it lacks port {port}/{protocol}, which the service has by the definition of cluster {defined_by}: add the port to the offer"
    )]
    MissingPort {
        /// The port.
        port: u16,
        /// What it speaks.
        protocol: Protocol,
        /// The cluster whose definition counts.
        defined_by: ClusterId,
    },
    /// A port speaks something else.
    #[error(
        "its port {port} speaks {found}, by the definition of cluster {defined_by} it is {expected}: make them the same"
    )]
    OtherProtocol {
        /// The port.
        port: u16,
        /// What it speaks by the definition that counts.
        expected: Protocol,
        /// What the offer says.
        found: Protocol,
        /// The cluster whose definition counts.
        defined_by: ClusterId,
    },
    /// The offer names our own cluster, or one that offered the service already.
    #[error("another offer is from the same cluster: every cluster of a mesh needs an id of its own")]
    SameCluster,
}

impl Why {
    /// The stable word for logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotMerged => "not-merged",
            Self::MissingPort { .. } => "missing-port",
            Self::OtherProtocol { .. } => "other-protocol",
            Self::SameCluster => "same-cluster",
        }
    }
}

/// An offer that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The service.
    pub service: ServiceName,
    /// The cluster whose offer is left out.
    pub cluster: ClusterId,
    /// The cluster whose offer or definition it lost to.
    pub against: ClusterId,
    /// Why its offer does not count.
    pub why: Why,
}

/// A service as all clusters offer it.
#[derive(Clone, Debug, PartialEq)]
pub struct Merged {
    /// What sidecars are told: every offer has the same ports.
    pub view: ServiceView,
    /// Offers that were left out.
    pub conflicts: Vec<Conflict>,
}

/// Merges the offers of `name`: the `local` one of the `own` cluster, if there is one, and those of linked clusters.
///
/// One definition gives the service its ports and protocols: the local one, or else that of the cluster that was linked
/// first. The Multi-Cluster Services API (KEP-1645, conflict resolution) lets the oldest export win, and a majority might
/// be asked; but a peer can state any age it likes, and a peer that makes up clusters of its own can be any majority. The
/// order in which this cluster made its links is known here and cannot be forged, and it is the same at all its gateways.
/// It holds for a stale peer too, so that a cut link does not redefine a service. Offers that lack a port of the
/// definition, or speak something else on it, are left out; ports beyond it are cut off. The KEP makes the union of all ports
/// instead, which would name ports that the endpoints of some clusters do not serve; here every endpoint serves all ports. As there,
/// what lost is reported with both sides, and traffic goes on by the definition that won.
///
/// The result is the same in whatever order the offers come.
///
/// The order of the offers: the local one, then those of peers that speak, those in `here`'s zone before those in its
/// region before all others, then stale ones in the same order; among equals by name.
pub fn merge_offers(
    name: &ServiceName,
    own: &ClusterFacts,
    local: Option<Offer>,
    peers: impl IntoIterator<Item = PeerOffer>,
    here: &Locality,
) -> Merged {
    let mut peers: Vec<PeerOffer> = peers.into_iter().collect();
    peers.sort_by_key(|peer| (peer.linked_at, peer.offer.cluster.id));
    let mut definition = local.as_ref().map(|offer| (own.id, offer.ports.clone()));
    let mut seen = BTreeSet::from([own.id]);
    let (mut kept, mut conflicts) = (Vec::new(), Vec::new());
    for mut peer in peers {
        let cluster = peer.offer.cluster.id;
        let judged = if !seen.insert(cluster) {
            Err(Why::SameCluster)
        } else if local.is_some() && !peer.may_merge {
            Err(Why::NotMerged)
        } else {
            let (by, ports) = definition.get_or_insert_with(|| (cluster, peer.offer.ports.clone()));
            check_ports(*by, ports, &peer.offer.ports).map(|()| ports.clone())
        };
        match judged {
            Ok(ports) => {
                peer.offer.ports = ports;
                kept.push(peer.offer);
            }
            Err(why) => {
                // that of the same cluster, of this one, or of the one that defines the ports
                let against = match why {
                    Why::SameCluster => cluster,
                    Why::NotMerged => own.id,
                    Why::MissingPort { defined_by, .. } | Why::OtherProtocol { defined_by, .. } => defined_by,
                };
                conflicts.push(Conflict { service: name.clone(), cluster, against, why });
            }
        }
    }
    kept.sort_by_cached_key(|offer| {
        let distance = here.distance(&offer.cluster.locality);
        (offer.stale_for.is_some(), distance, offer.cluster.name.clone(), offer.cluster.id)
    });
    let offers = local.into_iter().chain(kept).collect();
    Merged { view: ServiceView { name: name.clone(), offers }, conflicts }
}

fn check_ports(defined_by: ClusterId, definition: &PortSet, offered: &PortSet) -> Result<(), Why> {
    definition.iter().try_for_each(|wanted| match offered.protocol(wanted.key()) {
        Some(found) if found == wanted.protocol => Ok(()),
        Some(found) => {
            Err(Why::OtherProtocol { port: wanted.port, expected: wanted.protocol, found, defined_by })
        }
        None => Err(Why::MissingPort { port: wanted.port, protocol: wanted.protocol, defined_by }),
    })
}

#[cfg(test)]
mod tests;
