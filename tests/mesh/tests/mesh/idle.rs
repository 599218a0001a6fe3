//! What connections cost a sidecar: those that are open and say nothing, and those that are over.

use causeway_runtime::limits::raise_nofile;
use causeway_test_mesh::{Cluster, Mesh, Process, SOON, Sidecar, skip, wait_for, wait_until};
use rustix::process::{Resource, getrlimit};
use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// The file in which the application of these tests says where it listens, by this variable.
const APPLICATION: &str = "CAUSEWAY_TEST_APPLICATION";
/// How many connections are made at once.
const AT_ONCE: usize = 32;
/// How long all of them may take together.
const ALL: Duration = Duration::from_secs(300);
/// What sidecars, the test and its application may have open besides connections.
const SPARE: u64 = 500;

/// How many connections, and what they may cost.
struct Measure {
    idle: usize,
    /// Bytes for each at each sidecar.
    each: u64,
    warm_up: usize,
    sequential: usize,
    /// What all that are over may cost a sidecar together, in bytes.
    grown: u64,
}

/// With binaries that are not optimised, beside other tests; a few connections say little about one.
const SMALL: Measure = Measure { idle: 400, each: 20 << 10, warm_up: 300, sequential: 600, grown: 3 << 20 };
/// With `CAUSEWAY_SLOW=1`, for optimised binaries.
const LARGE: Measure =
    Measure { idle: 10_000, each: 8 << 10, warm_up: 5_000, sequential: 50_000, grown: 2 << 20 };

impl Measure {
    fn usual() -> Self {
        if std::env::var("CAUSEWAY_SLOW").as_deref() == Ok("1") { LARGE } else { SMALL }
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Not a test: the application of the tests below, in a process of its own, because the descriptors of its connections are as many as
/// those of the test.
#[test]
#[ignore = "the application of other tests"]
fn application() {
    let Some(file) = std::env::var_os(APPLICATION) else { return };
    raise_nofile().unwrap();
    runtime().block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (text, part) =
            (listener.local_addr().unwrap().to_string(), std::path::Path::new(&file).with_extension("part"));
        fs::write(&part, text).unwrap();
        fs::rename(part, file).unwrap();
        loop {
            let (mut tcp, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut heard = [0; 4];
                while tcp.read_exact(&mut heard).await.is_ok() && tcp.write_all(&heard).await.is_ok() {}
            });
        }
    });
}

/// A caller and who it calls, which reach each other directly.
struct Pair {
    web: Sidecar,
    pay: Sidecar,
    _application: Process,
    _iad: Cluster,
    _mesh: Mesh,
}

impl Pair {
    fn start(name: &str) -> Self {
        let mesh = Mesh::new(name);
        let (file, limits) = (mesh.path("application"), mesh.path("limits.toml"));
        let own = std::env::current_exe().unwrap();
        let line = format!(
            "{APPLICATION}={} exec {} --ignored --exact idle::application",
            file.display(),
            own.display()
        );
        let application = Process::shell(mesh.dir(), "application", &line);
        fs::write(&limits, "[limits]\nmax-connections = 12000\nmax-streams-per-peer = 12000\n").unwrap();
        let at = wait_for(SOON, "the application listens", || fs::read_to_string(&file).ok()).0;
        let iad = mesh.cluster("iad").start();
        let limits = limits.to_str().unwrap();
        let pay = mesh.sidecar(&iad, "pay").serve("payments.shop:80", at.parse().unwrap());
        // which is less than they need: they raise it
        let pay = pay.flag("--config", limits).descriptors("-Sn 256").start();
        let web = mesh.sidecar(&iad, "web").listen("payments.shop:80");
        let web = web.flag("--config", limits).descriptors("-Sn 256").start();
        Self { web, pay, _application: application, _iad: iad, _mesh: mesh }
    }

    fn addr(&self) -> SocketAddr {
        self.web.addr("payments.shop:80")
    }

    fn sidecars(&self) -> [(&Sidecar, &'static str); 2] {
        [(&self.web, "outbound"), (&self.pay, "inbound")]
    }

    /// Waits until both carry `count` connections.
    #[track_caller]
    fn wait_open(&self, count: usize) {
        for (sidecar, direction) in self.sidecars() {
            let label = format!("direction=\"{direction}\"");
            let open = || sidecar.scrape().sum("causeway_sidecar_connections_open", &label) == count as f64;
            wait_until(SOON, &format!("{count} connections are open, {direction}"), open);
        }
    }

    fn resident(&self) -> [u64; 2] {
        self.sidecars().map(|(sidecar, _)| sidecar.process.resident())
    }

    fn descriptors(&self) -> [usize; 2] {
        self.sidecars().map(|(sidecar, _)| {
            let path = format!("/proc/{}/fd", sidecar.process.pid());
            fs::read_dir(path).expect("a running process").count()
        })
    }
}

/// Makes `count` connections and says something on each.
async fn connect(addr: SocketAddr, count: usize) -> Vec<TcpStream> {
    let (mut open, mut made, mut making) = (Vec::with_capacity(count), 0, JoinSet::new());
    while open.len() < count {
        while made < count && making.len() < AT_ONCE {
            making.spawn(echoing(addr));
            made += 1;
        }
        open.push(making.join_next().await.unwrap().unwrap());
    }
    open
}

async fn echoing(addr: SocketAddr) -> TcpStream {
    let mut tcp = TcpStream::connect(addr).await.unwrap();
    echo(&mut tcp).await;
    tcp
}

async fn echo(tcp: &mut TcpStream) {
    tcp.write_all(b"ping").await.unwrap();
    let mut heard = [0; 4];
    tcp.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"ping");
}

/// Makes `count` connections, one after the other.
async fn one_after_another(addr: SocketAddr, count: usize) {
    for _ in 0..count {
        let mut tcp = echoing(addr).await;
        tcp.shutdown().await.unwrap();
        assert_eq!(tcp.read(&mut [0]).await.unwrap(), 0, "the end of a connection");
    }
}

/// Whether so many connections can be made here, with what that would need otherwise.
fn room_for(name: &str, idle: usize) -> bool {
    raise_nofile().unwrap();
    let (limit, wanted) = (getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX), idle as u64 + SPARE);
    if limit < wanted {
        skip(name, &format!("{idle} connections need {wanted} descriptors, a process may have {limit}"));
    }
    limit >= wanted
}

#[test]
fn an_idle_connection_costs_little_memory() {
    let measure = Measure::usual();
    if !room_for("idle::an_idle_connection_costs_little_memory", measure.idle) {
        return;
    }
    let (pair, runtime) = (Pair::start("idle"), runtime());
    wait_until(SOON, "the first connection", || crate::traffic::echoes(pair.addr()));
    runtime.block_on(one_after_another(pair.addr(), measure.warm_up / 10));
    pair.wait_open(0);
    let before = pair.resident();
    let began = Instant::now();
    let connecting = async { tokio::time::timeout(ALL, connect(pair.addr(), measure.idle)).await.unwrap() };
    let mut open = runtime.block_on(connecting);
    println!("{} connections in {:?}", measure.idle, began.elapsed());
    pair.wait_open(measure.idle);
    let after = pair.resident();
    for (((sidecar, direction), before), after) in pair.sidecars().into_iter().zip(before).zip(after) {
        let each = after.saturating_sub(before) / measure.idle as u64;
        let name = sidecar.process.name();
        println!(
            "{name}, {direction}: {} KiB before, {} KiB with all, {each} bytes for each",
            before >> 10,
            after >> 10
        );
        assert!(each < measure.each, "{name}: {each} bytes for each of {} connections", measure.idle);
    }
    // they are alive, and none was lost
    runtime.block_on(async {
        for tcp in &mut open {
            echo(tcp).await;
        }
    });
    drop(open);
    pair.wait_open(0);
}

#[test]
fn connections_that_are_over_leave_nothing_behind() {
    let measure = Measure::usual();
    let (pair, runtime) = (Pair::start("over"), runtime());
    wait_until(SOON, "the first connection", || crate::traffic::echoes(pair.addr()));
    runtime.block_on(one_after_another(pair.addr(), measure.warm_up));
    pair.wait_open(0);
    let (memory, descriptors) = (pair.resident(), pair.descriptors());
    let began = Instant::now();
    runtime.block_on(one_after_another(pair.addr(), measure.sequential));
    println!("{} connections, one after the other, in {:?}", measure.sequential, began.elapsed());
    pair.wait_open(0);
    // a scrape is a connection, too: of each sidecar at most one is still open
    let left = || pair.descriptors().into_iter().zip(descriptors).all(|(now, before)| now <= before + 1);
    wait_until(SOON, "all descriptors are closed", left);
    println!("descriptors: {descriptors:?} before, {:?} after", pair.descriptors());
    for (((sidecar, _), before), after) in pair.sidecars().into_iter().zip(memory).zip(pair.resident()) {
        let name = sidecar.process.name();
        println!("{name}: {} KiB before, {} KiB after", before >> 10, after >> 10);
        assert!(after < before + measure.grown, "{name} has grown from {before} to {after} bytes");
    }
}
