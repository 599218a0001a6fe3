//! Child processes that do not outlive their test, however it ends.
#![allow(
    unsafe_code,
    reason = "the standard library runs code between fork and exec only by an unsafe function"
)]

use rustix::process::{Signal, set_parent_process_death_signal};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Has the kernel kill the child when the thread that spawns it ends, and gives it a process group of its own.
pub(crate) fn leash(command: &mut Command) {
    command.process_group(0);
    // SAFETY: the closure runs in the child between fork and exec, where only async-signal-safe calls are allowed. It
    // makes one system call (prctl) and touches no memory of its own: no allocation, no lock, no environment.
    unsafe {
        command.pre_exec(|| set_parent_process_death_signal(Some(Signal::KILL)).map_err(Into::into));
    }
}
