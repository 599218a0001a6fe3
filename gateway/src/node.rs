//! Who this gateway is: its identity, its place in the cluster, and the files it keeps them in.
//!
//! ```text
//! DATA-DIR/lock           held while a process runs
//! DATA-DIR/node.json      cluster, node id, role, roots, the gateways it joined
//! DATA-DIR/incarnation    the number of the last start
//! DATA-DIR/identity.pem   key and SVID (0600)
//! DATA-DIR/join-key.der   the key that it asks to join with, until it has joined (0600)
//! DATA-DIR/seal.key       the key that seals the certificate authority's key (0600; not for forwarders)
//! DATA-DIR/registry/      the registry's replica
//! ```

mod files;
mod first;
mod join;

pub(crate) use files::{Files, encode_roots};

use crate::config::{Audience, GatewayConfig};
use causeway_identity::{
    BundleStore, CaKey, ClusterCa, IdentityError, KeyPair, SealKey, Sealed, Svid, SvidSource, TrustBundle,
};
use causeway_model::{ClusterFacts, GatewayFacts, GatewayRole, HostPort, Locality, NodeId, SpiffeId};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

/// What `node.json` holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NodeFile {
    pub(crate) cluster: ClusterFacts,
    pub(crate) node: NodeId,
    pub(crate) role: GatewayRole,
    /// The cluster's root certificates, as hexadecimal DER.
    pub(crate) roots: Vec<String>,
    /// The gateways that were there when this one joined.
    pub(crate) seeds: Vec<GatewayFacts>,
}

impl NodeFile {
    /// The identity that this node must have: its role is part of it.
    pub(crate) fn spiffe_id(&self) -> SpiffeId {
        SpiffeId::node(&self.cluster.trust_domain, self.role, self.node)
    }
}

/// Why a gateway cannot be who it should be.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] causeway_runtime::DiskError),
    /// Another process has the directory.
    #[error(transparent)]
    Locked(#[from] causeway_runtime::LockError),
    /// A file is not what it should be.
    #[error("{path}: {cause}; {fix}")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong with it.
        cause: String,
        /// What to do.
        fix: &'static str,
    },
    /// The directory belongs to another cluster.
    #[error(
        "the data directory {path} belongs to cluster {found}, not to {wanted}: give another --data-dir, or --cluster {found}"
    )]
    OtherCluster {
        /// The directory.
        path: String,
        /// The cluster in it.
        found: String,
        /// The cluster that was asked for.
        wanted: String,
    },
    /// The directory belongs to a gateway of another role.
    #[error(
        "the data directory {path} is that of a {found}, not of a {wanted}: a gateway's role is fixed when it joins; join with a new --data-dir and a new token"
    )]
    OtherRole {
        /// The directory.
        path: String,
        /// The role in it.
        found: GatewayRole,
        /// The role that was asked for.
        wanted: GatewayRole,
    },
    /// Certificates or keys.
    #[error("{what}: {source}")]
    Identity {
        /// What was done.
        what: &'static str,
        /// Why it failed.
        source: IdentityError,
    },
    /// Joining failed.
    #[error("cannot join cluster {cluster}: {cause}")]
    Join {
        /// The cluster.
        cluster: String,
        /// Why, and what to do.
        cause: String,
    },
    /// The seal key is not there.
    #[error(
        "cannot sign for cluster {cluster}: {cause}; give the cluster's key with --seal-key-file (it is seal.key in the data directory of every signing gateway)"
    )]
    Seal {
        /// The cluster.
        cluster: String,
        /// Why.
        cause: String,
    },
}

impl NodeError {
    pub(crate) fn identity(what: &'static str) -> impl FnOnce(IdentityError) -> Self {
        move |source| Self::Identity { what, source }
    }
}

struct Inner {
    file: NodeFile,
    roots: Vec<Vec<u8>>,
    facts: GatewayFacts,
    bundles: BundleStore,
    svid: SvidSource,
    seal: Option<SealKey>,
    files: Files,
    incarnation: u64,
}

/// This gateway; cheap to clone.
#[derive(Clone)]
pub(crate) struct Node(Arc<Inner>);

impl Node {
    /// Opens the data directory, or makes it: the first gateway of a cluster, or one that joins with a token.
    /// Returns the command that makes the cluster, when this is its first start.
    pub(crate) async fn open(
        config: &GatewayConfig,
        listen: &[SocketAddr],
    ) -> Result<(Self, Option<causeway_catalog::InitCluster>), NodeError> {
        let files = Files::open(&config.data_dir)?;
        let facts = |node| advertised(config, listen, node);
        let (file, svid, seal, init) = match files.load_node()? {
            Some(file) => {
                check_same(config, &file)?;
                let seal = files.load_seal(config.seal_key_file.as_deref(), file.role)?;
                let svid = files.load_identity(&file.spiffe_id())?;
                // of a start that ended just before it would have done this
                files.forget_join_key();
                (file, svid, seal, None)
            }
            None => match &config.join {
                Some(token) => {
                    let joined = join::join(config, token, facts, &files).await?;
                    (joined.file, joined.svid, joined.seal, None)
                }
                None => {
                    let first = first::found(config, facts, &files)?;
                    (first.file, first.svid, Some(first.seal), Some(first.init))
                }
            },
        };
        let roots = files::decode_roots(&files, &file)?;
        let bundle = TrustBundle::new(file.cluster.trust_domain.clone(), roots.clone())
            .map_err(NodeError::identity("the cluster's root certificates"))?;
        let bundles = BundleStore::new();
        bundles.set(bundle).map_err(NodeError::identity("the cluster's root certificates"))?;
        let facts = facts(file.node);
        let incarnation = files.next_incarnation(causeway_runtime::clock::unix_now_ms())?;
        let svid = SvidSource::new(svid);
        Ok((Self(Arc::new(Inner { roots, facts, bundles, svid, seal, files, file, incarnation })), init))
    }

    pub(crate) fn id(&self) -> NodeId {
        self.0.file.node
    }

    /// The number of this start, greater than that of every earlier one.
    pub(crate) fn incarnation(&self) -> u64 {
        self.0.incarnation
    }

    /// Says on disk that the first start is complete.
    pub(crate) fn complete(&self) -> Result<(), NodeError> {
        self.0.files.save_node(&self.0.file)
    }

    pub(crate) fn registry_dir(&self) -> std::path::PathBuf {
        self.0.files.registry_dir()
    }

    /// The directories that this gateway writes into, the data directory first.
    pub(crate) fn dirs(&self) -> Vec<std::path::PathBuf> {
        vec![self.0.files.dir().to_owned(), self.registry_dir()]
    }

    pub(crate) fn cluster(&self) -> &ClusterFacts {
        &self.0.file.cluster
    }

    pub(crate) fn role(&self) -> GatewayRole {
        self.0.file.role
    }

    pub(crate) fn locality(&self) -> &Locality {
        &self.0.facts.locality
    }

    /// This gateway as others reach it.
    pub(crate) fn facts(&self) -> GatewayFacts {
        self.0.facts.clone()
    }

    /// The gateways to turn to while the registry's replica is empty.
    pub(crate) fn seeds(&self) -> Vec<GatewayFacts> {
        self.0.file.seeds.clone()
    }

    /// The cluster's root certificates when this gateway joined.
    pub(crate) fn roots(&self) -> &[Vec<u8>] {
        &self.0.roots
    }

    pub(crate) fn bundles(&self) -> &BundleStore {
        &self.0.bundles
    }

    pub(crate) fn svid(&self) -> &SvidSource {
        &self.0.svid
    }

    pub(crate) fn seal(&self) -> Option<&SealKey> {
        self.0.seal.as_ref()
    }

    /// SHA-256 of the root that this gateway's SVID chains to; zeros when no root of the bundle does.
    pub(crate) fn own_root(&self) -> [u8; 32] {
        let bundle = self.bundles().get(&self.cluster().trust_domain);
        bundle.and_then(|bundle| bundle.root_of(self.svid().current().chain())).unwrap_or_default()
    }

    /// The SPIFFE ID of this gateway.
    pub(crate) fn spiffe_id(&self) -> SpiffeId {
        self.0.file.spiffe_id()
    }

    /// The operator's credential: the same at every signing gateway, because it is derived from the seal key.
    pub(crate) fn credential(&self) -> Option<String> {
        let seal = self.seal()?.to_hex();
        let key = causeway_wire::derive_key(&hex32(&seal)?, "causeway operator credential", &[]);
        Some(data_encoding::BASE64URL_NOPAD.encode(&key))
    }

    /// What the log holds of a token's verifier, and back: the verifier under a pad of the seal key and the token's id. The log
    /// reaches forwarders too, and whoever has a verifier can prove its token; a forwarder has no seal key.
    pub(crate) fn mask_verifier(&self, id: &[u8; 8], verifier: [u8; 32]) -> Result<[u8; 32], NodeError> {
        let no_key = || NodeError::Seal {
            cluster: self.cluster().name.to_string(),
            cause: "this gateway has no seal key, without which tokens cannot be made or checked".into(),
        };
        let seal = self.seal().ok_or_else(no_key)?.to_hex();
        let pad = causeway_wire::derive_key(&hex32(&seal).ok_or_else(no_key)?, "causeway token verifier", id);
        Ok(std::array::from_fn(|i| verifier[i] ^ pad[i]))
    }

    /// A secret that no other process knows, for cookies.
    pub(crate) fn random_secret() -> [u8; 32] {
        rand::random()
    }

    /// The cluster's certificate authority, with the key that the registry holds sealed.
    pub(crate) fn unseal_ca(&self, ca: &causeway_catalog::CaState) -> Result<ClusterCa, NodeError> {
        let cluster = self.cluster().name.to_string();
        let failed = |cause: String| NodeError::Seal { cluster: cluster.clone(), cause };
        let seal = self.seal().ok_or_else(|| failed("this gateway has no seal key".into()))?;
        let sealed: Sealed =
            causeway_wire::codec::from_slice(&ca.sealed_key).map_err(|error| failed(error.to_string()))?;
        let key =
            seal.open(&sealed, &seal_context(self.cluster())).map_err(|error| failed(error.to_string()))?;
        let root =
            ca.active_root_der().ok_or_else(|| failed("the registry has no root certificate".into()))?;
        let key = CaKey::from_der(&key).map_err(|error| failed(error.to_string()))?;
        let domain = &self.cluster().trust_domain;
        ClusterCa::from_chain(domain, ca.chain.clone(), key, root.to_vec(), SystemTime::now())
            .map_err(|error| failed(error.to_string()))
    }

    /// The private key of a certificate authority (PKCS#8, RFC 5208) as the registry holds it.
    pub(crate) fn seal_ca_key(&self, key: &[u8]) -> Result<Vec<u8>, NodeError> {
        let cluster = self.cluster().name.to_string();
        let failed = |cause: String| NodeError::Seal { cluster: cluster.clone(), cause };
        let seal = self.seal().ok_or_else(|| failed("this gateway has no seal key".into()))?;
        let sealed =
            seal.seal(key, &seal_context(self.cluster())).map_err(|error| failed(error.to_string()))?;
        causeway_wire::codec::to_vec(&sealed).map_err(|error| failed(error.to_string()))
    }

    /// Replaces this gateway's SVID, in memory and on disk.
    pub(crate) fn replace_svid(&self, chain: Vec<Vec<u8>>, key: KeyPair) -> Result<(), NodeError> {
        let svid = Svid::new(chain, key).map_err(NodeError::identity("the new SVID"))?;
        self.0.files.save_identity(&svid)?;
        self.0.svid.replace(svid);
        Ok(())
    }

    /// A new SVID for this gateway, signed with the cluster's key.
    pub(crate) fn sign_own(&self, ca: &ClusterCa) -> Result<(), NodeError> {
        let key = KeyPair::generate().map_err(NodeError::identity("a new key"))?;
        let csr = key.csr().map_err(NodeError::identity("a certificate request"))?;
        let ttl = causeway_identity::GATEWAY_SVID_TTL;
        let chain = ca
            .sign_svid(&csr, &self.spiffe_id(), SystemTime::now(), ttl)
            .map_err(NodeError::identity("signing this gateway's SVID"))?;
        self.replace_svid(chain, key)
    }
}

fn hex32(text: &str) -> Option<[u8; 32]> {
    data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?.try_into().ok()
}

/// What the seal of the certificate authority's key is bound to.
pub(crate) fn seal_context(cluster: &ClusterFacts) -> Vec<u8> {
    format!("causeway ca {}", cluster.trust_domain).into_bytes()
}

fn check_same(config: &GatewayConfig, file: &NodeFile) -> Result<(), NodeError> {
    let path = config.data_dir.display().to_string();
    let other = |found: String, wanted: String| NodeError::OtherCluster { path: path.clone(), found, wanted };
    if file.cluster.name != config.cluster {
        return Err(other(file.cluster.name.to_string(), config.cluster.to_string()));
    }
    if let Some(token) = &config.join
        && token.core.trust_domain != file.cluster.trust_domain
    {
        let named =
            |cluster: &dyn std::fmt::Display, domain: &dyn std::fmt::Display| format!("{cluster} ({domain})");
        return Err(other(
            named(&file.cluster.name, &file.cluster.trust_domain),
            named(&token.core.cluster, &token.core.trust_domain),
        ));
    }
    if let Some(domain) = config.trust_domain.as_ref().filter(|domain| **domain != file.cluster.trust_domain)
    {
        return Err(other(file.cluster.trust_domain.to_string(), domain.to_string()));
    }
    if file.role != config.role {
        return Err(NodeError::OtherRole { path, found: file.role, wanted: config.role });
    }
    Ok(())
}

/// This gateway as others reach it: what it advertises, else what it listens on.
fn advertised(config: &GatewayConfig, listen: &[SocketAddr], node: NodeId) -> GatewayFacts {
    let told = |audience: Audience| -> Vec<HostPort> {
        let told: Vec<HostPort> = config
            .advertise
            .iter()
            .filter(|told| told.audience == audience || told.audience == Audience::Everybody)
            .map(|told| told.addr.clone())
            .collect();
        let own = listen.iter().filter(|addr| !addr.ip().is_unspecified()).map(|&addr| HostPort::from(addr));
        if told.is_empty() { own.collect() } else { told }
    };
    GatewayFacts {
        node,
        role: config.role,
        locality: config.locality.clone(),
        cluster_addrs: told(Audience::Cluster),
        link_addrs: told(Audience::Link),
    }
}
