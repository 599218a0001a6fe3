//! One gateway of a fleet: its process, its admin API, the relays that others reach it through.

use crate::admin::Admin;
use crate::disk::SmallDisk;
use crate::relays::{Lossy, Relays, lose};
use causeway_test_mesh::{Mesh, Process, SOON, get, wait_until};
use rustix::process::Signal;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// A gateway.
#[derive(Debug)]
pub struct Member {
    mesh: Mesh,
    /// The address of all of its ports.
    pub ip: Ipv4Addr,
    /// The CLI context that leads to it.
    pub context: String,
    /// Its data directory.
    pub data_dir: PathBuf,
    /// Its disk, if it has one of its own.
    pub disk: Option<SmallDisk>,
    /// The relays that packets to it pass, if there are any.
    relays: Option<Relays>,
    pub(crate) args: Vec<String>,
    /// The process.
    pub process: Process,
    admin: Option<Admin>,
    node: String,
}

impl Member {
    pub(crate) fn start(mesh: &Mesh, start: Start) -> Self {
        let process = mesh.process(&start.name, &start.args);
        Self {
            mesh: mesh.clone(),
            ip: start.ip,
            context: start.context,
            data_dir: start.data_dir,
            disk: start.disk,
            relays: start.relays,
            args: start.args,
            process,
            admin: None,
            node: String::new(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.process.name()
    }

    /// Its node id in the cluster.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Its admin API.
    pub fn admin(&self) -> &Admin {
        self.admin.as_ref().expect("a gateway that was ready once")
    }

    /// Whether the process runs and is not stopped by a signal.
    pub fn runs(&mut self) -> bool {
        self.process.exit().is_none() && !self.is_stopped()
    }

    /// Whether a signal has stopped it.
    fn is_stopped(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.pid())).unwrap_or_default();
        // PID (NAME) STATE ...
        stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('T'))
    }

    /// SIGSTOP.
    pub fn stop(&self) {
        self.process.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn go_on(&self) {
        self.process.signal(Signal::CONT);
    }

    /// Loses packets between it and gateways of linked clusters that dial it.
    pub(crate) fn lose_far(&self, lossy: Lossy) {
        self.relays.iter().for_each(|relays| lose(&relays.far, lossy));
    }

    /// Loses packets between it and the gateways and sidecars of its own cluster that dial it.
    pub(crate) fn lose_near(&self, lossy: Lossy) {
        self.relays.iter().for_each(|relays| lose(&relays.near, lossy));
    }

    /// Starts it again with the same arguments, after it has ended or been killed; waits for nothing.
    pub fn restart(&mut self) {
        let name = self.name().to_owned();
        self.process.kill();
        self.process = self.mesh.process(&name, &self.args);
    }

    /// Waits until it says that it is ready and its admin API can be asked.
    #[track_caller]
    pub fn wait_ready(&mut self) {
        let (telemetry, name): (SocketAddr, _) = ((self.ip, 7445).into(), self.name().to_owned());
        let context = self.mesh.path(&format!("contexts/{}.toml", self.context));
        wait_until(SOON, &format!("{name} is ready"), || {
            self.process.assert_running();
            context.exists() && get(telemetry, "/ready").is_ok_and(|answer| answer.status == 200)
        });
        let admin = Admin::of(&name, &context);
        wait_until(SOON, &format!("{name} says its node id"), || {
            let status = admin.get("/v1/status");
            let crate::Answer::Done(status) = status else { return false };
            self.node = status["node"].as_str().unwrap_or_default().to_owned();
            !self.node.is_empty()
        });
        self.admin = Some(admin);
    }

    /// Waits until it ends by itself because something is wrong, and returns what it said since its last start.
    #[track_caller]
    pub fn wait_refusal(&mut self, within: Duration, said_before: usize) -> String {
        let exit = self.process.wait_exit(within);
        let said = self.process.log()[said_before..].to_owned();
        assert!(!exit.success(), "{} ended well: {exit:?}\n{said}", self.name());
        assert!(!said.contains("panicked"), "{}:\n{said}", self.name());
        said
    }

    /// How much it has said so far, in bytes.
    pub fn said(&self) -> usize {
        self.process.log().len()
    }
}

/// What a gateway is started with.
pub(crate) struct Start {
    pub(crate) name: String,
    pub(crate) ip: Ipv4Addr,
    pub(crate) context: String,
    pub(crate) data_dir: PathBuf,
    pub(crate) disk: Option<SmallDisk>,
    pub(crate) relays: Option<Relays>,
    pub(crate) args: Vec<String>,
}
