//! `causeway backup` and `restore`: the registry of a cluster as one file.

use crate::api::{Api, Request};
use crate::context::Target;
use crate::failure::Failure;
use crate::output::{self, instant};
use anyhow::{Context, Result};
use causeway_gateway::restore::{RestoreError, restore};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The largest backup that is read, in bytes.
const MAX_BACKUP: u64 = 4 << 30;

const BACKUP: &str = "\
The file holds all that operators have asked for: services, exports, links, tokens, revocations, and the certificate authority with \
its key sealed. It does not hold the key that opens that seal: keep seal.key of a signing gateway's data directory apart from \
it, for `causeway restore` needs both.

Examples:
  causeway backup -o iad.backup
  causeway backup --context iad > iad.backup";

/// Write the registry of a cluster to a file
#[derive(Debug, clap::Args)]
#[command(after_help = BACKUP)]
pub(crate) struct Backup {
    /// The file, made with mode 0600 and replaced if it is there; standard output unless given
    #[arg(long = "file", short = 'o', value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    target: Target,
}

impl Backup {
    pub(crate) fn run(&self) -> Result<()> {
        let api = Api::of(&self.target)?;
        let mut answer = api.respond(&Request::get("/v1/backup"))?;
        let mut bytes = Vec::new();
        answer
            .body_mut()
            .as_reader()
            .take(MAX_BACKUP)
            .read_to_end(&mut bytes)
            .context("reading the backup")?;
        match &self.file {
            Some(path) => {
                write(path, &bytes).with_context(|| format!("cannot write {}", path.display()))?;
                output::note(&format!(
                    "# {} bytes in {}; keep seal.key of a signing gateway apart from it",
                    bytes.len(),
                    path.display()
                ));
                Ok(())
            }
            None => Ok(std::io::stdout().write_all(&bytes)?),
        }
    }
}

/// Replaces the file as a whole: one that was cut short would be found out only when it is needed.
fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.partial", std::process::id()));
    let partial = PathBuf::from(name);
    // a new file: one that is there may be readable by others, or lead elsewhere
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    let kept = written.and_then(|()| std::fs::rename(&partial, path));
    if kept.is_err() {
        // what failed is reported; a part of a backup is of no use
        let _ = std::fs::remove_file(&partial);
    }
    kept
}

const RESTORE: &str = "\
For a cluster that has lost its gateways, or their disks. It makes the data directory of a new gateway; start it with `causeway \
gateway --cluster NAME --data-dir DIR ...`, and let others join it with new tokens. The old gateways are removed for good: stop those \
that still run, for theirs is another registry. What was changed after the backup was taken is lost; sidecars and linked \
clusters go on, because certificates, keys and ids are the same.

Examples:
  causeway restore iad.backup --data-dir /srv/iad --seal-key-file seal.key";

/// Make a new gateway's data directory from a backup
#[derive(Debug, clap::Args)]
#[command(after_help = RESTORE)]
pub(crate) struct Restore {
    /// The backup
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The new gateway's data directory, which is empty or does not exist
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// seal.key of a signing gateway of that cluster
    #[arg(long, value_name = "FILE")]
    seal_key_file: PathBuf,
}

impl Restore {
    pub(crate) fn run(&self) -> Result<()> {
        let file = std::fs::File::open(&self.file)
            .with_context(|| format!("cannot read {}", self.file.display()))?;
        let mut bytes = Vec::new();
        file.take(MAX_BACKUP)
            .read_to_end(&mut bytes)
            .with_context(|| format!("cannot read {}", self.file.display()))?;
        let restored = restore(&bytes, &self.file, &self.data_dir, &self.seal_key_file)
            .map_err(|error| failure(&error))?;
        output::say(&format!(
            "cluster {} is restored in {} as of {} (revision {}); the new gateway is {}, {} older one(s) are removed",
            restored.cluster,
            self.data_dir.display(),
            instant(restored.created_at),
            restored.revision,
            restored.node,
            restored.removed.len(),
        ))?;
        output::note(&format!(
            "# start it: causeway gateway --cluster {} --data-dir {} --region REGION --zone ZONE --listen IP:7443 --admin IP:7444",
            restored.cluster,
            self.data_dir.display()
        ));
        Ok(())
    }
}

fn failure(error: &RestoreError) -> Failure {
    Failure::new(error.reason(), error.to_string())
}
