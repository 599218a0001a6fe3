//! Commands about links to other clusters.

use crate::{InviteId, LinkKey, Verifier};
use causeway_model::{ClusterFacts, ClusterName, GatewayFacts, Label, Revision, Revocation};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Creates an invite, with which one other cluster may make a link, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateInvite {
    /// Its number, the proposer's random.
    pub id: InviteId,
    /// What proves its secret.
    pub verifier: Verifier,
    /// The only cluster that may use it; `None` is whichever comes first.
    pub for_cluster: Option<ClusterName>,
    /// When it ends, in seconds since the Unix epoch; in the future.
    pub expires_at: u64,
}

/// Revokes an invite that is not used yet. Revoking it again changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokeInvite {
    /// The invite.
    pub id: InviteId,
}

/// In which namespaces a peer's services merge with local services of the same name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MergeRule {
    /// In none: local definitions hide the peer's.
    #[default]
    None,
    /// In all.
    All,
    /// In these.
    Only(BTreeSet<Label>),
}

impl MergeRule {
    /// True when services of `namespace` merge.
    pub fn merges(&self, namespace: &Label) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Only(namespaces) => namespaces.contains(namespace),
        }
    }
}

/// Makes a link, after both sides have proved the invite's secret. Of a cluster that is linked already, with the same
/// name, id and trust domain, it replaces the link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EstablishLink {
    /// The invite that this consumes, on the inviting side; `None` on the side that accepts.
    pub invite: Option<InviteId>,
    /// What the peer is.
    pub peer: ClusterFacts,
    /// The peer's trust bundle: its root certificates in DER, at least one.
    pub roots: Vec<Vec<u8>>,
    /// The peer's gateways, at least one.
    pub gateways: Vec<GatewayFacts>,
    /// The link's own key, from which the keys of its probes are derived.
    pub key: LinkKey,
    /// Where its services merge with ours.
    pub merge_namespaces: MergeRule,
}

/// Records what a linked cluster says of itself. Both lists are complete and replace the ones before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateLinkPeer {
    /// The linked cluster.
    pub cluster: ClusterName,
    /// Its gateways, at least one.
    pub gateways: Vec<GatewayFacts>,
    /// Its root certificates in DER, at least one.
    pub roots: Vec<Vec<u8>>,
    /// The peer's revision of what it says; newer than the last.
    pub peer_revision: Revision,
    /// Whose certificates it refuses.
    pub revoked: Vec<Revocation>,
    /// Whether it has paused the link on its side.
    pub paused: bool,
}

/// What becomes of a peer's services while its link is silent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum StalePolicy {
    /// They are used when nobody else offers them.
    #[default]
    ServeLast,
    /// So they are for a while, and then not at all.
    EjectAfter {
        /// The while.
        seconds: u32,
    },
    /// They are not used from the moment the link is silent.
    Fence,
}

impl StalePolicy {
    /// How long they are used after the link fell silent when nobody says otherwise, in seconds.
    pub const DEFAULT_EJECT_SECS: u32 = 30;
}

/// Stops sharing services over a link for a while, or shares them again. What flows already is not cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseLink {
    /// The linked cluster.
    pub cluster: ClusterName,
    /// Paused, or not.
    pub paused: bool,
}

/// Changes how the services of a linked cluster are used. It replaces what was said before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetLinkPolicy {
    /// The linked cluster.
    pub cluster: ClusterName,
    /// Where its services merge with ours.
    pub merge_namespaces: MergeRule,
    /// What becomes of them while the link is silent.
    pub stale: StalePolicy,
    /// Whether traffic between this peer and others may pass through this cluster.
    pub transit: bool,
}

/// Removes a link. Exports that name the cluster stay: they are intent, and wait for a link of that name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveLink {
    /// The linked cluster.
    pub cluster: ClusterName,
}
