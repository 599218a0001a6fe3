//! A long-running process of the demo: started, watched, killed and started again. Its output goes to a file.

use super::guardian::Guardian;
use super::{http, wait};
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// How much of the end of a log is looked at for its last lines, in bytes.
const TAIL: u64 = 16 * 1024;
/// How long a process may take until it is ready.
const READY: Duration = Duration::from_secs(15);

/// Where processes find what they share.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// This program.
    pub(super) exe: PathBuf,
    /// The demo's folder.
    pub(super) dir: PathBuf,
}

impl Place {
    /// The folder of the CLI contexts.
    pub(super) fn contexts(&self) -> PathBuf {
        self.dir.join("contexts")
    }

    /// This program with the environment of the demo, and nothing of the caller's that would lead elsewhere.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.exe);
        command.env("CAUSEWAY_CONTEXT_DIR", self.contexts());
        command.env_remove("CAUSEWAY_CONTEXT").env_remove("CAUSEWAY_TOKEN");
        command.stdin(Stdio::null()).process_group(0);
        command
    }
}

/// A process that runs, or ran and may run again.
#[derive(Debug)]
pub(super) struct Child {
    name: String,
    telemetry: SocketAddr,
    log: PathBuf,
    process: Option<std::process::Child>,
    guardian: Arc<Guardian>,
}

impl Child {
    /// A process that does not run yet; `telemetry` is where it says whether it is ready.
    pub(super) fn new(name: String, telemetry: SocketAddr, dir: &Path, guardian: Arc<Guardian>) -> Self {
        let log = dir.join(format!("{name}.log"));
        Self { name, telemetry, log, process: None, guardian }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Its process id, while it runs.
    pub(super) fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(std::process::Child::id)
    }

    /// Starts it; what it writes is added to its log.
    pub(super) fn start(&mut self, mut command: Command) -> Result<()> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        let log = log.with_context(|| format!("cannot write {}", self.log.display()))?;
        let both = log.try_clone().with_context(|| format!("cannot write {}", self.log.display()))?;
        let process = command.stdout(log).stderr(both).spawn();
        let process = process.with_context(|| format!("cannot start {}", self.name))?;
        self.guardian.watch(process.id());
        self.process = Some(process);
        Ok(())
    }

    /// Waits until it says that it is ready.
    pub(super) async fn ready(&mut self) -> Result<Duration> {
        let (name, telemetry) = (self.name.clone(), self.telemetry);
        let what = format!("{name} is ready (http://{telemetry}/ready)");
        let ((), took) = wait::until(&what, READY, async || {
            // without this the wait would go on for what cannot come
            if let Some(status) = self.ended() {
                return Err(wait::Not::Ever(format!("{name} ended: {status}")));
            }
            let answer = http::get(telemetry, "/ready").await.map_err(|error| format!("{error:#}"))?;
            if answer.status == 200 { Ok(()) } else { Err(format!("HTTP {}", answer.status).into()) }
        })
        .await?;
        Ok(took)
    }

    /// How it ended, if it has; it then counts as not running.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.process.as_mut()?.try_wait().ok().flatten()?;
        self.gone();
        Some(status)
    }

    /// SIGKILL: it gets no chance to say anything to anybody.
    pub(super) fn kill(&mut self) -> Result<()> {
        let Some(process) = self.process.as_mut() else { bail!("{} does not run", self.name) };
        process.kill().with_context(|| format!("cannot kill {}", self.name))?;
        let _ = process.wait();
        self.gone();
        Ok(())
    }

    /// SIGTERM: asks it to end.
    pub(super) fn terminate(&self) {
        if let Some(pid) = self.pid().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    fn gone(&mut self) {
        if let Some(process) = self.process.take() {
            self.guardian.forget(process.id());
        }
    }

    /// The last lines of its log.
    pub(super) fn log_tail(&self, lines: usize) -> Vec<String> {
        tail(&self.log, lines).unwrap_or_default()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.process.is_some() {
            let _ = self.kill();
        }
    }
}

fn tail(path: &Path, lines: usize) -> std::io::Result<Vec<String>> {
    let mut file = File::open(path)?;
    let end = file.metadata()?.len();
    file.seek(SeekFrom::Start(end.saturating_sub(TAIL)))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<_> = text.lines().collect();
    Ok(all[all.len().saturating_sub(lines)..].iter().map(ToString::to_string).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_the_last_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let text: String = (0..5000).map(|line| format!("line {line}\n")).collect();
        std::fs::write(&path, text).unwrap();
        assert_eq!(tail(&path, 2).unwrap(), ["line 4998", "line 4999"]);
        std::fs::write(&path, "only\n").unwrap();
        assert_eq!(tail(&path, 2).unwrap(), ["only"]);
    }

    #[test]
    fn the_callers_cluster_is_not_the_demos() {
        let place = Place { exe: "/bin/causeway".into(), dir: "/d".into() };
        let command = place.command();
        let envs: Vec<_> = command.get_envs().collect();
        assert!(envs.contains(&("CAUSEWAY_CONTEXT_DIR".as_ref(), Some("/d/contexts".as_ref()))));
        assert!(envs.contains(&("CAUSEWAY_CONTEXT".as_ref(), None)));
        assert!(envs.contains(&("CAUSEWAY_TOKEN".as_ref(), None)));
    }
}
