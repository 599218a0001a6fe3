//! The files of a gateway's data directory.

use super::{NodeError, NodeFile};
use causeway_identity::{KeyPair, SealKey, Svid};
use causeway_model::{GatewayRole, SpiffeId};
use causeway_runtime::files::{create_private_dir, lock_dir, read_limited, write_private};
use causeway_runtime::{DirLock, DiskError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// The name of the file with the key that a gateway joins with.
const JOIN_KEY: &str = "join-key.der";

/// An open data directory, locked for this process.
pub(crate) struct Files {
    dir: PathBuf,
    _lock: DirLock,
}

impl Files {
    pub(crate) fn open(dir: &Path) -> Result<Self, NodeError> {
        create_private_dir(dir)?;
        let lock = lock_dir(dir)?;
        Ok(Self { dir: dir.to_owned(), _lock: lock })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn registry_dir(&self) -> PathBuf {
        self.path("registry")
    }

    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, DiskError> {
        match read_limited(path, MAX_FILE) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.source.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// `node.json`, if the directory was ever used.
    pub(crate) fn load_node(&self) -> Result<Option<NodeFile>, NodeError> {
        let path = self.path("node.json");
        let Some(bytes) = self.read(&path)? else {
            return self.refuse_half_written().map(|()| None);
        };
        let damaged = |error: serde_json::Error| {
            self.damaged(
                "node.json",
                error.to_string(),
                "restore it from a backup, or join with a new --data-dir",
            )
        };
        serde_json::from_slice(&bytes).map(Some).map_err(damaged)
    }

    /// `node.json` is written last: a directory with a registry but without it is from a start that was interrupted.
    fn refuse_half_written(&self) -> Result<(), NodeError> {
        let registry = self.registry_dir();
        let started = std::fs::read_dir(&registry).is_ok_and(|mut entries| entries.next().is_some());
        if !started {
            return Ok(());
        }
        let cause = "it is missing beside a registry: it was lost, or the first start was interrupted before it was complete";
        let fix = "if this gateway was ever ready, restore the file from a backup; if it was not, remove the directory and start again";
        Err(self.damaged("node.json", cause.into(), fix))
    }

    fn damaged(&self, name: &str, cause: String, fix: &'static str) -> NodeError {
        NodeError::Damaged { path: self.path(name).display().to_string(), cause, fix }
    }

    pub(crate) fn save_node(&self, file: &NodeFile) -> Result<(), NodeError> {
        let text = serde_json::to_vec_pretty(file)
            .map_err(|error| self.damaged("node.json", error.to_string(), "report this as a defect"))?;
        Ok(write_private(self.path("node.json"), &text)?)
    }

    /// The SVID on disk, which must be that of `expected`.
    pub(crate) fn load_identity(&self, expected: &SpiffeId) -> Result<Svid, NodeError> {
        const FIX: &str = "restore it from a backup, or join with a new --data-dir and a new token";
        let path = self.path("identity.pem");
        let bytes =
            self.read(&path)?.ok_or_else(|| self.damaged("identity.pem", "it is missing".into(), FIX))?;
        let text =
            String::from_utf8(bytes).map_err(|error| self.damaged("identity.pem", error.to_string(), FIX))?;
        let svid =
            Svid::from_pem(&text).map_err(|error| self.damaged("identity.pem", error.to_string(), FIX))?;
        if svid.id() == expected {
            return Ok(svid);
        }
        let cause = format!("it is the SVID of {}, and node.json says that this is {expected}", svid.id());
        Err(self.damaged("identity.pem", cause, FIX))
    }

    pub(crate) fn save_identity(&self, svid: &Svid) -> Result<(), NodeError> {
        Ok(write_private(self.path("identity.pem"), svid.to_pem().as_bytes())?)
    }

    /// The key to join with: that of a start that was interrupted, or a new one, which is on disk when this returns.
    pub(super) fn join_key(&self) -> Result<KeyPair, NodeError> {
        let path = self.path(JOIN_KEY);
        if let Some(bytes) = self.read(&path)? {
            let fix = "delete it, and join with a new token if the cluster says that this one is used up";
            return KeyPair::from_pkcs8(&bytes)
                .map_err(|error| self.damaged(JOIN_KEY, error.to_string(), fix));
        }
        let key = KeyPair::generate().map_err(NodeError::identity("making this gateway's key"))?;
        write_private(&path, &key.pkcs8())?;
        Ok(key)
    }

    /// Removes the key to join with: what it was for is done, and the identity has it.
    pub(super) fn forget_join_key(&self) {
        let path = self.path(JOIN_KEY);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), %error, "the key that this gateway joined with cannot be removed");
            }
            _ => {}
        }
    }

    /// The seal key: of the file that was named, else of the data directory. Forwarders have none.
    pub(crate) fn load_seal(
        &self,
        named: Option<&Path>,
        role: GatewayRole,
    ) -> Result<Option<SealKey>, NodeError> {
        if role == GatewayRole::Forwarder {
            return Ok(None);
        }
        let path = named.map_or_else(|| self.path("seal.key"), Path::to_owned);
        let damaged = |cause: String| NodeError::Damaged {
            path: path.display().to_string(),
            cause,
            fix: "write the cluster's seal key: 64 hexadecimal digits, seal.key in the data directory of any signing gateway",
        };
        let Some(bytes) = self.read(&path)? else { return Err(damaged("the seal key is missing".into())) };
        let text = String::from_utf8(bytes).map_err(|error| damaged(error.to_string()))?;
        SealKey::from_hex(text.trim()).map(Some).map_err(|error| damaged(error.to_string()))
    }

    /// The number of this start: greater than that of every earlier one, though the clock was set back.
    pub(super) fn next_incarnation(&self, now_ms: u64) -> Result<u64, NodeError> {
        let last = self.read(&self.path("incarnation"))?;
        let last = last.and_then(|bytes| String::from_utf8(bytes).ok()?.trim().parse::<u64>().ok());
        let next = last.map_or(now_ms, |last| now_ms.max(last.saturating_add(1)));
        write_private(self.path("incarnation"), format!("{next}\n").as_bytes())?;
        Ok(next)
    }

    pub(crate) fn save_seal(&self, key: &SealKey) -> Result<(), NodeError> {
        Ok(write_private(self.path("seal.key"), format!("{}\n", *key.to_hex()).as_bytes())?)
    }
}

/// Root certificates as text.
pub(crate) fn encode_roots(roots: &[Vec<u8>]) -> Vec<String> {
    roots.iter().map(|root| data_encoding::HEXLOWER.encode(root)).collect()
}

/// Root certificates from `node.json`.
pub(super) fn decode_roots(files: &Files, file: &NodeFile) -> Result<Vec<Vec<u8>>, NodeError> {
    let decode = |root: &String| data_encoding::HEXLOWER.decode(root.as_bytes());
    file.roots.iter().map(decode).collect::<Result<_, _>>().map_err(|error| {
        files.damaged(
            "node.json",
            format!("roots: {error}"),
            "restore it from a backup, or join with a new --data-dir",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_has_a_greater_number_than_the_one_before_though_the_clock_was_set_back() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::open(folder.path()).unwrap();
        assert_eq!(files.next_incarnation(1_000).unwrap(), 1_000);
        assert_eq!(files.next_incarnation(500).unwrap(), 1_001);
        assert_eq!(files.next_incarnation(5_000).unwrap(), 5_000);
        std::fs::write(folder.path().join("incarnation"), "damaged").unwrap();
        assert_eq!(files.next_incarnation(6_000).unwrap(), 6_000);
    }
}
