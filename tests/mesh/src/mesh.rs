//! A mesh of its own for one test: a folder, CLI contexts, and the operator's commands.

use crate::process::{Process, command};
use crate::{Cluster, ClusterBuilder, SOON, SidecarBuilder, wait_for};
use serde_json::Value;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tempfile::TempDir;

/// How long a command of the operator may take.
const COMMAND: Duration = Duration::from_secs(60);

/// What a command said and how it ended.
#[derive(Clone, Debug)]
pub struct Ran {
    /// The command line.
    pub line: String,
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ran {
    /// Its standard output without the last line end; panics if it failed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{} failed:\n{}{}", self.line, self.stdout, self.stderr);
        self.stdout.trim_end().to_owned()
    }

    /// Its standard error; panics if it did not fail, panicked itself, or if the error does not have each of `parts`.
    #[track_caller]
    pub fn refused(self, parts: &[&str]) -> String {
        assert!(
            matches!(self.code, Some(1 | 2)),
            "{} ended with {:?}:\n{}",
            self.line,
            self.code,
            self.stderr
        );
        assert!(!self.stderr.contains("panicked"), "{}:\n{}", self.line, self.stderr);
        for part in parts {
            assert!(self.stderr.contains(part), "{}: {part:?} is not in\n{}", self.line, self.stderr);
        }
        // `cargo test -- --show-output` shows what operators are told
        println!("$ {}\n{}", self.line, self.stderr);
        self.stderr
    }
}

/// The folder of one test, and what is run in it. Clones share it; the last one removes it.
#[derive(Clone, Debug)]
pub struct Mesh {
    dir: Arc<TempDir>,
    commands: Arc<AtomicU32>,
}

impl Mesh {
    /// A mesh without clusters; `name` is the test's.
    pub fn new(name: &str) -> Self {
        let dir = tempfile::Builder::new()
            .prefix(&format!("causeway-{name}-"))
            .tempdir()
            .expect("a temporary folder");
        Self { dir: Arc::new(dir), commands: Arc::default() }
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The path `name` in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    /// Runs `causeway ARGS` to its end; panics when that takes longer than a minute.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Ran {
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        let line = format!("causeway {}", args.join(" "));
        let number = self.commands.fetch_add(1, Ordering::Relaxed);
        let paths = ["out", "err"].map(|kind| self.path(&format!("command-{number}.{kind}")));
        let [stdout, stderr] = paths.each_ref().map(|path| File::create(path).expect("a file for output"));
        let mut child =
            command(self.dir(), &args).stdout(stdout).stderr(stderr).spawn().expect("the binary starts");
        let began = std::time::Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                break status;
            }
            if began.elapsed() > COMMAND {
                child.kill().expect("a child can be killed");
                child.wait().expect("a killed child ends");
                let [stdout, stderr] = paths.map(|path| fs::read_to_string(path).unwrap_or_default());
                panic!("{line} did not end within {COMMAND:?}:\n{stdout}{stderr}");
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let [stdout, stderr] = paths.map(|path| fs::read_to_string(path).expect("output is text"));
        Ran { line, code: status.code(), stdout, stderr }
    }

    /// Runs `causeway ARGS`, which must succeed, and returns its standard output.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        self.run(args).ok()
    }

    /// What `causeway ARGS -o json` says.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        let all: Vec<&str> = args.iter().copied().chain(["-o", "json"]).collect();
        serde_json::from_str(&self.ok(&all)).expect("the output is JSON")
    }

    /// The gateways as the one of `context` lists them; nothing while none answers.
    #[track_caller]
    pub fn gateways(&self, context: &str) -> Vec<Value> {
        let listed = self.run(&["gateways", "--context", context, "-o", "json"]);
        if listed.code == Some(0) {
            serde_json::from_str(&listed.stdout).expect("the output is JSON")
        } else {
            Vec::new()
        }
    }

    /// Waits until one gateway leads and `voters - 1` more vote, as the gateway of `context` sees it, and returns the list.
    #[track_caller]
    pub fn wait_voters(&self, context: &str, voters: usize) -> Vec<Value> {
        let what = format!("{context} sees a leader and {} more voters", voters - 1);
        let count = |all: &[Value], part: &str| all.iter().filter(|row| row["registry"] == part).count();
        let look = || {
            let all = self.gateways(context);
            (count(&all, "leader") == 1 && count(&all, "voter") == voters - 1).then_some(all)
        };
        wait_for(SOON, &what, look).0
    }

    /// A cluster to be started.
    pub fn cluster(&self, name: &str) -> ClusterBuilder {
        ClusterBuilder::new(self, name)
    }

    /// Clusters `iad` and `phx` with `gateways` gateways each, linked.
    #[track_caller]
    pub fn pair(&self, gateways: usize) -> (Cluster, Cluster) {
        let iad = self.cluster("iad").gateways(gateways).start();
        let phx = self.cluster("phx").gateways(gateways).start();
        self.link(&iad, &phx);
        (iad, phx)
    }

    /// Links two clusters by a token that `a` makes and `b` accepts, and waits until both say that the link is up.
    #[track_caller]
    pub fn link(&self, a: &Cluster, b: &Cluster) {
        let token = self.ok(&["link", "invite", "--for", b.name(), "--context", a.name()]);
        self.ok(&["link", "accept", &token, "--context", b.name()]);
        for (at, to) in [(a, b), (b, a)] {
            wait_for(SOON, &format!("the link of {} to {} is up", at.name(), to.name()), || {
                let link = self.json(&["link", "show", to.name(), "--context", at.name()]);
                (link["state"] == "up").then_some(())
            });
        }
    }

    /// Waits until cluster `at` sees `healthy` endpoints of `service` in cluster `of`, and returns that offer.
    #[track_caller]
    pub fn wait_offer(&self, at: &str, service: &str, of: &str, healthy: u64) -> Value {
        let what = format!("{at} sees {healthy} healthy endpoints of {service} in {of}");
        wait_for(SOON, &what, || {
            let page = self.json(&["services", service, "--context", at]);
            let offers = page["services"][0]["offers"].as_array().cloned().unwrap_or_default();
            offers.into_iter().find(|offer| offer["cluster"] == of && offer["healthy"] == healthy)
        })
        .0
    }

    /// A sidecar called `name` in `cluster`, to be started.
    pub fn sidecar(&self, cluster: &Cluster, name: &str) -> SidecarBuilder {
        SidecarBuilder::new(self, cluster.name(), name)
    }

    /// The arguments of a gateway that would be the first of cluster `name`, with the data directory `NAME-data`.
    pub fn gateway_args(&self, name: &str, ip: Ipv4Addr) -> Vec<String> {
        let data = self.path(&format!("{name}-data"));
        let args = [
            ("--cluster", name.to_owned()),
            ("--region", region(name).to_owned()),
            ("--zone", "AD-1".to_owned()),
            ("--data-dir", data.display().to_string()),
            ("--listen", format!("{ip}:7443")),
            ("--admin", format!("{ip}:7444")),
            ("--telemetry", format!("{ip}:7445")),
        ];
        std::iter::once("gateway".to_owned())
            .chain(args.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]))
            .collect()
    }

    /// Starts a process in this mesh's folder.
    pub fn process(&self, name: &str, args: &[String]) -> Process {
        Process::start(self.dir(), name, args)
    }
}

/// The region in which a cluster of this name runs.
pub(crate) fn region(cluster: &str) -> &'static str {
    match cluster {
        "iad" => "us-ashburn-1",
        "phx" => "us-phoenix-1",
        _ => "eu-frankfurt-1",
    }
}
