//! Commands about join tokens.

use crate::{TokenId, Verifier};
use causeway_model::{GatewayRole, NodeId, PortSet, ServiceName, SpiffeId, WorkloadId};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A service that the holder of a token may serve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceDeclaration {
    /// Its name.
    pub name: ServiceName,
    /// Its ports; empty leaves them to whoever declares them.
    pub ports: PortSet,
}

/// What a token lets its holder become.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TokenKind {
    /// A workload with this identity.
    Workload {
        /// The identity, of the cluster's own trust domain.
        identity: SpiffeId,
        /// The services that it may serve.
        services: Vec<ServiceDeclaration>,
    },
    /// A gateway of the cluster.
    Gateway {
        /// Its role.
        role: GatewayRole,
    },
}

impl fmt::Display for TokenKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workload { identity, .. } => write!(f, "workload {identity}"),
            Self::Gateway { role } => write!(f, "gateway with role {role}"),
        }
    }
}

/// Creates a join token. One for a workload declares its services: they come into being if they do not exist, and the
/// identity may serve them from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateToken {
    /// Its number, the proposer's random.
    pub id: TokenId,
    /// What proves its secret.
    pub verifier: Verifier,
    /// What it is for.
    pub kind: TokenKind,
    /// How many times it may be used, at least 1.
    pub uses: u32,
    /// When it ends, in seconds since the Unix epoch; in the future.
    pub expires_at: u64,
}

/// Who uses a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TokenUser {
    /// A workload, by 64 bits of its key's hash.
    Workload(WorkloadId),
    /// A gateway, by its node id, which comes from its key too.
    Gateway(NodeId),
}

impl fmt::Display for TokenUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workload(id) => write!(f, "workload {id}"),
            Self::Gateway(node) => write!(f, "gateway {node}"),
        }
    }
}

/// Spends one use of a token whose secret the proposer has checked. Answered with the token's kind. A repetition by the same
/// user is answered alike and spends nothing, while it is among the last 1,000 uses of all tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UseToken {
    /// The token.
    pub id: TokenId,
    /// Who joins with it.
    pub user: TokenUser,
}

/// Revokes a token. Revoking it again changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokeToken {
    /// The token.
    pub id: TokenId,
}
