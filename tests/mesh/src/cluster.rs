//! A cluster: its gateways as processes.

use crate::mesh::Mesh;
use crate::{Process, SOON, Scrape, Stolen, get, loopback, wait_for, wait_until};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// A cluster to be started.
#[derive(Debug)]
pub struct ClusterBuilder {
    mesh: Mesh,
    name: String,
    gateways: usize,
    at: Vec<Ipv4Addr>,
    flags: Vec<String>,
}

impl ClusterBuilder {
    pub(crate) fn new(mesh: &Mesh, name: &str) -> Self {
        Self { mesh: mesh.clone(), name: name.to_owned(), gateways: 1, at: Vec::new(), flags: Vec::new() }
    }

    /// How many gateways it has; the first one votes.
    #[must_use]
    pub fn gateways(mut self, count: usize) -> Self {
        self.gateways = count;
        self
    }

    /// The addresses of its first gateways, where they must be known beforehand.
    #[must_use]
    pub fn at(mut self, addresses: &[Ipv4Addr]) -> Self {
        self.at = addresses.to_vec();
        self
    }

    /// A flag of every gateway.
    #[must_use]
    pub fn flag(mut self, flag: &str, value: &str) -> Self {
        self.flags.extend([flag.to_owned(), value.to_owned()]);
        self
    }

    /// Starts the gateways one after the other and waits until each is ready.
    #[track_caller]
    pub fn start(self) -> Cluster {
        let mut cluster =
            Cluster { mesh: self.mesh, name: self.name, flags: self.flags, gateways: Vec::new() };
        let mut at = self.at.into_iter();
        for _ in 0..self.gateways {
            cluster.add_at(at.next().unwrap_or_else(loopback), &[]);
        }
        cluster
    }
}

/// A running cluster. Its gateways are killed when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    mesh: Mesh,
    name: String,
    flags: Vec<String>,
    /// Its gateways; the first one made the cluster.
    pub gateways: Vec<Gateway>,
}

impl Cluster {
    /// Its name, which is also that of the CLI context of its first gateway.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Adds a gateway at an address, with flags of its own: the cluster's first one, or one that joins with a token.
    #[track_caller]
    pub fn add_at(&mut self, ip: Ipv4Addr, flags: &[&str]) -> &mut Gateway {
        let name = self.next_name();
        let mut args = self.args(ip, &name, flags);
        let mut context = self.name.clone();
        if !self.gateways.is_empty() {
            context.clone_from(&name);
            args.extend([
                "--join".to_owned(),
                self.join_token("gateway"),
                "--context".to_owned(),
                name.clone(),
            ]);
        }
        self.start(ip, &name, context, args)
    }

    /// Adds a gateway of role forwarder. It serves no admin API: its context is that of the cluster's first gateway.
    #[track_caller]
    pub fn add_forwarder(&mut self) -> &mut Gateway {
        let (ip, name) = (loopback(), self.next_name());
        let mut args = self.args(ip, &name, &["--role", "forwarder"]);
        let place = args.iter().position(|arg| arg == "--admin").expect("a gateway has an admin API");
        args.drain(place..place + 2);
        args.extend(["--join".to_owned(), self.join_token("forwarder")]);
        self.start(ip, &name, self.name.clone(), args)
    }

    /// Restores the cluster from a backup at an address: its only gateway from now on is a new one. Those before must be stopped.
    #[track_caller]
    pub fn restore_at(&mut self, ip: Ipv4Addr, backup: &Path, seal_key: &Path) -> &mut Gateway {
        let name = format!("{}-restored", self.name);
        let [backup, seal_key] = [backup, seal_key].map(|path| path.display().to_string());
        let data_dir = self.data_dir(&name).display().to_string();
        self.mesh.ok(&["restore", &backup, "--data-dir", &data_dir, "--seal-key-file", &seal_key]);
        self.gateways.clear();
        let args = self.args(ip, &name, &[]);
        self.start(ip, &name, self.name.clone(), args)
    }

    /// The place of its leader among [`gateways`](Self::gateways), as the gateway of `context` sees it.
    #[track_caller]
    pub fn leader(&self, context: &str) -> usize {
        let what = format!("{} has a leader", self.name);
        let look = || {
            let all = self.mesh.gateways(context);
            let leader = all.iter().find(|row| row["registry"] == "leader")?["node"].as_str()?.to_owned();
            self.gateways.iter().position(|gateway| gateway.node() == leader)
        };
        wait_for(SOON, &what, look).0
    }

    fn next_name(&self) -> String {
        format!("{}-{}", self.name, self.gateways.len() + 1)
    }

    #[track_caller]
    fn join_token(&self, role: &str) -> String {
        self.mesh.ok(&["token", "create", "--role", role, "--context", &self.name])
    }

    fn data_dir(&self, name: &str) -> PathBuf {
        self.mesh.path(&format!("{name}-data"))
    }

    fn args(&self, ip: Ipv4Addr, name: &str, flags: &[&str]) -> Vec<String> {
        let mut args = self.mesh.gateway_args(&self.name, ip);
        args.extend(self.flags.iter().cloned());
        args.extend(flags.iter().map(ToString::to_string));
        let place = args.iter().position(|arg| arg == "--data-dir").expect("a gateway has a data directory");
        args[place + 1] = self.data_dir(name).display().to_string();
        args
    }

    #[track_caller]
    fn start(&mut self, ip: Ipv4Addr, name: &str, context: String, args: Vec<String>) -> &mut Gateway {
        let (data_dir, process) = (self.data_dir(name), self.mesh.process(name, &args));
        let mut gateway = Gateway { mesh: self.mesh.clone(), ip, context, data_dir, args, process };
        gateway.wait_ready();
        self.gateways.push(gateway);
        self.gateways.last_mut().expect("it was just added")
    }
}

/// A gateway.
#[derive(Debug)]
pub struct Gateway {
    mesh: Mesh,
    /// The address of all of its ports.
    pub ip: Ipv4Addr,
    /// The CLI context that leads to it, or to its cluster if it is a forwarder.
    pub context: String,
    /// Its data directory.
    pub data_dir: PathBuf,
    args: Vec<String>,
    /// The process.
    pub process: Process,
}

impl Gateway {
    /// Its node id.
    #[track_caller]
    pub fn node(&self) -> String {
        let id = Stolen::from_gateway(&self.data_dir).svid.current().id().to_string();
        id.rsplit('/').next().expect("a path").to_owned()
    }

    /// The overlay's address, UDP.
    pub fn overlay(&self) -> SocketAddr {
        (self.ip, 7443).into()
    }

    /// The admin API's address.
    pub fn admin(&self) -> SocketAddr {
        (self.ip, 7444).into()
    }

    /// The address of metrics and readiness.
    pub fn telemetry(&self) -> SocketAddr {
        (self.ip, 7445).into()
    }

    /// Its metrics now.
    #[track_caller]
    pub fn scrape(&self) -> Scrape {
        Scrape::of(self.telemetry())
    }

    /// Starts it again with the same arguments, after it was killed.
    pub fn restart(&mut self) {
        let name = self.process.name().to_owned();
        self.process.kill();
        self.process = self.mesh.process(&name, &self.args);
    }

    /// Waits until it says that it is ready, and the CLI finds its context.
    #[track_caller]
    pub fn wait_ready(&mut self) {
        let (telemetry, context) =
            (self.telemetry(), self.mesh.path(&format!("contexts/{}.toml", self.context)));
        let what = format!("{} is ready", self.process.name());
        wait_until(SOON, &what, || {
            self.process.assert_running();
            context.exists() && get(telemetry, "/ready").is_ok_and(|answer| answer.status == 200)
        });
    }
}
