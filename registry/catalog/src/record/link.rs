//! Links and the invites that lead to them.

use crate::{InviteId, LinkKey, MergeRule, Refusal, StalePolicy, Verifier};
use causeway_model::{ClusterFacts, ClusterName, GatewayFacts, NodeId, Revision, Revocation};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What became of an invite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InviteState {
    /// It waits.
    Open,
    /// A link was made with it.
    Used,
    /// It was revoked.
    Revoked,
}

/// A link invite, live or dead. The dead are kept for a while, so that who uses one is told why it does not work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invite {
    /// Its number.
    pub id: InviteId,
    /// What proves its secret.
    pub verifier: Verifier,
    /// The only cluster that may use it.
    pub for_cluster: Option<ClusterName>,
    /// When it ends, in seconds since the Unix epoch.
    pub expires_at: u64,
    /// What became of it.
    pub state: InviteState,
    /// When it was created, in seconds since the Unix epoch.
    pub created_at: u64,
    /// Who created it.
    pub created_by: String,
}

impl Invite {
    /// Can it be used at `at`, in seconds since the Unix epoch? Says why not. There is no slack for clocks.
    pub fn check(&self, at: u64) -> Result<(), Refusal> {
        let id = self.id;
        match self.state {
            InviteState::Used => Err(Refusal::InviteUsed { id }),
            InviteState::Revoked => Err(Refusal::InviteRevoked { id }),
            InviteState::Open if at >= self.expires_at => {
                Err(Refusal::InviteExpired { id, expires_at: self.expires_at, at })
            }
            InviteState::Open => Ok(()),
        }
    }

    /// [`Invite::check`], and that `cluster` may use it.
    pub fn check_for(&self, cluster: &ClusterName, at: u64) -> Result<(), Refusal> {
        self.check(at)?;
        match &self.for_cluster {
            Some(invited) if invited != cluster => Err(Refusal::InviteForAnother {
                id: self.id,
                invited: invited.clone(),
                cluster: cluster.clone(),
            }),
            _ => Ok(()),
        }
    }
}

/// The agreement with another cluster to carry traffic and share services.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// What the peer is.
    pub peer: ClusterFacts,
    /// The peer's trust bundle: its root certificates in DER.
    pub roots: Vec<Vec<u8>>,
    /// The peer's gateways.
    pub gateways: BTreeMap<NodeId, GatewayFacts>,
    /// The link's own key.
    pub key: LinkKey,
    /// Where the peer's services merge with ours.
    pub merge_namespaces: MergeRule,
    /// The peer's revision of its roots and gateways; 0 until it first speaks over the link.
    pub peer_revision: Revision,
    /// Whose certificates the peer refuses.
    pub revoked: Vec<Revocation>,
    /// Whether the peer has paused the link.
    pub peer_paused: bool,
    /// Whether it is paused here.
    pub paused: bool,
    /// What becomes of the peer's services while the link is silent.
    pub stale: StalePolicy,
    /// Whether traffic between this peer and others may pass through this cluster.
    pub transit: bool,
    /// This cluster's revision of which everybody in the peer's cluster has taken the roots; 0 until it says so.
    pub confirmed: Revision,
    /// The revision at which its roots or revocations last changed here.
    pub trust_changed: Revision,
    /// When the link was made, in seconds since the Unix epoch.
    pub established_at: u64,
    /// The revision at which it was made; a link that is made again has a new one.
    pub established: Revision,
    /// The revision at which it last changed.
    pub changed: Revision,
}
