//! Commands about the cluster itself: its facts, gateways and keys.

use crate::{CidKey, ProbeKey};
use causeway_model::{ClusterFacts, Epoch, GatewayFacts, NodeId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// Gives the cluster its facts, CA, keys and first gateway. Refused once the cluster has them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitCluster {
    /// What the cluster is, for good.
    pub facts: ClusterFacts,
    /// The root certificate of its CA, in DER.
    pub root_der: Vec<u8>,
    /// The private key of its CA, sealed under a key that only signing gateways hold.
    pub sealed_ca: Vec<u8>,
    /// The first key for connection IDs.
    pub cid_key: (Epoch, CidKey),
    /// The first key for probes.
    pub probe_key: (Epoch, ProbeKey),
    /// The gateway that starts the cluster; its role is `gateway`.
    pub gateway: GatewayFacts,
}

/// Admits a gateway. Repeating it with equal facts changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddGateway {
    /// The gateway.
    pub facts: GatewayFacts,
}

/// Changes where a known gateway runs and is reached. Its role stays: a forwarder must not make itself a signer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateGateway {
    /// The gateway's new facts.
    pub facts: GatewayFacts,
}

/// Removes a gateway for good: its number is never taken again, and its certificates are refused, also by linked clusters, which
/// hear of revocations. The last one that keeps the registry stays, and so does the last one that is not being drained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveGateway {
    /// The gateway.
    pub node: NodeId,
    /// When the last of its certificates has expired, in seconds since the Unix epoch; in the future.
    pub revoked_until: u64,
}

/// Takes a gateway out of use, so that it can be stopped without anybody noticing, or into use again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainGateway {
    /// The gateway.
    pub node: NodeId,
    /// Out of use, or in use.
    pub draining: bool,
    /// The gateways that are ready, as far as the proposer knows: another one of them, no forwarder, has to stay in use. Nothing is
    /// asked of them when the gateway is taken into use again.
    pub ready: BTreeSet<NodeId>,
}

/// Adds an epoch of keys, strictly newer than the newest of its kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotateKeys {
    /// A new key for connection IDs.
    pub cid: Option<(Epoch, CidKey)>,
    /// A new key for probes.
    pub probe: Option<(Epoch, ProbeKey)>,
}

impl fmt::Display for RotateKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cid = self.cid.map(|(epoch, _)| format!("cid epoch {epoch}"));
        let probe = self.probe.map(|(epoch, _)| format!("probe epoch {epoch}"));
        f.write_str(&[cid, probe].into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

/// Drops epochs of keys. The newest of a kind stays. The two kinds have epochs of their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropKeys {
    /// Epochs of keys for connection IDs.
    pub cid: BTreeSet<Epoch>,
    /// Epochs of keys for probes.
    pub probe: BTreeSet<Epoch>,
}

impl fmt::Display for DropKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cid = self.cid.iter().map(|epoch| format!("cid epoch {epoch}"));
        let probe = self.probe.iter().map(|epoch| format!("probe epoch {epoch}"));
        f.write_str(&cid.chain(probe).take(8).collect::<Vec<_>>().join(", "))
    }
}
