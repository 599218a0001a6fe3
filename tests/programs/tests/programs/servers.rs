//! The servers of the host `server`, as they come from their packages: they listen on loopback, and nothing tells them of a mesh.

use crate::accounts::{APPLICATION, Account, has};
use crate::mesh::{Clusters, lend};
use causeway_test_mesh::{Process, SOON, Service, wait_until};
use rustix::process::Signal;
use std::fs::{self, Permissions};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The password of the database.
pub(crate) const PASSWORD: &str = "not-for-the-mesh";
/// What is served: by which program, as which service ports, and where it listens.
const PORTS: [(Program, &[&str], u16); 7] = [
    (Program::Curl, &["web.shop:80"], 8000),
    (Program::Redis, &["cache.shop:6379"], 6379),
    (Program::Postgres, &["db.shop:5432"], 5432),
    (Program::Iperf, &["perf.shop:5201", "perf.shop:5201/udp"], 5201),
    (Program::Ssh, &["host.ops:22"], 2200),
    (Program::Websocket, &["chat.shop:8081"], 8081),
    (Program::Datagrams, &["voice.media:4000/udp"], 4000),
];

/// What is tested, by its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    Curl,
    Redis,
    Postgres,
    Iperf,
    Ssh,
    Websocket,
    Datagrams,
}

impl Program {
    /// What it needs of this machine.
    fn needs(self) -> &'static [&'static str] {
        match self {
            Self::Curl => &["curl"],
            Self::Redis => &["redis-server", "redis-cli"],
            Self::Postgres => &["psql"],
            Self::Iperf => &["iperf3"],
            Self::Ssh => &["ssh", "sshd", "ssh-keygen"],
            Self::Websocket | Self::Datagrams => &[],
        }
    }
}

/// The servers that this machine has. They end with this.
pub(crate) struct Servers {
    pub(crate) programs: Vec<Program>,
    /// The client and server that belong to these tests, where applications find them.
    pub(crate) own: PathBuf,
    processes: Vec<Process>,
    database: Option<Process>,
    _web: Service,
}

impl Servers {
    /// Starts them. `test` is the name under which what is missing is skipped.
    #[track_caller]
    pub(crate) fn start(clusters: &Clusters, test: &str) -> Self {
        let own = lend(
            Path::new(env!("CARGO_BIN_EXE_causeway-test-application")),
            &clusters.mesh.path("application"),
        );
        clusters.network.hosts.enter("server");
        let web = Service::http_at(listen(Program::Curl), "web");
        let all = PORTS.iter().map(|(program, ..)| *program);
        let there = |program: &Program| {
            let part = format!("programs::{test}::{program:?}");
            program.needs().iter().all(|tool| has(tool, &part))
                && (*program != Program::Postgres || initdb().is_some() || has("initdb", &part))
        };
        let programs: Vec<Program> = all.filter(there).collect();
        let mut servers = Self { programs, own, processes: Vec::new(), database: None, _web: web };
        servers.start_all(clusters);
        for program in &servers.programs {
            if *program != Program::Datagrams {
                let addr = listen(*program);
                wait_until(SOON, &format!("{program:?} listens"), || TcpStream::connect(addr).is_ok());
            }
        }
        servers
    }

    /// The flags of a sidecar that serves them.
    pub(crate) fn flags(&self) -> Vec<String> {
        let served = PORTS.iter().filter(|(program, ..)| self.programs.contains(program));
        served
            .flat_map(|(_, ports, at)| ports.iter().map(move |port| format!("{port}=127.0.0.1:{at}")))
            .flat_map(|served| ["--serve".to_owned(), served])
            .collect()
    }

    /// Their services.
    pub(crate) fn services(&self) -> Vec<&'static str> {
        let served = PORTS.iter().filter(|(program, ..)| self.programs.contains(program));
        served.map(|(_, ports, _)| ports[0].split(':').next().expect("a name")).collect()
    }

    fn start_all(&mut self, clusters: &Clusters) {
        let home = clusters.folder("server", APPLICATION);
        let (home, own) = (home.display().to_string(), self.own.display().to_string());
        for program in self.programs.clone() {
            let at = listen(program);
            let (account, line) = match program {
                Program::Curl => continue,
                Program::Postgres => {
                    self.database = Some(database(clusters, &home, at));
                    continue;
                }
                Program::Redis => (
                    Account::User(APPLICATION),
                    format!(
                        "redis-server --bind 127.0.0.1 --protected-mode no --port {} --save '' --dir {home}",
                        at.port()
                    ),
                ),
                Program::Iperf => (
                    Account::User(APPLICATION),
                    format!("iperf3 --server --bind 127.0.0.1 --port {}", at.port()),
                ),
                Program::Ssh => (Account::Root, sshd(clusters, at)),
                Program::Websocket => (Account::User(APPLICATION), format!("{own} websocket-server {at}")),
                Program::Datagrams => (Account::User(APPLICATION), format!("{own} datagrams-echo {at}")),
            };
            self.processes.push(spawn(clusters, &format!("{program:?}"), account, &line));
        }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        // a database that is killed leaves its shared memory behind
        if let Some(database) = &mut self.database {
            if database.exit().is_none() {
                database.signal(Signal::QUIT);
            }
            let began = Instant::now();
            while database.exit().is_none() && began.elapsed() < Duration::from_secs(5) {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

/// Where a program listens.
fn listen(program: Program) -> SocketAddr {
    let (.., port) =
        PORTS.iter().find(|(known, ..)| *known == program).expect("every program is in the table");
    ([127, 0, 0, 1], *port).into()
}

fn spawn(clusters: &Clusters, name: &str, account: Account, line: &str) -> Process {
    let prefix = account.prefix(&clusters.network.hosts.name("server"));
    Process::shell(clusters.mesh.dir(), name, &format!("exec {prefix} {line}"))
}

/// Debian keeps it out of the path.
fn initdb() -> Option<PathBuf> {
    let releases = fs::read_dir("/usr/lib/postgresql").ok()?;
    releases.filter_map(|release| Some(release.ok()?.path().join("bin/initdb"))).find(|path| path.exists())
}

/// A database that asks every client for its password.
fn database(clusters: &Clusters, home: &str, at: SocketAddr) -> Process {
    let bin =
        initdb().map(|path| format!("{}/", path.parent().expect("a folder").display())).unwrap_or_default();
    let (data, word) = (format!("{home}/db"), format!("{home}/password"));
    fs::write(&word, PASSWORD).unwrap();
    fs::set_permissions(&word, Permissions::from_mode(0o644)).unwrap();
    let account = Account::User(APPLICATION);
    let made = format!(
        "{bin}initdb --pgdata {data} --username app --auth scram-sha-256 --pwfile {word} --no-sync --no-locale --encoding UTF8"
    );
    clusters.run("server", account, &made).ok();
    // that host rule of a usual set-up: everybody who knows the password
    fs::write(format!("{data}/pg_hba.conf"), "host all all all scram-sha-256\n").unwrap();
    let line = format!(
        "{bin}postgres -D {data} -p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off",
        at.port()
    );
    spawn(clusters, "Postgres", account, &line)
}

/// The client's key, which the server takes.
pub(crate) fn key(clusters: &Clusters) -> PathBuf {
    clusters.folder("client", APPLICATION).join("id")
}

/// The command line of an SSH server with a key of its own, which takes the client's.
fn sshd(clusters: &Clusters, at: SocketAddr) -> String {
    let (own, client) = (clusters.mesh.path("sshd-key"), key(clusters));
    for path in [&own, &client] {
        let line = format!("ssh-keygen -q -t ed25519 -N '' -f {}", path.display());
        clusters.run("server", Account::Root, &line).ok();
    }
    let public = format!("{}.pub", client.display());
    chown(&client, Some(APPLICATION), Some(APPLICATION)).unwrap();
    // where it puts those that are not logged in yet
    fs::create_dir_all("/run/sshd").unwrap();
    format!(
        "$(command -v sshd) -D -e -f /dev/null -p {} -o ListenAddress=127.0.0.1 -o HostKey={} -o AuthorizedKeysFile={public} \
         -o StrictModes=no -o PidFile=none -o PasswordAuthentication=no -o PermitRootLogin=prohibit-password",
        at.port(),
        own.display()
    )
}
