//! One process under test: started, signalled, watched by its log, killed at the end.

use crate::leash::leash;
use crate::{SOON, binary, wait_for};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// How much of a log is shown when a test fails, in lines.
const TAIL: usize = 40;

/// A running `causeway` process. It is killed when this is dropped, and its log's tail is printed if the test failed.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    child: Child,
    exited: Option<ExitStatus>,
}

/// The command `causeway ARGS` with an environment of its own, below `home`.
pub(crate) fn command(home: &Path, args: &[String]) -> Command {
    own_environment(Command::new(binary()), home, args)
}

fn own_environment(mut command: Command, home: &Path, args: &[String]) -> Command {
    command
        .args(args)
        .env_clear()
        .env("HOME", home)
        .env("CAUSEWAY_CONTEXT_DIR", home.join("contexts"))
        .env("RUST_BACKTRACE", "1")
        .stdin(Stdio::null());
    leash(&mut command);
    command
}

impl Process {
    /// Starts `causeway ARGS`; what it says is appended to `NAME.log` in `home`.
    pub fn start(home: &Path, name: &str, args: &[String]) -> Self {
        Self::spawn(home, name, command(home, args))
    }

    /// Starts `causeway ARGS` under a limit on descriptors, as the shell's `ulimit` takes it: `-Sn 256`, for example.
    pub fn start_limited(home: &Path, name: &str, limit: &str, args: &[String]) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-ec", &format!("ulimit {limit}; exec \"$0\" \"$@\"")]).arg(binary());
        Self::spawn(home, name, own_environment(shell, home, args))
    }

    /// Starts the shell's command `line`, in which `causeway` is the binary under test; its output goes where that of
    /// [`start`](Self::start) does.
    pub fn shell(home: &Path, name: &str, line: &str) -> Self {
        let folders = [binary().parent().expect("the binary lies in a folder").as_os_str().to_owned()];
        let usual = std::env::var_os("PATH").unwrap_or_default();
        let path =
            std::env::join_paths(folders.into_iter().map(Into::into).chain(std::env::split_paths(&usual)));
        let mut command = Command::new("sh");
        command
            .args(["-ec", line])
            .current_dir(home)
            .env("HOME", home)
            .env("CAUSEWAY_CONTEXT_DIR", home.join("contexts"))
            .env("PATH", path.expect("folders without a colon"))
            .stdin(Stdio::null());
        leash(&mut command);
        Self::spawn(home, name, command)
    }

    fn spawn(home: &Path, name: &str, mut command: Command) -> Self {
        let log = home.join(format!("{name}.log"));
        let file = OpenOptions::new().append(true).create(true).open(&log).expect("a log file");
        command.stdout(file.try_clone().expect("a second handle")).stderr(file);
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {:?}: {error}", command.get_program()));
        Self { name: name.to_owned(), log, child, exited: None }
    }

    /// Its name in logs.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to its process group.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process_group(pid, signal).expect("a child that was not waited for takes signals");
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        if self.exit().is_none() {
            self.signal(Signal::KILL);
            self.exited = Some(self.child.wait().expect("a child can be waited for"));
        }
    }

    /// SIGTERM, and waits until it has ended; panics when it does not within `limit`.
    pub fn terminate(&mut self, limit: Duration) -> ExitStatus {
        if self.exit().is_none() {
            self.signal(Signal::TERM);
        }
        self.wait_exit(limit)
    }

    /// How it has ended, if it has.
    pub fn exit(&mut self) -> Option<ExitStatus> {
        if self.exited.is_none() {
            self.exited = self.child.try_wait().expect("a child can be waited for");
        }
        self.exited
    }

    /// Waits until it ends by itself; panics when it does not within `limit`.
    pub fn wait_exit(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("{} ends", self.name);
        wait_for(limit, &what, || self.exit()).0
    }

    /// Panics if it is not running.
    #[track_caller]
    pub fn assert_running(&mut self) {
        let exit = self.exit();
        assert!(exit.is_none(), "{} has ended: {exit:?}\n{}", self.name, self.tail());
    }

    /// What it has said so far, over all of its starts.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).expect("the log can be read")).into_owned()
    }

    /// The records of a log in JSON; other lines are left out.
    pub fn records(&self) -> Vec<Value> {
        self.log()
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .filter(Value::is_object)
            .collect()
    }

    /// The access log: a record for each connection that was carried or refused.
    pub fn access(&self) -> Vec<Value> {
        self.records().into_iter().filter(|record| record["target"] == "access").collect()
    }

    /// Waits until an access record is as `wanted` says, and returns it.
    #[track_caller]
    pub fn wait_access(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let what = format!("{} logs {what}", self.name);
        wait_for(SOON, &what, || self.access().into_iter().find(|record| wanted(record))).0
    }

    /// Waits until the log contains `text`.
    #[track_caller]
    pub fn wait_log(&self, text: &str) {
        let what = format!("{} logs {text:?}", self.name);
        wait_for(SOON, &what, || self.log().contains(text).then_some(()));
    }

    /// Its resident memory, in bytes.
    pub fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("a running process");
        let line =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a running process has VmRSS");
        let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse().expect("a number of kB");
        kib << 10
    }

    /// The last connections that did not end well, as it logged them.
    fn failures(&self) -> String {
        let records: Vec<String> =
            self.access().iter().filter(|it| it["reason"] != "done").map(Value::to_string).collect();
        records[records.len().saturating_sub(TAIL)..].join("\n")
    }

    /// The end of its log.
    pub fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(TAIL)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let exit = self.child.try_wait().ok().flatten();
            // a log whose folder is gone already must not hide the failure
            let said = if self.log.exists() {
                format!("{}\n{}", self.failures(), self.tail())
            } else {
                "(its log is gone)".to_owned()
            };
            eprintln!("---- {} (pid {}, {exit:?}) ----\n{said}", self.name, self.pid());
        }
        self.kill();
    }
}
