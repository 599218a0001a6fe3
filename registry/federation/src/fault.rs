//! What makes a single offer unacceptable. The same rules hold on both sides: an exporter leaves out what a peer would
//! refuse, and says so at home, where somebody can mend it.

use causeway_model::{ClusterFacts, Locality, ServiceHandle, ServiceName, SpiffeRole, TrustDomain};
use causeway_wire::view::{ExportSummary, MAX_IDENTITIES, MAX_LOCALITIES};

/// Why an offer is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OfferFault {
    /// An identity belongs to a trust domain that the offering cluster does not speak for.
    #[error(
        "an identity is of trust domain {found}, the offering cluster speaks for {expected} only: it must not name servers of others"
    )]
    ForeignIdentity {
        /// The trust domain of the offering cluster.
        expected: TrustDomain,
        /// The trust domain of the identity.
        found: TrustDomain,
    },
    /// An identity is not a workload's.
    #[error("an identity is not a workload's: name servers as spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT")]
    NotWorkload,
    /// No identity may serve it.
    #[error("no identity may serve it: grant one to the service in the offering cluster")]
    NoIdentity,
    /// More than [`MAX_IDENTITIES`] identities.
    #[error("{0} identities may serve it, the most is 64: let its workloads share service accounts")]
    TooManyIdentities(usize),
    /// No ports.
    #[error("it has no ports: declare them in the offering cluster")]
    NoPorts,
    /// More than [`MAX_LOCALITIES`] localities.
    #[error("it names {0} localities, the most is 64")]
    TooManyLocalities(usize),
    /// A region or zone that is longer than [`Locality::MAX_LEN`].
    #[error(
        "a region or zone has {0} bytes, the most is 128: shorten it in the configuration of its gateways"
    )]
    LongLocality(usize),
    /// More healthy endpoints than endpoints.
    #[error("{healthy} of {total} endpoints are healthy, which cannot be")]
    Counts {
        /// Healthy endpoints.
        healthy: u32,
        /// Endpoints in all.
        total: u32,
    },
    /// The same handle came twice at once.
    #[error("its handle was offered twice: the first offer counts")]
    HandleClash,
    /// Another handle already offers this name.
    #[error("handle {0} offers the same name: the first offer counts")]
    NameClash(ServiceHandle),
    /// It does not fit in a frame.
    #[error("it does not fit in a frame of 1048576 bytes")]
    TooLarge,
}

impl OfferFault {
    /// The stable word for logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::ForeignIdentity { .. } => "foreign-identity",
            Self::NotWorkload => "not-a-workload",
            Self::NoIdentity => "no-identity",
            Self::TooManyIdentities(_) => "too-many-identities",
            Self::NoPorts => "no-ports",
            Self::TooManyLocalities(_) => "too-many-localities",
            Self::LongLocality(_) => "long-locality",
            Self::Counts { .. } => "impossible-counts",
            Self::HandleClash => "handle-clash",
            Self::NameClash(_) => "name-clash",
            Self::TooLarge => "too-large",
        }
    }
}

/// An offer that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedOffer {
    /// The service.
    pub name: ServiceName,
    /// Its handle.
    pub handle: ServiceHandle,
    /// Why.
    pub fault: OfferFault,
}

/// Whether the strings of `locality` are of a length that is taken from a peer.
pub(crate) fn check_locality(locality: &Locality) -> Result<(), OfferFault> {
    let longest = locality.region.len().max(locality.zone.len());
    if longest > Locality::MAX_LEN { Err(OfferFault::LongLocality(longest)) } else { Ok(()) }
}

/// What must hold of an offer whoever makes it.
pub(crate) fn check_shape(offer: &ExportSummary) -> Result<(), OfferFault> {
    if offer.ports.is_empty() {
        return Err(OfferFault::NoPorts);
    }
    if offer.identities.is_empty() {
        return Err(OfferFault::NoIdentity);
    }
    if offer.identities.len() > MAX_IDENTITIES {
        return Err(OfferFault::TooManyIdentities(offer.identities.len()));
    }
    if offer.identities.iter().any(|id| !matches!(id.role(), SpiffeRole::Workload { .. })) {
        return Err(OfferFault::NotWorkload);
    }
    if offer.localities.len() > MAX_LOCALITIES {
        return Err(OfferFault::TooManyLocalities(offer.localities.len()));
    }
    offer.localities.iter().try_for_each(|(locality, _)| check_locality(locality))?;
    if offer.healthy > offer.total {
        return Err(OfferFault::Counts { healthy: offer.healthy, total: offer.total });
    }
    Ok(())
}

/// What must hold of an offer of `peer`.
pub(crate) fn check_offer(peer: &ClusterFacts, offer: &ExportSummary) -> Result<(), OfferFault> {
    check_shape(offer)?;
    match offer.identities.iter().find(|id| *id.trust_domain() != peer.trust_domain) {
        Some(id) => Err(OfferFault::ForeignIdentity {
            expected: peer.trust_domain.clone(),
            found: id.trust_domain().clone(),
        }),
        None => Ok(()),
    }
}
