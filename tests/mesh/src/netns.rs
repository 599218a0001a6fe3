//! Network namespaces: hosts that reach each other only where a cable joins them. They need root and the `ip` command.

use rustix::fs::{Mode, OFlags, open};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Tests of one process may run at the same time.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// Namespaces of one test, removed when this is dropped. The thread that made it is in one of them at a time, and with it the
/// processes that it starts and the sockets that it opens.
#[derive(Debug)]
pub struct Hosts {
    home: OwnedFd,
    prefix: String,
    hosts: Vec<(String, OwnedFd)>,
}

impl Hosts {
    /// A namespace for each of `names`, with loopback and nothing else; or why there can be none.
    ///
    /// # Errors
    /// What the machine lacks: a right, or the `ip` command.
    pub fn new(names: &[&str]) -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("network namespaces need root".to_owned());
        }
        let home = file("/proc/thread-self/ns/net")?;
        let prefix = format!("cw{}-{}-", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut hosts = Self { home, prefix, hosts: Vec::new() };
        for name in names {
            let full = hosts.name(name);
            ip(&format!("netns add {full}"))?;
            let namespace = file(&format!("/run/netns/{full}"));
            if namespace.is_err() {
                let _ = ip(&format!("netns delete {full}"));
            }
            hosts.hosts.push((full.clone(), namespace?));
            ip(&format!("-n {full} link set lo up"))?;
        }
        Ok(hosts)
    }

    /// The name of namespace `host` as `ip netns` knows it.
    pub fn name(&self, host: &str) -> String {
        format!("{}{host}", self.prefix)
    }

    /// Runs `ip` in namespace `host`; in the arguments, `@NAME` stands for the namespace `NAME`.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn ip(&self, host: &str, args: &str) -> Result<(), String> {
        let words: Vec<String> = args
            .split_whitespace()
            .map(|word| word.strip_prefix('@').map_or_else(|| word.to_owned(), |name| self.name(name)))
            .collect();
        ip(&format!("-n {} {}", self.name(host), words.join(" ")))
    }

    /// From now on the calling thread is in namespace `host`.
    #[track_caller]
    pub fn enter(&self, host: &str) {
        let full = self.name(host);
        let found = self.hosts.iter().find(|(name, _)| *name == full);
        go(&found.unwrap_or_else(|| panic!("there is no host {host}")).1);
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        go(&self.home);
        for (name, _) in &self.hosts {
            // what is left of it goes with the last process that is in it
            let _ = ip(&format!("netns delete {name}"));
        }
    }
}

fn go(namespace: &OwnedFd) {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .expect("root can enter a namespace that it made");
}

fn file(path: &str) -> Result<OwnedFd, String> {
    open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(|error| format!("{path}: {error}"))
}

fn ip(args: &str) -> Result<(), String> {
    let run = Command::new("ip").args(args.split_whitespace()).output();
    let output = run.map_err(|error| format!("cannot run ip: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {args}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
