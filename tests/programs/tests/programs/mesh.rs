//! Two linked clusters on their hosts, and a sidecar beside an application on each side: the server's offers services, the client's
//! knows only what names lead to.

use crate::accounts::{Account, SIDECAR, run};
use crate::network::{CLIENT, IAD, Network, PHX, SERVER};
use causeway_test_mesh::{Cluster, Mesh, Process, Ran, SOON, Scrape, binary, get, wait_until};
use serde_json::Value;
use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

/// The telemetry of each sidecar; each has a host of its own.
const TELEMETRY: &str = "127.0.0.1:7446";

/// The clusters on their hosts.
pub(crate) struct Clusters {
    pub(crate) mesh: Mesh,
    _gateways: [Cluster; 2],
    causeway: PathBuf,
    // goes last: what runs in it is killed before
    pub(crate) network: Network,
}

impl Clusters {
    /// `iad` and `phx`, linked.
    #[track_caller]
    pub(crate) fn start(name: &str, network: Network) -> Self {
        let mesh = Mesh::new(name);
        // other users find their way through it
        fs::set_permissions(mesh.dir(), Permissions::from_mode(0o755)).unwrap();
        let causeway = lend(binary(), &mesh.path("causeway"));
        let gateways = [("iad", IAD), ("phx", PHX)].map(|(name, ip)| {
            network.hosts.enter(name);
            mesh.cluster(name).at(&[ip]).start()
        });
        // both clusters are reached from here
        network.hosts.enter("iad");
        mesh.link(&gateways[0], &gateways[1]);
        Self { mesh, _gateways: gateways, causeway, network }
    }

    /// Starts a sidecar as its user on host `host` and waits until it is ready. Its flags are those that follow `causeway sidecar`.
    #[track_caller]
    pub(crate) fn sidecar(&self, host: &'static str, account: Account, flags: &[String]) -> Sidecar {
        let (context, ip): (_, Ipv4Addr) = if host == "client" { ("iad", CLIENT) } else { ("phx", SERVER) };
        self.network.hosts.enter("iad");
        let mut token = vec!["token", "create", "--context", context];
        let served: Vec<&str> = flags
            .windows(2)
            .filter(|pair| pair[0] == "--serve")
            .map(|pair| pair[1].split_once('=').expect("a service and its address").0)
            .collect();
        served.iter().for_each(|service| token.extend(["--service", service]));
        if served.is_empty() {
            token.extend(["--namespace", "test", "--account", host]);
        }
        let token = self.mesh.ok(&token);
        let home = self.folder(host, SIDECAR);
        let line = format!(
            "exec {} {} sidecar --token {token} --state-dir {}/state --overlay {ip}:0 --telemetry {TELEMETRY} --log-format json {}",
            account.prefix(&self.network.hosts.name(host)),
            self.causeway.display(),
            home.display(),
            flags.join(" ")
        );
        let process = Process::shell(self.mesh.dir(), host, &line);
        let mut sidecar = Sidecar { host, process };
        self.network.hosts.enter(host);
        wait_until(SOON, &format!("the sidecar of {host} is ready"), || {
            sidecar.process.assert_running();
            get(telemetry(), "/ready").is_ok_and(|answer| answer.status == 200)
        });
        sidecar
    }

    /// A folder for a user.
    pub(crate) fn folder(&self, name: &str, uid: u32) -> PathBuf {
        let folder = self.mesh.path(&format!("{name}-{uid}"));
        if !folder.exists() {
            fs::create_dir(&folder).unwrap();
            chown(&folder, Some(uid), Some(uid)).unwrap();
        }
        folder
    }

    /// Runs `causeway ARGS` on `host` as the privileged step.
    #[track_caller]
    pub(crate) fn root(&self, host: &str, args: &str) -> Ran {
        self.run(host, Account::Root, &format!("{} {args}", self.causeway.display()))
    }

    /// Runs a command line on `host` as somebody, to its end.
    #[track_caller]
    pub(crate) fn run(&self, host: &str, account: Account, line: &str) -> Ran {
        run(&self.network.hosts.name(host), account, line)
    }

    /// Exports services of `phx` and waits until `iad` knows that each can be had.
    #[track_caller]
    pub(crate) fn export(&self, services: &[&str]) {
        self.network.hosts.enter("iad");
        for service in services {
            self.mesh.ok(&["export", service, "--to", "iad", "--context", "phx"]);
        }
        for service in services {
            self.mesh.wait_offer("iad", service, "phx", 1);
        }
    }

    /// The metrics of the sidecar of `host`.
    #[track_caller]
    pub(crate) fn scrape(&self, host: &str) -> Scrape {
        self.network.hosts.enter(host);
        Scrape::of(telemetry())
    }
}

/// A sidecar. It is killed when this is dropped.
pub(crate) struct Sidecar {
    pub(crate) host: &'static str,
    pub(crate) process: Process,
}

impl Sidecar {
    /// Waits for an access record.
    #[track_caller]
    pub(crate) fn wait_access(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.process.wait_access(&format!("{}: {what}", self.host), wanted)
    }
}

fn telemetry() -> SocketAddr {
    TELEMETRY.parse().expect("an address")
}

/// Puts an executable where other users may run it.
pub(crate) fn lend(from: &Path, to: &Path) -> PathBuf {
    fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(drop)).unwrap();
    to.to_owned()
}
