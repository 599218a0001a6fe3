//! The first start of a cluster's first gateway: a certificate authority, an identity, the command that makes the cluster.

use super::files::encode_roots;
use super::{Files, NodeError, NodeFile, seal_context};
use crate::config::GatewayConfig;
use causeway_catalog::InitCluster;
use causeway_identity::{ClusterCa, GATEWAY_SVID_TTL, KeyPair, SealKey, Svid};
use causeway_model::{ClusterFacts, ClusterId, Epoch, GatewayFacts, NodeId, SpiffeId, TrustDomain};
use sha2::{Digest, Sha256};
use std::time::SystemTime;

pub(super) struct First {
    pub(super) file: NodeFile,
    pub(super) svid: Svid,
    pub(super) seal: SealKey,
    pub(super) init: InitCluster,
}

/// The cluster id that a trust domain has unless another is given: the first 24 bits of its SHA-256.
fn default_id(domain: &TrustDomain) -> ClusterId {
    let hash = Sha256::digest(domain.as_str().as_bytes());
    ClusterId::from_hash(u32::from_be_bytes([0, hash[0], hash[1], hash[2]]))
}

/// Founds a cluster. `node.json` is written only after the registry has been made.
pub(super) fn found(
    config: &GatewayConfig,
    facts: impl Fn(NodeId) -> GatewayFacts,
    files: &Files,
) -> Result<First, NodeError> {
    let now = SystemTime::now();
    let (ca, trust_domain) = match &config.trust_domain {
        Some(domain) => ClusterCa::create(domain, now).map(|ca| (ca, domain.clone())),
        None => ClusterCa::create_with_default_domain(&config.cluster, now),
    }
    .map_err(NodeError::identity("making the certificate authority"))?;
    let seal = match &config.seal_key_file {
        Some(path) => files.load_seal(Some(path), config.role)?.ok_or_else(|| NodeError::Seal {
            cluster: config.cluster.to_string(),
            cause: "a forwarder holds no keys".into(),
        })?,
        None => SealKey::generate().map_err(NodeError::identity("making the seal key"))?,
    };
    let cluster = ClusterFacts {
        name: config.cluster.clone(),
        id: config.cluster_id.unwrap_or_else(|| default_id(&trust_domain)),
        trust_domain: trust_domain.clone(),
        locality: config.locality.clone(),
    };
    let node = NodeId(rand::random::<u64>().max(1));
    let key = KeyPair::generate().map_err(NodeError::identity("making this gateway's key"))?;
    let csr = key.csr().map_err(NodeError::identity("making a certificate request"))?;
    let chain = ca
        .sign_svid(&csr, &SpiffeId::gateway(&trust_domain, node), now, GATEWAY_SVID_TTL)
        .map_err(NodeError::identity("signing this gateway's SVID"))?;
    let svid = Svid::new(chain, key).map_err(NodeError::identity("this gateway's SVID"))?;
    let sealed = seal
        .seal(&ca.export_key(), &seal_context(&cluster))
        .map_err(NodeError::identity("sealing the certificate authority's key"))?;
    let sealed_ca = causeway_wire::codec::to_vec(&sealed)
        .map_err(|error| NodeError::Seal { cluster: cluster.name.to_string(), cause: error.to_string() })?;
    if config.seal_key_file.is_none() {
        files.save_seal(&seal)?;
    }
    files.save_identity(&svid)?;
    let root_der = ca.root_der().to_vec();
    let init = InitCluster {
        facts: cluster.clone(),
        root_der: root_der.clone(),
        sealed_ca,
        cid_key: (Epoch(1), rand::random::<[u8; 16]>().into()),
        probe_key: (Epoch(1), rand::random::<[u8; 32]>().into()),
        gateway: facts(node),
    };
    let file = NodeFile {
        cluster,
        node,
        role: config.role,
        roots: encode_roots(&[root_der]),
        seeds: vec![facts(node)],
    };
    Ok(First { file, svid, seal, init })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_cluster_id_is_24_bits_of_the_trust_domains_hash() {
        let domain: TrustDomain = "iad.mesh".parse().unwrap();
        let hash = Sha256::digest(b"iad.mesh");
        let expected = u32::from(hash[0]) << 16 | u32::from(hash[1]) << 8 | u32::from(hash[2]);
        assert_eq!(default_id(&domain).get(), expected);
    }
}
