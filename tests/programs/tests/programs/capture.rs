//! The privileged step before a sidecar: installed twice, looked at, and removed without a trace.

use crate::accounts::Account;
use crate::mesh::Clusters;
use std::fs;

/// Capture on a host, and what was there before it.
pub(crate) struct Capture<'a> {
    clusters: &'a Clusters,
    host: &'static str,
    before: String,
}

impl<'a> Capture<'a> {
    /// What is on `host` now; nothing is changed yet.
    #[track_caller]
    pub(crate) fn of(clusters: &'a Clusters, host: &'static str) -> Self {
        let mut capture = Self { clusters, host, before: String::new() };
        capture.before = capture.state();
        capture
    }

    /// `causeway sidecar init FLAGS`, twice, which is as good as once.
    #[track_caller]
    pub(crate) fn install(&self, flags: &str) {
        println!("{}", self.clusters.root(self.host, &format!("sidecar init {flags}")).ok());
        let once = self.state();
        assert_ne!(once, self.before, "nothing was installed");
        self.clusters.root(self.host, &format!("sidecar init {flags}")).ok();
        same(&self.state(), &once, "installing it again changed something");
        let said = self.clusters.root(self.host, &format!("sidecar init {flags} --check")).ok();
        assert!(!said.contains("missing"), "{said}");
    }

    /// `causeway sidecar cleanup`, twice, after which the host is as it was.
    #[track_caller]
    pub(crate) fn remove(&self) {
        println!("{}", self.clusters.root(self.host, "sidecar cleanup").ok());
        same(&self.state(), &self.before, "something is left, or missing");
        let said = self.clusters.root(self.host, "sidecar cleanup").ok();
        assert_eq!(said, "nothing was installed");
    }

    /// Everything on the host that capture may have to do with.
    #[track_caller]
    fn state(&self) -> String {
        let resolv_conf = self.clusters.network.resolv_conf(self.host);
        let folder = resolv_conf.parent().unwrap();
        let mut files: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        files.sort();
        let looked = [
            "nft --numeric list ruleset",
            "ip rule",
            "ip -6 rule",
            "ip -details route show table all type local",
            "ip route show table all",
            "ip -6 route show table all | sed 's/ expires [0-9]*sec//'",
            "sysctl net.ipv4.ip_unprivileged_port_start net.ipv4.conf.all.route_localnet net.ipv4.ip_nonlocal_bind net.ipv4.conf.lo.rp_filter",
        ]
        .map(|line| format!("$ {line}\n{}", self.clusters.run(self.host, Account::Root, line).ok()));
        format!("{}\n{files:?}\n{}", looked.join("\n"), fs::read_to_string(&resolv_conf).unwrap())
    }
}

/// Panics with the lines that are in one state only.
#[track_caller]
fn same(now: &str, before: &str, what: &str) {
    let only = |one: &str, other: &str, sign: &str| {
        let lines = one.lines().filter(|line| !other.lines().any(|known| known == *line));
        lines.map(|line| format!("{sign} {line}\n")).collect::<String>()
    };
    assert!(now == before, "{what}:\n{}{}", only(before, now, "-"), only(now, before, "+"));
}
