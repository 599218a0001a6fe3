//! Two network namespaces, `host` and `peer`, joined by a cable. The host's default routes lead to the peer, which has addresses
//! that stand for the rest of the world.

use rustix::fs::{Mode, OFlags, open};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// What each has to be before it is used: `HOST` and `PEER` stand for the names.
const SETUP: &str = "\
-n HOST link set lo up
-n PEER link set lo up
-n HOST link add veth0 type veth peer name veth0 netns PEER
-n HOST addr add 10.77.0.1/24 dev veth0
-n PEER addr add 10.77.0.2/24 dev veth0
-n HOST addr add fd77::1/64 dev veth0 nodad
-n PEER addr add fd77::2/64 dev veth0 nodad
-n HOST link set veth0 up
-n PEER link set veth0 up
-n HOST route add default via 10.77.0.2
-n HOST -6 route add default via fd77::2
-n PEER addr add 192.0.2.1/32 dev lo
-n PEER addr add 198.51.100.1/32 dev lo
-n PEER addr add 2001:db8::1/128 dev lo nodad
-n PEER route add 240.0.0.0/8 via 10.77.0.1
-n PEER -6 route add fd9c:43a6:77c1::/48 via fd77::1";

/// The namespaces of one test. The thread that made them is in `host` until this is dropped.
#[derive(Debug)]
pub(crate) struct Hosts {
    home: OwnedFd,
    host: String,
    peer: String,
}

impl Hosts {
    pub(crate) fn new() -> Result<Self, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            return Err("network namespaces need root".to_owned());
        }
        let id = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let home = file("/proc/thread-self/ns/net")?;
        let hosts = Self { home, host: format!("cwh{id}"), peer: format!("cwp{id}") };
        for name in [&hosts.host, &hosts.peer] {
            ip(&format!("netns add {name}"))?;
        }
        for line in SETUP.lines() {
            ip(&line.replace("HOST", &hosts.host).replace("PEER", &hosts.peer))?;
        }
        enter(&hosts.host);
        Ok(hosts)
    }

    /// Runs `work` in the peer's namespace.
    pub(crate) fn at_peer<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                enter(&self.peer);
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        go(&self.home);
        for name in [&self.host, &self.peer] {
            let _ = ip(&format!("netns delete {name}"));
        }
    }
}

/// Whether a program is there.
pub(crate) fn has(tool: &str) -> bool {
    Command::new(tool).arg("-V").output().is_ok()
}

/// What a program that must succeed prints.
#[track_caller]
pub(crate) fn said(line: &str) -> String {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn enter(name: &str) {
    go(&file(&format!("/run/netns/{name}")).unwrap());
}

fn go(namespace: &OwnedFd) {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .expect("root can enter a namespace that it made");
}

fn file(path: &str) -> Result<OwnedFd, String> {
    open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(|error| format!("{path}: {error}"))
}

fn ip(args: &str) -> Result<(), String> {
    let output = Command::new("ip").args(args.split_whitespace()).output();
    let output = output.map_err(|error| format!("cannot run ip: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {args}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
