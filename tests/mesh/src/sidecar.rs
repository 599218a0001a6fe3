//! A sidecar as a process, with the addresses by which its application calls services.

use crate::mesh::Mesh;
use crate::{Process, SOON, Scrape, get, loopback, wait_until};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// Where the first `--listen` address of a sidecar is; the others follow.
const FIRST_LISTEN: u16 = 8080;

/// A sidecar to be started.
#[derive(Debug)]
pub struct SidecarBuilder {
    mesh: Mesh,
    cluster: String,
    name: String,
    token: Option<String>,
    serve: Vec<(String, SocketAddr)>,
    listen: Vec<String>,
    flags: Vec<String>,
    limit: Option<String>,
}

impl SidecarBuilder {
    pub(crate) fn new(mesh: &Mesh, cluster: &str, name: &str) -> Self {
        Self {
            mesh: mesh.clone(),
            cluster: cluster.to_owned(),
            name: name.to_owned(),
            token: None,
            serve: Vec::new(),
            listen: Vec::new(),
            flags: Vec::new(),
            limit: None,
        }
    }

    /// Joins with this token; one that fits is made unless there is one.
    #[must_use]
    pub fn token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// Serves a service port, such as `payments.shop:80`, from an application's address.
    #[must_use]
    pub fn serve(mut self, service: &str, upstream: SocketAddr) -> Self {
        self.serve.push((service.to_owned(), upstream));
        self
    }

    /// Listens for the application's calls to a service port.
    #[must_use]
    pub fn listen(mut self, service: &str) -> Self {
        self.listen.push(service.to_owned());
        self
    }

    /// Another flag.
    #[must_use]
    pub fn flag(mut self, flag: &str, value: &str) -> Self {
        self.flags.extend([flag.to_owned(), value.to_owned()]);
        self
    }

    /// Its limit on descriptors, as the shell's `ulimit` takes it, such as `-Sn 256`; this start's only.
    #[must_use]
    pub fn descriptors(mut self, limit: &str) -> Self {
        self.limit = Some(limit.to_owned());
        self
    }

    /// A token for what it serves.
    #[track_caller]
    fn make_token(&self) -> String {
        let mut args = vec!["token", "create", "--context", &self.cluster];
        for (service, _) in &self.serve {
            args.extend(["--service", service]);
        }
        if self.serve.is_empty() {
            args.extend(["--namespace", "test", "--account", &self.name]);
        }
        self.mesh.ok(&args)
    }

    /// Starts it, and does not wait for anything.
    #[track_caller]
    pub fn spawn(self) -> Sidecar {
        let token = self.token.clone().unwrap_or_else(|| self.make_token());
        let name = format!("{}-{}", self.cluster, self.name);
        let (ip, state_dir) = (loopback(), self.mesh.path(&format!("{name}-state")));
        let mut args: Vec<String> = [
            ("--token", token),
            ("--state-dir", state_dir.display().to_string()),
            ("--overlay", format!("{ip}:7443")),
            ("--telemetry", format!("{ip}:7446")),
            ("--log-format", "json".to_owned()),
        ]
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_owned(), value])
        .collect();
        args.insert(0, "sidecar".to_owned());
        for (service, upstream) in &self.serve {
            args.extend(["--serve".to_owned(), format!("{service}={upstream}")]);
        }
        let listen: Vec<(String, SocketAddr)> = (FIRST_LISTEN..)
            .zip(self.listen)
            .map(|(port, service)| (service, SocketAddr::from((ip, port))))
            .collect();
        for (service, addr) in &listen {
            args.extend(["--listen".to_owned(), format!("{addr}={service}")]);
        }
        args.extend(self.flags);
        let process = match &self.limit {
            Some(limit) => Process::start_limited(self.mesh.dir(), &name, limit, &args),
            None => self.mesh.process(&name, &args),
        };
        Sidecar { mesh: self.mesh, ip, state_dir, listen, args, process }
    }

    /// Starts it and waits until it is ready.
    #[track_caller]
    pub fn start(self) -> Sidecar {
        let mut sidecar = self.spawn();
        sidecar.wait_ready();
        sidecar
    }
}

/// A running sidecar. It is killed when this is dropped.
#[derive(Debug)]
pub struct Sidecar {
    mesh: Mesh,
    /// The address of its overlay socket, its telemetry and its listeners.
    pub ip: Ipv4Addr,
    /// Its state directory.
    pub state_dir: PathBuf,
    listen: Vec<(String, SocketAddr)>,
    args: Vec<String>,
    /// The process.
    pub process: Process,
}

impl Sidecar {
    /// The address that leads to a service port, such as `orders.shop:80`.
    #[track_caller]
    pub fn addr(&self, service: &str) -> SocketAddr {
        let found = self.listen.iter().find(|(name, _)| name == service);
        found.unwrap_or_else(|| panic!("{} does not listen for {service}", self.process.name())).1
    }

    /// The overlay's address, UDP.
    pub fn overlay(&self) -> SocketAddr {
        (self.ip, 7443).into()
    }

    /// The address of metrics and readiness.
    pub fn telemetry(&self) -> SocketAddr {
        (self.ip, 7446).into()
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

    /// Starts another process with the same arguments beside this one, which does not end by that.
    pub fn start_next(&self) -> Process {
        self.mesh.process(self.process.name(), &self.args)
    }

    /// Replaces it by another process that takes its listeners over, waits until that has done so, and returns the old one, which
    /// drains.
    #[track_caller]
    pub fn succeed(&mut self) -> Process {
        let said = "took over; the process before drains";
        // both say what they say in one log
        let before = self.process.log().matches(said).count();
        let next = self.start_next();
        let old = std::mem::replace(&mut self.process, next);
        let what = format!("{} takes over", self.process.name());
        wait_until(SOON, &what, || {
            self.process.assert_running();
            self.process.log().matches(said).count() > before
        });
        old
    }

    /// Waits until it says that it is ready.
    #[track_caller]
    pub fn wait_ready(&mut self) {
        let (telemetry, what) = (self.telemetry(), format!("{} is ready", self.process.name()));
        wait_until(SOON, &what, || {
            self.process.assert_running();
            get(telemetry, "/ready").is_ok_and(|answer| answer.status == 200)
        });
    }
}
