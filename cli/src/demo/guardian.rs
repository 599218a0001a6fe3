//! A process that ends the demo's processes when the demo is killed and cannot do it itself.
//!
//! It is told on its standard input which processes there are (`+PID`, `-PID`), and that input ends with the demo, whatever
//! ended it. What it was told of and is not taken back then gets SIGKILL.

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// The demo's end of it.
#[derive(Debug)]
pub(super) struct Guardian {
    input: Mutex<Option<ChildStdin>>,
    process: Mutex<Child>,
}

impl Guardian {
    /// Starts it: `exe` is this program.
    pub(super) fn start(exe: &Path) -> Result<Self> {
        let mut command = Command::new(exe);
        command
            .args(["demo", "--guardian"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // Ctrl-C in the terminal is for the demo
        let mut process = command.process_group(0).spawn().context("cannot start the demo's guardian")?;
        Ok(Self { input: Mutex::new(process.stdin.take()), process: Mutex::new(process) })
    }

    /// From now on this process ends with the demo.
    pub(super) fn watch(&self, pid: u32) {
        self.tell(format_args!("+{pid}\n"));
    }

    /// This process has ended; its id may be another's soon.
    pub(super) fn forget(&self, pid: u32) {
        self.tell(format_args!("-{pid}\n"));
    }

    fn tell(&self, line: std::fmt::Arguments<'_>) {
        let mut input = self.input.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(input) = input.as_mut() {
            // without a guardian the demo still ends its processes itself
            let _ = input.write_all(line.to_string().as_bytes());
        }
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        self.input.lock().unwrap_or_else(PoisonError::into_inner).take();
        let _ = self.process.lock().unwrap_or_else(PoisonError::into_inner).wait();
    }
}

/// Is the guardian: returns when the input has ended and the processes got their signal.
pub(super) fn guard(input: impl Read) {
    for pid in remaining(input) {
        if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// The processes that were told of and not taken back.
fn remaining(input: impl Read) -> BTreeSet<u32> {
    let mut pids = BTreeSet::new();
    for line in BufReader::new(input).lines().map_while(Result::ok) {
        // 0 would mean a whole process group
        let parse = |text: &str| text.parse::<u32>().ok().filter(|pid| *pid > 1);
        if let Some(pid) = line.strip_prefix('+').and_then(parse) {
            pids.insert(pid);
        } else if let Some(pid) = line.strip_prefix('-').and_then(parse) {
            pids.remove(&pid);
        }
    }
    pids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_taken_back_remains() {
        let input = "+12\n+13\n-12\n+14\n-99\nnonsense\n+0\n+1\n+-5\n";
        assert_eq!(remaining(input.as_bytes()), BTreeSet::from([13, 14]));
    }

    #[test]
    fn it_ends_a_process() {
        let mut sleeper = Command::new("sleep").arg("600").spawn().unwrap();
        guard(format!("+{}\n", sleeper.id()).as_bytes());
        assert!(!sleeper.wait().unwrap().success());
    }
}
