//! What a client demands of a server, beyond a chain that verifies.

use super::VerifyError;
use causeway_model::{SpiffeId, SpiffeRole, TrustDomain};
use std::sync::Arc;

/// Which servers a client accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerRule {
    /// One of these identities: those that may serve the service.
    OneOf(Arc<[SpiffeId]>),
    /// Any gateway of this trust domain, but no forwarder.
    GatewayOf(TrustDomain),
    /// This gateway, or this forwarder: the ID says which.
    GatewayNode(SpiffeId),
    /// Any gateway of the trust domain whose root certificate has this SHA-256 and is in the presented chain, but no
    /// forwarder. No bundle is asked: this is for join and link tokens.
    Fingerprint([u8; 32]),
    /// As `Fingerprint`, of this trust domain: for roots that an operator brought, which need not name one.
    Pinned {
        /// SHA-256 of the root certificate.
        root: [u8; 32],
        /// The trust domain that the token is for.
        trust_domain: TrustDomain,
    },
}

impl ServerRule {
    /// Whether the server `id` will do. Its chain must have been verified.
    pub(super) fn check(&self, id: &SpiffeId) -> Result<(), VerifyError> {
        let matches = match self {
            Self::OneOf(ids) => return if ids.contains(id) { Ok(()) } else { Err(self.wrong(id)) },
            Self::GatewayOf(trust_domain) | Self::Pinned { trust_domain, .. } => {
                id.trust_domain() == trust_domain
            }
            Self::GatewayNode(gateway) => id == gateway,
            Self::Fingerprint(_) => true,
        };
        match id.role() {
            _ if !matches => Err(self.wrong(id)),
            SpiffeRole::Gateway(_) => Ok(()),
            // an ID that was asked for by name says its role itself
            SpiffeRole::Forwarder(_) if matches!(self, Self::GatewayNode(_)) => Ok(()),
            SpiffeRole::Forwarder(_) => Err(VerifyError::WrongRole {
                id: id.clone(),
                expected: "a gateway of role gateway (a forwarder only forwards packets)",
            }),
            _ => Err(VerifyError::WrongRole { id: id.clone(), expected: "a gateway" }),
        }
    }

    fn wrong(&self, id: &SpiffeId) -> VerifyError {
        VerifyError::WrongIdentity { id: id.clone(), expected: self.expected() }
    }

    fn expected(&self) -> String {
        const SHOWN: usize = 3;
        match self {
            Self::OneOf(ids) if ids.is_empty() => "nobody (no identity may serve it)".into(),
            Self::OneOf(ids) => {
                let names: Vec<String> = ids.iter().take(SHOWN).map(ToString::to_string).collect();
                let more = ids.len().saturating_sub(SHOWN);
                let rest = if more == 0 { String::new() } else { format!(" or {more} more") };
                names.join(" or ") + &rest
            }
            Self::GatewayOf(trust_domain) | Self::Pinned { trust_domain, .. } => {
                format!("a gateway of {trust_domain}")
            }
            Self::GatewayNode(id) => id.to_string(),
            Self::Fingerprint(_) => "a gateway".into(),
        }
    }
}
