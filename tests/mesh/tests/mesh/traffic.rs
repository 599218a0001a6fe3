//! Requests and connections that go on while something else happens.

use causeway_test_mesh::{SOON, get, wait_until};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a request may take while a gateway dies: far above the promise of 200 ms, for the cores are shared with other tests.
pub(crate) const SLOWEST: Duration = Duration::from_secs(2);

/// Requests that go on until they are told to stop.
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Vec<String>>>,
}

impl Traffic {
    /// As many small requests as the cores allow, and large ones beside them.
    pub(crate) fn start(addr: SocketAddr) -> Self {
        Self::of(addr, &["/", "/", "/", "/bytes/2000000"], Duration::ZERO)
    }

    /// About `rate` small requests in a second, from eight callers, each over a connection of its own.
    pub(crate) fn paced(addr: SocketAddr, rate: u32) -> Self {
        Self::of(addr, &["/"; 8], Duration::from_secs(8) / rate)
    }

    fn of(addr: SocketAddr, paths: &[&'static str], every: Duration) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = paths.iter().map(|&path| {
            let (stop, done) = (stop.clone(), done.clone());
            std::thread::spawn(move || {
                let mut failures = Vec::new();
                let mut next = Instant::now();
                while !stop.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    match get(addr, path) {
                        Ok(answer) if answer.status == 200 && (path != "/" || began.elapsed() < SLOWEST) => {}
                        other => failures.push(format!("{path} after {:?}: {other:?}", began.elapsed())),
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                    // one that took long is made up for, as far as that was not long ago
                    next = (next + every).max(began.checked_sub(SLOWEST).unwrap_or(began));
                    std::thread::sleep(next.saturating_duration_since(Instant::now()));
                }
                failures
            })
        });
        let threads = threads.collect();
        Self { stop, done, threads }
    }

    /// How many requests are done.
    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Waits until `count` more requests are done.
    #[track_caller]
    pub(crate) fn go_on(&self, count: u64) {
        let goal = self.done() + count;
        wait_until(SOON, "requests go on", || self.done() >= goal);
    }

    /// What failed.
    pub(crate) fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    }

    /// Ends it; panics if a request failed.
    #[track_caller]
    pub(crate) fn end_well(self) {
        let failures = self.end();
        assert!(failures.is_empty(), "{} failures: {failures:?}", failures.len());
    }
}

/// Connections, one after another, each with an echo.
pub(crate) struct Connecting {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Made>>,
}

/// What became of the connections of one thread.
#[derive(Default)]
struct Made {
    failed: Vec<String>,
    slowest: Duration,
}

impl Connecting {
    pub(crate) fn start(addr: SocketAddr, threads: usize) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let thread = |_| {
            let (stop, done) = (stop.clone(), done.clone());
            std::thread::spawn(move || {
                let mut made = Made::default();
                while !stop.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    if let Err(error) = try_echo(addr) {
                        made.failed.push(format!("after {:?}: {error}", began.elapsed()));
                    }
                    made.slowest = made.slowest.max(began.elapsed());
                    done.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(2));
                }
                made
            })
        };
        let threads = (0..threads).map(thread).collect();
        Self { stop, done, threads }
    }

    /// Waits until `count` more were made.
    #[track_caller]
    pub(crate) fn go_on(&self, count: u64) {
        let goal = self.done.load(Ordering::Relaxed) + count;
        wait_until(SOON, "connections are made", || self.done.load(Ordering::Relaxed) >= goal);
    }

    /// Ends it, and says how many were made and how long the slowest one took; panics if one failed.
    #[track_caller]
    pub(crate) fn end_well(self) -> (u64, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        let made: Vec<Made> = self.threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        let failed: Vec<&String> = made.iter().flat_map(|made| &made.failed).collect();
        let done = self.done.load(Ordering::Relaxed);
        assert!(failed.is_empty(), "{} of {done} connections failed: {failed:?}", failed.len());
        (done, made.iter().map(|made| made.slowest).max().unwrap_or_default())
    }
}

/// A connection through which an echo came back.
#[track_caller]
pub(crate) fn echoing(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    echo(&stream).unwrap_or_else(|error| panic!("no echo from {addr}: {error}"));
    stream
}

/// Says something to an echo and hears it again.
pub(crate) fn echo(mut stream: &TcpStream) -> io::Result<()> {
    stream.write_all(b"ping")?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer)?;
    if &answer == b"ping" { Ok(()) } else { Err(io::Error::other(format!("{answer:?}"))) }
}

/// Whether an echo comes back over a new connection.
pub(crate) fn echoes(addr: SocketAddr) -> bool {
    try_echo(addr).is_ok()
}

fn try_echo(addr: SocketAddr) -> io::Result<()> {
    let stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(SOON))?;
    echo(&stream)
}

/// Waits until the peer ends `stream`, and says how long that took.
#[track_caller]
pub(crate) fn ended(mut stream: &TcpStream) -> Duration {
    let began = Instant::now();
    let end = stream.read(&mut [0; 1]);
    let hangs = matches!(&end, Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut));
    assert!(matches!(end, Err(_) | Ok(0)) && !hangs, "an open stream goes on: {end:?}");
    began.elapsed()
}
