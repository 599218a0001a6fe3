//! How much of everything the catalog holds, and the checks of what a command brings.
//!
//! Peers and holders of tokens can cause commands, so nothing here grows without a limit.

use crate::Refusal;
use causeway_model::{GatewayFacts, Locality, NodeId, Revocation, TrustDomain, trust_len};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// The longest actor of a command, in bytes.
pub const MAX_ACTOR_LEN: usize = 256;
/// How many entries the audit keeps; older ones are forgotten.
pub const MAX_AUDIT_ENTRIES: usize = 1_000;
/// How many uses of tokens are remembered, so that one that is repeated because its answer was lost spends nothing more.
pub(crate) const MAX_LAST_USES: usize = 1_000;
/// How many removed gateways are remembered.
pub(crate) const MAX_REMOVED: usize = 4_096;
/// For how long, in seconds, an expired token or invite is kept, so that who uses it is told that it expired.
pub const TOMBSTONE_SECS: u64 = 3_600;

/// How many places for revocations are kept for gateways: a full list must not keep one in the cluster whose machine was taken over.
pub const GATEWAY_REVOCATIONS: usize = 16;
/// How many bytes of [`Revocation::MAX_TRUST_BYTES`] are kept for the same.
const GATEWAY_TRUST_BYTES: usize = 4 * 1024;

/// The most names that have a virtual address: with one in seventeen numbers taken a search looks at about one place.
pub const MAX_VIPS: usize = 1_000_000;
/// The most names that one command gives virtual addresses to.
pub const MAX_VIP_BATCH: usize = 256;

/// The longest DER of one root certificate, in bytes.
const MAX_ROOT_LEN: usize = 16 * 1024;
/// The longest sealed CA key, in bytes.
const MAX_SEALED_LEN: usize = 64 * 1024;

/// A thing that the catalog holds a limited number of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Bound {
    /// Join tokens.
    Tokens,
    /// Link invites.
    Invites,
    /// Services.
    Services,
    /// Links to other clusters.
    Links,
    /// Gateways of one cluster, the own one or a linked one.
    Gateways,
    /// Identities that may serve one service.
    Identities,
    /// Services that one token declares.
    TokenServices,
    /// Clusters that one export names.
    ExportClusters,
    /// Namespaces that one link names.
    MergeNamespaces,
    /// Root certificates of one trust domain.
    Roots,
    /// Addresses of one kind of one gateway.
    Addresses,
    /// Live epochs of one kind of key.
    Epochs,
    /// Revocations of one trust domain.
    Revocations,
}

impl Bound {
    /// The most that the catalog holds.
    pub const fn limit(self) -> usize {
        match self {
            Self::Services => 100_000,
            Self::Tokens => 10_000,
            Self::Invites | Self::Links | Self::ExportClusters | Self::MergeNamespaces => 1_000,
            Self::Gateways => 256,
            Self::Identities => 64,
            Self::TokenServices => 32,
            // as many as a trust bundle holds: one more would make it unusable
            Self::Roots => 8,
            Self::Addresses => 16,
            Self::Epochs => 4,
            Self::Revocations => Revocation::MAX_PER_DOMAIN,
        }
    }

    /// Refuses `count` of these, if that is more than fit.
    pub(crate) fn check(self, count: usize) -> Result<(), Refusal> {
        if count > self.limit() { Err(Refusal::LimitReached { bound: self }) } else { Ok(()) }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tokens => "tokens",
            Self::Invites => "link invites",
            Self::Services => "services",
            Self::Links => "links",
            Self::Gateways => "gateways of a cluster",
            Self::Identities => "identities that may serve one service",
            Self::TokenServices => "services declared by one token",
            Self::ExportClusters => "clusters named by one export",
            Self::MergeNamespaces => "namespaces merged over one link",
            Self::Roots => "root certificates of a trust domain",
            Self::Addresses => "addresses of a gateway",
            Self::Epochs => "live epochs of a key",
            Self::Revocations => "revocations, some of them kept for gateways that are removed,",
        })
    }
}

/// The start of `text` that is at most `max` bytes long.
pub(crate) fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

/// Refuses an actor that is empty or too long to be kept in the audit.
pub(crate) fn check_actor(by: &str) -> Result<(), Refusal> {
    if by.is_empty() || by.len() > MAX_ACTOR_LEN {
        return Err(Refusal::invalid("actor", by, "name who asks, in 1 to 256 bytes"));
    }
    Ok(())
}

/// Refuses a place whose names are too long to be carried.
pub(crate) fn check_locality(locality: &Locality) -> Result<(), Refusal> {
    for (what, value) in [("region", &locality.region), ("zone", &locality.zone)] {
        if value.len() > Locality::MAX_LEN {
            return Err(Refusal::invalid(what, value, "use at most 128 bytes"));
        }
    }
    Ok(())
}

/// Refuses a gateway without a number of its own, or with more addresses than fit.
pub(crate) fn check_gateway(gateway: &GatewayFacts) -> Result<(), Refusal> {
    if gateway.node == NodeId::ANY {
        return Err(Refusal::invalid(
            "gateway node id",
            &gateway.node.to_string(),
            "0 stands for any gateway",
        ));
    }
    check_locality(&gateway.locality)?;
    for addrs in [&gateway.cluster_addrs, &gateway.link_addrs] {
        Bound::Addresses.check(addrs.len())?;
        if let Some(addr) = addrs.iter().find(|addr| addr.port() == 0) {
            return Err(Refusal::invalid(
                "gateway address",
                &addr.to_string(),
                "give the port that it listens on",
            ));
        }
    }
    Ok(())
}

/// Refuses a peer's list of gateways that is empty or names one twice.
pub(crate) fn check_gateways(gateways: &[GatewayFacts]) -> Result<(), Refusal> {
    if gateways.is_empty() {
        return Err(Refusal::invalid(
            "gateway list",
            "empty",
            "a link needs at least one gateway of the peer",
        ));
    }
    Bound::Gateways.check(gateways.len())?;
    let mut seen = BTreeSet::new();
    for gateway in gateways {
        check_gateway(gateway)?;
        if !seen.insert(gateway.node) {
            return Err(Refusal::invalid(
                "gateway list",
                &gateway.node.to_string(),
                "name each gateway once",
            ));
        }
    }
    Ok(())
}

/// Refuses a set of root certificates that is empty or larger than fits.
pub(crate) fn check_roots(roots: &[Vec<u8>]) -> Result<(), Refusal> {
    if roots.is_empty() {
        return Err(Refusal::invalid(
            "root certificates",
            "none",
            "without one nobody of that cluster is believed",
        ));
    }
    Bound::Roots.check(roots.len())?;
    roots.iter().try_for_each(|root| check_size("root certificate", root.len(), MAX_ROOT_LEN))
}

/// Refuses a chain of signers that is larger than fits.
pub(crate) fn check_chain(chain: &[Vec<u8>]) -> Result<(), Refusal> {
    Bound::Roots.check(chain.len())?;
    chain.iter().try_for_each(|signer| check_size("signer certificate", signer.len(), MAX_ROOT_LEN))
}

/// Refuses more revocations than fit.
pub(crate) fn check_revoked(revoked: &[Revocation]) -> Result<(), Refusal> {
    Bound::Revocations.check(revoked.len())
}

/// Refuses roots and revocations of one trust domain that take more room together than a message to sidecars has for them.
pub(crate) fn check_trust<'a>(
    trust_domain: &TrustDomain,
    roots: &[Vec<u8>],
    revoked: impl IntoIterator<Item = &'a Revocation>,
) -> Result<(), Refusal> {
    check_trust_within(trust_domain, roots, revoked, Revocation::MAX_TRUST_BYTES)
}

fn check_trust_within<'a>(
    trust_domain: &TrustDomain,
    roots: &[Vec<u8>],
    revoked: impl IntoIterator<Item = &'a Revocation>,
    most: usize,
) -> Result<(), Refusal> {
    let bytes = trust_len(roots, revoked);
    if bytes <= most {
        return Ok(());
    }
    Err(Refusal::TrustTooLarge {
        trust_domain: trust_domain.clone(),
        bytes: u64::try_from(bytes).unwrap_or(u64::MAX),
    })
}

/// As [`check_trust`], of the own cluster: what is kept for the revocations of gateways is left to them unless `reserved` is asked for.
pub(crate) fn check_own_trust<'a>(
    trust_domain: &TrustDomain,
    roots: &[Vec<u8>],
    revoked: impl IntoIterator<Item = &'a Revocation>,
    reserved: bool,
) -> Result<(), Refusal> {
    let kept = if reserved { 0 } else { GATEWAY_TRUST_BYTES };
    check_trust_within(trust_domain, roots, revoked, Revocation::MAX_TRUST_BYTES - kept)
}

/// Refuses a sealed CA key that is empty or larger than fits.
pub(crate) fn check_sealed(sealed: &[u8]) -> Result<(), Refusal> {
    check_size("sealed CA key", sealed.len(), MAX_SEALED_LEN)
}

fn check_size(what: &str, len: usize, max: usize) -> Result<(), Refusal> {
    if (1..=max).contains(&len) {
        return Ok(());
    }
    Err(Refusal::invalid(
        what,
        &format!("{len} bytes"),
        &format!("give 1 to {max} bytes of DER or sealed DER"),
    ))
}
