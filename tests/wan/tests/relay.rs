//! The relay over real sockets.

use causeway_wan::{Counters, Direction, Impairment, Relay};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(20);
const MS: Duration = Duration::from_millis(1);

/// A client, a relay and what it forwards to.
struct Path {
    client: UdpSocket,
    relay: Relay,
    server: UdpSocket,
}

fn socket(address: &str) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    socket.set_read_timeout(Some(DEADLINE))?;
    Ok(socket)
}

impl Path {
    fn new(forward: Impairment, back: Impairment) -> Result<Self, Box<dyn std::error::Error>> {
        Self::on("127.0.0.1:0", forward, back)
    }

    fn on(any: &str, forward: Impairment, back: Impairment) -> Result<Self, Box<dyn std::error::Error>> {
        let server = socket(any)?;
        let relay = Relay::start(any.parse()?, server.local_addr()?, forward, back, 1)?;
        let client = socket(any)?;
        client.connect(relay.local_addr())?;
        Ok(Self { client, relay, server })
    }

    /// Waits until the counters of a direction are as `wanted` says.
    fn until(&self, direction: Direction, wanted: impl Fn(Counters) -> bool) -> Counters {
        let end = Instant::now() + DEADLINE;
        loop {
            let counters = self.relay.counters(direction);
            assert!(wanted(counters) || Instant::now() < end, "{direction:?} still {counters:?}");
            if wanted(counters) {
                return counters;
            }
            std::thread::yield_now();
        }
    }
}

fn take(socket: &UdpSocket) -> io::Result<(Vec<u8>, SocketAddr)> {
    let mut buffer = vec![0; 65_536];
    let (length, source) = socket.recv_from(&mut buffer)?;
    buffer.truncate(length);
    Ok((buffer, source))
}

#[test]
fn answers_find_each_of_several_sources() {
    for any in ["127.0.0.1:0", "[::1]:0"] {
        let path = Path::on(any, Impairment::CLEAR, Impairment::CLEAR).unwrap();
        let clients: Vec<UdpSocket> = (0..5).map(|_| socket(any).unwrap()).collect();
        for (n, client) in clients.iter().enumerate() {
            client.send_to(&[u8::try_from(n).unwrap()], path.relay.local_addr()).unwrap();
        }
        let mut sources = Vec::new();
        for _ in &clients {
            let (data, source) = take(&path.server).unwrap();
            path.server.send_to(&data, source).unwrap();
            sources.push(source);
        }
        sources.sort();
        sources.dedup();
        assert_eq!(sources.len(), clients.len(), "each source has a port of its own");
        for (n, client) in clients.iter().enumerate() {
            let (data, source) = take(client).unwrap();
            assert_eq!((data, source), (vec![u8::try_from(n).unwrap()], path.relay.local_addr()));
        }
    }
}

#[test]
fn each_direction_has_its_own_delay() {
    let delays = (20 * MS, 50 * MS);
    let clear = Impairment::CLEAR;
    let path = Path::new(clear.with_delay(delays.0), clear.with_delay(delays.1)).unwrap();
    let mut best = (DEADLINE, DEADLINE);
    for n in 0..10u8 {
        let start = Instant::now();
        path.client.send(&[n]).unwrap();
        let (_, source) = take(&path.server).unwrap();
        let there = start.elapsed();
        let start = Instant::now();
        path.server.send_to(&[n], source).unwrap();
        take(&path.client).unwrap();
        let back = start.elapsed();
        assert!(there >= delays.0 && back >= delays.1, "too early: {there:?} {back:?}");
        best = (best.0.min(there), best.1.min(back));
    }
    // the best of ten, because a busy machine may hold up any one of them
    assert!(best.0 < delays.0 + 3 * MS && best.1 < delays.1 + 3 * MS, "too late: {best:?}");
}

fn survivors(loss: f64) -> Result<Vec<Vec<u8>>, Box<dyn std::error::Error>> {
    let path = Path::new(Impairment::CLEAR.with_loss(loss), Impairment::CLEAR)?;
    let mut through = Vec::new();
    for n in 0..500u16 {
        path.client.send(&n.to_be_bytes())?;
        // one at a time, so that no socket buffer adds losses of its own
        let done = path.until(Direction::Forward, |c| c.forwarded + c.lost == u64::from(n) + 1);
        if done.forwarded > through.len() as u64 {
            through.push(take(&path.server)?.0);
        }
    }
    Ok(through)
}

#[test]
fn the_same_seed_loses_the_same_datagrams() {
    let first = survivors(0.2).unwrap();
    assert!((350..450).contains(&first.len()), "{}", first.len());
    assert_eq!(first, survivors(0.2).unwrap());
}

#[test]
fn one_direction_is_cut_and_mended_while_the_other_works() {
    let path = Path::new(Impairment::CLEAR, Impairment::CLEAR).unwrap();
    path.client.send(b"before").unwrap();
    let (_, source) = take(&path.server).unwrap();

    path.relay.set(Direction::Forward, Impairment::CUT);
    for _ in 0..10 {
        path.client.send(b"lost").unwrap();
    }
    path.until(Direction::Forward, |c| c.cut == 10);
    path.server.send_to(b"answer", source).unwrap();
    assert_eq!(take(&path.client).unwrap().0, b"answer");

    path.relay.set(Direction::Forward, Impairment::CLEAR);
    assert_eq!(path.relay.impairment(Direction::Forward), Impairment::CLEAR);
    path.client.send(b"after").unwrap();
    assert_eq!(take(&path.server).unwrap().0, b"after", "what was sent during the cut never arrives");
}

#[test]
fn a_bottleneck_sets_the_pace() {
    // 972 + 28 bytes at 8 Mbit/s are a millisecond each
    let slow = Impairment::CLEAR.with_rate(NonZeroU64::new(8_000_000).unwrap(), 1 << 20);
    let path = Path::new(slow, Impairment::CLEAR).unwrap();
    let start = Instant::now();
    for _ in 0..100 {
        path.client.send(&[0; 972]).unwrap();
    }
    for n in 1..=100 {
        take(&path.server).unwrap();
        assert!(start.elapsed() >= n * MS, "datagram {n} after {:?}", start.elapsed());
    }
}

#[test]
fn a_full_queue_drops_and_the_counters_add_up() {
    let slow = Impairment::CLEAR.with_rate(NonZeroU64::new(80_000).unwrap(), 5_000);
    let path = Path::new(slow, Impairment::CLEAR).unwrap();
    for _ in 0..50 {
        path.client.send(&[0; 972]).unwrap();
    }
    let counters = path.until(Direction::Forward, |c| c.received == 50);
    assert!(counters.queue_dropped >= 40, "{counters:?}");
    let done = path.until(Direction::Forward, |c| c.forwarded + c.queue_dropped == 50);
    assert_eq!((done.lost, done.cut, done.failed), (0, 0, 0));
}

#[test]
fn large_and_small_datagrams_keep_their_edges_and_order() {
    let path = Path::new(Impairment::CLEAR.with_delay(5 * MS), Impairment::CLEAR).unwrap();
    let sizes = [1452, 1452, 1452, 300, 1452, 8900, 8900, 1, 0, 65_000, 1452];
    for size in sizes {
        path.client.send(&vec![7; size]).unwrap();
    }
    let got: Vec<usize> = sizes.iter().map(|_| take(&path.server).unwrap().0.len()).collect();
    assert_eq!(got, sizes);
}

#[test]
fn a_target_that_is_not_there_stops_nothing() {
    let path = Path::new(Impairment::CLEAR, Impairment::CLEAR).unwrap();
    let address = path.server.local_addr().unwrap();
    let Path { client, relay, server } = path;
    drop(server);
    for n in 1..=3 {
        client.send(b"nobody").unwrap();
        let end = Instant::now() + DEADLINE;
        while relay.counters(Direction::Forward).received < n {
            assert!(Instant::now() < end);
        }
    }
    let server = socket(&address.to_string()).unwrap();
    client.send(b"somebody").unwrap();
    assert_eq!(take(&server).unwrap().0, b"somebody");
}

#[test]
fn a_taken_address_is_refused_with_its_name() {
    let taken = socket("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = Relay::start(address, address, Impairment::CLEAR, Impairment::CLEAR, 1).unwrap_err();
    assert_eq!(error.reason(), "bind-failed");
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

#[test]
fn dropping_the_relay_frees_its_port() {
    let path = Path::new(Impairment::CLEAR.with_delay(3600 * 1000 * MS), Impairment::CLEAR).unwrap();
    path.client.send(b"never").unwrap();
    path.until(Direction::Forward, |c| c.received == 1);
    let address = path.relay.local_addr();
    drop(path);
    UdpSocket::bind(address).unwrap();
}
