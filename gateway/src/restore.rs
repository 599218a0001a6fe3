//! A cluster that lost its gateways, started again from a backup of its registry.
//!
//! The backup holds the certificate authority's key sealed, so the seal key is needed beside it: it is `seal.key` in the data
//! directory of every signing gateway. The new gateway has a node id of its own; the old ones are removed for good, because their
//! replicas belong to the group that was lost, and two groups of one cluster would contradict each other.

use crate::node::{Files, NodeError, NodeFile, encode_roots, seal_context};
use causeway_identity::{CaKey, ClusterCa, GATEWAY_SVID_TTL, IdentityError, KeyPair, SealKey, Sealed, Svid};
use causeway_model::{ClusterName, GatewayFacts, GatewayRole, NodeId, Revision, SpiffeId};
use causeway_store::{Backup, BackupError, StoreConfig, StoreError};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Why a backup was not restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The backup cannot be read.
    #[error("{path}: {source}")]
    Backup {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: BackupError,
    },
    /// The disk refused.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The directory is somebody's already.
    #[error("{path} holds a gateway already: give an empty --data-dir")]
    Occupied {
        /// The directory.
        path: PathBuf,
    },
    /// The key does not open the certificate authority.
    #[error(
        "the seal key in {path} does not open the certificate authority of the backup ({cause}): give seal.key of a signing gateway of cluster {cluster}"
    )]
    WrongKey {
        /// The file with the key.
        path: PathBuf,
        /// The backup's cluster.
        cluster: ClusterName,
        /// Why it does not.
        cause: String,
    },
    /// Certificates or keys.
    #[error("the restored gateway's identity: {0}")]
    Identity(#[from] IdentityError),
    /// The registry cannot be made.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl RestoreError {
    /// A stable word.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Backup { source, .. } => source.reason(),
            Self::Node(_) => "disk",
            Self::Occupied { .. } => "data-dir-occupied",
            Self::WrongKey { .. } => "wrong-seal-key",
            Self::Identity(error) => error.reason(),
            Self::Store(error) => error.reason(),
        }
    }
}

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The cluster.
    pub cluster: ClusterName,
    /// The new gateway.
    pub node: NodeId,
    /// The backup's revision.
    pub revision: Revision,
    /// The first revision of the restored registry is after this one.
    pub continues_after: Revision,
    /// When the backup was taken, in seconds since 1970.
    pub created_at: u64,
    /// The gateways that are no more.
    pub removed: Vec<NodeId>,
}

/// Makes `data_dir` the directory of a new gateway whose registry is that of `backup`. Blocks; no gateway may be running there.
///
/// # Errors
/// See [`RestoreError`]; nothing is left in the directory that a gateway would start from.
pub fn restore(
    backup: &[u8],
    from: &Path,
    data_dir: &Path,
    seal_key_file: &Path,
) -> Result<Restored, RestoreError> {
    let backup =
        Backup::read(backup).map_err(|source| RestoreError::Backup { path: from.to_owned(), source })?;
    let files = Files::open(data_dir)?;
    if files.load_node()?.is_some() {
        return Err(RestoreError::Occupied { path: data_dir.to_owned() });
    }
    let seal = files.load_seal(Some(seal_key_file), GatewayRole::Gateway)?;
    let ca = open_ca(&backup, seal.as_ref(), seal_key_file)?;
    let node = NodeId(rand::random::<u64>().max(1));
    let svid = sign(&ca, &SpiffeId::gateway(&backup.trust_domain, node))?;
    let mut catalog = backup.catalog.clone();
    let removed: Vec<NodeId> = catalog.gateways().map(|gateway| gateway.node).collect();
    let Some(cluster) = catalog.cluster().cloned() else {
        return Err(StoreError::NotInitialised.into());
    };
    // where it is reached it says itself, when it is started
    let facts = GatewayFacts {
        node,
        role: GatewayRole::Gateway,
        locality: cluster.facts.locality.clone(),
        cluster_addrs: Vec::new(),
        link_addrs: Vec::new(),
    };
    catalog.replace_gateways(facts.clone(), causeway_runtime::clock::unix_now());
    let mut restored = Restored {
        cluster: backup.cluster.clone(),
        node,
        revision: backup.revision,
        continues_after: Revision(0),
        created_at: backup.created_at,
        removed,
    };
    let registry = files.registry_dir();
    causeway_runtime::files::create_private_dir(&registry).map_err(NodeError::from)?;
    let now = causeway_runtime::clock::unix_now();
    restored.continues_after =
        causeway_store::restore(&StoreConfig::new(registry, node), backup, catalog, now)?;
    files.save_identity(&svid)?;
    if let Some(seal) = &seal {
        files.save_seal(seal)?;
    }
    // the last, because it makes the directory a gateway's
    let file = NodeFile {
        cluster: cluster.facts,
        node,
        role: GatewayRole::Gateway,
        roots: encode_roots(&cluster.ca.roots),
        seeds: vec![facts],
    };
    files.save_node(&file)?;
    Ok(restored)
}

fn open_ca(backup: &Backup, seal: Option<&SealKey>, path: &Path) -> Result<ClusterCa, RestoreError> {
    let wrong = |cause: String| RestoreError::WrongKey {
        path: path.to_owned(),
        cluster: backup.cluster.clone(),
        cause,
    };
    let cluster = backup.catalog.cluster().ok_or(StoreError::NotInitialised)?;
    let seal = seal.ok_or_else(|| wrong("there is none".to_owned()))?;
    let sealed: Sealed =
        causeway_wire::codec::from_slice(&cluster.ca.sealed_key).map_err(|error| wrong(error.to_string()))?;
    let key = seal.open(&sealed, &seal_context(&cluster.facts)).map_err(|error| wrong(error.to_string()))?;
    let root = cluster.ca.active_root_der().ok_or_else(|| wrong("it has no root certificate".to_owned()))?;
    let key = CaKey::from_der(&key)?;
    let chain = cluster.ca.chain.clone();
    Ok(ClusterCa::from_chain(&backup.trust_domain, chain, key, root.to_vec(), SystemTime::now())?)
}

fn sign(ca: &ClusterCa, id: &SpiffeId) -> Result<Svid, IdentityError> {
    let key = KeyPair::generate()?;
    let chain = ca.sign_svid(&key.csr()?, id, SystemTime::now(), GATEWAY_SVID_TTL)?;
    Svid::new(chain, key)
}
