//! Capture in real network namespaces. These tests need root, `ip` and `nft`; where one is missing they say that they are skipped.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on should say where"
)]

mod hosts;
mod inbound;
mod programs;
mod redirect;
mod vip;

use causeway_capture::{Accounts, CaptureConfig, CaptureMode, CaptureOptions};
use hosts::Hosts;
use std::io::Write as _;

/// The user that the sidecar runs as.
const SIDECAR: u32 = 64_999;
/// A user whose traffic is excluded.
const EXCLUDED: u32 = 64_998;
/// The user of the host's resolver.
const RESOLVER: u32 = 64_997;
/// The ordinary user of an application.
const APP: u32 = 64_996;

/// A host that runs systemd-resolved.
struct Resolved;

impl Accounts for Resolved {
    fn uid(&self, name: &str) -> Option<u32> {
        (name == "systemd-resolve").then_some(RESOLVER)
    }

    fn gid(&self, _: &str) -> Option<u32> {
        None
    }

    fn has_ipv6(&self) -> bool {
        true
    }
}

fn config(mode: CaptureMode, options: CaptureOptions) -> CaptureConfig {
    options.build(mode, &Resolved).unwrap()
}

/// Two hosts that reach each other; `None`, and a line that says so, if this machine can have none.
fn hosts(test: &str) -> Option<Hosts> {
    let missing = ["nft", "ip"].into_iter().find(|tool| !hosts::has(tool));
    let made = match missing {
        Some(tool) => Err(format!("there is no {tool}")),
        None => Hosts::new(),
    };
    match made {
        Ok(hosts) => Some(hosts),
        Err(why) => {
            skip(test, &why);
            None
        }
    }
}

/// Says that a test was not run, past the capture of the test runner, and in the file that the summary is made of.
fn skip(test: &str, why: &str) {
    let line = format!("SKIPPED {test}: {why}\n");
    std::io::stderr().lock().write_all(line.as_bytes()).unwrap();
    if let Some(path) = std::env::var_os("CAUSEWAY_SKIPPED").filter(|path| !path.is_empty()) {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
        file.unwrap().write_all(line.as_bytes()).unwrap();
    }
}

/// Runs `work` as `uid`, without any capability, in the namespace of the caller.
fn as_user<T: Send>(uid: u32, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // of this thread only, and for good
            rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(uid)).unwrap();
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
