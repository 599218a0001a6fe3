//! The cluster itself.

use crate::{CidKey, ProbeKey};
use causeway_model::{ClusterFacts, Epoch};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The cluster's certificate authority.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaState {
    /// The root certificates in DER: what members and linked clusters trust.
    pub roots: Vec<Vec<u8>>,
    /// Which of the roots signs, as an index.
    pub active_root: usize,
    /// The private key of the active root, sealed under a key that only signing gateways hold.
    pub sealed_key: Vec<u8>,
}

impl CaState {
    /// The root certificate that signs, in DER.
    pub fn active_root_der(&self) -> Option<&[u8]> {
        self.roots.get(self.active_root).map(Vec::as_slice)
    }
}

/// The facts, CA and keys of an initialised cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterState {
    /// What the cluster is.
    pub facts: ClusterFacts,
    /// Its CA.
    pub ca: CaState,
    /// The live keys for connection IDs; new ids are minted with the newest.
    pub cid_keys: BTreeMap<Epoch, CidKey>,
    /// The live keys for probes.
    pub probe_keys: BTreeMap<Epoch, ProbeKey>,
    /// When it was initialised, in seconds since the Unix epoch.
    pub created_at: u64,
}

impl ClusterState {
    /// The newest key for connection IDs.
    pub fn newest_cid_key(&self) -> Option<(Epoch, CidKey)> {
        self.cid_keys.last_key_value().map(|(&epoch, &key)| (epoch, key))
    }

    /// The newest key for probes.
    pub fn newest_probe_key(&self) -> Option<(Epoch, ProbeKey)> {
        self.probe_keys.last_key_value().map(|(&epoch, &key)| (epoch, key))
    }
}
