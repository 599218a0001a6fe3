//! Whether this gateway can write what it must keep: proved before it says that it is ready, tried again all the time.
//!
//! A disk that is full, read-only or stuck is found here before the registry meets it, and withdraws readiness until it works
//! again. What is written where is not this module's business; `disk/inspect.rs` looks at a data directory whose gateway does not
//! run.

mod inspect;

pub use inspect::inspect;

use causeway_runtime::{DiskError, Readiness};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How often it is tried.
const EVERY: Duration = Duration::from_secs(10);
/// A try that takes longer is a failure: the disk hangs.
const STUCK: Duration = Duration::from_secs(10);
/// The file that is written and removed.
const NAME: &str = ".write-test";
/// Its size in bytes: a few pages of the registry's file.
const SIZE: usize = 64 * 1024;
/// What is told of a disk in the list of what keeps a process from being ready.
const READINESS: &str = "disk";

/// Proves that `dir` can be written: a file is written, flushed to the disk and removed. Returns how long that took. Blocks.
///
/// # Errors
/// A step failed; the error names the folder, the cause and what to try.
pub(crate) fn prove(dir: &Path) -> Result<Duration, DiskError> {
    let (path, begun) = (dir.join(NAME), Instant::now());
    let write = || {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        file.write_all(&[0; SIZE])?;
        file.sync_all()
    };
    let written = write();
    let removed = match std::fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    let flushed = || File::open(dir)?.sync_all();
    written
        .and(removed)
        .and_then(|()| flushed())
        .map_err(|source| DiskError::new("write into", dir, source))?;
    Ok(begun.elapsed())
}

/// The room on a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Space {
    /// What this user may still fill.
    pub(crate) free: u64,
    /// All of it.
    pub(crate) total: u64,
}

impl Space {
    /// The room on the file system that `dir` is on.
    pub(crate) fn of(dir: &Path) -> std::io::Result<Self> {
        let stat = rustix::fs::statvfs(dir)?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Ok(Self { free: bytes(stat.f_bavail), total: bytes(stat.f_blocks) })
    }
}

/// What the tries showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tried {
    /// How long the last good one took.
    pub(crate) took: Duration,
    /// Why the last one failed, and since when they do.
    pub(crate) failed: Option<(String, Instant)>,
}

/// The disk of a data directory, as it is found to be.
#[derive(Debug)]
pub(crate) struct DiskWatch {
    dirs: Vec<PathBuf>,
    tried: Mutex<Tried>,
}

impl DiskWatch {
    /// The first of `dirs` is the data directory.
    pub(crate) fn new(dirs: Vec<PathBuf>) -> Self {
        Self { dirs, tried: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Tried> {
        self.tried.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the tries showed so far.
    pub(crate) fn tried(&self) -> Tried {
        self.lock().clone()
    }

    /// The data directory.
    pub(crate) fn dir(&self) -> &Path {
        self.dirs.first().map_or(Path::new("."), PathBuf::as_path)
    }

    /// Tries until `stop`, and blocks `readiness` while the disk cannot be written.
    pub(crate) async fn keep(self: Arc<Self>, readiness: Readiness, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = stop.cancelled() => return,
            }
            let disk = self.clone();
            let mut trying = tokio::task::spawn_blocking(move || disk.try_all());
            let outcome = match tokio::time::timeout(STUCK, &mut trying).await {
                Ok(outcome) => outcome,
                Err(_) => {
                    let cause = format!(
                        "writing into {} takes longer than {STUCK:?}; the disk hangs: see the host's kernel log",
                        self.dir().display()
                    );
                    self.note(Err(cause), Instant::now(), &readiness);
                    // a second try would hang, too
                    tokio::select! {
                        outcome = trying => outcome,
                        () = stop.cancelled() => return,
                    }
                }
            };
            let outcome = outcome.unwrap_or_else(|error| Err(error.to_string()));
            self.note(outcome, Instant::now(), &readiness);
        }
    }

    /// Tries every directory; how long the slowest took, or why one failed. Blocks.
    fn try_all(&self) -> Result<Duration, String> {
        let mut slowest = Duration::ZERO;
        for dir in &self.dirs {
            slowest = slowest.max(prove(dir).map_err(|error| error.to_string())?);
        }
        Ok(slowest)
    }

    /// Takes the outcome of a try; the first of several failures is logged.
    fn note(&self, outcome: Result<Duration, String>, now: Instant, readiness: &Readiness) {
        let mut tried = self.lock();
        match outcome {
            Ok(took) => {
                if let Some((_, since)) = tried.failed.take() {
                    let after = now.saturating_duration_since(since);
                    tracing::info!(?after, "the disk can be written again");
                }
                tried.took = took;
                readiness.recover(READINESS);
            }
            Err(cause) => {
                let since = tried.failed.as_ref().map(|(_, since)| *since);
                if since.is_none() {
                    tracing::error!(cause, "this gateway is not ready: its disk cannot be written");
                }
                readiness.fail(READINESS, cause.clone());
                tried.failed = Some((cause, since.unwrap_or(now)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{GatewayOptions, load};
    use crate::start::Gateway;
    use std::process::Command;

    #[test]
    fn a_good_disk_is_left_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        prove(dir.path()).unwrap();
        std::fs::write(dir.path().join(NAME), "of a process that was killed meanwhile").unwrap();
        prove(dir.path()).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let space = Space::of(dir.path()).unwrap();
        assert!(space.total >= space.free && space.total > 0, "{space:?}");
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap().path().join("gone");
        let said = prove(&dir).unwrap_err().to_string();
        assert!(said.starts_with(&format!("cannot write into {}: ", dir.display())), "{said}");
        assert!(said.contains("check the path"), "{said}");
    }

    /// A file system of its own, for as long as it lives.
    struct Mounted(tempfile::TempDir);

    impl Mounted {
        /// Only root may mount.
        fn of(kib: usize) -> Option<Self> {
            let dir = tempfile::tempdir().unwrap();
            let options = format!("size={kib}k");
            let mut mount = Command::new("mount");
            mount.args(["-t", "tmpfs", "-o", &options, "causeway-test"]).arg(dir.path());
            let mounted = mount.output().is_ok_and(|output| output.status.success());
            if !mounted {
                eprintln!("skipped: no file system can be mounted here, which needs root");
            }
            mounted.then_some(Self(dir))
        }

        fn remount(&self, options: &str) {
            let options = format!("remount,{options}");
            let done = Command::new("mount").args(["-o", &options]).arg(self.0.path()).status().unwrap();
            assert!(done.success());
        }
    }

    impl Drop for Mounted {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg(self.0.path()).status();
        }
    }

    #[test]
    fn a_full_or_read_only_disk_is_said_to_be() {
        let Some(disk) = Mounted::of(256) else { return };
        prove(disk.0.path()).unwrap();
        let ballast = disk.0.path().join("ballast");
        let filled = std::fs::write(&ballast, vec![1; 1 << 20]);
        assert!(filled.is_err() && Space::of(disk.0.path()).unwrap().free < SIZE as u64);
        let full = prove(disk.0.path()).unwrap_err();
        assert_eq!(full.reason(), "disk_full");
        assert!(full.to_string().contains("free space on that file system"), "{full}");
        std::fs::remove_file(ballast).unwrap();
        disk.remount("ro");
        let read_only = prove(disk.0.path()).unwrap_err();
        assert_eq!(read_only.reason(), "disk_read_only");
        disk.remount("rw");
        prove(disk.0.path()).unwrap();
        assert_eq!(std::fs::read_dir(disk.0.path()).unwrap().count(), 0, "nothing is left behind");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_gateway_does_not_start_on_a_full_disk() {
        let Some(disk) = Mounted::of(32 * 1024) else { return };
        let data = disk.0.path().join("data");
        let config = || {
            let options = GatewayOptions {
                cluster: Some("iad".into()),
                region: Some("us-ashburn-1".into()),
                zone: Some("AD-1".into()),
                data_dir: Some(data.display().to_string()),
                listen: vec!["127.0.0.1:0".into()],
                threads: Some("1".into()),
                ..GatewayOptions::default()
            };
            load(None, options).unwrap()
        };
        let ballast = disk.0.path().join("ballast");
        let fill = || std::fs::write(&ballast, vec![1; 64 << 20]).unwrap_err();
        let start = async || match Gateway::start(config()).await {
            Ok(gateway) => gateway.stop(Duration::ZERO).await.map(|()| String::new()).unwrap(),
            Err(error) => format!("{error:#}"),
        };
        assert_eq!(start().await, "");
        fill();
        let said = start().await;
        assert!(said.contains(&data.display().to_string()) && said.contains("free space"), "{said}");
        std::fs::remove_file(&ballast).unwrap();
        assert_eq!(start().await, "", "there is room again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_gateway_is_not_ready_while_its_disk_cannot_be_written() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let (watch, readiness) = (Arc::new(DiskWatch::new(vec![data.clone()])), Readiness::new());
        let stop = CancellationToken::new();
        let kept = tokio::spawn(watch.clone().keep(readiness.clone(), stop.clone()));
        let until = async |ready: bool| {
            tokio::time::timeout(Duration::from_secs(600), async {
                while readiness.is_ready() != ready {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            })
            .await
            .unwrap();
        };
        until(false).await;
        assert!(readiness.pending()[0].starts_with("disk: cannot write into "), "{:?}", readiness.pending());
        let (cause, since) = watch.tried().failed.unwrap();
        assert!(cause.contains("data"), "{cause}");
        std::fs::create_dir(&data).unwrap();
        until(true).await;
        assert_eq!(watch.tried().failed, None);
        std::fs::remove_dir(&data).unwrap();
        until(false).await;
        assert!(watch.tried().failed.unwrap().1 >= since, "another failure has a time of its own");
        stop.cancel();
        kept.await.unwrap();
    }
}
