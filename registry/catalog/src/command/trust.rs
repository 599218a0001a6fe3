//! Commands about who is trusted: the roots of the cluster's certificate authority, and revocations.

use causeway_model::{ClusterName, Revision, RevokedSubject};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Announces a further root: from now on it is trusted, and nothing is signed with it yet. The first step of a rotation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageRoot {
    /// The root certificate, in DER.
    pub root_der: Vec<u8>,
    /// The certificates between the root and what it signs, in DER, the signer first; empty when the root signs itself.
    pub chain: Vec<Vec<u8>>,
    /// The signer's private key, sealed under the key that only signing gateways hold.
    pub sealed_key: Vec<u8>,
    /// For how long, in seconds, the root before it stays trusted after nobody who is connected has a certificate of it.
    pub keep_secs: u64,
}

/// Signs with the announced root from now on. The second step of a rotation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActivateRoot {
    /// The announced root, in DER.
    pub root_der: Vec<u8>,
}

/// Trusts a root no longer. The last step of a rotation; of a root that is only announced, its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropRoot {
    /// The root, in DER; not the one that signs.
    pub root_der: Vec<u8>,
}

/// Records that everybody in a linked cluster has taken what this cluster said of itself at a revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfirmRoots {
    /// The linked cluster.
    pub cluster: ClusterName,
    /// This cluster's revision.
    pub revision: Revision,
}

/// Refuses all certificates of some subjects that were issued until now. Of an identity it revokes the tokens, too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoke {
    /// Whose certificates: at least one. A workload has as many keys as SVIDs that have not expired.
    pub subjects: BTreeSet<RevokedSubject>,
    /// When the last of them has expired and the revocation can be forgotten, in seconds since the Unix epoch.
    pub ends_at: u64,
}

/// Takes back a revocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reinstate {
    /// Whose certificates are good again.
    pub subject: RevokedSubject,
}
