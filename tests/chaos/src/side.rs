//! A sidecar that can be killed and started again.

use crate::fleet::Fleet;
use causeway_test_mesh::{Mesh, Process, SOON, get, loopback, wait_until};
use serde_json::json;
use std::net::{Ipv4Addr, SocketAddr};

/// Where the first `--listen` address is; the others follow.
const FIRST_LISTEN: u16 = 8080;

/// A sidecar to be started.
#[derive(Debug)]
pub struct SideBuilder<'a> {
    fleet: &'a mut Fleet,
    name: String,
    serve: Vec<(String, SocketAddr)>,
    listen: Vec<String>,
}

impl SideBuilder<'_> {
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

    /// Starts it and waits until it is ready.
    #[track_caller]
    pub fn start(self) -> Side {
        let (mesh, ip) = (self.fleet.mesh().clone(), loopback());
        let services: Vec<&String> = self.serve.iter().map(|(service, _)| service).collect();
        let account = (services.is_empty()).then_some(&self.name);
        let wanted = json!({"role": "workload", "services": services, "account": account});
        let made = self.fleet.ask("a token for a workload", |admin| admin.post("/v1/tokens", &wanted));
        let name = format!("{}-{}", self.fleet.name(), self.name);
        let mut args = vec!["sidecar".to_owned()];
        let mut flag = |flag: &str, value: String| args.extend([flag.to_owned(), value]);
        flag("--token", made["token"].as_str().expect("a token").to_owned());
        flag("--state-dir", mesh.path(&format!("{name}-state")).display().to_string());
        flag("--overlay", format!("{ip}:7443"));
        flag("--telemetry", format!("{ip}:7446"));
        for (service, upstream) in &self.serve {
            flag("--serve", format!("{service}={upstream}"));
        }
        for (port, service) in (FIRST_LISTEN..).zip(&self.listen) {
            flag("--listen", format!("{ip}:{port}={service}"));
        }
        let process = mesh.process(&name, &args);
        let mut side = Side { mesh, ip, listen: self.listen, args, process };
        side.wait_ready();
        side
    }
}

/// A running sidecar. It is killed when this is dropped.
#[derive(Debug)]
pub struct Side {
    mesh: Mesh,
    ip: Ipv4Addr,
    listen: Vec<String>,
    args: Vec<String>,
    /// The process.
    pub process: Process,
}

impl Side {
    /// A sidecar called `name` in `fleet`, to be started.
    pub fn builder<'a>(fleet: &'a mut Fleet, name: &str) -> SideBuilder<'a> {
        SideBuilder { fleet, name: name.to_owned(), serve: Vec::new(), listen: Vec::new() }
    }

    /// The address that leads to a service port.
    #[track_caller]
    pub fn addr(&self, service: &str) -> SocketAddr {
        let place = self.listen.iter().position(|name| name == service).expect("it listens for that service");
        (self.ip, FIRST_LISTEN + u16::try_from(place).expect("few listeners")).into()
    }

    /// Starts it again with the same arguments; waits for nothing.
    pub fn restart(&mut self) {
        let name = self.process.name().to_owned();
        self.process.kill();
        self.process = self.mesh.process(&name, &self.args);
    }

    /// Waits until it says that it is ready.
    #[track_caller]
    pub fn wait_ready(&mut self) {
        let (telemetry, what): (SocketAddr, _) =
            ((self.ip, 7446).into(), format!("{} is ready", self.process.name()));
        wait_until(SOON, &what, || {
            self.process.assert_running();
            get(telemetry, "/ready").is_ok_and(|answer| answer.status == 200)
        });
    }
}
