//! The state folder: the identity and what was last learned, kept over a restart.
//!
//! Two files: `identity.pem` (key and SVID) and `state.json` (the cluster, its bundles and gateways, the services in use, virtual addresses); and
//! while it joins `join-key.der`, the key that it asks with, so that a start after a lost answer is the same use of the token.
//! All are of mode 0600 and each is written whole or not at all. The folder is locked for as long as the process lives;
//! where a process hands its work over to the next, both have the lock for a while, and only one writes.

mod error;

pub use error::StateError;

use crate::error::JoinError;
use causeway_identity::{KeyPair, Svid, TrustBundle};
use causeway_model::{ClusterFacts, GatewayFacts, Revision, Vip, VipName};
use causeway_runtime::files::{self, DirLock};
use causeway_wire::view::ServiceView;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The name of the file with key and SVID.
const IDENTITY: &str = "identity.pem";
/// The name of the file with the key that a sidecar asks to join with.
const JOIN_KEY: &str = "join-key.der";
/// The name of the file with everything else.
const STATE: &str = "state.json";
/// The format that this release writes and reads.
const FORMAT: u32 = 1;
/// The largest identity that is read, in bytes.
const MAX_IDENTITY: u64 = 1 << 20;
/// The largest state that is read and written, in bytes.
const MAX_STATE: usize = 64 << 20;

/// What was last learned of the cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Known {
    /// The cluster.
    pub(crate) cluster: ClusterFacts,
    /// Its bundle and those of linked clusters, with what they revoke.
    pub(crate) bundles: Vec<TrustBundle>,
    /// The revision of the registry that the bundles are of; 0 if no gateway has said one. No older trust is taken after a restart.
    #[serde(default)]
    pub(crate) trust: Revision,
    /// Its gateways.
    pub(crate) gateways: Vec<GatewayFacts>,
    /// The services that were in use.
    pub(crate) services: Vec<ServiceView>,
    /// The virtual addresses of names that were asked for.
    #[serde(default)]
    pub(crate) vips: Vec<(VipName, Vip)>,
}

/// [`Known`] as it is on disk.
#[derive(Serialize, Deserialize)]
struct OnDisk<K> {
    format: u32,
    known: K,
}

/// Only the format, so that the state of another release is told from a damaged one.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

/// What a state folder held.
#[derive(Debug, Default)]
pub(crate) struct Saved {
    /// The identity, expired or not.
    pub(crate) identity: Option<Svid>,
    /// What was last learned.
    pub(crate) known: Option<Known>,
}

/// A locked state folder.
#[derive(Debug)]
pub(crate) struct StateDir {
    dir: PathBuf,
    _lock: Arc<DirLock>,
    /// Another process writes it now.
    left: AtomicBool,
}

impl StateDir {
    /// Creates the folder if need be, locks it unless the caller has its `lock`, and reads what is in it.
    pub(crate) fn open(dir: &Path, lock: Option<Arc<DirLock>>) -> Result<(Self, Saved), StateError> {
        files::create_private_dir(dir)?;
        let lock = lock.map_or_else(|| files::lock_dir(dir).map(Arc::new), Ok)?;
        let state = Self { dir: dir.to_owned(), _lock: lock, left: AtomicBool::new(false) };
        let saved = Saved { identity: state.read_identity()?, known: state.read_known()? };
        Ok((state, saved))
    }

    /// Writes nothing from now on: the folder is another process' to write.
    pub(crate) fn leave(&self) {
        self.left.store(true, Relaxed);
    }

    /// Writes key and SVID.
    pub(crate) fn save_identity(&self, svid: &Svid) -> Result<(), StateError> {
        if self.left.load(Relaxed) {
            return Ok(());
        }
        Ok(files::write_private(self.dir.join(IDENTITY), svid.to_pem().as_bytes())?)
    }

    /// The key to join with: that of a start that was interrupted, or a new one, which is on disk when this returns.
    pub(crate) fn join_key(&self) -> Result<KeyPair, JoinError> {
        let path = self.dir.join(JOIN_KEY);
        if let Some(bytes) = read(&path, MAX_IDENTITY)? {
            let key = KeyPair::from_pkcs8(&bytes);
            return Ok(key.map_err(|error| StateError::Damaged { path, cause: error.to_string() })?);
        }
        let key = KeyPair::generate()?;
        files::write_private(&path, &key.pkcs8()).map_err(StateError::from)?;
        Ok(key)
    }

    /// Removes the key to join with: what it was for is done, and the identity has it.
    pub(crate) fn forget_join_key(&self) {
        let path = self.dir.join(JOIN_KEY);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), %error, "the key that this sidecar joined with cannot be removed");
            }
            _ => {}
        }
    }

    /// Writes what was learned. Services are left out where they would make the file too large to be read again.
    pub(crate) fn save_known(&self, known: &Known) -> Result<(), StateError> {
        if self.left.load(Relaxed) {
            return Ok(());
        }
        let path = self.dir.join(STATE);
        let mut text = encode(&path, known)?;
        if text.len() > MAX_STATE {
            tracing::warn!(path = %path.display(), size = text.len(), "the services in use are too many to be saved");
            text = encode(&path, &Known { services: Vec::new(), ..known.clone() })?;
        }
        Ok(files::write_private(&path, &text)?)
    }

    fn read_identity(&self) -> Result<Option<Svid>, StateError> {
        let path = self.dir.join(IDENTITY);
        let Some(bytes) = read(&path, MAX_IDENTITY)? else { return Ok(None) };
        let damaged = |cause: String| StateError::Damaged { path: path.clone(), cause };
        let text = std::str::from_utf8(&bytes).map_err(|error| damaged(error.to_string()))?;
        Svid::from_pem(text).map(Some).map_err(|error| damaged(error.to_string()))
    }

    fn read_known(&self) -> Result<Option<Known>, StateError> {
        let path = self.dir.join(STATE);
        let Some(bytes) = read(&path, MAX_STATE as u64)? else { return Ok(None) };
        let damaged =
            |error: serde_json::Error| StateError::Damaged { path: path.clone(), cause: error.to_string() };
        let Format { format } = serde_json::from_slice(&bytes).map_err(damaged)?;
        if format != FORMAT {
            return Err(StateError::OtherRelease { path, format });
        }
        let on_disk: OnDisk<Known> = serde_json::from_slice(&bytes).map_err(damaged)?;
        Ok(Some(on_disk.known))
    }
}

fn encode(path: &Path, known: &Known) -> Result<Vec<u8>, StateError> {
    serde_json::to_vec(&OnDisk { format: FORMAT, known })
        .map_err(|error| StateError::Encode { path: path.to_owned(), cause: error.to_string() })
}

/// The content of a file; `None` if there is none.
fn read(path: &Path, max: u64) -> Result<Option<Vec<u8>>, StateError> {
    match files::read_limited(path, max) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
