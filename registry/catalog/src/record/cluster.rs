//! The cluster itself.

use crate::{CidKey, ProbeKey};
use causeway_model::{ClusterFacts, Epoch, Revision};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The cluster's certificate authority.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaState {
    /// The root certificates in DER: what members and linked clusters trust.
    pub roots: Vec<Vec<u8>>,
    /// Which of the roots signs, as an index.
    pub active_root: usize,
    /// The certificates between the root that signs and what it signs, in DER, the signer first; empty when the root signs
    /// itself.
    pub chain: Vec<Vec<u8>>,
    /// The signer's private key, sealed under a key that only signing gateways hold.
    pub sealed_key: Vec<u8>,
    /// The root that was announced and signs nothing yet.
    pub staged: Option<StagedCa>,
    /// The revision at which the list of roots last changed.
    pub roots_changed: Revision,
    /// The revision at which the signer last changed.
    pub activated: Revision,
    /// When it did, in seconds since the Unix epoch.
    pub activated_at: u64,
    /// For how long, in seconds, an older root stays trusted after nobody who is connected has a certificate of it.
    pub keep_secs: u64,
}

/// A root that was announced, and its signer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedCa {
    /// The root certificate, in DER.
    pub root_der: Vec<u8>,
    /// As [`CaState::chain`].
    pub chain: Vec<Vec<u8>>,
    /// As [`CaState::sealed_key`].
    pub sealed_key: Vec<u8>,
    /// When it was announced, in seconds since the Unix epoch.
    pub at: u64,
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
