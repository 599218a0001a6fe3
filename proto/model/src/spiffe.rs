//! SPIFFE trust domains and IDs (the SPIFFE ID specification, sections 2.1 and 2.2).

use crate::{GatewayRole, Label, NodeId, ParseError};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The name of a trust domain: 1 to 255 lower-case letters, digits, dots, hyphens and underscores (SPIFFE ID
/// specification, section 2.1).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// The name as text, without `spiffe://`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TrustDomain {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
        if s.is_empty() || s.len() > 255 || !s.bytes().all(letter) {
            return Err(ParseError::new(
                "trust domain",
                s,
                "use 1 to 255 lower-case letters, digits, dots, hyphens and underscores",
            ));
        }
        Ok(Self(s.into()))
    }
}

/// A SPIFFE ID: `spiffe://TRUST-DOMAIN/PATH` (SPIFFE ID specification, section 2).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SpiffeId {
    trust_domain: TrustDomain,
    path: Arc<str>,
}

/// What the path of a mesh identity says that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpiffeRole {
    /// `/ns/NAMESPACE/sa/ACCOUNT`
    Workload {
        /// The namespace.
        namespace: Label,
        /// The service account.
        account: Label,
    },
    /// `/causeway/gateway/NODE`: a gateway that signs, holds links and takes part in the registry.
    Gateway(NodeId),
    /// `/causeway/forwarder/NODE`: a gateway that forwards packets only.
    Forwarder(NodeId),
    /// Any other path: an identity with no role in the mesh.
    Other,
}

impl SpiffeId {
    /// The longest SPIFFE ID, in bytes (SPIFFE ID specification, section 2.3).
    pub const MAX_LEN: usize = 2048;

    /// The identity of a workload: `spiffe://TD/ns/NAMESPACE/sa/ACCOUNT`.
    pub fn workload(trust_domain: &TrustDomain, namespace: &Label, account: &Label) -> Self {
        Self { trust_domain: trust_domain.clone(), path: format!("/ns/{namespace}/sa/{account}").into() }
    }

    /// The identity of a gateway of role gateway: `spiffe://TD/causeway/gateway/NODE`.
    pub fn gateway(trust_domain: &TrustDomain, node: NodeId) -> Self {
        Self::node(trust_domain, GatewayRole::Gateway, node)
    }

    /// The identity of a gateway of either role: `spiffe://TD/causeway/ROLE/NODE`.
    pub fn node(trust_domain: &TrustDomain, role: GatewayRole, node: NodeId) -> Self {
        Self { trust_domain: trust_domain.clone(), path: format!("/causeway/{role}/{node}").into() }
    }

    /// The trust domain that the identity belongs to.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The path, with its leading slash; empty for the identity of a trust domain itself.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What the path says that this identity is.
    pub fn role(&self) -> SpiffeRole {
        let segments: Vec<&str> = self.path.split('/').collect();
        match segments.as_slice() {
            ["", "ns", namespace, "sa", account] => match (namespace.parse(), account.parse()) {
                (Ok(namespace), Ok(account)) => SpiffeRole::Workload { namespace, account },
                _ => SpiffeRole::Other,
            },
            ["", "causeway", role, node] => match (role.parse(), node.parse::<NodeId>()) {
                (Ok(role), Ok(id)) if id != NodeId::ANY && id.to_string() == *node => match role {
                    GatewayRole::Gateway => SpiffeRole::Gateway(id),
                    GatewayRole::Forwarder => SpiffeRole::Forwarder(id),
                },
                _ => SpiffeRole::Other,
            },
            _ => SpiffeRole::Other,
        }
    }
}

impl FromStr for SpiffeId {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        const RULE: &str = "write spiffe://TRUST-DOMAIN/PATH with letters, digits, dots, hyphens and underscores in the path";
        let error = || ParseError::new("SPIFFE ID", s, RULE);
        let rest = s.strip_prefix("spiffe://").filter(|_| s.len() <= Self::MAX_LEN).ok_or_else(error)?;
        let (domain, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let trust_domain: TrustDomain = domain.parse().map_err(|_| error())?;
        let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        let segment = |s: &str| !s.is_empty() && s != "." && s != ".." && s.bytes().all(letter);
        if !path.is_empty() && !path[1..].split('/').all(segment) {
            return Err(error());
        }
        Ok(Self { trust_domain, path: path.into() })
    }
}

macro_rules! text_form {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = ParseError;

            fn try_from(s: String) -> Result<Self, ParseError> {
                s.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.to_string()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

text_form!(TrustDomain);
text_form!(SpiffeId);

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}{}", self.trust_domain, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn roles_are_read_from_the_path() {
        let td: TrustDomain = "iad.mesh".parse().unwrap();
        let (ns, sa): (Label, Label) = ("shop".parse().unwrap(), "payments".parse().unwrap());
        let workload = SpiffeId::workload(&td, &ns, &sa);
        assert_eq!(workload.to_string(), "spiffe://iad.mesh/ns/shop/sa/payments");
        assert_eq!(workload.role(), SpiffeRole::Workload { namespace: ns, account: sa });
        let gateway = SpiffeId::gateway(&td, NodeId(7));
        assert_eq!(gateway.to_string(), "spiffe://iad.mesh/causeway/gateway/0000000000000007");
        assert_eq!(gateway.role(), SpiffeRole::Gateway(NodeId(7)));
        assert_eq!(SpiffeId::node(&td, GatewayRole::Gateway, NodeId(7)), gateway);
        let forwarder = SpiffeId::node(&td, GatewayRole::Forwarder, NodeId(7));
        assert_eq!(forwarder.to_string(), "spiffe://iad.mesh/causeway/forwarder/0000000000000007");
        assert_eq!(forwarder.role(), SpiffeRole::Forwarder(NodeId(7)));
        for path in [
            "gateway/0000000000000000",
            "forwarder/0000000000000000",
            "forwarder/7",
            "forwarder/000000000000000A",
            "forwarder",
            "forwarder/0000000000000007/x",
            "Forwarder/0000000000000007",
            "sidecar/0000000000000007",
        ] {
            let id: SpiffeId = format!("spiffe://iad.mesh/causeway/{path}").parse().unwrap();
            assert_eq!(id.role(), SpiffeRole::Other, "{path}");
        }
    }

    #[test]
    fn ids_that_break_the_specification_are_refused() {
        for bad in [
            "",
            "spiffe://",
            "SPIFFE://a/b",
            "spiffe://A/b",
            "spiffe://a/",
            "spiffe://a//b",
            "spiffe://a/../b",
            "spiffe://a/b?c",
            "spiffe://a:1/b",
            "spiffe://a/%41",
        ] {
            assert!(bad.parse::<SpiffeId>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn an_id_prints_as_it_parses(s in "spiffe://[a-z.]{0,8}(/[a-zA-Z.%_-]{0,4}){0,4}") {
            if let Ok(id) = s.parse::<SpiffeId>() {
                prop_assert_eq!(id.to_string(), s);
            }
        }
    }
}
