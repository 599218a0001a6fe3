//! Gateways are killed under connections and flows that live long: none of them breaks, nothing is lost of what connections carry.

use crate::traffic::SLOWEST;
use causeway_runtime::limits::raise_nofile;
use causeway_test_mesh::{Mesh, SOON, Service, Sidecar, wait_until};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// What a connection or a flow says at a time, in bytes.
const SIZE: usize = 600;
/// How long it then says nothing.
const PAUSE: Duration = Duration::from_millis(250);
/// How long a flow waits for an answer: what is lost stays lost.
const ANSWER: Duration = Duration::from_millis(500);

/// Connections, and flows: what two cores do with binaries that are not optimised, and beside other tests.
const FEW: (usize, usize) = (100, 20);
/// The same with `CAUSEWAY_SLOW=1`.
const MANY: (usize, usize) = (1_000, 200);

/// One connection or flow, as others see it.
#[derive(Default)]
struct Seen {
    /// How often it heard what it had said.
    answers: AtomicU64,
    /// The longest time until it did, in microseconds.
    slowest: AtomicU64,
}

impl Seen {
    fn answered(&self, after: Duration) {
        self.slowest.fetch_max(after.as_micros().try_into().unwrap(), Ordering::Relaxed);
        self.answers.fetch_add(1, Ordering::Relaxed);
    }
}

/// Connections and flows that say something again and again, and hear it.
struct Talks {
    runtime: Runtime,
    stop: watch::Sender<bool>,
    seen: Vec<Arc<Seen>>,
    streams: Vec<JoinHandle<io::Result<u64>>>,
    flows: Vec<JoinHandle<io::Result<()>>>,
}

impl Talks {
    fn start((streams, tcp): (usize, SocketAddr), (flows, udp): (usize, SocketAddr)) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let seen: Vec<Arc<Seen>> = (0..streams + flows).map(|_| Arc::default()).collect();
        let stop = watch::Sender::new(false);
        let of = |at: usize| (at as u64, seen[at].clone(), stop.subscribe());
        let streams = (0..streams).map(|at| runtime.spawn(stream(tcp, of(at)))).collect::<Vec<_>>();
        let flows = (streams.len()..seen.len()).map(|at| runtime.spawn(flow(udp, of(at)))).collect();
        Self { runtime, stop, seen, streams, flows }
    }

    /// Waits until each of them has said something from now on, and heard it.
    #[track_caller]
    fn go_on(&self, what: &str) {
        let answers = || self.seen.iter().map(|seen| seen.answers.load(Ordering::Relaxed));
        // the first answer may be to what was said before
        let goals: Vec<u64> = answers().map(|count| count + 2).collect();
        let behind = || answers().zip(&goals).filter(|(count, goal)| count < goal).count();
        let ended = || {
            self.streams.iter().any(JoinHandle::is_finished) || self.flows.iter().any(JoinHandle::is_finished)
        };
        wait_until(SOON, &format!("all go on after {what}"), || {
            assert!(!ended(), "{what}: one has ended, {} are behind", behind());
            behind() == 0
        });
    }

    /// The longest that a connection or a flow waited for an answer since this was last asked.
    fn slowest(&self) -> Duration {
        let slowest = self.seen.iter().map(|seen| seen.slowest.swap(0, Ordering::Relaxed));
        Duration::from_micros(slowest.max().unwrap_or(0))
    }

    /// Ends them, and says how many bytes the connections carried each way; panics if one broke.
    #[track_caller]
    fn end_well(self) -> u64 {
        self.stop.send_replace(true);
        let mut carried = 0;
        for (at, task) in self.streams.into_iter().enumerate() {
            carried += self
                .runtime
                .block_on(task)
                .unwrap()
                .unwrap_or_else(|error| panic!("connection {at}: {error}"));
        }
        for (at, task) in self.flows.into_iter().enumerate() {
            self.runtime.block_on(task).unwrap().unwrap_or_else(|error| panic!("flow {at}: {error}"));
        }
        carried
    }
}

/// What number `id` says after `said` bytes.
fn words(id: u64, said: u64) -> Vec<u8> {
    let mut state = id.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ said;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..SIZE).map(|_| next()).collect()
}

fn other(what: &str) -> io::Error {
    io::Error::other(what.to_owned())
}

async fn stream(
    addr: SocketAddr,
    (id, seen, stop): (u64, Arc<Seen>, watch::Receiver<bool>),
) -> io::Result<u64> {
    let mut tcp = TcpStream::connect(addr).await?;
    let (mut said, mut heard) = (0, [0; SIZE]);
    while !*stop.borrow() {
        let (words, began) = (words(id, said), Instant::now());
        tcp.write_all(&words).await?;
        tcp.read_exact(&mut heard).await?;
        if words != heard {
            return Err(other("it heard something else than it said"));
        }
        said += SIZE as u64;
        seen.answered(began.elapsed());
        sleep(PAUSE).await;
    }
    tcp.shutdown().await?;
    match tcp.read(&mut heard).await? {
        0 => Ok(said),
        _ => Err(other("it heard more than it said")),
    }
}

async fn flow(addr: SocketAddr, (id, seen, stop): (u64, Arc<Seen>, watch::Receiver<bool>)) -> io::Result<()> {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await?;
    socket.connect(addr).await?;
    let (mut said, mut heard) = (0, [0; SIZE + 1]);
    while !*stop.borrow() {
        let (words, began) = (words(id, said), Instant::now());
        socket.send(&words).await?;
        said += SIZE as u64;
        let answer = async {
            loop {
                let length = socket.recv(&mut heard).await?;
                // an earlier one may have come late
                if heard[..length] == words[..] {
                    return io::Result::Ok(());
                }
            }
        };
        if let Ok(answer) = timeout(ANSWER, answer).await {
            answer?;
            seen.answered(began.elapsed());
        }
        sleep(PAUSE).await;
    }
    Ok(())
}

/// An application that sends each datagram back. It ends with the process.
fn echo_datagrams() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        loop {
            match socket.recv_from(&mut buffer) {
                Ok((length, from)) => drop(socket.send_to(&buffer[..length], from)),
                // what was sent to a flow that has ended is refused
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(error) => panic!("an application cannot receive: {error}"),
            }
        }
    });
    addr
}

/// How many connections of `sidecar` ended otherwise than they should.
fn broken(sidecar: &Sidecar) -> f64 {
    let scrape = sidecar.scrape();
    let outcomes = |reason| scrape.sum("causeway_sidecar_outcomes_total", reason);
    outcomes("") - outcomes("reason=\"done\"")
}

#[test]
fn gateways_that_are_killed_one_after_another_break_no_connection_and_no_flow() {
    raise_nofile().unwrap();
    let slow = std::env::var("CAUSEWAY_SLOW").as_deref() == Ok("1");
    let (streams, flows) = if slow { MANY } else { FEW };
    let mesh = Mesh::new("outages");
    let (mut iad, mut phx) = mesh.pair(2);
    let (service, datagrams) = (Service::echo(), echo_datagrams());
    let pay = mesh
        .sidecar(&phx, "pay")
        .serve("payments.shop:80", service.addr())
        .serve("payments.shop:53/udp", datagrams)
        .start();
    let web = mesh.sidecar(&iad, "web").listen("payments.shop:80").listen("payments.shop:53/udp").start();
    mesh.ok(&["export", "payments.shop", "--context", "phx"]);
    mesh.wait_offer("iad", "payments.shop", "phx", 1);
    mesh.wait_offer("iad-2", "payments.shop", "phx", 1);
    let talks =
        Talks::start((streams, web.addr("payments.shop:80")), (flows, web.addr("payments.shop:53/udp")));
    talks.go_on("the start");
    println!("{streams} connections and {flows} flows, the slowest answer before: {:?}", talks.slowest());

    for cluster in [&mut iad, &mut phx] {
        for gateway in &mut cluster.gateways {
            let name = gateway.process.name().to_owned();
            gateway.process.kill();
            talks.go_on(&format!("{name} is killed"));
            let slowest = talks.slowest();
            println!("{name} killed: the slowest answer took {slowest:?}");
            // beside other tests, and not optimised, the cores are away for a while
            let most = if slow { SLOWEST } else { 3 * SLOWEST };
            assert!(slowest < most, "{name} killed: an answer took {slowest:?}");
            gateway.restart();
            gateway.wait_ready();
            for sidecar in [&web, &pay] {
                let alive = || sidecar.scrape().sum("causeway_overlay_gateways_alive", "") >= 2.0;
                wait_until(SOON, "the sidecars see both gateways of their cluster", alive);
            }
            talks.go_on(&format!("{name} is back"));
        }
    }
    assert_eq!((broken(&web), broken(&pay)), (0.0, 0.0), "connections ended");
    let begun = web.scrape().sum("causeway_sidecar_udp_flows_total", "direction=\"outbound\"");
    assert_eq!(begun, flows as f64, "each flow is the one that was begun");
    for sidecar in [&web, &pay] {
        let switches = sidecar.scrape().sum("causeway_overlay_gateway_switches_total", "");
        assert!(switches >= 1.0, "the gateway that {} used was never killed", sidecar.process.name());
    }
    let carried = talks.end_well();
    println!("{carried} bytes each way, none lost");
    for (sidecar, direction) in [(&web, "outbound"), (&pay, "inbound")] {
        let label = format!("direction=\"{direction}\",reason=\"done\"");
        let done = || sidecar.scrape().sum("causeway_sidecar_outcomes_total", &label) >= streams as f64;
        wait_until(SOON, "all connections ended well", done);
        assert_eq!(broken(sidecar), 0.0, "{}", sidecar.process.tail());
    }
}
